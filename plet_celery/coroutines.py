"""`async def` bodies: each runs to its end in its task's own thread, on an event loop of its own.

A fresh loop for each attempt: what one leaves behind (asyncio tasks, async generators, executor threads)
is ended with it and cannot reach into the next, as `asyncio.run` does it.

What a signal handler raises (a soft time limit, a termination, an alarm) must reach the body at its
`await`, not the loop's own code: from there it would leave the loop beside the body, or be swallowed by
it. So while a body runs, such handlers are called by ours. Where the body's own code is executing, the
exception passes on into it; else the body's task is cancelled, and the exception takes the place of
the CancelledError.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import signal
import sys
import threading
import types
from asyncio import _get_running_loop as running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final

import celery._state
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry

# The soft limit; a user's alarm; Ctrl-C in eager mode; a termination.
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGALRM", "SIGINT", "SIGTERM") if hasattr(signal, name)
)
_task_stack: Any = celery._state._task_stack  # type: ignore[attr-defined]
# Code in which an exception from a signal handler would break a loop.
_MACHINERY: Final = ("asyncio", "selectors", "uvloop", __name__)
_WAYS_TO_LEAVE: Final = (Retry, Ignore, Reject, SoftTimeLimitExceeded)

Body = Coroutine[Any, Any, Any]


class _SoftLimit(SoftTimeLimitExceeded, asyncio.CancelledError):
    """A soft limit inside a coroutine: to `except SoftTimeLimitExceeded` what it is outside of one.

    That it is a cancellation too lets asyncio clean up behind it: a TaskGroup or `wait_for` that it
    leaves would otherwise forget what runs inside.
    """


_SoftLimit.__name__ = _SoftLimit.__qualname__ = "SoftTimeLimitExceeded"


def run_to_end(body: Body) -> Any:
    """Run a coroutine to its end, and return or raise what it does.

    In a thread whose loop is running (eager mode called by async code) and under gevent, where all
    greenlets share the one running loop of their thread, it runs in another thread, and this one waits.
    """
    if _is_gevent():
        return _Elsewhere(body).run_in_gevent()
    if running_loop() is not None:
        return _Elsewhere(body).run_in_thread()
    return _Execution(body).run()


class _Execution:
    """One coroutine on its loop."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._struck: deque[BaseException] = deque()
        self._cancels = 0
        self._value: Any = None
        self._error: BaseException | None = None
        self._handlers: dict[int, tuple[Any, Any]] = {}

    def run(self) -> Any:
        """Run it; then end what it left behind, and close the loop."""
        self._take_signals()
        try:
            # With a factory, the thread's own event loop, if somebody has set one, stays set.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                self._run(runner.get_loop())
        finally:
            self._task = self._loop = None
            self._body.close()
            self._give_signals_back()
        error, self._error = self._error or self._unheard(), None
        if error is None:
            return self._value
        try:
            raise error.with_traceback(_own_part(error.__traceback__, self._body))
        finally:
            del error

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the body at its `await`; from any thread, or from a signal handler."""
        self._struck.append(error)
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # closed meanwhile: the body has ended, `_unheard` looks at what struck
            pass

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = task = loop.create_task(self._main())
        self._loop = loop
        if self._struck:
            loop.call_soon(self._cancel)
        while not task.done():
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                # Raised by a handler that is not among ours, while the loop was waiting; or by a child
                # task or a callback that ends the process.
                if task.done() or loop.is_closed():
                    raise
                self.interrupt(error)

    async def _main(self) -> None:
        try:
            self._value = await self._steps()
        except BaseException as error:
            self._error = _seen_from_outside(error)

    @types.coroutine
    def _steps(self) -> Generator[Any, None, Any]:
        """Step through the body as `await` does, but let what has struck take the place of a cancellation."""
        body, error = self._body, None
        while True:
            try:
                waits_for = body.send(None) if error is None else body.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                yield waits_for
            except BaseException as raised:
                error = raised
            if self._struck and not isinstance(error, GeneratorExit):
                error = self._take_struck()

    def _take_struck(self) -> BaseException:
        error = self._struck.popleft()
        assert self._task is not None and self._loop is not None
        while self._cancels:
            self._cancels -= 1
            self._task.uncancel()
        if self._struck:
            self._loop.call_soon(self._cancel)
        return error

    def _cancel(self) -> None:
        assert self._task is not None
        if self._struck and not self._task.done():
            self._cancels += 1
            self._task.cancel()

    def _unheard(self) -> BaseException | None:
        """Return a termination that came when the body awaited no more; a limit then came too late."""
        return next((error for error in self._struck if not isinstance(error, Exception)), None)

    # Signals

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                ours = partial(self._on_signal, handler)
                self._handlers[number] = (handler, ours)
                signal.signal(number, ours)

    def _give_signals_back(self) -> None:
        for number, (handler, ours) in self._handlers.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, handler)

    def _on_signal(self, handler: Callable[..., Any], number: int, frame: types.FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            task = self._task
            if task is None or task.done() or self._loop is None:
                raise
            struck = _SoftLimit(*error.args) if isinstance(error, SoftTimeLimitExceeded) else error
            if not _is_in_body(frame):
                self.interrupt(struck)
                return
            if struck is error:
                raise
            if asyncio.current_task(self._loop) is not task:
                # In a child task it is a cancellation, of which the body might never learn.
                self.interrupt(_SoftLimit(*error.args))
            raise struck from None


class _Elsewhere:
    """One coroutine on a loop in another thread, for which this one waits."""

    def __init__(self, body: Body) -> None:
        self._execution = _Execution(body)
        task: Any = celery._state.get_current_task()
        self._task = task
        self._request = task.request if task is not None else None
        self._value: Any = None
        self._error: BaseException | None = None

    def run_in_thread(self) -> Any:
        """Run it in a thread of its own; the loop that runs here waits, as it does for any eager task."""
        context, done = contextvars.copy_context(), threading.Event()

        def work() -> None:
            try:
                context.run(self._work)
            finally:
                done.set()

        threading.Thread(target=work, name="plet-async-body").start()
        # Not join(): up to Python 3.12 an exception that strikes in it marks the thread as ended.
        return self._wait(done.wait)

    def run_in_gevent(self) -> Any:
        """Run it in a native thread; only the greenlet of this task waits."""
        done = _native_threads().spawn(contextvars.copy_context().run, self._work)
        return self._wait(done.get)

    def _wait(self, wait: Callable[[], Any]) -> Any:
        while True:
            try:
                wait()
                break
            except BaseException as error:  # a limit, a kill, Ctrl-C: for the body to hear
                self._execution.interrupt(error)
        failure, self._error = self._error, None
        if failure is None:
            return self._value
        try:
            raise failure
        finally:
            del failure

    def _work(self) -> None:
        task, request = self._task, self._request
        if task is not None:
            # What `current_task` and `self.request` read belongs to a thread.
            _task_stack.push(task)
            task.request_stack.push(request)
        try:
            self._value = self._execution.run()
        except BaseException as error:
            self._error = error
        finally:
            if task is not None:
                task.request_stack.pop()
                _task_stack.pop()


def _is_in_body(frame: types.FrameType | None) -> bool:
    """Whether a coroutine's own code is executing, and no code of the loop was called by it."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] in _MACHINERY or name in _MACHINERY:
            return False
        if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return True
        frame = frame.f_back
    return False


