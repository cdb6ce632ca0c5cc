"""Times at which something was due, and what became of them. Pure.

A run belongs to a due time by when it was published. So a run that comes too late for one is not taken for
the next one's, and whatever a host tells late still finds its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plet_celery.monitor.schedule import Calendar
from plet_celery.objectives import FinishBy, Freshness, Objective, StartBy, as_seconds
from plet_celery.store.canvases import Happened
from plet_celery.store.evidence import Ended
from plet_celery.store.promiserows import Due

AT_ONCE_MAX: Final = 100
"""So many times that passed unwatched are decided in one pass, the oldest first."""
FAR: Final = 1e11
"""A time that no clock reaches: behind the last one."""
SLACK_MAX: Final = 60.0
"""Seconds before its time from which on a run counts for a crontab's: clocks of two hosts differ."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A due time, and which runs are asked about it."""

    due_at: float
    deadline: float
    """What happens later is late."""
    since: float
    """Runs that were created from then on count for it …"""
    until: float
    """… and up to before this."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A due time with what the store had for it."""

    window: Window
    happened: Happened | None


def calendar_of(objective: Objective) -> Calendar | None:
    """Return the times at which a promise is due; None where it has no times of its own."""
    if isinstance(objective, (StartBy, FinishBy)):
        return Calendar(objective.crontab, objective.zone)
    if isinstance(objective, Freshness) and isinstance(objective.every, str):
        return Calendar(objective.every, objective.zone)
    return None


def window_at(objective: Objective, due: float) -> Window:
    """Return the window of a time of the promise's calendar."""
    calendar = calendar_of(objective)
    assert calendar is not None
    following = _next(calendar, due)
    if isinstance(objective, (StartBy, FinishBy)):
        since = due - as_seconds(objective.within)
        # Before a shorter day, or with a longer `within`, that reaches behind the time before this one.
        before = calendar.previous(due - 0.001)
        return Window(
            due_at=due,
            deadline=due,
            since=max(since, before) if before is not None else since,
            until=following,
        )
    assert isinstance(objective, Freshness)
    return Window(
        due_at=due,
        deadline=due + as_seconds(objective.grace),
        since=due - _slack(due, following),
        until=following - _slack(following, _next(calendar, following)),
    )


def newest(objective: Objective, now: float) -> list[Window]:
    """Return the windows of the last time whose deadline is over, and of those after it."""
    calendar = calendar_of(objective)
    assert calendar is not None
    grace = as_seconds(objective.grace) if isinstance(objective, Freshness) else 0.0
    over = calendar.previous(now - grace - 0.001)
    pending = calendar.between(now - grace - 0.001, now, limit=AT_ONCE_MAX)
    times = [over, *pending] if over is not None else pending
    return [window_at(objective, at) for at in times]


def unwatched(objective: Objective, after: float, before: float) -> list[Window]:
    """Return the windows of times between, the oldest first, at most 100."""
    calendar = calendar_of(objective)
    assert calendar is not None
    times = calendar.between(after, before, limit=AT_ONCE_MAX + 1)
    return [window_at(objective, at) for at in times if at < before][:AT_ONCE_MAX]


def find(window: Window, happened: Sequence[Happened]) -> Happened | None:
    """Return what met a due time first."""
    mine = [one for one in happened if window.since <= one.created_at < window.until]
    return min(mine, key=lambda one: one.at, default=None)


def decided(objective_id: str, asked: Asked, now: float) -> Due | None:
    """Return what became of a due time; None while it may still be met in time."""
    window, found = asked.window, asked.happened
    if found is None:
        if now <= window.deadline:
            return None
        return Due(objective_id=objective_id, at=window.due_at, state="missed")
    state = "met" if found.at <= window.deadline else "late"
    return Due(objective_id=objective_id, at=window.due_at, state=state, met_at=found.at, run=found.run)


def of_interval(
    objective_id: str,
    ends: Sequence[Ended],
    *,
    begun: float,
    every: float,
    grace: float,
    watched: float,
    now: float,
) -> list[Due]:
    """Return the times that passed without a success, from `watched` on, at most 100.

    Each success moves the times: the next one is due an interval after it.

    Args:
        ends: successes by their ends.
        begun: the success before them, or when the promise was first made.
        watched: every time before this one is decided.
    """
    behind = [one for one in ends if begun < one.at <= watched]
    start = behind[-1].at if behind else begun
    found: list[Due] = []
    for following in [*(one for one in ends if one.at > start), None]:
        end = following.at if following is not None else now
        number = max(1, math.floor((watched - start) / every))
        while (at := start + number * every) < end - grace and len(found) < AT_ONCE_MAX:
            if at >= watched:
                found.append(_passed(objective_id, at, following))
            number += 1
        start = end
    return found


def decided_anew(due: Due, ends: Sequence[Ended], *, every: float, grace: float) -> Due | None:
    """Return what became of a missed time of an interval, now that more is known; None: still missed."""
    for one in ends:
        if one.at > due.at - every:
            state = "met" if one.at <= due.at + grace else "late"
            return Due(objective_id=due.objective_id, at=due.at, state=state, met_at=one.at, run=one.run)
    return None


def _passed(objective_id: str, at: float, following: Ended | None) -> Due:
    if following is None:
        return Due(objective_id=objective_id, at=at, state="missed")
    return Due(objective_id=objective_id, at=at, state="late", met_at=following.at, run=following.run)


def _next(calendar: Calendar, at: float) -> float:
    following = calendar.next(at)
    return following if following is not None else FAR


def _slack(at: float, following: float) -> float:
    return min(SLACK_MAX, (following - at) / 4) if following < FAR else SLACK_MAX
