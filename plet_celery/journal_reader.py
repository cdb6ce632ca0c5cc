"""The journal's reading side: events in the order of each writer, from a position on.

Not for writing (that is `journal.py`), and not for deciding what to do with what was read. A reader trusts
nothing: what does not validate is counted as damage and passed over, up to the next record. The format
is in docs/journal-format.md.
"""

from __future__ import annotations

import bisect
import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from plet_celery.events import FORMAT, RECORD_MAX, WRITER_STARTED, Event
from plet_celery.journal_format import MARK, Header, StoredRecord, salt_of, unframe, version_of
from plet_celery.journal_keeping import (
    Segment,
    is_gone,
    is_written,
    list_journal,
    open_segment,
    quarantine_segment,
    retire_segment,
    segments,
)

__all__ = [
    "Batch",
    "Damage",
    "Header",
    "Position",
    "Reader",
    "Segment",
    "is_written",
    "quarantine_segment",
    "retire_segment",
    "segments",
]

Position = tuple[int, int]
"""(segment number, byte offset behind the last consumed record)."""

# Bytes read at once: several times a record's largest size, so that a chunk always gets us on.
_CHUNK: Final = 4 * RECORD_MAX


@dataclass(slots=True)
class Damage:
    """Bytes of a segment that are no record."""

    writer: str
    segment: int
    offset: int
    length: int
    reason: str
    """Of the first piece: `torn`, `checksum`, `content`, `length`, `version`, `junk` without a mark; or
    `unfinished`: the file ends within it, as SIGKILL leaves it; it was not acknowledged then."""
    pieces: int = 1
    """Neighbouring damaged pieces are one entry; each mark (0x1E) starts a piece."""


@dataclass(slots=True)
class Batch:
    """What one `read` found."""

    events: list[Event] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    """Of the writers that moved: where they stand after these events."""
    damaged: list[Damage] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    """Segments of a writer that were removed before they were read."""
    drops: dict[str, dict[str, int]] = field(default_factory=dict)
    """By writer and reason: events that were never written."""
    headers: dict[str, Header] = field(default_factory=dict)
    """Of the writers whose segment was begun."""
    unsupported: dict[str, int] = field(default_factory=dict)
    """Format version of a writer's segment that this version cannot read; it stays unread, and is kept."""
    more: bool = False
    """A limit ended the batch, not the journal."""
    records: int = 0
    """Records consumed, damaged ones and headers included."""
    read_bytes: int = 0
    """Bytes consumed."""


@dataclass(slots=True)
class _Cursor:
    segment: int
    offset: int
    checked: int = 0
    """Number of the segment whose header was looked at."""
    version: int = FORMAT


@dataclass(slots=True)
class _Budget:
    records: int
    bytes: int

    @property
    def spent(self) -> bool:
        return self.records <= 0 or self.bytes <= 0


