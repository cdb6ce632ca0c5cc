"""Threads and executor jobs that a task starts belong to its run.

`threading.Thread.start` and `ThreadPoolExecutor.submit` are wrapped, from the first run of a process on, to
note which run and stage they are called in. Nothing else of the context is carried over: a thread that
inherited, say, the decimal context of its starter would compute otherwise than without us.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

from plet_celery import current
from plet_celery.guard import PASS_THROUGH, contain


def follow_threads() -> None:
    """Wrap both, once in a process; what another library has wrapped before us stays in place."""
    if current.follows_threads():
        return
    current.follow_threads()
    threading.Thread.start = _marking(threading.Thread.start)  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _carrying(ThreadPoolExecutor.submit)  # type: ignore[method-assign]


def _marking(start: Callable[..., Any]) -> Any:
    @wraps(start)
    def marked(self: threading.Thread) -> Any:
        try:
            current.mark(self)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "thread.start")
        return start(self)

    return marked


def _carrying(submit: Callable[..., Any]) -> Any:
    @wraps(submit)
    def carried(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        # A job from outside a run must not be taken for one of the run that started its thread.
        place = current.place() if current.is_any_active() else None
        if place is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, _Job(fn, place), *args, **kwargs)

    return carried


class _Job:
    """A function that runs in the place where it was submitted."""

    __slots__ = ("_function", "_place")

    def __init__(self, function: Any, place: current.Place) -> None:
        self._function = function
        self._place = place

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        before = current.go_to(self._place)
        try:
            return self._function(*args, **kwargs)
        finally:
            current.go_to(before)
