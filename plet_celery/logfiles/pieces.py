"""The pieces of a run's log: `run.log` and the tail parts of attempts that have not ended.

A piece is a text with its index. Where the index is missing, short or damaged, the end of the text
is looked through instead, never more than `SCAN_BYTES` of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from typing import Final

from plet_celery.logfiles import index, text
from plet_celery.logfiles.folders import names_in, open_to_read
from plet_celery.logfiles.index import SIZE, Entry
from plet_celery.logfiles.line import Filter
from plet_celery.logfiles.volumes import INDEX, LOG, part_names

SCAN_BYTES: Final = 4 << 20
"""Most text that is looked through where the index does not help."""
_BLOCK: Final = 2048
_TRIED: Final = 64
_FRESH_SECONDS: Final = 5.0
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
        log: descriptor of the text.
        entries: descriptor of the index, or None.
    """

    def __init__(self, log: int, entries: int | None, *, attempt: int | None = None, number: int = 0) -> None:
        self.attempt = attempt
        """The attempt of a tail part; None for `run.log`."""
        self.number = number
        self.is_cut = False
        """Its end is left out, because it is being merged."""
        self._log = log
        self._index = entries
        # The index first: what it names was written to the text before it.
        indexed = os.fstat(entries).st_size // SIZE if entries is not None else 0
        status = os.fstat(log)
        self.size = status.st_size
        self._is_fresh = status.st_mtime > time.time() - _FRESH_SECONDS
        self.indexed = self._sound(indexed)
        last = self.entry(self.indexed - 1) if self.indexed else None
        self._reach = last.end if last else 0
        self._last = last
        self._extra: list[Entry] = []
        self._scanned = 0

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

    def place_of(self, attempt: int, number: int) -> int:
        """Return the first place at which a line of this attempt and at least this number may be.

        The entries are sorted by (attempt, number) up to the first mixed one; from there on the place
        of a line is only known by looking, so the answer is never beyond it.
        """
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if entry.is_mixed or (entry.attempt, entry.number) >= (attempt, number):
                high = middle
            else:
                low = middle + 1
        return low

    def hide_from(self, place: int) -> None:
        """Leave out the records from `place` on, and the text behind the index."""
        self.indexed = min(self.indexed, place)
        self.is_cut = self._is_fresh = True

    def distrust(self) -> None:
        """Do without the index: what it says does not fit the text."""
        self.indexed = self._reach = self._scanned = 0
        self._last, self._extra = None, []

    def look_through(self, most: int) -> None:
        """Find records in the text behind the index, at its end and within `most` bytes.

        Text that was written a moment ago gets its index in a moment: it is left for the next look.
        """
        if self.indexed and self._is_fresh:
            return
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
        # The newest part first: those before it are complete then. run.log last: a part that is merged
        # meanwhile is seen twice, and left out, rather than not at all.
        pieces = []
        for attempt, number in sorted(_parts(folder), reverse=True):
            piece = _open(stack, folder, *part_names(attempt, number), attempt, number)
            if piece is not None and piece.count:
                pieces.append(piece)
        main = _open(stack, folder, LOG, INDEX, None, 0)
        pieces.reverse()
        yield [main, *_not_merged(main, pieces)] if main else pieces


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


def _parts(folder: int) -> list[tuple[int, int]]:
    """Return (attempt, number) of the tail parts in a folder."""
    found = map(_PART.fullmatch, names_in(folder))
    return [(int(one[1]), int(one[2])) for one in found if one]


def _open(
    stack: contextlib.ExitStack, folder: int, log: str, entries: str, attempt: int | None, number: int
) -> Piece | None:
    try:
        text_file = open_to_read(folder, log)
    except FileNotFoundError:
        return None
    stack.callback(os.close, text_file)
    index_file: int | None = None
    try:
        index_file = open_to_read(folder, entries)
        stack.callback(os.close, index_file)
    except FileNotFoundError:
        if os.fstat(text_file).st_nlink == 0:
            return None  # a tail part that was merged at this moment
    return Piece(text_file, index_file, attempt=attempt, number=number)


def _not_merged(main: Piece, parts: list[Piece]) -> list[Piece]:
    """Return the tail parts that `run.log` does not hold as a whole; hide what it has of those."""
    kept: list[Piece] = []
    for attempt in sorted({part.attempt or 0 for part in parts}):
        own = [part for part in parts if part.attempt == attempt]
        last, newest = last_of(main, attempt), own[-1].entry(own[-1].count - 1)
        if last is not None and (last.number, last.at) >= (newest.number, newest.at):
            continue
        kept += own
        first = own[0].entry(0)
        if last is not None and (last.number, last.at) >= (first.number, first.at):
            main.hide_from(main.place_of(attempt, first.number))  # being merged at this moment
    return kept


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