class Reader:
    """Reads one journal with a cursor of its own. Not shared between threads.

    Args:
        positions: where each writer's consumed part ends; writers not named are read from their start.
    """

    def __init__(self, directory: Path, positions: Mapping[str, Position] | None = None) -> None:
        self.directory = directory
        self._cursors: dict[str, _Cursor] = {}
        self._gone: set[str] = set()
        self._last = ""
        self.ignored: dict[str, str] = {}
        """Files that only look like segments, with the reason, as of the last read."""
        self.seek(positions or {})

    def seek(self, positions: Mapping[str, Position]) -> None:
        """Go to these positions, for instance back, when a batch could not be applied."""
        self._cursors = {writer: _Cursor(segment, offset) for writer, (segment, offset) in positions.items()}

    def positions(self) -> dict[str, Position]:
        """Return where every known writer's consumed part ends."""
        return {writer: (cursor.segment, cursor.offset) for writer, cursor in self._cursors.items()}

    def read(self, max_records: int = 2000, max_bytes: int = 1 << 20) -> Batch:
        """Return the next events, each writer's in its order, and move on behind them.

        Args:
            max_records: most records to consume.
            max_bytes: bytes after which no further record is begun.

        An incomplete record at the end of a file that is still written stays for the next call.
        """
        batch, budget = Batch(), _Budget(max_records, max_bytes)
        found = self._list()
        # The writer that came last is the last to come again, so that a flood of one does not hide the rest.
        later = [writer for writer in found if writer > self._last]
        for writer in later + [writer for writer in found if writer <= self._last]:
            before = self._cursors.get(writer)
            start = (before.segment, before.offset) if before else None
            finished = self._read_writer(writer, found[writer], batch, budget)
            cursor = self._cursors[writer]
            if (cursor.segment, cursor.offset) != start:
                batch.positions[writer] = (cursor.segment, cursor.offset)
                self._last = writer
            if not finished:
                batch.more = True
                break
        batch.records, batch.read_bytes = max_records - budget.records, max_bytes - budget.bytes
        return batch

    def is_gone(self, writer: str) -> bool:
        """Say whether this writer will never write again: none of its files is locked, or none is left."""
        if writer not in self._gone and is_gone(self.directory, writer):
            # For good: no process opens a file that another one has let go of.
            self._gone.add(writer)
        return writer in self._gone

    def writers(self) -> list[str]:
        """Return the ids of all writers with a file."""
        return list(self._list())

    def header(self, writer: str) -> Header | None:
        """Return what a writer says of itself; None when it has no readable header."""
        for segment in self._list().get(writer, []):
            try:
                descriptor = open_segment(segment)
            except OSError:
                continue
            try:
                element = _first_element(descriptor)
            finally:
                os.close(descriptor)
            record = unframe(element or b"", salt_of(writer, segment.number))
            if not isinstance(record, str) and record.k == WRITER_STARTED:
                return _header_of(record)
        return None

    def backlog_bytes(self) -> int:
        """Return the bytes behind the positions, over all writers."""
        total = 0
        for writer, own in self._list().items():
            cursor = self._cursors.get(writer) or _Cursor(0, 0)
            for segment in own:
                if segment.number == cursor.segment:
                    total += max(0, segment.size - cursor.offset)
                elif segment.number > cursor.segment:
                    total += segment.size
        return total

    def _list(self) -> dict[str, list[Segment]]:
        listing = list_journal(self.directory)
        self.ignored = listing.ignored
        return {writer: list(own) for writer, own in groupby(listing.segments, key=lambda one: one.writer)}

    def _read_writer(self, writer: str, own: list[Segment], batch: Batch, budget: _Budget) -> bool:
        """Read one writer up to its end (True) or the budget's (False)."""
        cursor = self._cursors.setdefault(writer, _Cursor(1, 0))
        while True:
            segment, following = _locate(own, cursor.segment)
            if segment is not None:
                if following is None and 0 < segment.size == cursor.offset:
                    return True  # As long as when it was last read: not worth opening.
                end = _SegmentRead(segment, cursor, following is None, batch, budget).run()
                if end is not _End.PASSED:
                    return end is _End.WAITING
            if following is None:
                return True
            # Counts this one, too, when it was removed before we came: a gap, but no error.
            missing = following.number - cursor.segment - (segment is not None)
            if missing:
                batch.gaps[writer] = batch.gaps.get(writer, 0) + missing
            cursor.segment, cursor.offset = following.number, 0


class _End(enum.Enum):
    PASSED = "nothing will be added, and all of it was consumed"
    WAITING = "consumed as far as it goes now"
    BUDGET = "the batch is full"


