"""The vocabulary: every kind of event, what it carries, and its way to bytes and back.

An event is an immutable fact with a past-tense name. Its identity is its position: (writer,
segment, byte offset). Unknown kinds are kept, not refused. The framing of a record in a journal
file (checksum, length) belongs to `journal.py`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

FORMAT: Final = 1

# One string, one collection, one nesting: what a record may hold before it is cut and marked.
STRING_MAX: Final = 8 << 10
ITEMS_MAX: Final = 200
DEPTH_MAX: Final = 16
NODES_MAX: Final = 2000
RECORD_MAX: Final = 64 << 10
CUT: Final = "…[cut]"
# Python refuses to write an int of more than 4,300 digits.
_DIGITS_BITS: Final = 10_000
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1


class Shed(enum.IntEnum):
    """What goes first when a cap is near; a lower value is dropped earlier."""

    DEBUG_LOG = 1
    LOG = 2
    PROGRESS = 3
    CUSTOM = 4
    """Measures, metadata, processes, resources, planned stages."""
    END = 5
    """Starts and ends of runs and stages: written from the reserve, too."""


class RunState(enum.StrEnum):
    """State of a run; everything after `retrying` is an end."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    IGNORED = "ignored"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    ABANDONED = "abandoned"


class StageState(enum.StrEnum):
    """State of a stage."""

    PLANNED = "planned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


RUN_QUEUED: Final = "run.queued"
RUN_STARTED: Final = "run.started"
RUN_SUCCEEDED: Final = "run.succeeded"
RUN_FAILED: Final = "run.failed"
RUN_TIMED_OUT: Final = "run.timed_out"
RUN_RETRIED: Final = "run.retried"
RUN_CANCELLED: Final = "run.cancelled"
RUN_EXPIRED: Final = "run.expired"
RUN_IGNORED: Final = "run.ignored"
RUN_REJECTED: Final = "run.rejected"
RUN_INTERRUPTED: Final = "run.interrupted"
RUN_LOST: Final = "run.lost"
RUN_ABANDONED: Final = "run.abandoned"
"""Told of a run, not of an attempt: it waits, and was never heard of again."""
STAGE_PLANNED: Final = "stage.planned"
STAGE_STARTED: Final = "stage.started"
STAGE_PROGRESSED: Final = "stage.progressed"
STAGE_SUCCEEDED: Final = "stage.succeeded"
STAGE_FAILED: Final = "stage.failed"
STAGE_SKIPPED: Final = "stage.skipped"
LOG_WRITTEN: Final = "log.written"
MEASURE_RECORDED: Final = "measure.recorded"
METADATA_SET: Final = "metadata.set"
PROCESS_STARTED: Final = "process.started"
PROCESS_EXITED: Final = "process.exited"
RESOURCE_SAMPLED: Final = "resource.sampled"
ACTION_TAKEN: Final = "action.taken"
WORKER_STARTED: Final = "worker.started"
WORKER_STOPPING: Final = "worker.stopping"
WORKER_STOPPED: Final = "worker.stopped"
WORKER_LOST: Final = "worker.lost"
HOST_BEAT: Final = "host.beat"
HOST_LOST: Final = "host.lost"
EVENTS_DROPPED: Final = "events.dropped"
WRITER_STARTED: Final = "writer.started"
"""The header record of a segment; written by `journal.py`, handed to no sink."""

KINDS: Final[Mapping[str, Shed]] = {
    RUN_QUEUED: Shed.END,
    RUN_STARTED: Shed.END,
    RUN_SUCCEEDED: Shed.END,
    RUN_FAILED: Shed.END,
    RUN_TIMED_OUT: Shed.END,
    RUN_RETRIED: Shed.END,
    RUN_CANCELLED: Shed.END,
    RUN_EXPIRED: Shed.END,
    RUN_IGNORED: Shed.END,
    RUN_REJECTED: Shed.END,
    RUN_INTERRUPTED: Shed.END,
    RUN_LOST: Shed.END,
    RUN_ABANDONED: Shed.END,
    STAGE_PLANNED: Shed.CUSTOM,
    STAGE_STARTED: Shed.END,
    STAGE_PROGRESSED: Shed.PROGRESS,
    STAGE_SUCCEEDED: Shed.END,
    STAGE_FAILED: Shed.END,
    STAGE_SKIPPED: Shed.CUSTOM,
    LOG_WRITTEN: Shed.LOG,
    MEASURE_RECORDED: Shed.CUSTOM,
    METADATA_SET: Shed.CUSTOM,
    PROCESS_STARTED: Shed.CUSTOM,
    PROCESS_EXITED: Shed.CUSTOM,
    RESOURCE_SAMPLED: Shed.PROGRESS,
    ACTION_TAKEN: Shed.END,
    WORKER_STARTED: Shed.END,
    WORKER_STOPPING: Shed.END,
    WORKER_STOPPED: Shed.END,
    WORKER_LOST: Shed.END,
    HOST_BEAT: Shed.PROGRESS,
    HOST_LOST: Shed.END,
    EVENTS_DROPPED: Shed.END,
    WRITER_STARTED: Shed.END,
}
"""Every kind with its place in the shedding order. A `log.written` below INFO sheds as DEBUG_LOG."""

