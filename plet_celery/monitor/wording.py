"""How durations, shares and counts read in what the monitor says."""

from __future__ import annotations

from plet_celery.objectives import (
    P95,
    FinishBy,
    Freshness,
    MaxRuntime,
    MaxWait,
    Objective,
    StartBy,
    SuccessRate,
    as_seconds,
)


def span(seconds: float) -> str:
    """Return a duration with at most two units: `26 h`, `3 min`, `2.5 s`, `1 h 30 min`."""
    whole = max(0.0, seconds)
    if whole < 9.95:
        return f"{whole:.1f}".removesuffix(".0") + " s"
    if whole < 119.5:
        return f"{round(whole)} s"
    if whole < 3570:
        return f"{round(whole / 60)} min"
    if whole < 172_770:
        hours, minutes = divmod(round(whole / 60), 60)
        # Beyond a few hours the minutes are noise.
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{round(whole / 3600)} h"
    return f"{round(whole / 86_400)} d"


def share(value: float) -> str:
    """Return a share as percent; what is not all of it never reads as 100 %."""
    percent = value * 100
    if percent < 100:
        percent = min(percent, 99.99)
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def promised(objective: Objective) -> str:
    """Return what is promised, in words: `a start within 60 s`."""
    if isinstance(objective, MaxWait):
        return f"a start within {span(as_seconds(objective.seconds))}"
    if isinstance(objective, MaxRuntime):
        return f"an end within {span(as_seconds(objective.seconds))}"
    if isinstance(objective, (StartBy, FinishBy)):
        days = "" if objective.days == "*" else f" on {objective.days}"
        what = "a start" if isinstance(objective, StartBy) else "a success"
        return f"{what} by {objective.time} {objective.zone or 'UTC'}{days}"
    if isinstance(objective, Freshness):
        grace = as_seconds(objective.grace)
        margin = f" + {span(grace)} grace" if grace else ""
        if isinstance(objective.every, str):
            return f"a success at {objective.every} {objective.zone or 'UTC'}{margin}"
        return f"a success every {span(as_seconds(objective.every))}{margin}"
    if isinstance(objective, SuccessRate):
        return f"at least {share(objective.target)} succeed within {span(as_seconds(objective.window))}"
    if isinstance(objective, P95):
        limit, window = as_seconds(objective.seconds), as_seconds(objective.window)
        return f"95 % take at most {span(limit)} within {span(window)}"
    return objective.kind
