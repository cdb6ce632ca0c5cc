"""Work that may block, away from Flower's event loop: few threads, a time-out each, and a bounded queue.

A database or a disk that hangs holds our threads, never the loop. Whoever comes while all of them are
held waits no longer than the time-out, and is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from plet_celery.errors import PletError

THREADS: Final = 8
SECONDS: Final = 6.0
"""A little more than a query may take: then the query's own error is the better one."""
RESCUE_SECONDS: Final = 12.0
"""A read takes at most twice as long as it may: what holds a thread for longer hangs."""
_RESCUES: Final = 3
"""A disk that hangs is not helped by it, and others' queries are in its way."""
WAITING_MAX: Final = 256
"""Jobs that wait for a thread; more are refused at once. A page has a dozen."""

T = TypeVar("T")


class Busy(PletError):
    """The answer took too long, or too many wait for one."""


class Pool:
    """A few threads for all our pages; of one event loop."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        waiting_max: int = WAITING_MAX,
        rescue: Callable[[], None] | None = None,
        rescue_seconds: float = RESCUE_SECONDS,
    ) -> None:
        """Start nothing yet.

        Args:
            rescue: makes what hangs in a thread fail; called some times, each `rescue_seconds` after
                the last, while a job goes on for which nobody waits any more.
        """
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._waiting_max = waiting_max
        self._unstarted = threads
        self._free = threads
        self._rescue = rescue
        self._rescue_seconds = rescue_seconds

    async def run(self, job: Callable[[], T], *, seconds: float = SECONDS) -> T:
        """Return what `job` returns, from a thread.

        Raises:
            Busy: it took longer than `seconds`, or too many wait.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        await self._take_thread(seconds)
        work = self._begin(job, loop)
        future = asyncio.wrap_future(work)
        done, _ = await asyncio.wait({future}, timeout=max(0.0, until - loop.time()))
        if not done:
            # The job goes on where nobody waits any more: its thread is held until it ends.
            future.add_done_callback(_forget)
            self._watch(work, loop, _RESCUES)
            raise _too_late(seconds)
        return future.result()

    async def _take_thread(self, seconds: float) -> None:
        """Wait for a thread; who gives up leaves the queue."""
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self._waiting_max:
            raise Busy(f"{len(self._waiting)} questions wait for an answer already; try again in a moment")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            done, _ = await asyncio.wait({turn}, timeout=seconds)
        except BaseException:
            self._leave(turn)
            raise
        if not done:
            self._leave(turn)
            raise _too_late(seconds)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._give_thread()
        else:
            self._waiting.remove(turn)

    def _give_thread(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1

    def _begin(self, job: Callable[[], T], loop: asyncio.AbstractEventLoop) -> Future[T]:
        work: Future[T] = Future()

        def ended(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # Flower ends: nobody waits for a thread
                loop.call_soon_threadsafe(self._give_thread)

        work.add_done_callback(ended)
        self._jobs.put((work, job))
        if self._unstarted:
            self._unstarted -= 1
            # Daemons: a query that hangs must not keep Flower from ending, as an executor's thread would.
            threading.Thread(target=_serve, args=(self._jobs,), name="plet-pages", daemon=True).start()
        return work

    def _watch(self, work: Future[Any], loop: asyncio.AbstractEventLoop, tries: int) -> None:
        if self._rescue is not None and tries:
            loop.call_later(self._rescue_seconds, self._free_thread, work, loop, tries)

    def _free_thread(self, work: Future[Any], loop: asyncio.AbstractEventLoop, tries: int) -> None:
        if not work.done() and self._rescue is not None:
            self._rescue()
            self._watch(work, loop, tries - 1)


def _serve(jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]) -> None:
    while True:
        work, job = jobs.get()
        _do(work, job)
        del work, job  # they hold a request


def _do(work: Future[Any], job: Callable[[], Any]) -> None:
    # Whoever waits may be cancelled; a thread's work is not: then the answer is for nobody.
    if not work.set_running_or_notify_cancel():
        return
    try:
        found = job()
    except BaseException as error:  # told to whoever waits
        work.set_exception(error)
    else:
        work.set_result(found)


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody asks, and asyncio would complain


def _too_late(seconds: float) -> Busy:
    return Busy(f"no answer within {seconds:g} s: the store or the disk is busy; try again")
