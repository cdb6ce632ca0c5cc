"""How an event gets into a file whatever comes in the way: rotation, a full disk, a slow one, a lost folder.

The books of one process about its journal. `journal.Writer` writes past all this while nothing is in
the way (`fast`), and begins a new one in a fork child.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plet_celery.events import Shed
from plet_celery.host import busy_seconds
from plet_celery.interrupts import from_system
from plet_celery.journal_breaker import SLOW, SLOW_IN_A_ROW, Breaker, Queued
from plet_celery.journal_format import Header, frame, with_drops
from plet_celery.journal_pressure import DISK_FULL_ERRORS, REASONS, RESERVE_NAME, Pressure, WriterLimits
from plet_celery.journal_segment import OpenSegment, sync_file
from plet_celery.journal_segments import Segments
from plet_celery.saying import say

log = logging.getLogger("plet_celery.journal")

# Seconds until a file that could not be opened is tried again.
_RETRY: Final = 1.0
# Times one event is tried: the file was rotated under it, the disk was full and the reserve given up.
_TRIES: Final = 4
# Reasons are words of docs/events.md; a few more may come, but `x` stays small.
_REASONS_MAX: Final = 16

_write = os.write
_mono = time.monotonic


@dataclass(slots=True)
class Attempt:
    """One write of one record, and what became of it."""

    segment: OpenSegment
    record: bytes
    written: int = 0
    error: OSError | None = None


class Delivery:
    """Files, counts and the state of the disk, for one process. Raises nothing of its own.

    Args:
        describe: returns the header of this process, once there is something to write.
    """

    def __init__(self, directory: Path, limits: WriterLimits, describe: Callable[[], Header]) -> None:
        self.pid = os.getpid()
        self.numbers = itertools.count(1)
        self.segments = Segments(
            directory,
            limit=limits.segment_max_bytes,
            durable=limits.durability == "terminal",
            describe=describe,
            numbers=self.numbers,
        )
        self.breaker = Breaker(self._deliver_queued, self._probe)
        self.pressure = Pressure(directory, limits)
        self.fast: OpenSegment | None = None
        """The file to write to when nothing has to be looked after."""
        self.look_at = 0.0
        """Monotonic time at which disk and folder are looked at again."""
        self.drops: dict[str, int] = {}
        """Events dropped since the last record, by reason."""
        self.slow = 0
        """Slow appends in a row."""
        self._directory = directory
        self._retry_at = 0.0
        self._out_of_space = False
        self._told: set[str] = set()

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that are not written; rides in the next record."""
        drops = self.drops
        name = reason if reason in drops or len(drops) < _REASONS_MAX else "error"
        # No call in this line, so that no thread comes in between and no count is lost.
        drops[name] = drops[name] + count if name in drops else count
        self.fast = None

    def admit(self, shed: Shed, now: float) -> bool:
        """Say whether an event of this kind may be written; else count it."""
        # Looks wait for the disk, too: while it is slow they are the thread's.
        if not self.breaker.degraded:
            self._look_in_time(now)
        if shed > self.pressure.level:
            return True
        self.drop(REASONS[shed])
        return False

    def deliver(self, event: Queued, now: float) -> bool:
        """Write or queue an event (monotonic `now`); False when it was dropped and counted."""
        if self.breaker.degraded:
            return self._queue(event)
        # After a first slow one, waiting for a processor or for the interpreter does not count.
        suspicious = self.slow > 0
        busy = busy_seconds() if suspicious else 0.0
        started = _mono()
        written = self._deliver(event, now)
        blocked = _mono() - started
        if suspicious and blocked > SLOW:
            blocked -= busy_seconds() - busy
        if blocked > SLOW:
            self.was_slow(blocked)
        else:
            self.slow = 0
        if self._is_calm():
            self.fast = self.segments.current
        return written

    def go_on(self, attempt: Attempt, event: Queued, now: float) -> bool:
        """Look after a write that failed, and deliver the event if that can be."""
        self.fast = None
        return self.deliver(event, now) if self._look_after(attempt, event, now) else self._lose()

    def sync(self, segment: OpenSegment, number: int) -> None:
        """Bring a file to the disk; `number` is that of the event it is for."""
        users = segment.users
        try:
            users[number] = None
            if segment is self.segments.current:
                os.fdatasync(segment.fd)
            else:
                sync_file(segment.path)
        except OSError as error:
            if not from_system(error):
                raise
            # The kernel may have thrown the pages away, and say nothing next time: no more into this file.
            self.fast = None
            self.segments.let_go(segment)
            self._tell("journal file cannot be synced: directory=%s error=%s", error)
        finally:
            if number in users:
                del users[number]

    def was_slow(self, blocked: float) -> None:
        """Take note of an append that was blocked so long; after three in a row, the breaker takes over."""
        self.slow += 1
        self.fast = None
        if self.slow >= SLOW_IN_A_ROW:
            self.slow = 0
            self.breaker.trip(_mono())
            self._tell("journal is slow, events go through a queue: directory=%s seconds=%.3f", blocked)

    def close(self, *, in_child: bool = False) -> None:
        """Give up all files; in a fork child, this closes its copies, and the parent's locks stay."""
        self.fast = None
        try:
            self.segments.close_all(in_child=in_child)
        except OSError as error:
            if not from_system(error):
                raise
            self._tell("journal file cannot be closed: directory=%s error=%s", error)

    def _is_calm(self) -> bool:
        watched = self.drops or self.slow or self.breaker.degraded
        return not (watched or self.pressure.level or self.segments.unswept)

    def _queue(self, event: Queued) -> bool:
        if self._out_of_space and self.breaker.waiting:
            return (
                self._lose()
            )  # Not acknowledged only to be dropped later; the one that waits tries the disk.
        if self.breaker.put(event):
            return True
        self.drop(REASONS[event.shed] if event.shed < Shed.END else "error")
        return False

    def _deliver_queued(self, event: Queued) -> None:
        now = _mono()
        self._look_in_time(now)
        self._deliver(event, now)

    def _deliver(self, event: Queued, now: float) -> bool:
        for _ in range(_TRIES):
            segment = self._ready(event.shed, now)
            if segment is None:
                # Another append is at it, and it takes long, or we are the one that interrupted it.
                if self.segments.busy and not self._out_of_space:
                    return self._queue(event)
                break
            attempt = self._attempt(segment, event)
            if attempt.written == len(attempt.record):
                self._out_of_space = False
                segment.size += attempt.written
                if event.sync:
                    self.sync(segment, event.number)
                return True
            if not self._look_after(attempt, event, now):
                break
        return self._lose()

    def _lose(self) -> bool:
        self.drop("disk_full" if self._out_of_space else "error")
        return False

    def _ready(self, shed: Shed, now: float) -> OpenSegment | None:
        """Return the file to write to, changed if it is time; None when there is none."""
        segments = self.segments
        current = segments.current
        if current is not None and current.size < current.limit and not segments.unswept:
            return current
        # On a full disk every start and end is tried, for space may have come back.
        if now >= self._retry_at or (current is None and shed is Shed.END and self._out_of_space):
            try:
                self._change_files(shed, now)
            except OSError as error:
                if not from_system(error):
                    raise
                self._retry_at = now + _RETRY
                self._out_of_space = error.errno in DISK_FULL_ERRORS
                self._tell("journal file cannot be opened: directory=%s error=%s", error)
        if segments.current is None:
            segments.await_other()
        return segments.current

    def _change_files(self, shed: Shed, now: float) -> None:
        try:
            self.segments.change()
        except OSError as error:
            if error.errno not in DISK_FULL_ERRORS or not self._make_room(shed, now):
                raise
            self.segments.change()

    def _attempt(self, segment: OpenSegment, event: Queued) -> Attempt:
        drops = self.drops
        if drops:
            self.drops = {}
        record = frame(with_drops(event.core, drops) if drops else event.core, segment.salt)
        attempt = Attempt(segment, record)
        users, number = segment.users, event.number
        try:
            users[number] = None
            # Looked at after we are in the books: whoever lets go of this file, or repairs it, sees us.
            if segment is self.segments.current and not segment.repairing:
                attempt.written = _write(segment.fd, record)
        except OSError as error:
            if not from_system(error):
                raise
            attempt.error = error
        finally:
            if number in users:
                del users[number]
            # After an asynchronous exception only the file knows whether the counts are in it.
            if drops and attempt.written != len(record) and not segment.ends_with(record):
                for reason in drops:
                    self.drop(reason, drops[reason])
        return attempt

    def _look_after(self, attempt: Attempt, event: Queued, now: float) -> bool:
        """Find out what became of a write that failed; True when the event shall be tried again."""
        segment, error = attempt.segment, attempt.error
        if attempt.written:
            self._out_of_space = True
            self._cut_off(attempt, event.number)
            return self._make_room(event.shed, now)
        if error is None:
            # Let go of before we wrote, or another append is just cutting a torn record off.
            return not segment.repairing
        if error.errno == errno.EBADF:
            if segment is self.segments.current:
                self.segments.forget(segment)
            return True
        if error.errno in DISK_FULL_ERRORS:
            return self._make_room(event.shed, now)
        self._out_of_space = False
        self.segments.let_go(segment)
        self._tell("journal file cannot be written: directory=%s error=%s", error)
        return error.errno == errno.EFBIG

    def _make_room(self, shed: Shed, now: float) -> bool:
        """Take note of a full disk; True when the reserve could be given up for this event."""
        self.fast = None
        self._out_of_space = True
        self.pressure.disk_is_full(now)
        self.look_at = self.pressure.next_look
        if shed is not Shed.END:
            return False
        try:
            return self.pressure.release_reserve()
        except OSError as error:
            if not from_system(error):
                raise
            return False

    def _cut_off(self, attempt: Attempt, number: int) -> None:
        """Remove a torn record from the file's end, or leave the file to it."""
        segment = attempt.segment
        users = segment.users
        done = False
        try:
            segment.repairing = True
            users[number] = None
            if segment is self.segments.current:
                done = segment.cut_off(attempt.record, attempt.written)
        except OSError as error:
            if not from_system(error):
                raise
        finally:
            if number in users:
                del users[number]
            segment.repairing = False
            if not done:
                self.segments.let_go(segment)

    def _look_in_time(self, now: float) -> None:
        if now >= self.look_at:
            self._look(now)

    def _look(self, now: float) -> None:
        try:
            self.pressure.look(now)
            self.look_at = self.pressure.next_look
            self.segments.leave_removed()
        except OSError as error:
            if not from_system(error):
                raise
            # The folder is gone, and what we hold of it with it.
            self.look_at = now + _RETRY
            if self.segments.current is not None:
                self.segments.let_go(self.segments.current)

    def _probe(self) -> None:
        """Look at the disk, and write one byte where it hurts nobody, for the breaker to time."""
        self._look_in_time(_mono())
        try:
            reserve = os.open(self._directory / RESERVE_NAME, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            os.pwrite(reserve, b"\0", 0)
        finally:
            os.close(reserve)

    def _tell(self, message: str, fact: object) -> None:
        """Log the first incident of a kind; the rest are counts."""
        if message not in self._told:
            self._told.add(message)
            say(log.error, message, self._directory, fact)
