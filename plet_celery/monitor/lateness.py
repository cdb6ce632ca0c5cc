"""Which runs are late by a promise of their task at the moment: what the list of runs counts and filters.

A run is late now while what was due has not happened: it still waits, or still runs. Which runs that can
be is a question to the index, by task, state and age; that they are is `outlook`'s word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from plet_celery.monitor.outlook import outlook
from plet_celery.monitor.schedule import Calendar
from plet_celery.objectives import Declared, FinishBy, MaxRuntime, MaxWait, Objective, StartBy
from plet_celery.store import Store, queries
from plet_celery.store.filters import Older
from plet_celery.store.records import Run

COUNT_MAX: Final = 500
"""So many runs are looked at to count the late ones."""
_WAITING: Final = ("queued",)
_GOING: Final = ("running", "retrying")
_OPEN: Final = (*_WAITING, *_GOING)


class LateCount(NamedTuple):
    """How many runs are late."""

    number: int
    is_capped: bool
    """There may be more."""


def overdue(objectives: Iterable[Declared], now: float) -> list[Older]:
    """Return which runs can be late at `now`, for `queries.list_runs(older=…)`."""
    found: defaultdict[tuple[tuple[str, ...], float], set[str]] = defaultdict(set)
    for one in objectives:
        if one.objective.scope != "run":
            continue
        kind = _kind(one.objective, now)
        if kind is not None:
            found[kind].add(one.task)
    return [Older(tuple(sorted(tasks)), states, until) for (states, until), tasks in found.items()]


def is_late(run: Run, objectives: Iterable[Declared], now: float) -> bool:
    """Tell whether a run is late at `now`, and what is due may still happen."""
    return any(one.is_open and one.is_late for one in outlook(run, objectives, now))


def count_late(
    store: Store, objectives: Sequence[Declared], *, now: float, tenants: Sequence[str] | None = None
) -> LateCount:
    """Return how many runs are late at `now`.

    Args:
        tenants: paths that the viewer may see, each with what lies below it; None: all.
    """
    older = overdue(objectives, now)
    if not older:
        return LateCount(0, False)
    page = queries.list_runs(store, older=older, tenants=tenants, limit=COUNT_MAX)
    number = sum(is_late(run, objectives, now) for run in page.items)
    return LateCount(number, page.next is not None)


def _kind(objective: Objective, now: float) -> tuple[tuple[str, ...], float] | None:
    """Return the states of runs that can be late by a promise, and before when they were created."""
    if isinstance(objective, MaxWait):
        return _WAITING, now - _seconds(objective.seconds)
    if isinstance(objective, MaxRuntime):
        return _GOING, now - _seconds(objective.seconds)
    if isinstance(objective, StartBy | FinishBy):
        # What was published behind the last due time has the next one.
        due = Calendar(objective.crontab, objective.zone).previous(now)
        states = _WAITING if isinstance(objective, StartBy) else _OPEN
        return (states, due + 0.001) if due is not None else None
    return None


def _seconds(value: object) -> float:
    return float(value)  # type: ignore[arg-type]
