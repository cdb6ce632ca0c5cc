"""The merge of an attempt: what its events say, folded into one state that no order can change.

Pure functions of plain structs. Each fold is a join: applying the same events again, in any order, in
any split into batches gives the same state. Single values are won by the smallest or the greatest
stamp, numbers by their maximum; nothing is counted by adding one per event. How attempts make a run
is `settle.py`'s subject.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from plet_celery import events
from plet_celery.events import END_STATES, Event
from plet_celery.store.columns import WORD_MAX, fit

Stamp = tuple[float, str, int, int]
"""(wall, start of the writer's id, segment, offset): the order of events across writers."""

# More than a share of 1e-9 can give is no weight that a writer of ours gave.
WEIGHT_MAX: Final = 1_000_000_000
# An attempt has one end, at most a few are reported. What lies beyond is noise of a broken recorder.
ENDS_MAX: Final = 16
_INTEGER_MAX: Final = 1 << 63
_YEAR_10000: Final = 253_402_300_800.0
_STATES: Final[Mapping[str, str]] = {kind: state.value for kind, state in END_STATES.items()}
_RANKS: Final[Mapping[str, int]] = {"child": 0, "main": 1, "shipper": 2}
FACTS: Final = frozenset({"task", "queue", "tenant", "worker", "host", "pid", "started", "queued_at"})
"""What an end repeats of its start."""


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
    def state(self) -> str:
        """The state it gives."""
        return _STATES[self.kind]


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
    weight: int = 1
    """How many runs it stands for: more than one where `plet_sample` thins."""


class AttemptState(msgspec.Struct, omit_defaults=True):
    """Everything the store knows of one attempt; the `doc` of its row."""

    first: Stamp | None = None
    """The smallest stamp of its events, as long as its start is unknown."""
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
    log_at: float = 0.0
    """When its newest line was written, whether or not its text is kept."""
    events_dropped: int = 0
    counted: Contribution | None = None
    placeholder: bool = False


class Outcome(NamedTuple):
    """What an attempt amounts to: which end counts, and what follows from it."""

    end: End | None
    facts: dict[str, Any]
    """task, queue, tenant, worker, … as the start told them, else the end."""
    started_at: float
    runtime: float | None
    clock: str | None
    """`mono` or `wall`: what the runtime was measured with."""
    is_recorded: bool
    """Its start is known."""


def stamp_of(event: Event) -> Stamp:
    """Return an event's place in the order across writers."""
    return (event.wall, event.writer[:8], event.segment, event.offset)


def number(value: Any) -> float | None:
    """Return a finite number, or None for anything else that an event may hold in its place."""
    kind = type(value)
    if kind is float:
        return float(value) if math.isfinite(value) else None
    return float(value) if kind is int else None


def moment(value: Any) -> float | None:
    """Return a wall time that a calendar knows, or None."""
    found = number(value)
    return found if found is not None and 0.0 <= found < _YEAR_10000 else None


def iso_moment(value: Any) -> float | None:
    """Return the wall time that an ISO text names (UTC where it names no zone), or None."""
    if type(value) is not str:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp())


def startable_at(facts: Mapping[str, Any]) -> float | None:
    """Return from when on an attempt waited: its publish, or its ETA where that is later."""
    queued_at = moment(facts.get("queued_at"))
    eta = facts.get("eta")
    return queued_at if eta is None or queued_at is None else max(queued_at, iso_moment(eta) or 0.0)


def integer(value: Any) -> int | None:
    """Return an int that a column holds, or None."""
    return value if type(value) is int and -_INTEGER_MAX <= value < _INTEGER_MAX else None


def text(value: Any, limit: int) -> str | None:
    """Return a non-empty str that fits a column, or None."""
    if type(value) is not str or not value:
        return None
    return fit(value, limit)


