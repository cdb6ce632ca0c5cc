"""The timeline of a run: what waited, ran, was tried again, stage by stage, on one axis of time.

Pure: records in, rows with positions in percent out; the template draws them. Above ROWS rows the stages of
one name become one row, and child runs of one task do above CHILDREN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.terminal.bars import worth_showing
from plet_celery.terminal.look import ENDS
from plet_celery.web.drawing import drafts
from plet_celery.web.drawing.axis import Axis, Span, moment, steady
from plet_celery.web.drawing.drafts import BAD, NOTABLE, ChildRun, Draft
from plet_celery.web.drawing.rows import Row, place

Layout = Literal["time", "order"]
Only = Literal["", "unfinished", "failed"]

ROWS: Final = 300
CHILDREN: Final = 20
LAYOUTS: Final = (
    (None, "Time", "Bars where they happened"),
    ("order", "Order", "In the order of their numbers, bars from the left"),
)
"""Values of the argument `tl`, with the words for each."""
SHOWN: Final = (
    (None, "All", "Everything that was recorded"),
    ("unfinished", "Unfinished", "What runs or is still to come"),
    ("failed", "Failed", "What went wrong, and what encloses it"),
)
"""Values of the argument `tl_only`."""


@dataclass(frozen=True)
class Timeline:
    """All rows and the axis above them."""

    rows: tuple[Row, ...]
    axis: Axis
    """What the bars lie on: times, or durations where the layout is `order`."""
    time_axis: Axis
    """The run's times, in either layout: for what is drawn beside it."""
    layout: Layout
    only: Only
    now_x: float | None
    """Where now is; None when the run has ended, or bars do not lie in time."""
    start: float | None
    end: float | None
    stages: int
    """How many stages there are, whatever is shown."""
    is_folded: bool
    """Rows of one name stand in one row."""

    @property
    def empty(self) -> str:
        """Why there is nothing to see, or only a part; empty where there is no need to say."""
        if self.only and not self.rows:
            return "Nothing failed." if self.only == "failed" else "Nothing is unfinished."
        if not self.rows:
            return "Nothing is known yet: the run has not been seen in the queue or in a worker."
        return "" if self.stages else "No stages: the task names none; self.stage() and self.track() do so."

    @property
    def length(self) -> float | None:
        """Seconds from the first to the last moment that is shown."""
        return None if self.start is None or self.end is None else self.end - self.start


def timeline(
    run: Run,
    attempts: Sequence[Attempt],
    stages: Iterable[Stage],
    children: Iterable[ChildRun] = (),
    *,
    now: float,
    layout: str = "time",
    only: str = "",
    more_children: bool = False,
) -> Timeline:
    """Return the timeline of a run.

    Args:
        attempts: in their order.
        stages: of all attempts.
        children: the runs that this one published; others are left out.
        now: seconds since the epoch. While the run is open it is moved back by up to 1/250 of what is
            shown, so that a page that shows no news stays the same; of an ended run nothing depends on it.
        layout: `time`: bars where they happened, siblings by their start; `order`: siblings in the order of
            their numbers, bars from the left, so that their lengths compare. Other words mean `time`.
        only: `unfinished` or `failed` with what encloses it; other words mean all.
        more_children: there are more than were given.
    """
    is_by_time, wanted = layout != "order", _wanted(only)
    seen = [one for one in children if one.parent_id == run.id and one.id != run.id]
    every = list(stages)
    is_open = run.state not in ENDS
    now = _steady_now(run, attempts, seen, now) if is_open else moment(now) or 0.0
    heads = _heads(run, attempts, now)
    groups = _by_attempt(attempts, every)
    extent, busy = _extent(heads, every, seen, now, is_open)
    below = _children(seen, only=wanted, now=now, more=more_children)
    found, is_folded = _fitting(heads, groups, len(below), only=wanted, by_time=is_by_time, now=now)
    for draft in found:
        drafts.mark_unheard(draft, run.unreachable_since)
    rows = _bounded(found + below)
    starts = [head.start for head in heads if head.kind == "attempt" and head.start is not None]
    time_axis = Axis(extent, busy, zero=min(starts, default=extent[0]))
    axis = time_axis if is_by_time else _order_axis(rows)
    placed = tuple(place(draft, axis, time_axis.zero, is_by_time) for draft in rows)
    is_known = bool(busy) or any(draft.spans for draft in heads)
    return Timeline(
        rows=placed,
        axis=axis,
        time_axis=time_axis,
        layout="time" if is_by_time else "order",
        only=wanted,
        now_x=axis.x(now) if is_open and is_by_time else None,
        start=extent[0] if is_known else None,
        end=extent[1] if is_known else None,
        stages=len(every),
        is_folded=is_folded,
    )


