"""The pieces of a run's log: `run.log` and the tail parts of attempts that have not ended.

A piece is a text with its index. Where the index is missing, short or damaged, the end of the text
is looked through instead, never more than `SCAN_BYTES` of it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Final

from plet_celery.logfiles import index, text
from plet_celery.logfiles.folders import names_in, open_to_read
from plet_celery.logfiles.index import SIZE, Entry
from plet_celery.logfiles.line import Filter
from plet_celery.logfiles.volumes import INDEX, LOG

SCAN_BYTES: Final = 4 << 20
"""Most text that is looked through where the index does not help."""
_BLOCK: Final = 2048
_TRIED: Final = 64
_START: Final = re.compile(rb"^(?:\[|\xe2\x80\x94 )", re.MULTILINE)
_PART: Final = re.compile(r"tail_([0-9]{1,9})_([0-9]{1,9})\.log")
_ATTEMPT: Final = re.compile(rb"attempt ([0-9]{1,5}) (?:starts|of .{0,300} started)")


class IndexDamaged(Exception):
    """The index of a piece does not fit its text."""

    def __init__(self, piece: Piece) -> None:
        super().__init__("the index does not fit the text")
        self.piece = piece


class Piece:
    """One text with its index, as they were when it was opened.

    Args:
        log: descriptor of the text; the piece closes it.
        entries: descriptor of the index, or None.
    """

    def __init__(self, log: int, entries: int | None, *, attempt: int | None = None, number: int = 0) -> None:
        self.attempt = attempt
        """The attempt of a tail part; None for `run.log`."""
        self.number = number
        self._log = log
        self._index = entries
        # The index first: what it names was written to the text before it.
        indexed = os.fstat(entries).st_size // SIZE if entries is not None else 0
        self.size = os.fstat(log).st_size
        self.indexed = self._sound(indexed)
        last = self.entry(self.indexed - 1) if self.indexed else None
        self._reach = last.end if last else 0
        self._last = last
        self._extra: list[Entry] = []
        self._scanned = 0

    def close(self) -> None:
        """Close both files."""
        os.close(self._log)
        if self._index is not None:
            os.close(self._index)

    @property
    def count(self) -> int:
        """Records that are known: by the index, or by what was looked through."""
        return self.indexed + len(self._extra)

    @property
    def unindexed(self) -> int:
        """Bytes of text behind the last index entry."""
        return max(0, self.size - self._reach)

    def entry(self, at: int) -> Entry:
        """Return one entry."""
        return index.unpack(self._read_index(at, 1)) if at < self.indexed else self._extra[at - self.indexed]

    def block(self, first: int, count: int) -> list[Entry]:
        """Return up to `count` entries from `first` on."""
        found: list[Entry] = []
        if first < self.indexed:
            found.extend(index.entries(self._read_index(first, min(count, self.indexed - first))))
        if first + count > self.indexed:
            start = max(0, first - self.indexed)
            found.extend(self._extra[start : max(0, first + count - self.indexed)])
        return found

    def matching(self, first: int, count: int, wanted: Filter) -> list[tuple[int, Entry]]:
        """Return (place, entry) of what is wanted among up to `count` entries from `first` on."""
        if wanted.takes_all:
            return list(enumerate(self.block(first, count), first))
        sieve = wanted.sieve()
        if sieve is None or first + count > self.indexed:
            block = enumerate(self.block(first, count), first)
            return [(at, entry) for at, entry in block if wanted.takes(entry)]
        raw = self._read_index(first, count)
        column = raw[sieve[0] :: SIZE].translate(sieve[1])
        found, at = [], column.find(1)
        while at >= 0:
            entry = index.unpack(raw, at * SIZE)
            if wanted.takes(entry):
                found.append((first + at, entry))
            at = column.find(1, at + 1)
        return found

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the text."""
        return os.pread(self._log, length, offset)

    def distrust(self) -> None:
        """Do without the index: what it says does not fit the text."""
        self.indexed = self._reach = self._scanned = 0
        self._last, self._extra = None, []

    def look_through(self, most: int) -> None:
        """Find records in the text behind the index, at its end and within `most` bytes."""
        unindexed = self.unindexed
        window = min(unindexed, most)
        if window <= self._scanned:
            return
        self._scanned = window
        whole = window == unindexed
        block = self.read(self.size - window, window)
        starts = [found.start() for found in _START.finditer(block)]
        if not whole and starts and starts[0] == 0:
            starts = starts[1:]  # the window begins inside a line
        self._extra = list(_scanned(block, starts, self.size - window, self._last if whole else None, whole))

    def _sound(self, count: int) -> int:
        """Return how many entries can be trusted, judged by the last ones."""
        for at in range(count - 1, max(-1, count - 1 - _TRIED), -1):
            entry = index.unpack(self._pread_index(at, 1))
            if index.is_sound(entry, self.size) and text.starts_record(self.read(entry.offset, 4)):
                return at + 1
        return 0

    def _read_index(self, first: int, count: int) -> bytes:
        block = self._pread_index(first, count)
        if not index.are_valid(block):
            raise IndexDamaged(self)
        return block

    def _pread_index(self, first: int, count: int) -> bytes:
        assert self._index is not None
        return os.pread(self._index, count * SIZE, first * SIZE)


