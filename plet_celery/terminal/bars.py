"""What a bar shows: stages in tree order, groups of child runs, and which rows to keep when there are many.

Plain values only; drawing is in `picture.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plet_celery.terminal.look import ENDS

_DEPTH_SHOWN: Final = 6
"""Deeper stages are indented no further: a thousand levels must not push the text off the screen."""


@dataclass(frozen=True)
class StageBar:
    """One stage as it is shown."""

    name: str
    state: str
    current: float = 0
    total: float | None = None
    unit: str = ""
    elapsed: float | None = None
    message: str = ""
    depth: int = 0
    number: int = 0

    @property
    def fraction(self) -> float | None:
        """Share done, 0..1; None without a total."""
        if self.state in ("succeeded", "skipped"):
            return 1.0
        if not self.total or self.total < 0:
            return None
        return min(1.0, max(0.0, self.current / self.total))

    @property
    def amount(self) -> str:
        """How much is done: `412/668 files`, `12 files`, or nothing."""
        if self.state == "planned":
            return ""
        if not self.total:
            done = count(self.current) if self.current else ""
        else:
            done = f"{count(self.current)}/{count(self.total)}"
        return f"{done} {self.unit}".strip() if done else ""


@dataclass(frozen=True)
class Group:
    """The child runs of one task, as one row."""

    task: str
    size: int
    states: dict[str, int]
    fraction: float
    """Mean share done of its members; an ended one counts as done."""

    @property
    def state(self) -> str:
        """The state that deserves attention first."""
        for state in ("running", "retrying", "queued"):
            if self.states.get(state):
                return "running" if len(self.states) > 1 else state
        bad = [state for state in self.states if state not in ("succeeded", "ignored")]
        return bad[0] if bad else "succeeded"


@dataclass(frozen=True)
class Fold:
    """Rows that are not shown."""

    states: dict[str, int]

    @property
    def text(self) -> str:
        """`… 12 succeeded, 3 planned`."""
        return "… " + ", ".join(f"{number} {state}" for state, number in self.states.items())


def count(number: float) -> str:
    """Return a number for people: `412`, `48 112`, `3.5`."""
    if not math.isfinite(number):
        return "?"
    if number != int(number):
        return f"{number:.4g}" if abs(number) < 10_000 else count(round(number))
    whole = int(number)
    return f"{whole:,}".replace(",", " ") if abs(whole) >= 10_000 else str(whole)


def amount(current: float | None, total: float | None, unit: str | None) -> str:
    """Return `412/668 files`, `12 files`, or nothing."""
    return StageBar("", "running", current or 0, total, unit or "").amount


def stage_bars(stages: Sequence[Any], *, now: float) -> list[StageBar]:
    """Return the stages of one attempt in tree order: each under the one that encloses it.

    Args:
        stages: records with the fields of `Stage`.
        now: what the elapsed time of a running stage counts to.
    """
    return [_bar(stage, min(depth, _DEPTH_SHOWN), now) for stage, depth in in_tree_order(stages)]


def in_tree_order(
    stages: Sequence[Any], *, key: Callable[[Any], Any] = lambda stage: stage.number
) -> list[tuple[Any, int]]:
    """Return the stages of one attempt, each under the one that encloses it, with its depth from 0.

    Args:
        key: what stages in the same one are ordered by.
    """
    known = {stage.number for stage in stages}
    inner: dict[int, list[Any]] = {}
    for stage in sorted(stages, key=key):
        # An enclosing stage was started before; anything else is damage and stands at the top.
        parent = stage.parent or 0
        if parent not in known or parent >= stage.number:
            parent = 0
        inner.setdefault(parent, []).append(stage)
    shown = []
    # Taken out once: a stage that says no number is 0, like the top, and must not hold itself.
    waiting = [(stage, 0) for stage in reversed(inner.pop(0, []))]
    while waiting:
        stage, depth = waiting.pop()
        shown.append((stage, depth))
        waiting.extend((child, depth + 1) for child in reversed(inner.pop(stage.number, [])))
    return shown


def groups(children: Iterable[Any]) -> list[Group]:
    """Return child runs as one group a task, in the order in which the tasks first appear."""
    states: dict[str, Counter[str]] = {}
    done: Counter[str] = Counter()
    for run in children:
        states.setdefault(run.task, Counter())[run.state] += 1
        done[run.task] += 100 if run.state in ENDS else max(0, min(100, run.percent or 0))
    return [
        Group(task, found.total(), in_order(found), done[task] / 100 / found.total())
        for task, found in states.items()
    ]


def in_order(states: Mapping[str, int]) -> dict[str, int]:
    """Return the counts in one order, whichever came first: done, under way, the rest."""
    first = ("succeeded", "running", "retrying", "queued")
    return {state: states[state] for state in (*first, *sorted(set(states) - {*first})) if states.get(state)}


def fit(bars: Sequence[StageBar], rows: int) -> list[StageBar | Fold]:
    """Return at most about `rows` rows: what is going on or failed, and its surroundings; the rest folded.

    At most one fold stands between two shown rows, and they count as rows, so that the
    picture never outgrows its place by more than the first and the last fold.
    """
    if len(bars) <= rows:
        return list(bars)
    kept = worth_showing([bar.state for bar in bars], rows)
    shown: list[StageBar | Fold] = []
    hidden: list[StageBar] = []
    for index, bar in enumerate(bars):
        if index not in kept:
            hidden.append(bar)
            continue
        shown += _folded(hidden)
        hidden = []
        shown.append(bar)
    return shown + _folded(hidden)


def worth_showing(states: Sequence[str], rows: int) -> set[int]:
    """Return the places of about `rows` rows to keep: what is going on or failed, and its surroundings."""
    focus = max((i for i, state in enumerate(states) if state == "running"), default=len(states) - 1)
    ranked = sorted(
        range(len(states)), key=lambda i: (states[i] not in ("running", "failed"), abs(i - focus))
    )
    return set(ranked[: max(1, rows - 2)])


def _folded(bars: list[StageBar]) -> list[StageBar | Fold]:
    """One row for many; a single one needs no more room than its fold."""
    return list(bars) if len(bars) < 2 else [Fold(dict(Counter(bar.state for bar in bars)))]


def indented(bar: StageBar) -> str:
    """Return the name with its place in the tree."""
    return "  " * bar.depth + bar.name


def _bar(stage: Any, depth: int, now: float) -> StageBar:
    elapsed = stage.elapsed
    if stage.state == "running" and stage.started_at is not None:
        elapsed = max(0.0, now - stage.started_at)
    return StageBar(
        name=stage.name,
        state=stage.state,
        current=stage.current or 0,
        total=stage.total,
        unit=stage.unit or "",
        elapsed=elapsed,
        message=stage.message or "",
        depth=depth,
        number=stage.number,
    )
