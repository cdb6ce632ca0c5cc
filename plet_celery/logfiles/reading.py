"""`RunLog`: reads a run's log from its end or by line number, never the whole file.

Nothing is kept open between calls, so that a log may be pruned, merged or grown meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from plet_celery.errors import LogNotFound
from plet_celery.logfiles.folders import names_in, opened_folder
from plet_celery.logfiles.following import Position, after
from plet_celery.logfiles.line import Filter, Line, stages_of
from plet_celery.logfiles.pieces import SCAN_BYTES, IndexDamaged, Piece, opened_pieces
from plet_celery.logfiles.searching import Asked, Found, search
from plet_celery.logfiles.telling import lines
from plet_celery.logfiles.walking import Place, backward, forward, last_number, newest_attempt, stretch

MAX_BYTES: Final = 1 << 20
"""Text of one answer, unless asked otherwise; the lines that do not fit are left for the next."""
_NOTES: Final = 16
"""Notes that may lie between the lines of a range: the first look at the index takes them in."""
_FIRST_LOOK: Final = 256 << 10


_Answer = TypeVar("_Answer")


class Followed(NamedTuple):
    """What has come since a position."""

    lines: list[Line]
    position: str
    """Opaque; give it to the next call."""
    more: bool
    """There was more than the limit."""


class RunLog:
    """The log of one run on this host.

    Args:
        folder: the run's log folder.

    Raises (every method):
        LogNotFound: the folder is not there, or has no log.
        HomeError: it, or a file in it, is a link or has another owner than it should.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def line_count(self, attempt: int | None = None) -> int:
        """Return the number of the attempt's last line (the newest attempt's by default)."""
        return self._read(lambda pieces: last_number(pieces, attempt or newest_attempt(_looked(pieces))))

    def newest_attempt(self) -> int:
        """Return the number of the newest attempt on this host; 0 where it is not known."""
        return self._read(lambda pieces: newest_attempt(_looked(pieces)))

    def tail(
        self,
        count: int,
        *,
        level: int | None = None,
        stage: int | Collection[int] | None = None,
        attempt: int | None = None,
        streams: Collection[str] = (),
        since: float | None = None,
        raw: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> list[Line]:
        """Return the last `count` records (lines and notes), oldest first, of all attempts by default.

        Args:
            level: lowest level, as a number of `logging`.
            raw: texts exactly as recorded, with their control characters.
            max_bytes: fewer records are returned when they hold more text than this.
        """
        wanted = Filter(attempt=attempt, level=level, stages=stages_of(stage), streams=streams, since=since)
        return self._read(lambda pieces: _last(pieces, wanted, count, raw=raw, max_bytes=max_bytes))

    def before(
        self,
        line: int,
        count: int,
        *,
        attempt: int,
        level: int | None = None,
        stage: int | Collection[int] | None = None,
        streams: Collection[str] = (),
        raw: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> list[Line]:
        """Return the `count` records of an attempt before its line `line`, oldest first; `range` goes on.

        With filters, `count` records that pass them.
        """
        wanted = Filter(attempt=attempt, level=level, stages=stages_of(stage), streams=streams)

        def earlier(pieces: list[Piece]) -> list[Line]:
            found = _limited(backward(_looked(pieces), wanted, count, before=line), count, max_bytes)
            found.reverse()
            return lines(found, raw=raw)

        return self._read(earlier)

    def range(
        self,
        first: int,
        count: int,
        *,
        attempt: int | None = None,
        level: int | None = None,
        stage: int | Collection[int] | None = None,
        streams: Collection[str] = (),
        since: float | None = None,
        raw: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> list[Line]:
        """Return `count` lines of an attempt from number `first` on, with the notes between them.

        The newest attempt by default.
        The notes behind a line belong to it; those before the first line come with `first` ≤ 1.
        With filters, `count` lines that pass them.
        """

        def between(pieces: list[Piece]) -> list[Line]:
            _looked(pieces)
            number = attempt or newest_attempt(pieces)
            wanted = Filter(
                attempt=number, level=level, stages=stages_of(stage), streams=streams, since=since
            )
            at = 0 if first <= 1 else first
            return lines(_counted(forward(pieces, wanted, at, count + _NOTES), count, max_bytes), raw=raw)

        return self._read(between)

    def search(
        self,
        needle: str,
        *,
        attempt: int | None = None,
        level: int | None = None,
        stage: int | Collection[int] | None = None,
        streams: Collection[str] = (),
        start: int = 0,
        ignore_case: bool = False,
        limit: int = 100,
        seconds: float = 2.0,
        raw: bool = False,
        brief: bool = False,
    ) -> Found:
        """Return the lines and notes whose text holds `needle`, oldest first, and how many there are.

        Args:
            needle: plain text within one line of text; `ignore_case` ignores the case of ASCII only.
            start: only from this line of `attempt` on.
            limit: most lines returned; further ones are counted.
            seconds: the search ends after this time; `Found.complete` then says no, the count "at least".
            brief: the lines come without text and context.
        """
        wanted = Filter(attempt=attempt, level=level, stages=stages_of(stage), streams=streams)
        asked = Asked(needle, wanted, start, ignore_case, limit, seconds, raw, brief)
        return self._read(lambda pieces: search(_looked(pieces), asked))

    def text(self, attempt: int, at: int, length: int) -> bytes | None:
        """Return up to `length` bytes of an attempt's records from byte `at` of them on, as written.

        None where they do not lie together: attempts overlap, or the newest lines are in tail parts.
        """

        def part(pieces: list[Piece]) -> bytes | None:
            own = [piece for piece in pieces if piece.attempt in (None, attempt)]
            found = stretch(own[0], attempt) if len(own) == 1 else None
            if found is None:
                return None
            begin, end = found
            return own[0].read(begin + at, max(0, min(length, end - begin - at)))

        return self._read(part)

    def position(self) -> str:
        """Return the position behind the last record, for `follow`."""
        return self._read(lambda pieces: str(Position().at_end(_looked(pieces))))

    def follow(
        self, position: str = "", *, limit: int = 1000, raw: bool = False, max_bytes: int = MAX_BYTES
    ) -> Followed:
        """Return the records that came after `position`, oldest first; `""` is the beginning.

        Each line comes once, also when the tail parts of an ended attempt are merged meanwhile.
        """

        def later(pieces: list[Piece]) -> Followed:
            _looked(pieces)
            start = Position.parse(position)
            found: list[Place] = []
            size = 0
            for place in after(pieces, start):
                size += place[1].length if place[0] else 0
                is_enough = len(found) >= limit or size > max_bytes
                if is_enough and found and found[-1][0] is not None:  # a gap comes with what follows it
                    return Followed(lines(found, raw=raw), str(start.behind(pieces, found)), True)
                found.append(place)
            return Followed(lines(found, raw=raw), str(start.passed(found).at_end(pieces)), False)

        return self._read(later)

    def _read(self, question: Callable[[list[Piece]], _Answer]) -> _Answer:
        """Ask the pieces; where an index turns out not to fit, ask again without it."""
        with opened_folder(self.folder.parent, self.folder.name) as folder, opened_pieces(folder) as pieces:
            if not pieces:
                raise LogNotFound(f"there is no log in {str(self.folder)!r}")
            for _ in pieces:
                try:
                    return question(pieces)
                except IndexDamaged as error:
                    error.piece.distrust()
            return question(pieces)


def find_folders(root: Path, names: Collection[str]) -> list[Path]:
    """Return those of a run's log folders (relative names, as the store has them) that are on this host.

    A folder whose time differs, because this host saw another attempt first, is found by its digest.

    Raises:
        HomeError: a part of the path is a link, or has another owner than the root.
    """
    found: list[Path] = []
    for name in names:
        tenant, _, last = name.rpartition("/")
        try:
            with opened_folder(root, tenant) as folder:
                present = names_in(folder)
        except LogNotFound:
            continue
        if last in present:
            found.append(root / name)
        else:
            found.extend(root / tenant / one for one in sorted(present) if one.endswith(last[-11:]))
    # Another host's folder has the same digest: it leads to the one that is here.
    return list(dict.fromkeys(found))


def _looked(pieces: list[Piece], most: int = SCAN_BYTES) -> list[Piece]:
    """Look through the text behind each index, and return the same pieces."""
    for piece in pieces:
        if piece.unindexed:
            piece.look_through(most)
    return pieces


def _last(pieces: list[Piece], wanted: Filter, count: int, *, raw: bool, max_bytes: int) -> list[Line]:
    _looked(pieces, _FIRST_LOOK if wanted.takes_all else SCAN_BYTES)
    found = _limited(backward(pieces, wanted, count), count, max_bytes)
    if len(found) < count and any(piece.unindexed > _FIRST_LOOK for piece in pieces):
        found = _limited(backward(_looked(pieces), wanted, count), count, max_bytes)
    found.reverse()
    return lines(found, raw=raw)


def _limited(places: Iterator[Place], count: int, max_bytes: int) -> list[Place]:
    found: list[Place] = []
    size = 0
    while len(found) < count:
        place = next(places, None)
        if place is None:
            break
        size += place[1].length if place[0] else 0
        if found and size > max_bytes:
            break
        found.append(place)
    return found


def _counted(places: Iterator[Place], count: int, max_bytes: int) -> list[Place]:
    """Take `count` lines with the notes before, between and behind them."""
    found: list[Place] = []
    size = taken = 0
    for place in places:
        entry = place[1]
        size += entry.length if place[0] else 0
        if (entry.is_numbered and taken >= count) or (found and size > max_bytes):
            break
        taken += entry.is_numbered
        found.append(place)
    return found