def fold_attempt(state: AttemptState | None, found: Iterable[Event]) -> AttemptState:
    """Return the attempt's state with the facts of `found`; its stages, logs, measures go elsewhere."""
    for event in found:
        writer = event.writer
        position = (event.segment, event.offset)
        stamp = (event.wall, writer[:8], *position)
        if state is None:
            state = AttemptState(first=stamp, seen={writer: position})
        else:
            if state.first is not None and stamp < state.first:
                state.first = stamp
            newest = state.seen.get(writer)
            if newest is None or newest < position:
                state.seen[writer] = position
        kind = event.kind
        if kind == events.RUN_STARTED:
            if state.start is None or stamp < state.start.stamp:
                state.start = Start(stamp, event.data)
                state.first = None
        elif kind in END_STATES:
            _add_end(state.ends, End(kind, stamp, event.data, rank_of(event.data)))
        percent = number(event.data.get("percent"))
        if percent is not None and (state.percent is None or percent > state.percent):
            state.percent = min(percent, 100.0)
    assert state is not None, "an attempt has at least one event"
    return state


def end_of(event: Event) -> End:
    """Return the end that an event tells."""
    return End(kind=event.kind, stamp=stamp_of(event), data=event.data, rank=rank_of(event.data))


def rank_of(data: Mapping[str, Any]) -> int:
    """Return how much the teller of an end is believed: 0 the most."""
    by = data.get("by")
    return _RANKS.get(by, 2) if type(by) is str else 2


def effective_end(state: AttemptState) -> End | None:
    """Return the end that counts: child's own > main process's > shipper's loss; then the earliest.

    A shipper's `run.lost` names the writer that died and the position `after` its last event: with
    any later event of that writer in this attempt, the loss is void.
    """
    best = state.report
    if best is None and len(state.ends) == 1 and state.ends[0].rank < 2:
        return state.ends[0]
    for end in state.ends:
        if (best is None or end.order < best.order) and not _is_void(end, state):
            best = end
    return best


def outcome_of(state: AttemptState) -> Outcome:
    """Return what an attempt amounts to.

    Facts (task, queue, worker, …) are the start's, else the end's. The start's time is its own, else what
    the end knew of it, else that of the first event. The child measures its runtime with a monotonic
    clock; else it is wall time, never negative. An end without a start (a task revoked while it was
    queued) took no time at all: None.
    """
    end, start = effective_end(state), state.start
    if start is not None:
        facts, started, has_run = start.data, start.stamp[0], True
    else:
        first = state.first[0] if state.first is not None else 0.0
        if end is None:
            return Outcome(None, {}, first, None, None, False)
        told = moment(end.data.get("started"))
        facts, has_run = end.data, told is not None
        started = told if told is not None and told <= first else first
    if end is None:
        return Outcome(None, facts, started, None, None, True)
    measured = number(end.data.get("runtime"))
    if measured is not None:
        return Outcome(end, facts, started, max(0.0, measured), "mono", start is not None)
    if has_run:
        return Outcome(end, facts, started, max(0.0, end.stamp[0] - started), "wall", start is not None)
    return Outcome(end, facts, started, None, None, False)


def weight_of(data: Mapping[str, Any]) -> int:
    """Return how many runs an end stands for; 1 for anything but a plausible count."""
    weight = data.get("weight")
    return weight if type(weight) is int and 1 <= weight <= WEIGHT_MAX else 1


def writer_of(state: AttemptState) -> str:
    """Return the writer of the start (of the first event, where that is unknown)."""
    if len(state.seen) == 1:
        return next(iter(state.seen))
    stamp = state.start.stamp if state.start is not None else state.first
    name = stamp[1] if stamp is not None else ""
    return next((writer for writer in state.seen if writer[:8] == name), name)


def slim(state: AttemptState) -> AttemptState:
    """Return the state as it is stored: what the start says is not repeated by the ends."""
    if len(state.seen) > 1:
        state.seen = dict(sorted(state.seen.items()))
    if state.start is not None:
        for end in state.ends:
            if not FACTS.isdisjoint(end.data):
                end.data = {name: value for name, value in end.data.items() if name not in FACTS}
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
    if not ends:
        ends.append(end)
        return
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
