"""Progress as others read it: the total percent of an attempt, and Celery's result meta.

The meta keeps the five keys that celery-progress clients read, and is written only from the task's
own thread: one in no case during the first second, then at most `rate` a second.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

# A write that is under way when a hard limit strikes could land after FAILURE and leave PROGRESS
# for ever, so we stay silent this long before the limit.
_HARD_LIMIT_MARGIN = 1.0
_FIRST_AFTER = 1.0
# A backend that hangs is waited for by the task itself: at most a twentieth of its time.
_REST = 20.0
_STAGES_SHOWN = 50


class Measured(Protocol):
    """What percent is computed from: a stage."""

    name: str
    weight: float | None

    @property
    def total(self) -> float | None:
        """How much there is to do, or None."""

    @property
    def fraction(self) -> float | None:
        """Share done, 0..1; None without a total."""


class Percent:
    """The total percent of an attempt: declared weights, else the outermost running stage's own share.

    It never runs backwards; None until there is any ground.
    """

    __slots__ = ("_declared", "_highest", "_weight")

    def __init__(self, declared: Sequence[Measured]) -> None:
        self._declared = declared
        self._weight = sum(stage.weight or 0.0 for stage in declared)
        self._highest: float | None = None

    @property
    def value(self) -> float | None:
        """The highest percent so far, 0..100."""
        return self._highest

    def update(self, open_stages: Sequence[Measured]) -> float | None:
        """Return the percent after what the stages say now.

        Args:
            open_stages: the running stages, outermost first.
        """
        share = self._declared_share() if self._weight else _first_share(open_stages)
        if share is not None:
            self._highest = max(self._highest or 0.0, round(min(1.0, max(0.0, share)) * 100.0, 1))
        return self._highest

    def _declared_share(self) -> float:
        done = sum((stage.fraction or 0.0) * (stage.weight or 0.0) for stage in self._declared)
        return done / self._weight


def _first_share(open_stages: Sequence[Measured]) -> float | None:
    return next((stage.fraction for stage in open_stages if stage.total is not None), None)


class MetaWriter:
    """Writes result meta with state PROGRESS, throttled, and never where it could do harm."""

    __slots__ = ("_deadline", "_every", "_next", "_store", "_thread", "closed")

    def __init__(
        self,
        store: Callable[[dict[str, Any]], None],
        *,
        now: float,
        rate: float,
        hard_limit: float | None,
        thread: int,
    ) -> None:
        """Start with the attempt.

        Args:
            store: puts one meta into the result backend.
            now: monotonic seconds at the attempt's start.
            rate: metas per second after the first second.
            hard_limit: seconds after which the worker kills the task, or None.
            thread: ident of the task's own thread, the only one that writes.
        """
        self._store = store
        self._every = 1.0 / rate
        self._next = now + _FIRST_AFTER
        self._deadline = now + hard_limit - _HARD_LIMIT_MARGIN if hard_limit else float("inf")
        self._thread = thread
        self.closed = False

    def is_due(self, now: float) -> bool:
        """Tell whether a meta may be written at `now`, cheapest test first."""
        return (
            now >= self._next
            and not self.closed
            and now < self._deadline
            and threading.get_ident() == self._thread
            # Never while an exception unwinds: a __exit__ that wrote meta under a hard limit left
            # PROGRESS for ever. An `except` block of the user's looks the same, and waits too.
            and sys.exc_info()[1] is None
        )

    def write(self, meta: dict[str, Any], now: float) -> None:
        """Store one meta; the next one is due `1 / rate` seconds later, also when this one raises.

        Later still where this one took long.
        """
        self._next = now + self._every
        began = monotonic()
        try:
            self._store(meta)
        finally:
            self._next = now + max(self._every, _REST * (monotonic() - began))


def describe(
    stages: Sequence[Mapping[str, Any]],
    current: Mapping[str, Any] | None,
    *,
    percent: float | None,
    message: str,
    attempt: int,
    updated_at: str,
) -> dict[str, Any]:
    """Return the result meta; `current` is the stage whose numbers stand for the run.

    Source: the first five keys are those of celery-progress's `ProgressRecorder`.
    """
    stage = current["name"] if current else None
    return {
        "current": current["current"] if current else 0,
        "total": (current["total"] if current else None) or 0,
        "percent": percent if percent is not None else 0,
        "description": message or stage or "",
        "pending": False,
        "stage": stage,
        "stages": list(stages[-_STAGES_SHOWN:]),
        "eta": None,
        "attempt": attempt,
        "updated_at": updated_at,
    }
