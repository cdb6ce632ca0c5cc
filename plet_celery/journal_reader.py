"""The journal's reading side: events in the order of each writer, from a position on.

Not for writing (that is `journal.py`), and not for deciding what to do with what was read. A reader trusts
nothing: what does not validate is counted as damage and passed over, up to the next record. The format
is in docs/journal-format.md.
"""

from __future__ import annotations

import bisect
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from plet_celery.events import WRITER_STARTED
from plet_celery.journal_format import Header, salt_of, unframe
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
from plet_celery.journal_scan import (
    Batch,
    Budget,
    Cursor,
    Damage,
    End,
    Position,
    SegmentRead,
    first_element,
    header_of,
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

# A writer that has been silent this long may be gone for good, and its lock is tried that often.
_SILENT: Final = 60.0
_PROBE_EVERY: Final = 30.0


class Reader:
    """Reads one journal with a cursor of its own. Not shared between threads.

    Args:
        positions: where each writer's consumed part ends; writers not named are read from their start.
    """

    def __init__(self, directory: Path, positions: Mapping[str, Position] | None = None) -> None:
        self.directory = directory
        self._cursors: dict[str, Cursor] = {}
        self._gone: set[str] = set()
        self._sealed: dict[str, Segment] = {}
        """Files that were passed and will not change, by name: they need not be looked at again."""
        self._waiting: deque[tuple[str, list[Segment]]] = deque()
        """What the last look at the folder found, and was not read yet."""
        self.ignored: dict[str, str] = {}
        """Files that only look like segments, with the reason, as of the last look at the folder."""
        self.seek(positions or {})

    def seek(self, positions: Mapping[str, Position]) -> None:
        """Go to these positions, for instance back, when a batch could not be applied."""
        self._cursors = {writer: Cursor(segment, offset) for writer, (segment, offset) in positions.items()}
        self._waiting.clear()
        self._sealed.clear()

    def forget(self, writers: Iterable[str]) -> None:
        """Forget the positions of writers that are gone, and whose files were removed."""
        for writer in writers:
            self._cursors.pop(writer, None)
            self._gone.discard(writer)

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
        batch, budget = Batch(), Budget(max_records, max_bytes)
        if not self._waiting:
            self._waiting.extend(
                (writer, own) for writer, own in self._look().items() if own[-1].path.name not in self._sealed
            )
        while self._waiting:
            if budget.spent:
                batch.more = True
                break
            writer, own = self._waiting.popleft()
            before = self._cursors.get(writer)
            start = (before.segment, before.offset) if before else None
            finished = self._read_writer(writer, own, batch, budget)
            cursor = self._cursors[writer]
            if (cursor.segment, cursor.offset) != start:
                batch.positions[writer] = (cursor.segment, cursor.offset)
            if not finished:
                # Last in line again, so that a flood of one writer does not hide the rest.
                self._waiting.append((writer, own))
                batch.more = True
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
        return list(self._look())

    def header(self, writer: str) -> Header | None:
        """Return what a writer says of itself; None when it has no readable header."""
        for segment in self._look().get(writer, []):
            try:
                descriptor = open_segment(segment)
            except OSError:
                continue
            try:
                element = first_element(descriptor)
            finally:
                os.close(descriptor)
            record = unframe(element or b"", salt_of(writer, segment.number))
            if not isinstance(record, str) and record.k == WRITER_STARTED:
                return header_of(record)
        return None

    def backlog_bytes(self) -> int:
        """Return the bytes behind the positions, over all writers."""
        total = 0
        for writer, own in self._look().items():
            cursor = self._cursors.get(writer) or Cursor(0, 0)
            for segment in own:
                if segment.number == cursor.segment:
                    total += max(0, segment.size - cursor.offset)
                elif segment.number > cursor.segment:
                    total += segment.size
        return total

    def _look(self) -> dict[str, list[Segment]]:
        """Return the segments in the folder by writer."""
        listing = list_journal(self.directory, self._sealed)
        self.ignored = listing.ignored
        if self._sealed:
            there = {segment.path.name: segment for segment in listing.segments}
            self._sealed = {name: there[name] for name in self._sealed if name in there}
        return {writer: list(own) for writer, own in groupby(listing.segments, key=lambda one: one.writer)}

    def _read_writer(self, writer: str, own: list[Segment], batch: Batch, budget: Budget) -> bool:
        """Read one writer up to its end (True) or the budget's (False)."""
        cursor = self._cursors.setdefault(writer, Cursor(1, 0))
        while True:
            segment, following = _locate(own, cursor.segment)
            if segment is not None:
                if following is None and 0 < segment.size <= cursor.offset:
                    self._seal_if_over(segment, cursor)
                    return True
                end = SegmentRead(segment, cursor, following is None, batch, budget).run()
                if end is not End.PASSED:
                    return end is End.WAITING
                self._sealed[segment.path.name] = segment
            if following is None:
                return True
            # Counts this one, too, when it was removed before we came: a gap, but no error.
            missing = following.number - cursor.segment - (segment is not None)
            if missing:
                batch.gaps[writer] = batch.gaps.get(writer, 0) + missing
            cursor.segment, cursor.offset = following.number, 0

    def _seal_if_over(self, segment: Segment, cursor: Cursor) -> None:
        """Look no more at the last file of a writer that is gone: thousands may lie here for an hour."""
        if segment.path.name in self._sealed:
            return
        now = time.monotonic()
        if time.time() - segment.modified < _SILENT or now - cursor.probed < _PROBE_EVERY:
            return
        cursor.probed = now
        if not is_written(segment) and segment.path.stat().st_size == cursor.offset:
            self._sealed[segment.path.name] = segment


def _locate(own: Sequence[Segment], number: int) -> tuple[Segment | None, Segment | None]:
    """Return the segment of this number, if it is there, and the next one behind it."""
    index = bisect.bisect_left(own, number, key=lambda segment: segment.number)
    if index < len(own) and own[index].number == number:
        return own[index], own[index + 1] if index + 1 < len(own) else None
    return None, own[index] if index < len(own) else None
