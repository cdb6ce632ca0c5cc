"""How durations, shares and counts read in what the monitor says."""

from __future__ import annotations


def span(seconds: float) -> str:
    """Return a duration with at most two units: `26 h`, `3 min`, `2.5 s`, `1 h 30 min`."""
    whole = max(0.0, seconds)
    if whole < 9.95:
        return f"{whole:.1f}".removesuffix(".0") + " s"
    if whole < 119.5:
        return f"{round(whole)} s"
    if whole < 7170:
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


def counted(count: int, noun: str) -> str:
    """Return `1 run`, `3 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
