"""The run that is executing now, found from anywhere below the task.

Outside a task, or with recording off, it is a `NullRun` that does nothing.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, MutableMapping
from typing import Any, Final, NamedTuple, TypeVar, overload

from plet_celery.metadata import KEYS_MAX
from plet_celery.redaction import Redactor
from plet_celery.run import Run, RunFacts, RunLimits, lone_stage
from plet_celery.stagebook import go_inside, inside
from plet_celery.stages import Stage

T = TypeVar("T")


class NullRun(Run):
    """Stands where no run is: every call does nothing, and costs next to nothing."""

    def __init__(self) -> None:
        super().__init__(RunFacts("", "", ""), writer=_Nowhere(), redactor=Redactor(), limits=RunLimits())
        self.ended = True

    def stage(self, name: str, total: Any = None, unit: str = "") -> Stage:
        """Return a stage that counts, and tells nobody."""
        return lone_stage(name, total, unit)

    @property
    def metadata(self) -> MutableMapping[str, Any]:
        """A mapping that is recorded nowhere, so that a task called as a function finds what it put there."""
        values: dict[str, Any] = _outside.__dict__
        if len(values) > KEYS_MAX:
            values.clear()
        return values


class _Nowhere:
    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        return False

    def drop(self, reason: str, count: int = 1) -> None:
        pass


_outside = threading.local()
NULL_RUN: Final = NullRun()

_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("plet_run", default=None)
# In a process that executes one run at a time (prefork, solo) threads without our context belong to it.
_of_process: list[Run] = []
_FOREIGN: Final[tuple[type, ...]] = (getattr(threading, "_DummyThread", threading.Thread),)


# Attribute of a thread that a run started: its Place.
_MARK: Final = "_plet_place"
_following = False
_bound: set[Binding] = set()


class Place(NamedTuple):
    """Where code runs: in which run, and in which of its stages."""

    run: Run | None
    stage: Stage | None


def active_run() -> Run | None:
    """Return the attempt that this code runs in, or None."""
    run = _current.get()
    if run is None:
        run = _run_of_thread() if _following else _of_process[-1] if _of_process else None
    return None if run is None or run.ended else run


def _run_of_thread() -> Run | None:
    """Return the run of a thread that has no context of ours."""
    thread = threading.current_thread()
    place: Place | None = getattr(thread, _MARK, None)
    if place is not None:
        # From now on as if it had begun with it: what it starts in turn, and its asyncio tasks, inherit.
        go_to(place)
        return place.run
    if not _of_process:
        return None
    run = _of_process[-1]
    # A thread that nobody marked was started outside of any run. One that is not Python's own
    # (C code calls back, or `_thread` was used) may be the run's: where there is only one, it is.
    is_own = run.is_own_thread or isinstance(thread, _FOREIGN)
    return run if is_own else None


def place() -> Place:
    """Return where this code runs."""
    run = active_run()
    return Place(run, inside()) if run is not None else Place(NULL_RUN, None)


def go_to(place: Place) -> Place:
    """Go on in this context as if it were that place; return where it was."""
    before = Place(_current.get(), inside())
    _current.set(place.run)
    go_inside(place.stage)
    return before


def mark(thread: threading.Thread) -> None:
    """Note on a thread that is about to start which run starts it."""
    run = active_run()
    if run is not None:
        setattr(thread, _MARK, Place(run, inside()))


def is_any_active() -> bool:
    """Whether a run executes in this process."""
    return bool(_bound)


def threads_of_runs() -> dict[str, int]:
    """Return in which thread of this process each run's task executes, by run id."""
    return {one.run.id: one.thread for one in list(_bound)}


def follows_threads() -> bool:
    """Whether threads are marked, so that one without a mark was not started by a run."""
    return _following


def follow_threads() -> None:
    """From now on threads are marked."""
    global _following
    _following = True


def current_run() -> Run:
    """Return the attempt that this code runs in; outside a task one that does nothing."""
    return active_run() or NULL_RUN


def stage(name: str, total: Any = None, unit: str = "") -> Stage:
    """Return a stage of the current run; see `Run.stage`."""
    return current_run().stage(name, total, unit)


@overload
def track(iterable: Iterable[T], name: str, total: Any = None, unit: str = "") -> Iterator[T]: ...


@overload
def track(iterable: AsyncIterable[T], name: str, total: Any = None, unit: str = "") -> AsyncIterator[T]: ...


def track(iterable: Any, name: str, total: Any = None, unit: str = "") -> Any:
    """Iterate inside a stage of the current run; see `Run.track`."""
    return current_run().track(iterable, name, total, unit)


class Binding:
    """Makes a run the current one from `task_prerun` to `task_postrun`."""

    __slots__ = ("_owns_process", "_token", "run", "thread")

    def __init__(self, run: Run, *, owns_process: bool, request: Any = None) -> None:
        """Begin.

        Args:
            request: the task's, which keeps this until `task_postrun`.
        """
        self.run = run
        self.thread = threading.get_ident()
        self._owns_process = owns_process
        self._token: contextvars.Token[Run | None] | None = None
        if request is not None:
            # First: what strikes behind this leaves nothing that nobody would give back.
            request._plet_binding = self
        self._token = _current.set(run)
        _bound.add(self)
        if owns_process:
            _of_process.append(run)

    def release(self) -> None:
        """Give the place back to whoever had it."""
        _bound.discard(self)
        if self._owns_process and self.run in _of_process:
            _of_process.remove(self.run)
        try:
            if self._token is not None:
                _current.reset(self._token)
            elif _current.get() is self.run:
                _current.set(None)
        except ValueError:  # postrun came in another context (a greenlet, an eager task in asyncio)
            _current.set(None)


def _after_fork() -> None:
    run = active_run()
    if run is not None:
        run.forked()


os.register_at_fork(after_in_child=_after_fork)
