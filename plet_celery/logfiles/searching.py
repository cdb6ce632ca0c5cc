"""Plain substring search through a run's log, within a time."""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar

import msgspec

from plet_celery.logfiles.index import Entry
from plet_celery.logfiles.line import Filter, Line
from plet_celery.logfiles.pieces import Piece
from plet_celery.logfiles.telling import line_of
from plet_celery.logfiles.text import escape
from plet_celery.logfiles.walking import place_at, stretch

_BLOCK: Final = 1 << 20
_NEAR: Final = 64
"""Records looked up at once."""

_Text = TypeVar("_Text", str, bytes)
_offset = attrgetter("offset")


class Asked(NamedTuple):
    """What is searched for."""

    needle: str
    """Plain text within one line of text."""
    wanted: Filter
    start: int
    """Only from this line of the wanted attempt on."""
    ignore_case: bool
    """Of ASCII letters."""
    limit: int
    """Most lines returned; further ones are counted."""
    seconds: float
    raw: bool
    brief: bool
    """The lines found without their texts: there may be many."""


@dataclass(frozen=True)
class Found:
    """What a search has found."""

    lines: list[Line]
    """The first hits, oldest first."""
    count: int
    """Hits seen, also those beyond the limit."""
    complete: bool
    """The whole log was searched; else there are at least `count` hits."""
    reached: tuple[int, int] | None = None
    """(attempt, line) up to where the log was searched, unless it was as a whole."""


class _Search:
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        # To fold a block takes longer than to search it.
        self.folds = asked.ignore_case and asked.needle.lower() != asked.needle.upper()
        self.needle = self._folded(asked.needle)
        self.escaped = self._folded(escape(asked.needle).encode("utf-8", "replace"))
        self.deadline = time.monotonic() + asked.seconds
        self.lines: list[Line] = []
        self.count = 0
        self._near: tuple[Piece, list[Entry]] | None = None

    @property
    def is_over(self) -> bool:
        """The time is."""
        return time.monotonic() > self.deadline

    def block(self, piece: Piece, offset: int, block: bytes) -> int:
        """Look at the hits that begin in the first `_BLOCK` bytes; return the offset that was reached."""
        folded = self._folded(block)
        at = folded.find(self.escaped)
        while 0 <= at < _BLOCK:
            if self.is_over:
                return offset + at
            end = self._hit(piece, offset + at)
            at = folded.find(self.escaped, max(at + 1, end - offset))
        return offset + _BLOCK

    def _hit(self, piece: Piece, offset: int) -> int:
        entry = self._entry_at(piece, offset)
        if entry is None:
            return offset + 1
        if not self._takes(entry) or entry.end <= offset:
            return max(entry.end, offset + 1)
        record = piece.read(entry.offset, entry.length).decode("utf-8", "replace")
        line = line_of(entry, record, raw=True)
        # The hit may lie in the time, the level, the logger or the context.
        if line is not None and self.needle in self._folded(line.text):
            self.count += 1
            if len(self.lines) < self.asked.limit:
                self.lines.append(self._shown(line, entry, record))
        return entry.end

    def _entry_at(self, piece: Piece, offset: int) -> Entry | None:
        """Return the record that holds a byte; hits are often near to each other."""
        if self._near is not None and self._near[0] is piece:
            entries = self._near[1]
            if entries[0].offset <= offset < entries[-1].end:
                return entries[bisect.bisect_right(entries, offset, key=_offset) - 1]
        place = place_at(piece, offset)
        if place < 0:
            return None
        entries = piece.block(place, _NEAR)
        self._near = piece, entries
        return entries[0]

    def _shown(self, line: Line, entry: Entry, record: str) -> Line:
        if self.asked.brief:
            return msgspec.structs.replace(line, text="", context=None)
        return line if self.asked.raw else (line_of(entry, record, raw=False) or line)

    def _takes(self, entry: Entry) -> bool:
        return self.asked.wanted.takes(entry) and entry.number >= self.asked.start

    def _folded(self, text: _Text) -> _Text:
        return text.lower() if self.folds else text


def search(pieces: list[Piece], asked: Asked) -> Found:
    """Return the records that pass the filter and whose text holds the needle."""
    found = _Search(asked)
    if not asked.needle:
        return Found([], 0, True)
    for piece in pieces:
        if piece.attempt is not None and asked.wanted.attempt not in (None, piece.attempt):
            continue
        begin, end = stretch(piece, asked.wanted.attempt, asked.start) or (0, piece.size)
        for at in range(begin, end, _BLOCK):
            # A hit may begin at the end of a block: read on by the needle's length.
            block = b"" if found.is_over else piece.read(at, _BLOCK + len(found.escaped))
            reached = found.block(piece, at, block) if block else at
            if reached < at + _BLOCK:
                return Found(found.lines, found.count, False, _line_at(piece, reached))
    return Found(found.lines, found.count, True)


def _line_at(piece: Piece, offset: int) -> tuple[int, int] | None:
    place = place_at(piece, offset)
    if place < 0:
        return None
    entry = piece.entry(place)
    return entry.attempt, entry.number
