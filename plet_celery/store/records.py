"""What readers get: a run, its attempts, stages, events, log lines and measures.

The field names are the JSON names (docs/json.md), the CLI's and later the HTTP API's. In the structs
a time is float seconds since the epoch; `to_json` gives ISO-8601 UTC with milliseconds and `Z`.
Durations are seconds everywhere. A field that is not known is None.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

_TIMES: Final = frozenset(
    {
        *("at", "as_of", "queued_at", "not_before", "started_at", "ended_at"),
        *("unreachable_since", "left_at", "lost_at", "beat_at", "taken_at"),
    }
)
# Wall times inside what an event carries, as docs/events.md names them.
_DATA_TIMES: Final = frozenset({"started", "queued_at", "when", "since"})
# The end of the year 9999, where the calendar of `datetime` ends.
_LAST: Final = 253_402_300_799.0


class Run(msgspec.Struct, kw_only=True):
    """Everything that happened to one Celery task id, as of the newest shipped event."""

    id: str
    """The Celery task id."""
    short_id: str
    """8 characters for people: the start of a UUID, else of a hash."""
    task: str
    """Name of the task that was called; a replaced run keeps its first name."""
    state: str
    tenant: str = ""
    trigger: str = ""
    user: str | None = None
    queue: str | None = None
    worker: str | None = None
    """Worker of the attempt that decides the state, as are host, percent, stage, error, result."""
    host: str | None = None
    percent: float | None = None
    """0..100 of the whole attempt."""
    stage: str | None = None
    """Name of the innermost running stage; of a run that did not succeed, the stage that failed."""
    current: float | None = None
    """How much of that stage is done, in `unit`."""
    total: float | None = None
    unit: str | None = None
    message: str | None = None
    eta: dict[str, float] | None = None
    queued_at: float | None = None
    not_before: float | None = None
    """When it may start at the earliest, where its publisher said so (`eta`, `countdown`)."""
    started_at: float | None = None
    """Start of the first attempt."""
    ended_at: float | None = None
    waited: float | None = None
    """Seconds from the publish to the first start."""
    runtime: float | None = None
    """Seconds from the first start to the end; monotonic where there was one attempt."""
    attempt: int = 0
    """Ordinal of the newest attempt."""
    attempts: int = 0
    retries: int = 0
    tracked: bool = False
    """Its task is a TrackedTask."""
    weight: int = 1
    """How many runs of its task it stands for: more than one where `plet_sample` thins."""
    error: dict[str, Any] | None = None
    """type, module, message, traceback, frames; see docs/events.md."""
    result: Any = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    args: Any = None
    kwargs: Any = None
    canvas: str | None = None
    """Key that all runs of one canvas share: the id of the run that began it."""
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    replaced: bool = False
    """One of its attempts went on as another task under this id (`self.replace`)."""
    log_folders: list[str] = msgspec.field(default_factory=list)
    """Folders under `runs/`, one per host that ran it; a silent task has none on disk."""
    log_lines: int = 0
    dropped: int = 0
    """Events of this run that its writers had to drop."""
    reason: str | None = None
    """Why it is lost, rejected, ignored, cancelled, timed out or interrupted."""
    as_of: float | None = None
    """Up to when the store knows."""
    unreachable_since: float | None = None
    """It is open, and the host that runs it was last heard of then (by the store's clock)."""
    version: int = 0
    """Grows with each change of the run or of anything below it."""


class Attempt(msgspec.Struct, kw_only=True):
    """One execution of a run: first try, retry or redelivery."""

    id: str
    run_id: str
    number: int
    """1.. in the order of the starts."""
    state: str
    task: str = ""
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    pool: str | None = None
    queue: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    runtime: float | None = None
    retries: int = 0
    redelivered: bool = False
    error: dict[str, Any] | None = None
    result: Any = None
    reason: str | None = None
    percent: float | None = None
    log_lines: int = 0
    log_folder: str | None = None
    placeholder: bool = False
    """Only the worker's main process told of it: its start was never recorded, or there was none."""
    usage: dict[str, Any] | None = None
    """cpu_user, cpu_system (seconds), rss_max_bytes."""
    clock: str | None = None
    """`mono` or `wall`: what `runtime` was measured with."""
    ended_by: str | None = None
    """`child`, `main` or `shipper`: who told of the end."""
    events_dropped: int = 0
    """Events above plet_run_max_events that have no row here; trace.jsonl has them."""


class Stage(msgspec.Struct, kw_only=True):
    """A named part of an attempt."""

    run_id: str
    attempt_id: str
    number: int
    name: str
    state: str
    parent: int | None = None
    """Number of the enclosing stage."""
    weight: float | None = None
    current: float | None = None
    total: float | None = None
    unit: str | None = None
    percent: float | None = None
    """Its own share that is done, 0..100."""
    message: str | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    elapsed: float | None = None
    """Seconds; None while it runs."""


class EventRow(msgspec.Struct, kw_only=True):
    """A fact of a run's life: a start, an end, a failed stage, a warning or error line."""

    run_id: str
    attempt_id: str | None
    kind: str
    at: float
    level: int | None = None
    text: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    position: tuple[str, int, int] | None = None
    """Writer, segment, byte offset: the event's identity."""


class LogLine(msgspec.Struct, kw_only=True):
    """A line of a run's log."""

    attempt: int
    """Ordinal of the attempt."""
    line: int
    """Number of the line within its attempt, from 1."""
    at: float
    level: int
    logger: str | None = None
    stream: str = "log"
    """`log`, `stdout`, `stderr`, `warning`, `task`; `gap` marks lines that are not kept here."""
    stage: int | None = None
    text: str = ""
    context: dict[str, Any] | None = None


class MeasurePoint(msgspec.Struct, kw_only=True):
    """One value of a series."""

    at: float
    value: float
    number: int
    """Number of the `measure()` call within the attempt, from 1."""
    stage: int | None = None


class Measure(msgspec.Struct, kw_only=True):
    """A series that a run recorded with `measure()`; long ones are thinned evenly."""

    run_id: str
    attempt_id: str
    name: str
    points: list[MeasurePoint]


class HostStatus(msgspec.Struct, kw_only=True):
    """What the store knows of one journal's host; times by the store's clock."""

    host: str
    journal: str
    """The journal's id: a host has one per user and `plet_home`."""
    machine: str
    """Stands for the machine, see `PLET_MACHINE_ID`; not its machine id."""
    boot: str
    pid: int
    """Of the shipper."""
    plet: str | None = None
    """Version of the shipper."""
    epoch: int = 0
    """How often the journal's lease was taken."""
    lease_age: float = 0.0
    """Seconds since the shipper was last heard of."""
    unreachable_since: float | None = None
    """When it was last heard of, if that is too long ago; None while all is well."""
    left_at: float | None = None
    """When the shipper left because nobody wrote any more."""
    lost_at: float | None = None
    """When the runs that were open there were marked as lost."""
    beat_at: float | None = None
    """The newest beat, by the host's clock."""
    backlog_bytes: int | None = None
    """What lay unread in the journal at that beat."""
    writers: int | None = None
    """How many processes wrote into the journal at that beat."""
    skew: float | None = None
    """Seconds by which the host's clock is ahead of the store's; behind if negative."""
    is_skewed: bool = False
    """The two differ by more than 30 s."""
    as_of: float | None = None
    """Wall time of the newest event that was shipped."""
    taken_at: float | None = None
    """When the shipper took the lease."""


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """Some items, and the cursor that goes on behind them."""

    items: list[T]
    next: str | None = None
    """Opaque; None at the end."""
    previous: str | None = None
    """Gives the page before this one; None where this is the first."""


def iso(seconds: float) -> str:
    """Return seconds since the epoch as `2026-11-21T14:02:11.123Z`; a clock that is far off as its limit."""
    text = datetime.fromtimestamp(min(max(seconds, 0.0), _LAST), UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def to_json(value: Any) -> Any:
    """Return a record, or a list or page of them, as JSON builtins with ISO times."""
    if isinstance(value, msgspec.Struct):
        return {name: _field(name, getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _TIMES and isinstance(value, (int, float)):
        return iso(value)
    if name == "data" and isinstance(value, dict):
        return {key: _data_field(key, item) for key, item in value.items()}
    return to_json(value)


def _data_field(name: str, value: Any) -> Any:
    return iso(value) if name in _DATA_TIMES and isinstance(value, float) else value
