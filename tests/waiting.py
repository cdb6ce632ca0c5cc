"""Waiting for a condition: the only way a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

_Found = TypeVar("_Found")

_PATIENCE: Final = 2.0
"""What a test expects to take so long takes longer beside others; waiting costs where it fails only."""


def wait_until(
    condition: Callable[[], _Found],
    timeout: float = 20.0,
    every: float = 0.02,
    what: str | Callable[[], str] = "",
) -> _Found:
    """Return the first true value of `condition`, asked every `every` seconds.

    Raises:
        AssertionError: it was still false after twice `timeout` seconds; says `what` was waited for.
    """
    timeout *= _PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            waited_for = (what() if callable(what) else what) or getattr(condition, "__name__", "a condition")
            raise AssertionError(f"still not true after {timeout:g} s: {waited_for}")
        time.sleep(every)