def _seen_from_outside(error: BaseException) -> BaseException:
    """Return what leaves the task: Celery's ways out of a group, and cancellations it can record.

    A CancelledError is no Exception: it would pass Celery's retries and hooks by.
    """
    if isinstance(error, BaseExceptionGroup):
        found = _first(error, _WAYS_TO_LEAVE)
        if found is None:
            return error
        others = sorted({type(one).__name__ for one in _leaves(error) if one is not found})
        if others:
            found.add_note(f"it left a group together with {', '.join(others)}")
        error = found
    if isinstance(error, _SoftLimit):
        return _alike(error, SoftTimeLimitExceeded(*error.args))
    if isinstance(error, asyncio.CancelledError):
        return _alike(error, concurrent.futures.CancelledError(*error.args))
    return error


def _alike(error: BaseException, other: BaseException) -> BaseException:
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    other.__suppress_context__ = error.__suppress_context__
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return other.with_traceback(error.__traceback__)


def _leaves(group: BaseException) -> Generator[BaseException, None, None]:
    if isinstance(group, BaseExceptionGroup):
        for one in group.exceptions:
            yield from _leaves(one)
    else:
        yield group


def _first(group: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    # Celery's own go first: a retry has been published, whatever else went wrong.
    leaves = list(_leaves(group))
    return next((one for kind in kinds for one in leaves if isinstance(one, kind)), None)


def _own_part(trace: types.TracebackType | None, body: Body) -> types.TracebackType | None:
    """Return a traceback without the frames above the body's."""
    code, found = getattr(body, "cr_code", None), trace
    while found is not None and found.tb_frame.f_code is not code:
        found = found.tb_next
    return found or trace


def _is_gevent() -> bool:
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


_pools: list[Any] = []
_NATIVE_THREADS_MAX: Final = 1000


def _native_threads() -> Any:
    if not _pools:
        from gevent.threadpool import ThreadPool

        _pools.append(ThreadPool(_NATIVE_THREADS_MAX))
    return _pools[0]
