"""The journal's writing side: `Writer.append` puts one event into a file, for good, in microseconds.

Not for reading (that is `journal_reader.py`). The format is in docs/journal-format.md.

An append takes no lock and never waits for another one: files are opened with O_APPEND, each record is
one write, and an event's identity is where it ends up. What may strike at any call, and is let through
wherever it does: an exception raised by a signal handler (a soft time limit), or set by another thread.
So no step here relies on a later one, except where there is no call between the two: CPython lets
neither a signal handler nor another thread come in between then.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plet_celery.events import END_STATES, EVENTS_DROPPED, FORMAT, Shed, shed_class
from plet_celery.journal_breaker import SLOW, SLOW_IN_A_ROW, Breaker, Queued
from plet_celery.journal_format import CORE_MAX, Record, encode, frame, safe_core, with_drops
from plet_celery.journal_place import JournalInfo, open_journal
from plet_celery.journal_pressure import DISK_FULL_ERRORS, REASONS, RESERVE_NAME, Pressure, WriterLimits
from plet_celery.journal_segment import OpenSegment
from plet_celery.journal_segments import Segments, describe_process, plet_version

__all__ = ["JournalInfo", "Writer", "WriterLimits", "open_journal"]

log = logging.getLogger("plet_celery.journal")

# Seconds until a file that could not be opened is tried again.
_RETRY: Final = 1.0
# Times one event is tried: the file was rotated under it, the disk was full and the reserve given up.
_TRIES: Final = 4
# Reasons are words of docs/events.md; a few more may come, but `x` stays small.
_REASONS_MAX: Final = 16
# How long close() waits for events that the breaker's thread has not written yet.
_CLOSE_WAIT: Final = 2.0
# What msgspec raises for what is no JSON; a lone surrogate is a UnicodeEncodeError, a ValueError.
_ENCODING_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError)

# Bound once: the name of a module attribute costs a lookup at every append.
_write = os.write
_getpid = os.getpid
_wall = time.time
_mono = time.monotonic


_Data = Mapping[str, Any]


class Writer:
    """Appends the events of this process to files of its own; after a fork, the child's to others.

    Nothing is opened before the first append. No append raises an exception of ours; what cannot be
    written is counted by reason, and the counts ride in the next record.

    Args:
        directory: a journal that `open_journal` has checked.
        role: `child`, `worker`, `shipper`, `producer` or `eager`.
        settings_fingerprint: `settings.fingerprint`, for the file's header.
        parent: writer id of the process that started this one; a fork child finds it by itself.
    """

    def __init__(
        self,
        directory: Path,
        *,
        role: str,
        settings_fingerprint: str = "",
        limits: WriterLimits | None = None,
        parent: str | None = None,
    ) -> None:
        self.directory = directory
        self.role = role
        self.limits = limits or WriterLimits()
        self._settings = settings_fingerprint
        self._synced = frozenset(END_STATES if self.limits.durability == "terminal" else ())
        plet_version()  # Looked up once here, not in each child.
        self._begin(parent)
        _writers.add(self)

    def _begin(self, parent: str | None) -> None:
        self._pid = _getpid()
        self._numbers = itertools.count(1)
        self._segments = Segments(
            self.directory,
            self.limits.segment_max_bytes,
            lambda: describe_process(self.directory, settings=self._settings, role=self.role, parent=parent),
            self._numbers,
        )
        self._parent = parent
        self._fast: OpenSegment | None = None
        self._pressure = Pressure(self.directory, self.limits)
        self._look_at = 0.0
        self._retry_at = 0.0
        self._out_of_space = False
        self._slow = 0
        self._drops: dict[str, int] = {}
        self._told: set[str] = set()
        self._breaker = Breaker(self._deliver_queued, self._probe)

    @property
    def id(self) -> str | None:
        """The writer id, 32 hex digits; None before the first append of this process."""
        return self._segments.writer if self._pid == _getpid() else None

    @property
    def degraded(self) -> bool:
        """The disk is slow: events are acknowledged before they are written."""
        return self._breaker.degraded

    def append(self, kind: str, run: str | None, attempt: str | None, data: _Data) -> bool:
        """Write one event.

        Args:
            data: what the kind carries (docs/events.md): JSON, already redacted. What is no JSON is
                replaced, what is too long is cut and marked.

        Returns:
            True when the record is in the file (in the queue, while `degraded`). False when it was
            dropped and counted.
        """
        segment = self._fast
        mono = _mono()
        if segment is None or mono >= self._look_at or _getpid() != self._pid:
            return self._append_carefully(kind, run, attempt, data)
        number = next(self._numbers)
        core = self._core(kind, number, mono, run, attempt, data)
        record = frame(core, segment.salt)
        users = segment.users
        trouble: OSError | None = None
        written = 0
        try:
            users[number] = None
            # Again, now that whoever lets go of this file sees us: it may have happened in between.
            if segment is self._fast:
                written = _write(segment.fd, record)
        except OSError as error:
            if not _is_ours(error):
                raise
            trouble = error
        finally:
            # No call in here: see the module's docstring.
            if number in users:
                del users[number]
        if written != len(record):
            self._fast = None
            event = Queued(core, number, shed_class(kind, data), kind in self._synced)
            again = self._trouble(_Try(segment, record, written, trouble), event, mono)
            return self._deliver(event, mono) if again else self._lose()
        segment.size += written
        if segment.size >= segment.limit:
            self._fast = None
        if kind in self._synced:
            self._sync(segment)
        elapsed = _mono() - mono
        if elapsed > SLOW:
            self._was_slow(elapsed)
        elif self._slow:
            self._slow = 0
        return True

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that the caller decided not to write (`rate_limit`); rides in the next record."""
        drops = self._drops
        name = reason if reason in drops or len(drops) < _REASONS_MAX else "error"
        # No call in this line, so that no thread comes in between and no count is lost.
        drops[name] = drops[name] + count if name in drops else count
        self._fast = None

    def close(self) -> None:
        """Write what is still to be told, and give up file and lock; a later append begins anew."""
        if self._pid != _getpid():
            self._after_fork()
        self._breaker.wait_empty(_CLOSE_WAIT)
        if self._drops and self._segments.writer is not None:
            reasons = dict(self._drops)
            self.append(EVENTS_DROPPED, None, None, {"count": sum(reasons.values()), "reasons": reasons})
        segments, parent = self._segments, self._parent
        self._begin(parent)
        segments.close_all()

    def _core(
        self, kind: str, number: int, mono: float, run: str | None, attempt: str | None, data: _Data
    ) -> bytes:
        wall = _wall()
        try:
            core = encode(Record(FORMAT, kind, number, wall, mono, run, attempt, data or None))
        except _ENCODING_ERRORS as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # From a signal handler: not about our data.
            return safe_core(kind, number, wall, mono, run, attempt, data)
        if len(core) > CORE_MAX or b"\\u0000" in core:
            return safe_core(kind, number, wall, mono, run, attempt, data)
        return core

    def _append_carefully(self, kind: str, run: str | None, attempt: str | None, data: _Data) -> bool:
        if self._pid != _getpid():
            self._after_fork()
        now = _mono()
        number = next(self._numbers)
        shed = shed_class(kind, data)
        if now >= self._look_at:
            self._look(now)
        if shed <= self._pressure.level:
            self.drop(REASONS[shed])
            return False
        event = Queued(self._core(kind, number, now, run, attempt, data), number, shed, kind in self._synced)
        if self._breaker.degraded:
            return self._queue(event)
        written = self._deliver(event, now)
        elapsed = _mono() - now
        if elapsed > SLOW:
            self._was_slow(elapsed)
        self._settle()
        return written

    def _settle(self) -> None:
        """Take the short way from now on, unless there is something to look after at each append."""
        segments = self._segments
        if not (self._drops or self._breaker.degraded or self._pressure.level or segments.unswept):
            self._fast = segments.current

    def _queue(self, event: Queued) -> bool:
        if self._breaker.put(event):
            return True
        self.drop(REASONS[event.shed] if event.shed < Shed.END else "error")
        return False

    def _deliver_queued(self, event: Queued) -> None:
        self._deliver(event, _mono())

    def _deliver(self, event: Queued, now: float) -> bool:
        """Write an event through whatever comes in the way; False when it was dropped and counted."""
        for _ in range(_TRIES):
            segment = self._ready(event.shed, now)
            if segment is None:
                if self._segments.busy:
                    return self._queue(event)
                break
            tried = self._try(segment, event)
            if tried.written == len(tried.record):
                self._out_of_space = False
                segment.size += tried.written
                if event.sync:
                    self._sync(segment)
                return True
            if not self._trouble(tried, event, now):
                break
        return self._lose()

    def _lose(self) -> bool:
        self.drop("disk_full" if self._out_of_space else "error")
        return False

    def _ready(self, shed: Shed, now: float) -> OpenSegment | None:
        """Return the file to write to, changed if it is time; None when there is none."""
        segments = self._segments
        current = segments.current
        if current is not None and current.size < current.limit and not segments.unswept:
            return current
        # On a full disk every start and end is tried, for space may have come back.
        if now >= self._retry_at or (current is None and shed is Shed.END and self._out_of_space):
            try:
                self._change_files(shed, now)
            except OSError as error:
                if not _is_ours(error):
                    raise
                self._retry_at = now + _RETRY
                self._out_of_space = error.errno in DISK_FULL_ERRORS
                self._tell("journal file cannot be opened: directory=%s error=%s", error)
        if segments.current is None:
            segments.await_other()
        return segments.current

    def _change_files(self, shed: Shed, now: float) -> None:
        try:
            self._segments.change()
        except OSError as error:
            if error.errno not in DISK_FULL_ERRORS or not self._make_room(shed, now):
                raise
            self._segments.change()

    def _try(self, segment: OpenSegment, event: Queued) -> _Try:
        drops = self._drops
        if drops:
            self._drops = {}
        record = frame(with_drops(event.core, drops) if drops else event.core, segment.salt)
        tried = _Try(segment, record, 0, None)
        users, number = segment.users, event.number
        try:
            users[number] = None
            if segment is self._segments.current and not segment.repairing:
                tried.written = _write(segment.fd, record)
        except OSError as error:
            if not _is_ours(error):
                raise
            tried.error = error
        finally:
            if number in users:
                del users[number]
            # After an asynchronous exception only the file knows whether the counts are in it.
            if drops and tried.written != len(record) and not _is_written(segment, record):
                self._restore(drops)
        return tried

    def _restore(self, drops: Mapping[str, int]) -> None:
        for reason, count in drops.items():
            self.drop(reason, count)

    def _trouble(self, tried: _Try, event: Queued, now: float) -> bool:
        """Look after a write that failed; True when the event shall be tried again."""
        segment, error = tried.segment, tried.error
        if tried.written:
            self._cut_off(tried, event.number)
            return self._make_room(event.shed, now)
        if error is None:
            # Let go of before we wrote, or another append is just cutting a torn record off.
            return not segment.repairing
        if error.errno == errno.EBADF:
            if segment is self._segments.current:
                self._segments.forget(segment)
            return True
        if error.errno in DISK_FULL_ERRORS:
            return self._make_room(event.shed, now)
        self._out_of_space = False
        self._segments.let_go(segment)
        self._tell("journal file cannot be written: directory=%s error=%s", error)
        return error.errno == errno.EFBIG

    def _make_room(self, shed: Shed, now: float) -> bool:
        """Take note of a full disk; True when the reserve could be given up for this event."""
        self._fast = None
        self._out_of_space = True
        self._pressure.disk_is_full(now)
        self._look_at = self._pressure.next_look
        if shed is not Shed.END:
            return False
        try:
            return self._pressure.release_reserve()
        except OSError as error:
            if not _is_ours(error):
                raise
            return False

    def _cut_off(self, tried: _Try, number: int) -> None:
        """Remove a torn record from the file's end, or leave the file to it."""
        segment = tried.segment
        done = False
        try:
            segment.repairing = True
            segment.users[number] = None
            done = segment.fd >= 0 and segment.cut_off(tried.record, tried.written)
        except OSError as error:
            if not _is_ours(error):
                raise
        finally:
            if number in segment.users:
                del segment.users[number]
            segment.repairing = False
            if not done:
                self._segments.let_go(segment)

    def _sync(self, segment: OpenSegment) -> None:
        try:
            os.fdatasync(segment.fd)
        except OSError as error:
            if not _is_ours(error):
                raise
            # The kernel may have thrown the pages away, and say nothing next time: no more into this file.
            self._fast = None
            self._segments.let_go(segment)
            self._tell("journal file cannot be synced: directory=%s error=%s", error)

    def _look(self, now: float) -> None:
        try:
            self._pressure.look(now)
            self._look_at = self._pressure.next_look
        except OSError as error:
            if not _is_ours(error):
                raise
            self._look_at = now + _RETRY

    def _was_slow(self, elapsed: float) -> None:
        started = _mono()
        time.sleep(0)
        # As long as this takes, other threads held the interpreter: then it was not the disk.
        ended = _mono()
        if elapsed - (ended - started) <= SLOW:
            return
        self._slow += 1
        if self._slow >= SLOW_IN_A_ROW:
            self._slow = 0
            self._fast = None
            self._breaker.trip(ended)
            self._tell("journal is slow, events go through a queue: directory=%s seconds=%.3f", elapsed)

    def _probe(self) -> None:
        """Write one byte where it hurts nobody, for the breaker to time."""
        try:
            reserve = os.open(self.directory / RESERVE_NAME, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            os.pwrite(reserve, b"\0", 0)
        finally:
            os.close(reserve)

    def _tell(self, message: str, error: object) -> None:
        if message not in self._told:
            self._told.add(message)
            log.error(message, self.directory, error)

    def _after_fork(self) -> None:
        """Begin anew in a child: another id, and the parent's files are closed, never unlocked."""
        inherited = self._segments
        self._begin(inherited.writer)
        try:
            inherited.close_all()
        except OSError as error:
            self._tell("journal files of the parent cannot be closed: directory=%s error=%s", error)


@dataclass(slots=True)
class _Try:
    segment: OpenSegment
    record: bytes
    written: int
    error: OSError | None


def _is_ours(error: OSError) -> bool:
    """Tell what a system call of ours answered from what a signal handler raised (a TimeoutError, say)."""
    if error.errno is None:
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return str(name).startswith(("plet_celery.", "pathlib"))


def _is_written(segment: OpenSegment, record: bytes) -> bool:
    try:
        return segment.ends_with(record)
    except OSError:
        return False


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
