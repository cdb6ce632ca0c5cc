"""Plain substring search through a run's log, within a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from plet_celery.logfiles.line import Filter, Line
from plet_celery.logfiles.pieces import Piece
from plet_celery.logfiles.telling import line_of
from plet_celery.logfiles.text import escape
from plet_celery.logfiles.walking import place_at

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Found:
    """What a search has found."""

    lines: list[Line]
    """The first hits, oldest first."""
    count: int
    """Hits seen, also those beyond the limit."""
    complete: bool
    """The whole log was searched; else there are at least `count` hits."""


class _Search:
    def __init__(
        self, needle: str, wanted: Filter, *, ignore_case: bool, limit: int, seconds: float, raw: bool
    ) -> None:
        self.needle = needle.lower() if ignore_case else needle
        escaped = escape(needle).encode("utf-8", "replace")
        self.escaped = escaped.lower() if ignore_case else escaped
        self.wanted = wanted
        self.ignore_case = ignore_case
        self.limit = limit
        self.raw = raw
        self.deadline = time.monotonic() + seconds
        self.lines: list[Line] = []
        self.count = 0

    def block(self, piece: Piece, offset: int, block: bytes) -> bool:
        """Look at the hits that begin in the first `_BLOCK` bytes; False when the time is over."""
        folded = block.lower() if self.ignore_case else block
        at = folded.find(self.escaped)
        while 0 <= at < _BLOCK:
            if time.monotonic() > self.deadline:
                return False
            end = self._hit(piece, offset + at)
            at = folded.find(self.escaped, max(at + 1, end - offset))
        return True

    def _hit(self, piece: Piece, offset: int) -> int:
        place = place_at(piece, offset)
        if place < 0:
            return offset + 1
        entry = piece.entry(place)
        if not self.wanted.takes(entry) or entry.end <= offset:
            return max(entry.end, offset + 1)
        record = piece.read(entry.offset, entry.length).decode("utf-8", "replace")
        line = line_of(entry, record, raw=True)
        # The hit may lie in the time, the level, the logger or the context.
        if line is not None and self.needle in (line.text.lower() if self.ignore_case else line.text):
            self.count += 1
            if len(self.lines) < self.limit:
                shown = line_of(entry, record, raw=self.raw)
                self.lines.append(shown or line)
        return entry.end


def search(
    pieces: list[Piece],
    needle: str,
    wanted: Filter,
    *,
    ignore_case: bool,
    limit: int,
    seconds: float,
    raw: bool,
) -> Found:
    """Return the records that pass `wanted` and whose text holds `needle`."""
    found = _Search(needle, wanted, ignore_case=ignore_case, limit=limit, seconds=seconds, raw=raw)
    if not needle:
        return Found([], 0, True)
    for piece in pieces:
        if piece.attempt is not None and wanted.attempt not in (None, piece.attempt):
            continue
        for at in range(0, piece.size, _BLOCK):
            # A hit may begin at the end of a block: read on by the needle's length.
            block = piece.read(at, _BLOCK + len(found.escaped))
            if time.monotonic() > found.deadline or not found.block(piece, at, block):
                return Found(found.lines, found.count, False)
    return Found(found.lines, found.count, True)
