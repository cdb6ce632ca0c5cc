"""What takes over while the disk is too slow for a task to wait for: a bounded queue and a thread.

A queued event is acknowledged before it is written, so a SIGKILL can lose it: `degraded` says so.
Nothing here waits for a lock: an append may run inside a signal handler that interrupted another one.
"""

from __future__ import annotations

import _thread
import logging
import queue
import sys
import time
from _queue import SimpleQueue
from collections.abc import Callable
from typing import Final, NamedTuple

from plet_celery.events import Shed
from plet_celery.host import busy_seconds
from plet_celery.saying import say

SLOW: Final = 0.05
"""An append that takes longer, in seconds, is slow."""
SLOW_IN_A_ROW: Final = 3
"""So many slow appends in a row, and the breaker takes over."""

_QUEUE_MAX: Final = 20_000
_QUEUE_MAX_BYTES: Final = 8 << 20
# Share of the queue up to which a kind of event is taken; the rest is for those that matter more.
_SHARE: Final = {Shed.DEBUG_LOG: 0.25, Shed.LOG: 0.5, Shed.PROGRESS: 0.75, Shed.CUSTOM: 0.9, Shed.END: 1.0}
# How often the thread tries the disk while there is nothing to write.
_PROBE_EVERY: Final = 1.0

log = logging.getLogger("plet_celery.journal")


class Queued(NamedTuple):
    """An event that waits for the thread."""

    core: bytes
    number: int
    shed: Shed
    sync: bool


class Breaker:
    """The queue and its thread. One per writer and process; a fork child makes a new one."""

    def __init__(self, deliver: Callable[[Queued], object], probe: Callable[[], object]) -> None:
        self._deliver = deliver
        self._probe = probe
        self._queue: SimpleQueue[Queued] = SimpleQueue()
        self._bytes = 0
        self._written = 0
        self._slow_at: float | None = None
        self._thread: dict[str, object] = {}
        self._ended = False
        self._working = False
        self.recovery = 30.0
        """Seconds of good probes after which appends write for themselves again."""
        self.degraded = False
        """Events go through the queue: acknowledged before they are written."""

    @property
    def waiting(self) -> int:
        """Number of events in the queue."""
        return self._queue.qsize()

    def trip(self, now: float) -> None:
        """Take over, because appends were slow (monotonic `now`)."""
        if not self._ended:
            self._slow_at = now
            self._start()

    def end(self) -> None:
        """Take over no more: the thread ends with the process, so each append writes for itself."""
        self._ended = True
        self.degraded = False

    def put(self, event: Queued) -> bool:
        """Queue an event; False when the queue has no room for its kind, or nobody would write it."""
        used = max(self._queue.qsize() / _QUEUE_MAX, self._bytes / _QUEUE_MAX_BYTES)
        # The thread first: what is queued without one is neither dropped nor written.
        if self._ended or used >= _SHARE[event.shed] or not self._start():
            return False
        size = len(event.core)  # before: where something is called, another thread may come between
        self._bytes += size
        self._queue.put(event)
        self._start()  # again: it may have ended meanwhile
        return True

    def wait_empty(self, timeout: float) -> bool:
        """Wait until the thread has written what is queued now, or hangs nowhere; False when time is up."""
        deadline = time.monotonic() + timeout
        # The one more that it may have in its hand. What others queue meanwhile is not waited for.
        enough = self._queue.qsize() + 1 + self._written
        while self.is_behind and self._written < enough:
            # An exception may have struck between an event and its thread.
            if time.monotonic() >= deadline or not self._start():
                return False
            time.sleep(0.005)
        return True

    @property
    def is_behind(self) -> bool:
        """Events are queued, or the thread waits for the disk."""
        # The bytes: of the event, too, that the thread has just taken.
        return self._queue.qsize() > 0 or self._bytes > 0 or self._working

    def _start(self) -> bool:
        self.degraded = not self._ended
        if self._thread:
            return True
        try:
            # Not threading.Thread: its start() takes locks that the code we interrupted may hold.
            _start_thread(self._run, (object(),))
        except RuntimeError:  # no more threads, or the interpreter is going down
            self.degraded = False
            return False
        return True

    def _run(self, me: object) -> None:
        # Taken here, not by who started us: an exception that strikes there would leave it taken for ever.
        if self._thread.setdefault("runs", me) is not me:
            return
        while True:
            self._work_until_good()
            self.degraded = False
            self._thread.pop("runs", None)
            # Someone may have queued an event between the last look and this line.
            if not self._queue.qsize() or self._thread.setdefault("runs", me) is not me:
                return
            self.degraded = not self._ended

    def _work_until_good(self) -> None:
        while True:
            slow_at = self._slow_at
            self._forget_lost()
            if not self._queue.qsize() and (slow_at is None or time.monotonic() - slow_at >= self.recovery):
                return
            event = None
            try:
                event = self._queue.get(timeout=min(_PROBE_EVERY, self.recovery))
            except queue.Empty:
                pass
            self._timed(event)

    def _forget_lost(self) -> None:
        """Count no bytes of an event that an exception kept out of the queue."""
        counted = self._bytes  # before the look: what comes behind it is kept
        if not self._queue.qsize():
            self._bytes -= counted

    def _timed(self, event: Queued | None) -> None:
        busy = busy_seconds()
        started = time.monotonic()
        self._working = True
        try:
            if event is None:
                self._probe()
            else:
                self._deliver(event)
        except Exception:
            # Our own thread: whatever it is, it is our failure, and the next event shall have its try.
            say(log.exception, "journal thread could not write an event")
        finally:
            if event is not None:
                size = len(event.core)
                self._bytes -= size
                self._written += 1
            self._working = False
        ended = time.monotonic()
        # Waiting for a processor or for the interpreter is not the disk's fault.
        if ended - started > SLOW and ended - started - (busy_seconds() - busy) > SLOW:
            self._slow_at = ended


def _start_thread(run: Callable[[object], None], arguments: tuple[object]) -> None:
    """Start a real thread, also where gevent has put greenlets in their place: those would wait for the disk
    on the one thread that all tasks share. (So the queue is the C one, which gevent does not replace.)"""
    monkey = sys.modules.get("gevent.monkey")
    start = monkey.get_original("_thread", "start_new_thread") if monkey else _thread.start_new_thread
    start(run, arguments)
