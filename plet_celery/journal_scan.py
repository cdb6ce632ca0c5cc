"""One look at one segment: what validates becomes events, the rest is counted, up to the next record.

Who looks at which segment when, and where it goes on, is `journal_reader.py`.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from typing import Final

import msgspec

from plet_celery.events import FORMAT, RECORD_MAX, WRITER_STARTED, Event
from plet_celery.journal_format import MARK, Header, StoredRecord, salt_of, unframe, version_of
from plet_celery.journal_keeping import Segment, is_written, open_segment

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
class Cursor:
    """Where a writer's consumed part ends."""

    segment: int
    offset: int
    checked: int = 0
    """Number of the segment whose header was looked at."""
    version: int = FORMAT
    probed: float = 0.0
    """Monotonic time at which its lock was last tried because nothing came any more."""


@dataclass(slots=True)
class Budget:
    """How much a batch may still take."""

    records: int
    bytes: int

    @property
    def spent(self) -> bool:
        """A limit is reached."""
        return self.records <= 0 or self.bytes <= 0


class End(enum.Enum):
    """How a look at a segment ended."""

    PASSED = "nothing will be added, and all of it was consumed"
    WAITING = "consumed as far as it goes now"
    BUDGET = "the batch is full"


class SegmentRead:
    """One look at one segment, from the cursor on."""

    def __init__(self, segment: Segment, cursor: Cursor, newest: bool, batch: Batch, budget: Budget) -> None:
        self._segment = segment
        self._cursor = cursor
        self._newest = newest
        self._batch = batch
        self._budget = budget
        self._salt = salt_of(segment.writer, segment.number)
        self._fd = -1
        self._final = False
        """Nothing will be added to the file any more."""

    def run(self) -> End:
        """Consume what there is."""
        try:
            self._fd = open_segment(self._segment)
        except OSError:
            return End.WAITING  # Removed or replaced since it was listed; the next listing tells.
        try:
            return self._read() if self._is_supported() else End.WAITING
        finally:
            os.close(self._fd)

    def _read(self) -> End:
        while True:
            if not self._read_on():
                return End.BUDGET
            if self._final:
                return End.PASSED
            if self._newest and self._cursor.offset >= os.fstat(self._fd).st_size:
                return End.WAITING
            # First the lock, then the rest: what was written in between is still read.
            if is_written(self._segment, newest=self._newest):
                return End.WAITING
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
            batch.headers[writer] = header_of(record)
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
            element = first_element(self._fd)
            if element is None:
                return True  # Empty, or its header is not complete yet.
            cursor.checked = cursor.segment
            version = version_of(element, self._salt)
            # A damaged header says nothing; each record has its own version.
            cursor.version = FORMAT if version is None else version
        if cursor.version != FORMAT:
            self._batch.unsupported[self._segment.writer] = cursor.version
        return cursor.version == FORMAT


def first_element(descriptor: int) -> bytes | None:
    """Return the first element of an open segment without its mark; None while it has no end yet."""
    start = os.pread(descriptor, 2 * RECORD_MAX, 0)
    end = start.find(b"\n")
    return start[1 : end + 1] if end >= 0 else None


def header_of(record: StoredRecord) -> Header:
    """Return what a `writer.started` says; all empty if it says something else."""
    try:
        return msgspec.convert(record.d, Header)
    except msgspec.ValidationError:
        return Header()