def _fitting(
    heads: Sequence[Draft],
    groups: dict[int, list[Stage]],
    below: int,
    *,
    only: Only,
    by_time: bool,
    now: float,
) -> tuple[list[Draft], bool]:
    """Return the rows of the queue, the attempts and their stages, and whether those are folded by name.

    Args:
        below: how many rows of child runs come behind them.
    """
    found = _drafts(heads, groups, only=only, by_time=by_time, now=now)
    if len(found) + below <= ROWS:
        return found, False
    return _drafts(heads, groups, only=only, by_time=by_time, now=now, fold=True), True


def _wanted(only: str) -> Only:
    return "failed" if only == "failed" else "unfinished" if only == "unfinished" else ""


def _steady_now(run: Run, attempts: Sequence[Attempt], children: Sequence[ChildRun], now: float) -> float:
    times = [run.queued_at, run.started_at, *(one.started_at for one in attempts)]
    times += [one.queued_at for one in children] + [one.started_at for one in children]
    known = [at for at in map(moment, times) if at is not None]
    at = moment(now) or 0.0
    return max(steady(at, min(known)), *known) if known and at > min(known) else at


def _heads(run: Run, attempts: Sequence[Attempt], now: float) -> list[Draft]:
    """Return the queue and the attempts."""
    tried = drafts.attempt_drafts(run, attempts, now)
    starts = [one.start for one in tried if one.kind == "attempt" and one.start is not None]
    queue = drafts.queue_draft(run, starts, now)
    return [queue, *tried] if queue is not None else tried


def _by_attempt(attempts: Sequence[Attempt], stages: Iterable[Stage]) -> dict[int, list[Stage]]:
    """Return the stages by the ordinal of their attempt; 0 holds those of attempts that are not known."""
    ordinals = {attempt.id: attempt.number for attempt in attempts}
    found: dict[int, list[Stage]] = {}
    for stage in stages:
        found.setdefault(ordinals.get(stage.attempt_id, 0), []).append(stage)
    return found


def _extent(
    heads: Sequence[Draft], stages: Sequence[Stage], children: Sequence[ChildRun], now: float, is_open: bool
) -> tuple[Span, list[Span]]:
    """Return the first and the last moment, and when something ran."""
    busy: list[Span] = [(a, b) for head in heads for a, b, kind in head.spans if kind != drafts.WAITING]
    for stage in stages:
        if stage.state in ("planned", "skipped"):
            continue
        is_running = stage.state == "running"
        span = drafts.span_of(stage.started_at, stage.ended_at, stage.elapsed, is_open=is_running, now=now)
        busy += [span] if span is not None else []
    busy += [span for span in (drafts.run_span(run, now) for run in children) if span is not None]
    waits: list[Span] = [(a, b) for head in heads for a, b, kind in head.spans if kind == drafts.WAITING]
    queued = [at for at in (moment(run.queued_at) for run in children) if at is not None]
    edges = [*busy, *waits, *((at, at) for at in queued)]
    if is_open and edges:
        edges.append((now, now))
    if not edges:
        return (now, now), []
    return (min(start for start, _ in edges), max(end for _, end in edges)), busy


def _drafts(
    heads: Sequence[Draft],
    groups: dict[int, list[Stage]],
    *,
    only: Only,
    by_time: bool,
    now: float,
    fold: bool = False,
) -> list[Draft]:
    """Return the rows of the queue, the attempts and their stages."""
    found: list[Draft] = []
    left = dict(groups)
    for head in heads:
        inner: list[Draft] = []
        if head.kind == "attempt":
            inner = _stages(left.pop(head.attempt, []), head.attempt, only, by_time, now, fold)
        head.is_outer = bool(inner)
        if inner or _is_wanted(head.state, only):
            found += [head, *inner]
    for attempt, stages in left.items():
        found += _stages(stages, attempt, only, by_time, now, fold)
    return found


def _stages(
    stages: Sequence[Stage], attempt: int, only: Only, by_time: bool, now: float, fold: bool
) -> list[Draft]:
    ordered = drafts.stage_order(_with_outer(stages, only), by_time=by_time)
    if fold:
        return _stage_folds(ordered, attempt, now)
    found = [drafts.stage_draft(stage, depth + 1, attempt, now) for stage, depth in ordered]
    for draft, below in pairwise(found):
        draft.is_outer = below.depth > draft.depth
    return found