class _SegmentRead:
    """One look at one segment, from the cursor on."""

    def __init__(
        self, segment: Segment, cursor: _Cursor, newest: bool, batch: Batch, budget: _Budget
    ) -> None:
        self._segment = segment
        self._cursor = cursor
        self._newest = newest
        self._batch = batch
        self._budget = budget
        self._salt = salt_of(segment.writer, segment.number)
        self._fd = -1
        self._final = False
        """Nothing will be added to the file any more."""

    def run(self) -> _End:
        try:
            self._fd = open_segment(self._segment)
        except OSError:
            return _End.WAITING  # Removed or replaced since it was listed; the next listing tells.
        try:
            return self._read() if self._is_supported() else _End.WAITING
        finally:
            os.close(self._fd)

    def _read(self) -> _End:
        while True:
            if not self._read_on():
                return _End.BUDGET
            if self._final:
                return _End.PASSED
            if self._newest and self._cursor.offset >= os.fstat(self._fd).st_size:
                return _End.WAITING
            # First the lock, then the rest: what was written in between is still read.
            if is_written(self._segment, newest=self._newest):
                return _End.WAITING
            self._final = True

    def _read_on(self) -> bool:
        """Consume up to the end, or up to an incomplete record there (True), or to the budget's end."""
        while True:
            chunk = os.pread(self._fd, _CHUNK, self._cursor.offset)
            if not chunk:
                return True
            if self._budget.spent:
                return False
            before = self._cursor.offset
            self._consume(chunk, len(chunk) < _CHUNK)
            if self._cursor.offset == before:
                return True

    def _consume(self, chunk: bytes, at_end: bool) -> None:
        junk, *elements = chunk.split(MARK)
        if junk:
            if not self._is_stable(junk):
                return
            self._damaged(junk, "junk")
        last = len(elements) - 1
        for index, element in enumerate(elements):
            if self._budget.spent:
                return
            record = unframe(element, self._salt)
            if not isinstance(record, str):
                self._take(record, len(element) + 1)
                continue
            if index == last and self._may_grow(element, at_end):
                return
            unfinished = index == last and at_end and b"\n" not in element
            if not self._salvage(element, "unfinished" if unfinished else record):
                return

    def _may_grow(self, element: bytes, at_end: bool) -> bool:
        """Say whether the last element of a chunk may only be the start of a record."""
        if len(element) >= RECORD_MAX:
            return False
        return not at_end or not (self._final or b"\n" in element)

    def _salvage(self, element: bytes, reason: str) -> bool:
        """Count an element as damaged, but take the record that stands whole at its start."""
        if not self._is_stable(MARK + element):
            return False
        # JSON text holds no newline, so the first one ends the record, whatever follows.
        whole = element.find(b"\n") + 1
        record = unframe(element[:whole], self._salt)
        if isinstance(record, str):
            self._damaged(MARK + element, reason)
        else:
            self._take(record, whole + 1)
            self._damaged(element[whole:], "junk")
        return True

    def _is_stable(self, piece: bytes) -> bool:
        """Say whether these bytes still lie at the cursor: a writer may have cut a torn record off."""
        return self._final or os.pread(self._fd, len(piece), self._cursor.offset) == piece

    def _damaged(self, piece: bytes, reason: str) -> None:
        cursor, found = self._cursor, self._batch.damaged
        last = found[-1] if found else None
        at = (self._segment.writer, cursor.segment, cursor.offset)
        if last is not None and (last.writer, last.segment, last.offset + last.length) == at:
            last.length += len(piece)
            last.pieces += 1
        else:
            found.append(Damage(*at, len(piece), reason))
        self._move(len(piece))

    def _move(self, size: int) -> None:
        self._cursor.offset += size
        self._budget.records -= 1
        self._budget.bytes -= size

    def _take(self, record: StoredRecord, size: int) -> None:
        writer, batch = self._segment.writer, self._batch
        if record.x:
            drops = batch.drops.setdefault(writer, {})
            for reason, count in record.x.items():
                drops[reason] = drops.get(reason, 0) + count
        if record.k == WRITER_STARTED:
            batch.headers[writer] = _header_of(record)
        else:
            batch.events.append(
                Event(
                    kind=record.k,
                    wall=record.t,
                    mono=record.m,
                    run=record.r,
                    attempt=record.a,
                    data=record.d,
                    writer=writer,
                    segment=self._segment.number,
                    offset=self._cursor.offset,
                    number=record.n,
                )
            )
        self._move(size)

    def _is_supported(self) -> bool:
        cursor = self._cursor
        if cursor.checked != cursor.segment:
            element = _first_element(self._fd)
            if element is None:
                return True  # Empty, or its header is not complete yet.
            cursor.checked = cursor.segment
            version = version_of(element, self._salt)
            # A damaged header says nothing; each record has its own version.
            cursor.version = FORMAT if version is None else version
        if cursor.version != FORMAT:
            self._batch.unsupported[self._segment.writer] = cursor.version
        return cursor.version == FORMAT


def _locate(own: Sequence[Segment], number: int) -> tuple[Segment | None, Segment | None]:
    """Return the segment of this number, if it is there, and the next one behind it."""
    index = bisect.bisect_left(own, number, key=lambda segment: segment.number)
    if index < len(own) and own[index].number == number:
        return own[index], own[index + 1] if index + 1 < len(own) else None
    return None, own[index] if index < len(own) else None


def _first_element(descriptor: int) -> bytes | None:
    start = os.pread(descriptor, 2 * RECORD_MAX, 0)
    end = start.find(b"\n")
    return start[1 : end + 1] if end >= 0 else None


def _header_of(record: StoredRecord) -> Header:
    try:
        return msgspec.convert(record.d, Header)
    except msgspec.ValidationError:
        return Header()
