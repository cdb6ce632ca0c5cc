"""A row of the timeline as it is drawn: bars and notches in percent of the axis, and the same in words.

Pure. What a row says is decided in `drafts.py`, where it lies on the axis here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plet_celery.terminal.text import span as duration
from plet_celery.web.drawing.axis import Axis, offset, percent, widened
from plet_celery.web.drawing.drafts import BAD, Draft

DEPTH: Final = 6
"""Deeper stages are indented no further."""
_CELLS: Final = 250
"""A fold's many bars are drawn in so many steps."""
_BARS: Final = 12


@dataclass(frozen=True)
class Bar:
    """A piece of a row's bar, in percent of the axis."""

    x: float
    width: float
    kind: str
    """A state, `waiting` (hatched), `unheard`, `most` (up to the longest of a fold), `outer` (cut off)."""


@dataclass(frozen=True)
class Notch:
    """A retry."""

    x: float
    text: str


@dataclass(frozen=True)
class Row:
    """One row as the template draws it."""

    kind: str
    """`queue`, `attempt`, `wait`, `stage`, `stages`, `run`, `runs` or `more`."""
    depth: int
    name: str
    state: str
    """Empty for a wait that is over."""
    bars: tuple[Bar, ...]
    notches: tuple[Notch, ...]
    text: str
    """Start, duration and state, for those who do not see the bar."""
    started_at: float | None
    seconds: float | None
    """How long it took; None for folds and while it goes on."""
    since: float | None
    """Since when it goes on."""
    fraction: float | None
    amount: str
    detail: str
    note: str
    """Why it failed or was tried again."""
    attempt: int
    number: int
    """Number of the stage within the attempt; 0 is none."""
    run_id: str
    states: dict[str, int]
    size: int
    p50: float | None
    longest: float | None
    is_outer: bool
    """Rows below are parts of it."""


def place(draft: Draft, axis: Axis, zero: float, by_time: bool) -> Row:
    """Return the row with its bars on `axis`: where they happened, or from the left.

    Args:
        zero: the moment that the words count from.
    """
    is_fold = bool(draft.states)
    return Row(
        kind=draft.kind,
        depth=min(draft.depth, DEPTH),
        name=draft.name,
        state=draft.state,
        bars=_bars(draft, axis) if by_time else _lengths(draft, axis),
        notches=tuple(Notch(axis.x(at), text) for at, text in draft.notches) if by_time else (),
        text=_text(draft, zero),
        started_at=draft.start,
        seconds=None if is_fold or draft.since is not None else draft.seconds,
        since=draft.since,
        fraction=draft.fraction,
        amount=draft.amount,
        detail=draft.detail,
        note=draft.note,
        attempt=draft.attempt,
        number=draft.number,
        run_id=draft.run_id,
        states=draft.states,
        size=draft.size,
        p50=draft.p50,
        longest=draft.longest,
        is_outer=draft.is_outer,
    )


def _bars(draft: Draft, axis: Axis) -> tuple[Bar, ...]:
    if len(draft.spans) <= _BARS:
        return tuple(Bar(*axis.bar(start, end), kind) for start, end, kind in draft.spans)
    return _covered(draft.spans, axis)


def _covered(spans: Sequence[tuple[float, float, str]], axis: Axis) -> tuple[Bar, ...]:
    """Return what many bars cover, one layer a kind, the bad ones on top."""
    changes: dict[str, list[int]] = {}
    for start, end, kind in spans:
        steps = changes.setdefault(kind, [0] * (_CELLS + 1))
        first = min(_CELLS - 1, int(axis.x(start) * _CELLS / 100))
        last = min(_CELLS - 1, int(axis.x(end) * _CELLS / 100))
        steps[first] += 1
        steps[last + 1] -= 1
    bars = []
    for kind in sorted(changes, key=lambda kind: (kind in BAD, kind)):
        depth, begun = 0, 0
        for cell, change in enumerate(changes[kind]):
            if depth == 0 and change > 0:
                begun = cell
            elif depth > 0 and depth + change == 0:
                bars.append(Bar(*widened(begun * 100 / _CELLS, cell * 100 / _CELLS), kind))
            depth += change
    return tuple(bars)


def _lengths(draft: Draft, axis: Axis) -> tuple[Bar, ...]:
    """Return bars from the left whose lengths compare."""
    if draft.longest is not None and draft.p50 is not None:
        most = Bar(*widened(0.0, axis.x(draft.longest)), "most")
        return (most, Bar(*widened(0.0, axis.x(draft.p50)), draft.state))
    if draft.seconds is None or draft.states or not draft.spans:
        return ()
    kind = draft.spans[-1][2]
    bar = Bar(*widened(0.0, axis.x(draft.seconds)), kind)
    if draft.seconds <= axis.end:
        return (bar,)
    return (bar, Bar(percent(99.0), percent(1.0), "outer"))


def _text(draft: Draft, zero: float) -> str:
    """Return start, duration and state in words."""
    state = draft.state.replace("_", " ")
    if draft.start is None:
        return f"not started, {state}" if state else "not started"
    begins = f"starts at {offset(draft.start - zero)}"
    if draft.states:
        if draft.p50 is None:
            return f"{draft.size} times, the first {begins}"
        lengths = f"half took up to {duration(draft.p50)}, the longest {duration(draft.longest)}"
        return f"{draft.size} times, the first {begins}; {lengths}"
    if draft.since is not None:
        return f"{begins}, still {state or 'waiting'}"
    return f"{begins}, takes {duration(draft.seconds)}" + (f", {state}" if state else "")
