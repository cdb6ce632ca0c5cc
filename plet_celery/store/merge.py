"""The merge of an attempt: what its events say, folded into one state that no order can change.

Pure functions of plain structs. Each fold is a join: applying the same events again, in any order, in
any split into batches gives the same state. Single values are won by the smallest or the greatest
stamp, numbers by their maximum; nothing is counted by adding one per event. How attempts make a run
is `settle.py`'s subject.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from plet_celery import events
from plet_celery.events import END_STATES, Event, RunState
from plet_celery.store.schema import TENANT_MAX, WORD_MAX, fit

Stamp = tuple[float, str, int, int]
"""(wall, start of the writer's id, segment, offset): the order of events across writers."""

# An attempt has one end, at most a few are reported. What lies beyond is noise of a broken recorder.
ENDS_MAX: Final = 16
_RANKS: Final[Mapping[str, int]] = {"child": 0, "main": 1, "shipper": 2}
_FACTS: Final = ("task", "queue", "tenant", "worker", "host", "pid", "started", "queued_at")


class End(msgspec.Struct, omit_defaults=True):
    """One report of an attempt's end."""

    kind: str
    stamp: Stamp
    data: dict[str, Any]
    rank: int = 0
    """0 the child's own, 1 the worker's main process, 2 the shipper: the lower one is believed."""

    @property
    def order(self) -> tuple[int, Stamp]:
        """The smallest order is the end that counts."""
        return (self.rank, self.stamp)

    @property
    def state(self) -> RunState:
        """The state it gives."""
        return END_STATES.get(self.kind, RunState.LOST)


class Start(msgspec.Struct):
    """What `run.started` told."""

    stamp: Stamp
    data: dict[str, Any]


class Glance(msgspec.Struct, omit_defaults=True):
    """One stage, as a run's row shows it."""

    name: str
    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None


class Contribution(msgspec.Struct, array_like=True):
    """What an attempt added to the rollups: a correction takes away exactly this."""

    bucket: int
    task: str
    queue: str
    tenant: str
    state: str
    runtime_us: int | None
    waited_us: int | None


class AttemptState(msgspec.Struct, omit_defaults=True):
    """Everything the store knows of one attempt; the `doc` of its row."""

    first: Stamp
    """The smallest stamp of its events."""
    start: Start | None = None
    ends: list[End] = msgspec.field(default_factory=list)
    """Ends that name this attempt, the smallest order first."""
    report: End | None = None
    """The best report that names no attempt and was matched to this one."""
    seen: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Newest position by writer."""
    percent: float | None = None
    running: Glance | None = None
    """The innermost running stage."""
    failed: Glance | None = None
    """The stage that failed last, innermost first."""
    log_lines: int = 0
    events_dropped: int = 0
    counted: Contribution | None = None
    placeholder: bool = False


def stamp_of(event: Event) -> Stamp:
    """Return an event's place in the order across writers."""
    return (event.wall, event.writer[:8], event.segment, event.offset)


def number(value: Any) -> float | None:
    """Return a finite number, or None for anything else that an event may hold in its place."""
    kind = type(value)
    if kind is float:
        return float(value) if math.isfinite(value) else None
    return float(value) if kind is int else None


def integer(value: Any) -> int | None:
    """Return an int, or None."""
    return value if type(value) is int else None


def text(value: Any, limit: int) -> str | None:
    """Return a non-empty str that fits a column, or None."""
    return fit(value, limit) if type(value) is str and value else None


def fold_attempt(state: AttemptState | None, found: Iterable[Event]) -> AttemptState:
    """Return the attempt's state with the facts of `found`; its stages, logs, measures go elsewhere."""
    for event in found:
        stamp = (event.wall, event.writer[:8], event.segment, event.offset)
        if state is None:
            state = AttemptState(first=stamp)
        elif stamp < state.first:
            state.first = stamp
        position = (event.segment, event.offset)
        newest = state.seen.get(event.writer)
        if newest is None or newest < position:
            state.seen[event.writer] = position
        kind = event.kind
        if kind == events.RUN_STARTED:
            if state.start is None or stamp < state.start.stamp:
                state.start = Start(stamp, event.data)
        elif kind in END_STATES:
            _add_end(state.ends, end_of(event))
        percent = number(event.data.get("percent"))
        if percent is not None and (state.percent is None or percent > state.percent):
            state.percent = min(percent, 100.0)
    assert state is not None, "an attempt has at least one event"
    return state


def end_of(event: Event) -> End:
    """Return the end that an event tells."""
    rank = _RANKS.get(str(event.data.get("by")), 2)
    return End(kind=event.kind, stamp=stamp_of(event), data=event.data, rank=rank)


def effective_end(state: AttemptState) -> End | None:
    """Return the end that counts: child's own > main process's > shipper's loss; then the earliest.

    A shipper's `run.lost` names the writer that died and the position `after` its last event: with
    any later event of that writer in this attempt, the loss is void.
    """
    best = state.report
    for end in state.ends:
        if (best is None or end.order < best.order) and not _is_void(end, state):
            best = end
    return best


def fact(state: AttemptState, name: str, end: End | None) -> Any:
    """Return a fact as the start told it, else as the end did."""
    if state.start is not None and name in state.start.data:
        return state.start.data[name]
    return end.data.get(name) if end is not None else None


def started_at(state: AttemptState, end: End | None) -> float:
    """Return when the attempt started: by its start, else as its end knew, else its first event's time."""
    if state.start is not None:
        return state.start.stamp[0]
    told = number(end.data.get("started")) if end is not None else None
    return told if told is not None and told <= state.first[0] else state.first[0]


def runtime(state: AttemptState, end: End | None) -> tuple[float, str] | None:
    """Return (seconds, `mono` or `wall`), or None while it runs.

    The child measures with its monotonic clock; else it is wall time, never negative. An end without
    a start (a task revoked while it was queued) took no time at all: None.
    """
    if end is None:
        return None
    measured = number(end.data.get("runtime"))
    if measured is not None:
        return max(0.0, measured), "mono"
    if state.start is None and number(end.data.get("started")) is None:
        return None
    return max(0.0, end.stamp[0] - started_at(state, end)), "wall"


def writer_of(state: AttemptState) -> str:
    """Return the writer of the start (of the first event, where that is unknown)."""
    stamp = state.start.stamp if state.start is not None else state.first
    return next((writer for writer in state.seen if writer[:8] == stamp[1]), stamp[1])


def tenant_of(state: AttemptState, end: End | None) -> str:
    """Return the tenant, empty by default."""
    return text(fact(state, "tenant", end), TENANT_MAX) or ""


def slim(state: AttemptState) -> AttemptState:
    """Return the state as it is stored: what the start says is not repeated by the ends."""
    if len(state.seen) > 1:
        state.seen = dict(sorted(state.seen.items()))
    if state.start is None:
        return state
    known = state.start.data
    for end in state.ends:
        data = end.data
        if any(name in data and name in known for name in _FACTS):
            # `started` is the start's own stamp.
            end.data = {k: v for k, v in data.items() if not (k == "started" or (k in _FACTS and k in known))}
    return state


def reason_of(end: End | None) -> str | None:
    """Return why an attempt ended as it did, in words; None for success, failure and retry without one."""
    if end is None:
        return None
    data = end.data
    told = data.get("reason")
    if isinstance(told, str) and told:
        return told
    if end.kind == events.RUN_TIMED_OUT:
        seconds = number(data.get("seconds"))
        limit = "soft" if data.get("limit") == "soft" else "hard"
        return f"{limit} time limit of {seconds:g} s" if seconds is not None else f"{limit} time limit"
    if end.kind == events.RUN_CANCELLED:
        name = data.get("signal")
        return f"terminated by {name}" if data.get("terminated") and name else "revoked"
    if end.kind == events.RUN_INTERRUPTED:
        return f"{data.get('how') or 'cold'} shutdown of its worker"
    return None


def attempt_key(attempt: str) -> str:
    """Return an attempt's id as its column holds it."""
    return fit(attempt, WORD_MAX)


def _add_end(ends: list[End], end: End) -> None:
    if any(known.stamp == end.stamp for known in ends):
        return
    ends.append(end)
    ends.sort(key=_order)
    if len(ends) > ENDS_MAX:
        # Losses go first; of those the ones that are void soonest.
        ends.remove(max(ends, key=_worth))


def _order(end: End) -> tuple[int, Stamp]:
    return end.order


def _worth(end: End) -> tuple[int, tuple[int, int], Stamp]:
    segment, offset = after_of(end) or (0, 0)
    return (end.rank, (-segment, -offset), end.stamp)


def after_of(end: End) -> tuple[int, int] | None:
    """Return the position behind the last event of the writer that a loss names."""
    after = end.data.get("after")
    if isinstance(after, (list, tuple)) and len(after) == 2 and all(type(part) is int for part in after):
        return (after[0], after[1])
    return None


def _is_void(end: End, state: AttemptState) -> bool:
    if end.rank != 2:
        return False
    after = after_of(end)
    newest = state.seen.get(str(end.data.get("writer")))
    return after is not None and newest is not None and newest >= after
