"""Who writes into the journal, who is gone, and what each said of itself: one look a second."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from plet_celery.events import RECORD_MAX, WRITER_STARTED
from plet_celery.journal_format import MARK, Header, salt_of, unframe
from plet_celery.journal_keeping import Segment, is_written, list_journal, open_segment
from plet_celery.shipper.losses import Gone
from plet_celery.shipper.verdict import Claim

log = logging.getLogger(__name__)

Position = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at the journal's folder saw; never changed afterwards."""

    own: str | None = None
    """The shipper's own writer."""
    newest: Mapping[str, Segment] = field(default_factory=dict)
    """Each writer's newest segment."""
    alive: frozenset[str] = frozenset()
    """Writers that hold their lock, without our own."""
    gone: Mapping[str, float] = field(default_factory=dict)
    """Writers seen gone in two looks in a row, with the time of the first."""
    headers: Mapping[str, Header] = field(default_factory=dict)
    final: Mapping[str, Segment] = field(default_factory=dict)
    """Segments by file name that nobody writes any more: they need not be asked again."""

    def left(self, positions: Mapping[str, Position], unreadable: Collection[str] = ()) -> int:
        """Return how many bytes, about, other writers have behind this checkpoint; at least 1 if any.

        Args:
            unreadable: writers that do not count, because nobody here can read them.
        """
        return sum(
            _behind(segment, positions.get(writer))
            for writer, segment in self.newest.items()
            if writer != self.own and writer not in unreadable
        )

    def own_left(self, positions: Mapping[str, Position]) -> int:
        """Return the same of our own writer."""
        segment = self.newest.get(self.own or "")
        return _behind(segment, positions.get(segment.writer)) if segment else 0

    def losers(self, settled: Collection[str] = ()) -> dict[str, Gone]:
        """Return the writers that are gone, as the search for lost attempts needs them.

        Args:
            settled: writers that were searched already; an hour of short-lived children leaves thousands.
        """
        return {
            writer: Gone(since=since, parent_lives=self._parent_lives(writer))
            for writer, since in self.gone.items()
            if writer not in settled
        }

    def claims(self) -> list[Claim]:
        """Return what living workers' main processes say of the shipper they would spawn."""
        return [
            Claim(plet=header.plet, fingerprint=header.settings, started=header.started)
            for writer, header in self.headers.items()
            if writer in self.alive and header.role == "worker" and header.settings
        ]

    def _parent_lives(self, writer: str) -> bool:
        header = self.headers.get(writer)
        return header is not None and header.parent is not None and header.parent in self.alive


class Roster:
    """Looks at the folder; remembers who is gone for good, so that only the living are probed again."""

    def __init__(self, directory: Path, own: Callable[[], str | None]) -> None:
        self._directory = directory
        self._own = own
        self._doubted: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._headers: dict[str, Header] = {}
        self._final: dict[str, Segment] = {}
        self.sight = Sight()

    def look(self, now: float, known: Collection[str] = ()) -> Sight:
        """Look once; `now` is monotonic.

        Args:
            known: writers that a sink has a checkpoint of; those without any file are gone, too.

        A writer counts as gone at the second look that finds its locks free: it may have been just
        between two files.
        """
        files: dict[str, list[Segment]] = {}
        listed = list_journal(self._directory, self._final).segments
        for segment in listed:
            files.setdefault(segment.writer, []).append(segment)
        # Of writers that were gone before this listing: what it says of them is the last word.
        self._final = {segment.path.name: segment for segment in listed if segment.writer in self._gone}
        newest = {writer: own[-1] for writer, own in files.items()}
        own = self._own()
        alive = frozenset(writer for writer in files if writer != own and self._is_alive(files[writer], now))
        self._drop_missing(newest.keys() | set(known))
        for writer in set(known) - newest.keys() - {own}:
            self._gone.setdefault(writer, now)
        for writer, segment in newest.items():
            if writer not in self._headers and (header := read_header(segment)) is not None:
                self._headers[writer] = header
        self.sight = Sight(
            own=own,
            newest=newest,
            alive=alive,
            gone=dict(self._gone),
            headers=dict(self._headers),
            final=self._final,
        )
        return self.sight

    def _is_alive(self, files: Sequence[Segment], now: float) -> bool:
        writer = files[-1].writer
        if writer in self._gone:
            return False
        # The last two: a writer that rotates still holds the file before for a moment.
        if any(is_written(segment, newest=segment is files[-1]) for segment in files[-2:]):
            self._doubted.pop(writer, None)
            return True
        first = self._doubted.setdefault(writer, now)
        if first < now:
            self._gone[writer] = first
            del self._doubted[writer]
            return False
        return True

    def _drop_missing(self, writers: Collection[str]) -> None:
        for remembered in (self._gone, self._doubted, self._headers):
            for writer in remembered.keys() - writers:
                del remembered[writer]


def read_header(segment: Segment) -> Header | None:
    """Return what the first record of a segment says of its writer, or None if it cannot be read (yet)."""
    try:
        with os.fdopen(open_segment(segment), "rb") as file:
            first = file.read(RECORD_MAX)
    except OSError:
        return None
    element = first[1:].partition(MARK)[0] if first.startswith(MARK) else b""
    record = unframe(element, salt_of(segment.writer, segment.number))
    if isinstance(record, str) or record.k != WRITER_STARTED:
        return None
    try:
        return msgspec.convert(record.d, Header)
    except msgspec.ValidationError:
        return None


def _behind(newest: Segment, position: Position | None) -> int:
    if position is None:
        return max(1, newest.size)
    number, offset = position
    if number == newest.number:
        return max(0, newest.size - offset)
    return max(1, newest.size) if number < newest.number else 0
