"""A position in a growing log, which holds when tail parts are dropped or merged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from plet_celery.logfiles.pieces import Piece
from plet_celery.logfiles.walking import Place, gap_before, gap_between, place_at

_BLOCK: Final = 2048


@dataclass(frozen=True)
class Shown:
    """How far the tail parts of one attempt have been shown."""

    part: int
    entries: int
    """Records of that part."""
    line: int
    """Number of the last one."""
    micros: int
    """Its time."""


@dataclass(frozen=True)
class Position:
    """Records of `run.log` that have been passed, and what was shown of tail parts."""

    entries: int = 0
    shown: dict[int, Shown] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str` wrote; anything else is the beginning."""
        head, *rest = text.split(",")
        try:
            shown = {}
            for one in rest:
                attempt, *numbers = map(int, one.split(":"))
                shown[attempt] = Shown(*numbers)
            return cls(max(0, int(head)), shown)
        except (ValueError, TypeError):
            return cls()

    def __str__(self) -> str:
        parts = (f"{attempt}:{s.part}:{s.entries}:{s.line}:{s.micros}" for attempt, s in self.shown.items())
        return ",".join([str(self.entries), *parts])

    def at_end(self, pieces: list[Piece]) -> Position:
        """Return the position behind the last record."""
        found = self
        for piece in pieces:
            if piece.count:
                found = found._behind(piece, piece.count)
        return found

    def behind(self, pieces: list[Piece], places: list[Place]) -> Position:
        """Return the position behind the last of `places`, a record that was given by `after`."""
        piece, entry = next(place for place in reversed(places) if place[0] is not None)
        assert piece is not None
        found = self.passed(places).at_end(pieces[: pieces.index(piece)])
        return found._behind(piece, place_at(piece, entry.offset) + 1)

    def passed(self, places: list[Place]) -> Position:
        """Forget what was shown of tail parts where `run.log` has gone beyond it."""
        merged = {entry.attempt for piece, entry in places if piece is not None and piece.attempt is None}
        return Position(self.entries, {one: shown for one, shown in self.shown.items() if one not in merged})

    def _behind(self, piece: Piece, count: int) -> Position:
        if piece.attempt is None:
            return Position(max(count, self.entries) if piece.is_cut else count, self.shown)
        last = piece.entry(count - 1)
        shown = Shown(piece.number, count, last.number, round(last.at * 1e6))
        return Position(self.entries, {**self.shown, piece.attempt: shown})


def after(pieces: list[Piece], position: Position) -> Iterator[Place]:
    """Yield the records behind `position`."""
    for piece in pieces:
        shown = position.shown.get(piece.attempt or 0)
        if piece.attempt is None:
            yield from _after_main(piece, position)
        elif shown is None or piece.number > shown.part:
            gap = gap_before(pieces, piece, known=shown.line if shown else 0)
            if gap is not None:
                yield None, gap
            yield from _from(piece, 0)
        elif piece.number == shown.part:
            yield from _from(piece, shown.entries)


def _after_main(piece: Piece, position: Position) -> Iterator[Place]:
    # Fewer than before: the log was made again, so start again.
    start = position.entries if position.entries <= piece.count or piece.is_cut else 0
    resumed: set[int] = set()
    for place in _from(piece, start):
        entry = place[1]
        shown = position.shown.get(entry.attempt)
        if shown is not None:
            if (entry.number, round(entry.at * 1e6)) <= (shown.line, shown.micros):
                continue
            gap = gap_between(shown.line, entry) if entry.attempt not in resumed else None
            resumed.add(entry.attempt)
            if gap is not None:
                yield None, gap
        yield place


def _from(piece: Piece, first: int) -> Iterator[Place]:
    while first < piece.count:
        for entry in piece.block(first, _BLOCK):
            yield piece, entry
        first += _BLOCK
