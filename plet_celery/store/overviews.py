"""What readers get of many runs at once: a canvas, the figures at a glance, workers.

Like `records.py` in all else: times are float seconds since the epoch, a field that is not known is None.
"""

from __future__ import annotations

import msgspec

from plet_celery.store.records import Run


class CanvasRun(msgspec.Struct, kw_only=True):
    """A run as one of its canvas: what a tree of a thousand shows of each."""

    id: str
    short_id: str
    task: str
    state: str
    percent: float | None = None
    """0..100 of the newest attempt, while the run is open."""
    parent_id: str | None = None
    """The run that published it; it may name a run that is not here, or one that leads back."""
    root_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    """Its place in its group, from 0."""
    chord: str | None = None
    """Id of the body that waits for its group."""
    chain_left: int | None = None
    """How many steps of its chain come after it."""
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    runtime: float | None = None
    attempts: int = 0
    error_type: str | None = None
    error_message: str | None = None
    """The first line of it, at most 200 characters."""

    @property
    def error(self) -> dict[str, str] | None:
        """The error as a run has it, in short; None without one."""
        if self.error_type is None:
            return None
        return {"type": self.error_type, "message": self.error_message or ""}


class CanvasRuns(msgspec.Struct, kw_only=True):
    """The runs of one canvas, the first one first."""

    items: list[CanvasRun]
    truncated: bool = False
    """There are more; those that were created first are here, and the one that was asked for."""


class Count(msgspec.Struct, kw_only=True, frozen=True):
    """A count that stops: exact up to 1,000."""

    number: int
    capped: bool = False
    """There are more."""


class Glance(msgspec.Struct, kw_only=True, frozen=True):
    """The figures at the head of the list: each is what the list has under the same filter."""

    running: Count
    """State `running`."""
    queued: Count
    """State `queued`."""
    failed_24h: Count
    """In one of `FAILED_STATES`, created in the last 24 hours."""


class EndsBucket(msgspec.Struct, kw_only=True, frozen=True):
    """How many attempts ended in a span of time; a sampled run counts as those it stands for."""

    at: float
    """When the span begins; it ends where the next one begins."""
    succeeded: int = 0
    failed: int = 0
    """Those in one of `FAILED_STATES`."""
    other: int = 0
    """Cancelled, expired, ignored; a retry is no end."""


class WorkerStatus(msgspec.Struct, kw_only=True):
    """A worker as its main process told of itself, and when its host was last heard of."""

    name: str
    """Its node name, such as `celery@atlas`."""
    host: str | None = None
    pid: int | None = None
    pool: str | None = None
    """`prefork`, `threads`, …"""
    concurrency: int | None = None
    app: str | None = None
    """Name of its Celery app."""
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    """{library: version}."""
    started_at: float = 0.0
    stopping_at: float | None = None
    stopped_at: float | None = None
    lost_at: float | None = None
    """When its process was seen gone, if it never said that it stopped."""
    journal: str = ""
    """Id of its journal."""
    lease_age: float | None = None
    """Seconds since its host's shipper was last heard of; None for a journal that is forgotten."""
    unreachable_since: float | None = None
    """When that was, if it is too long ago; None while all is well."""
    is_living: bool = False
    """It has neither stopped nor been lost, its host is heard of, and it is the newest of its name there."""


class RunningRuns(msgspec.Struct, kw_only=True):
    """Runs that are running, by worker."""

    by_worker: dict[str, list[Run]]
    """{node name: runs}, the oldest run first; the empty name has those whose worker is not known."""
    truncated: bool = False
    """There are more; the oldest are here."""