END_STATES: Final[Mapping[str, RunState]] = {
    RUN_SUCCEEDED: RunState.SUCCEEDED,
    RUN_FAILED: RunState.FAILED,
    RUN_TIMED_OUT: RunState.TIMED_OUT,
    RUN_RETRIED: RunState.RETRYING,
    RUN_CANCELLED: RunState.CANCELLED,
    RUN_EXPIRED: RunState.EXPIRED,
    RUN_IGNORED: RunState.IGNORED,
    RUN_REJECTED: RunState.REJECTED,
    RUN_INTERRUPTED: RunState.INTERRUPTED,
    RUN_LOST: RunState.LOST,
}
"""The kinds that end an attempt, with the state they give."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as readers see it."""

    kind: str
    wall: float
    """Seconds since the epoch by the writer's clock."""
    mono: float
    """Seconds of the host's monotonic clock; comparable within one boot."""
    run: str | None
    attempt: str | None
    data: dict[str, Any]
    """What the kind carries; see docs/events.md."""
    writer: str
    segment: int
    offset: int
    number: int = 0
    """The writer's counter, taken before the write; for gap accounting only."""

    @property
    def position(self) -> tuple[str, int, int]:
        """The event's identity: writer, segment, byte offset."""
        return (self.writer, self.segment, self.offset)


def shed_class(kind: str, data: Mapping[str, Any]) -> Shed:
    """Return when an event of this kind is dropped near a cap."""
    if kind == LOG_WRITTEN and data.get("level", 20) < 20:
        return Shed.DEBUG_LOG
    return KINDS.get(kind, Shed.CUSTOM)


def safe_text(value: str, limit: int = STRING_MAX) -> str:
    """Return `value` as text any store takes: no NUL, no lone surrogate, at most `limit` characters."""
    if len(value) > limit:
        value = value[: max(0, limit - len(CUT))] + CUT
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    try:
        value.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, where a lone surrogate is one unit and becomes one replacement character.
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def plain(value: Any, represent: Callable[[Any], str]) -> Any:
    """Return `value` as bounded JSON: str keys, 64-bit ints, no NaN, depth ≤ 16, items ≤ 200.

    Args:
        represent: turns an object that is no JSON into text; it must not raise.

    Cycles end at the depth limit, and the whole has at most NODES_MAX values (a list that
    holds itself twice would otherwise double at each level). Each cut is marked with `…[cut]`.
    """
    return _Plain(represent).value(value, 0)


def _large(value: int) -> str:
    """Return an integer beyond 64 bits as its digits: clamped it would be another number."""
    return str(value) if value.bit_length() <= _DIGITS_BITS else f"<int of {value.bit_length()} bits>"


class _Plain:
    def __init__(self, represent: Callable[[Any], str]) -> None:
        self._represent = represent
        self._left = NODES_MAX

    def value(self, value: Any, depth: int) -> Any:
        self._left -= 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return safe_text(value)
        if kind is int:
            return value if _INT_MIN <= value <= _INT_MAX else _large(value)
        if kind is float:
            return value if math.isfinite(value) else str(value)
        if depth >= DEPTH_MAX or self._left <= 0:
            return CUT
        if issubclass(kind, dict):
            return self._dict(value, depth)
        for base in (list, set, frozenset) if kind is not tuple else (tuple,):
            if issubclass(kind, base):
                # By the base's own methods: those of a subclass are the user's code.
                return self._list(base.__iter__(value), base.__len__(value), depth)
        return self._other(value, kind, depth)

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        """Return enums, numpy's float64 and alike as what they are; a named tuple's repr has its names."""
        if issubclass(kind, str):
            return safe_text(str.__str__(value))
        if issubclass(kind, int):
            return self.value(int.__int__(value), depth)
        if issubclass(kind, float):
            return self.value(float.__float__(value), depth)
        return safe_text(self._represent(value))

    def _list(self, items: Iterator[Any], count: int, depth: int) -> list[Any]:
        shown = []
        for item in list(islice(items, ITEMS_MAX)):
            if self._left <= 0:
                break
            shown.append(self.value(item, depth + 1))
        return shown if len(shown) == count else [*shown, CUT]

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, item in list(islice(dict.items(value), ITEMS_MAX)):
            if self._left <= 0:
                break
            text = str.__str__(key) if issubclass(type(key), str) else self._represent(key)
            shown[safe_text(text, 256)] = self.value(item, depth + 1)
        count = dict.__len__(value)
        if count > ITEMS_MAX or self._left <= 0:
            shown[CUT] = count - len(shown)
        return shown
