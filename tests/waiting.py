"""Waiting for a condition: the only way a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")


def wait_until(
    condition: Callable[[], _Found],
    timeout: float = 20.0,
    every: float = 0.02,
    what: str | Callable[[], str] = "",
) -> _Found:
    """Return the first true value of `condition`, asked every `every` seconds.

    Raises:
        AssertionError: it was still false after `timeout` seconds; says `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            waited_for = (what() if callable(what) else what) or getattr(condition, "__name__", "a condition")
            raise AssertionError(f"still not true after {timeout:g} s: {waited_for}")
        time.sleep(every)
