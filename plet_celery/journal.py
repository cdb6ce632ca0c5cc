"""The journal's writing side: `Writer.append` puts one event into a file, for good, in microseconds.

Not for reading (that is `journal_reader.py`). The format is in docs/journal-format.md.

An append takes no lock and never waits for another one: files are opened with O_APPEND, each record is
one write, and an event's identity is where it ends up. What may strike at any call, and is let through
wherever it does: an exception raised by a signal handler (a soft time limit), or set by another thread.
So no step here relies on a later one, except where there is no call between the two: CPython lets
neither a signal handler nor another thread come in between then.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plet_celery.events import END_STATES, EVENTS_DROPPED, FORMAT, shed_class
from plet_celery.interrupts import from_system
from plet_celery.journal_breaker import SLOW, Queued
from plet_celery.journal_delivery import Attempt, Delivery
from plet_celery.journal_format import CORE_MAX, Record, encode, frame, safe_core
from plet_celery.journal_place import JournalInfo, open_journal
from plet_celery.journal_pressure import WriterLimits
from plet_celery.journal_segments import describe_process, plet_version

__all__ = ["JournalInfo", "Writer", "WriterLimits", "open_journal"]

EXIT_WAIT: Final = 5.0
"""How long, in seconds, a process that ends waits for events that a slow disk keeps in its queue."""
# So long waits close(), which may be called in the middle of a process's life.
_CLOSE_WAIT: Final = 2.0
# What msgspec raises for what is no JSON; a lone surrogate is a UnicodeEncodeError, a ValueError.
_ENCODING_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError)
# A NUL in a string; databases refuse it. Looking for the backslash first is seven times as fast.
_NUL: Final = b"\\u0000"
_BACKSLASH: Final = ord("\\")

# Bound once: looking them up in their modules would cost at every append.
_write = os.write
_getpid = os.getpid
_wall = time.time
_mono = time.monotonic


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
        self._parent = parent
        self._synced = frozenset(END_STATES if self.limits.durability == "terminal" else ())
        plet_version()  # Looked up once here, not in each child.
        self._delivery = self._begin(parent)
        _writers.add(self)

    @property
    def id(self) -> str | None:
        """The writer id, 32 hex digits; None before the first append of this process."""
        return self._current().segments.writer

    @property
    def degraded(self) -> bool:
        """The disk is slow: events are acknowledged before they are written."""
        return self._current().breaker.degraded

    def append(
        self,
        kind: str,
        run: str | None,
        attempt: str | None,
        data: Mapping[str, Any],
        at: tuple[float, float] | None = None,
    ) -> bool:
        """Write one event.

        Args:
            data: what the kind carries (docs/events.md): JSON, already redacted. What is no JSON is
                replaced, what is too long is cut and marked.
            at: wall and monotonic time at which it happened, where that is not now.

        Returns:
            True when the record is in the file (in the queue, while `degraded`). False when it was
            dropped and counted.
        """
        delivery = self._delivery
        segment = delivery.fast
        mono = _mono()
        if segment is None or mono >= delivery.look_at or _getpid() != delivery.pid:
            return self._append_carefully(kind, run, attempt, data, at)
        number = next(delivery.numbers)
        core = _core(kind, number, mono, run, attempt, data, at)
        record = frame(core, segment.salt)
        users = segment.users
        trouble: OSError | None = None
        written = 0
        try:
            users[number] = None
            # Again, now that whoever lets go of this file sees us: it may have happened in between.
            if segment is delivery.fast:
                written = _write(segment.fd, record)
        except OSError as error:
            if not from_system(error):
                raise
            trouble = error
        finally:
            # No call in here: see the module's docstring.
            if number in users:
                del users[number]
        if written != len(record):
            event = Queued(core, number, shed_class(kind, data), kind in self._synced)
            return delivery.go_on(Attempt(segment, record, written, trouble), event, mono)
        segment.size += written
        if segment.size >= segment.limit:
            delivery.fast = None
        if kind in self._synced:
            delivery.sync(segment, number)
        elapsed = _mono() - mono
        if elapsed > SLOW:
            delivery.was_slow(elapsed)
        return True

    @property
    def is_behind(self) -> bool:
        """Events were acknowledged that are not written yet, or a slow disk is being tried."""
        return self._current().breaker.is_behind

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that the caller decided not to write (`rate_limit`); rides in the next record."""
        self._current().drop(reason, count)

    def settle(self, timeout: float) -> bool:
        """Wait for what was acknowledged while `degraded`; False if that takes over `timeout` seconds."""
        return self._current().breaker.wait_empty(timeout)

    def finish(self, timeout: float) -> None:
        """The process ends: settle, tell what was dropped, and have later appends write for themselves.

        The last not where the disk hangs for more than `timeout` seconds: no append shall hang with it.
        """
        breaker, deadline = self._current().breaker, _mono() + timeout
        if breaker.wait_empty(timeout):
            breaker.end()
            # Another thread may have queued something in between.
            breaker.wait_empty(deadline - _mono())
        self._tell_drops()

    def close(self) -> None:
        """Write what is still to be told, and give up file and lock; a later append begins anew."""
        delivery = self._current()
        delivery.breaker.wait_empty(_CLOSE_WAIT)
        self._tell_drops()
        self._delivery = self._begin(self._parent)
        delivery.close()

    def _tell_drops(self) -> None:
        delivery = self._delivery
        if delivery.drops and delivery.segments.writer is not None:
            reasons = dict(delivery.drops)
            self.append(EVENTS_DROPPED, None, None, {"count": sum(reasons.values()), "reasons": reasons})

    def _begin(self, parent: str | None) -> Delivery:
        return Delivery(
            self.directory,
            self.limits,
            lambda: describe_process(self.directory, settings=self._settings, role=self.role, parent=parent),
        )

    def _current(self) -> Delivery:
        if self._delivery.pid != _getpid():
            self._after_fork()
        return self._delivery

    def _append_carefully(
        self,
        kind: str,
        run: str | None,
        attempt: str | None,
        data: Mapping[str, Any],
        at: tuple[float, float] | None,
    ) -> bool:
        delivery = self._current()
        now = _mono()
        number = next(delivery.numbers)
        shed = shed_class(kind, data)
        if not delivery.admit(shed, now):
            return False
        core = _core(kind, number, now, run, attempt, data, at)
        return delivery.deliver(Queued(core, number, shed, kind in self._synced), now)

    def _after_fork(self) -> None:
        """Begin anew in a child: another id, and the parent's files are closed, never unlocked."""
        inherited = self._delivery
        self._delivery = self._begin(inherited.segments.writer)
        inherited.close(in_child=True)


def _core(
    kind: str,
    number: int,
    mono: float,
    run: str | None,
    attempt: str | None,
    data: Mapping[str, Any],
    at: tuple[float, float] | None,
) -> bytes:
    if at is None:
        wall = _wall()
    else:
        wall, mono = at
    try:
        core = encode(Record(FORMAT, kind, number, wall, mono, run, attempt, data or None))
    except _ENCODING_ERRORS as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # From a signal handler: not about our data.
        return safe_core(kind, number, wall, mono, run, attempt, data)
    if len(core) > CORE_MAX or (_BACKSLASH in core and _NUL in core):
        return safe_core(kind, number, wall, mono, run, attempt, data)
    return core


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer._after_fork()


def _finish_all() -> None:
    deadline = _mono() + EXIT_WAIT
    for writer in list(_writers):
        writer.finish(max(0.0, deadline - _mono()))


os.register_at_fork(after_in_child=_after_fork_in_child)
# The thread that writes what is queued ends with the interpreter. (Celery's task processes end without
# this: they finish at `worker_process_shutdown`.)
atexit.register(_finish_all)