@contextlib.contextmanager
def opened_pieces(folder: int) -> Iterator[list[Piece]]:
    """Give the pieces of a run's log: `run.log`, then the tail parts, oldest first."""
    with contextlib.ExitStack() as stack:
        # The parts first: one that is merged meanwhile is then seen twice, and left out below.
        parts = []
        for name in names_in(folder):
            found = _PART.fullmatch(name)
            if found:
                parts.append((int(found[1]), int(found[2]), name))
        pieces = []
        for attempt, number, name in sorted(parts):
            piece = _open(stack, folder, name, f"tail_{attempt}_{number}.idx", attempt, number)
            if piece is not None and piece.count:
                pieces.append(piece)
        main = _open(stack, folder, LOG, INDEX, None, 0)
        yield [main, *(piece for piece in pieces if not _is_merged(main, piece))] if main else pieces


def last_of(piece: Piece, attempt: int) -> Entry | None:
    """Return the newest entry of an attempt in a piece."""
    at = piece.count
    while at > 0:
        first = max(0, at - _BLOCK)
        for entry in reversed(piece.block(first, at - first)):
            if entry.attempt == attempt:
                return entry
            if entry.attempt < attempt and not entry.is_mixed:
                return None
        at = first
    return None


def _open(
    stack: contextlib.ExitStack, folder: int, log: str, entries: str, attempt: int | None, number: int
) -> Piece | None:
    try:
        text_file = open_to_read(folder, log)
    except FileNotFoundError:
        return None
    try:
        index_file: int | None = open_to_read(folder, entries)
    except FileNotFoundError:
        index_file = None
    piece = Piece(text_file, index_file, attempt=attempt, number=number)
    stack.callback(piece.close)
    return piece


def _is_merged(main: Piece, part: Piece) -> bool:
    first = part.entry(0)
    last = last_of(main, part.attempt or 0)
    return last is not None and last.number >= first.number and last.at >= first.at


def _scanned(
    block: bytes, starts: list[int], shift: int, before: Entry | None, numbered: bool
) -> Iterator[Entry]:
    attempt = before.attempt if before else (1 if numbered else 0)
    number = before.number if before else 0
    for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
        raw = block[start:end]
        parsed = text.parse(raw)
        if parsed is None or not raw.endswith(b"\n"):
            continue  # damaged, or still being written
        code = index.STREAM_CODES.get(parsed.stream, index.OTHER_STREAM)
        is_line = code != index.PLET
        found = None if is_line else _ATTEMPT.search(raw)
        if found and numbered and int(found[1]) > attempt:
            attempt, number = int(found[1]), 0
        number += 1 if is_line and numbered else 0
        flags = index.VALID | (index.NUMBERED if is_line else 0)
        yield Entry(
            shift + start, parsed.at, number, len(raw), attempt, parsed.stage, parsed.level, code, flags
        )
