"""An answer that takes its time, and is asked for by several threads at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """What was found stays found; that there is nothing holds for those who waited for this answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Hashable, tuple[T | None, float]] = {}

    def ask(self, key: Hashable, look: Callable[[], T | None]) -> T | None:
        """Return what `look` finds, or has found for this key."""
        came = time.monotonic()
        with self._lock:
            found, at = self._known.get(key, (None, -math.inf))
            if found is None and at < came:
                found = look()
                self._known[key] = (found, time.monotonic())
            return found