def _with_outer(stages: Sequence[Stage], only: Only) -> Sequence[Stage]:
    """Return the stages that are wanted, and those that enclose them."""
    if not only:
        return stages
    by_number = {stage.number: stage for stage in stages}
    kept: set[int] = set()
    for stage in stages:
        number: int | None = stage.number if _is_wanted(stage.state, only) else None
        while number in by_number and number not in kept:
            kept.add(number)
            parent = by_number[number].parent
            number = parent if parent is not None and parent < number else None
    return [stage for number, stage in by_number.items() if number in kept]


def _is_wanted(state: str, only: Only) -> bool:
    if only == "failed":
        return state in BAD or state == "retrying"
    if only == "unfinished":
        return state in ("planned", "running", "retrying", "queued")
    return True


class _Name:
    """Stages of one name below one path of names."""

    def __init__(self, name: str, depth: int) -> None:
        self.name, self.depth = name, depth
        self.members: list[Stage] = []
        self.inner: dict[str, _Name] = {}


def _stage_folds(ordered: Sequence[tuple[Stage, int]], attempt: int, now: float) -> list[Draft]:
    """Return one row for all stages of one name in one place; those that failed or run stand below it."""
    top = _Name("", 0)
    path = [top]
    for stage, depth in ordered:
        del path[depth + 1 :]
        place = path[-1].inner.setdefault(stage.name, _Name(stage.name, depth + 1))
        place.members.append(stage)
        path.append(place)
    found: list[Draft] = []
    waiting = list(reversed(top.inner.values()))
    while waiting:
        place = waiting.pop()
        waiting.extend(reversed(place.inner.values()))
        if len(place.members) == 1:
            found.append(drafts.stage_draft(place.members[0], place.depth, attempt, now))
            found[-1].is_outer = bool(place.inner)
            continue
        found.append(drafts.stage_fold(place.name, place.members, place.depth, attempt, now))
        found[-1].is_outer = bool(place.inner)
        notable = [stage for stage in place.members if stage.state in ("failed", "running")]
        notable.sort(key=lambda stage: stage.state != "failed")
        for stage in notable[:NOTABLE]:
            draft = drafts.stage_draft(stage, place.depth + 1, attempt, now)
            draft.detail = draft.detail or f"#{stage.number}"
            found.append(draft)
    return found


def _children(children: Sequence[ChildRun], *, only: Only, now: float, more: bool) -> list[Draft]:
    """Return the child runs, folded by task where they are many."""
    wanted = [run for run in children if _is_wanted(run.state, only)]
    if len(wanted) <= CHILDREN:
        return [drafts.run_draft(run, 0, now) for run in wanted]
    by_task: dict[str, list[ChildRun]] = {}
    for run in wanted:
        by_task.setdefault(run.task, []).append(run)
    found: list[Draft] = []
    for task, members in by_task.items():
        if len(members) == 1:
            found.append(drafts.run_draft(members[0], 0, now))
            continue
        found.append(drafts.run_fold(task, members, 0, now, more=more))
        notable = [run for run in members if run.state in BAD]
        found += [drafts.run_draft(run, 1, now) for run in notable[:NOTABLE]]
    return found


def _bounded(rows: list[Draft]) -> list[Draft]:
    """Return about ROWS rows: what runs or failed and what surrounds it, the rest as counts."""
    if len(rows) <= ROWS:
        return rows
    kept = worth_showing(["failed" if row.state in BAD else row.state for row in rows], ROWS)
    found: list[Draft] = []
    for index, row in enumerate(rows):
        if index in kept or row.kind == "queue":
            found.append(row)
            continue
        if not found or found[-1].kind != "more":
            found.append(Draft("more", "more rows", depth=row.depth))
        more = found[-1]
        more.depth = min(more.depth, row.depth)
        for state, count in (row.states or {row.state: 1}).items():
            more.states[state] = more.states.get(state, 0) + count
    return found


def _order_axis(rows: Sequence[Draft]) -> Axis:
    """Return an axis of durations: as long as the longest row that encloses no other."""
    alone = [row for row in rows if row.seconds is not None and not row.states]
    lengths = [row.seconds or 0.0 for row in alone if not row.is_outer and row.kind != "queue"]
    lengths += [row.longest for row in rows if row.longest is not None]
    if not lengths:
        lengths = [row.seconds or 0.0 for row in alone]
    longest = max(lengths, default=0.0)
    return Axis((0.0, longest), [(0.0, longest)], zero=0.0)
