"""A batch of events, sorted by what they are about. Nothing is decided here.

Most runs of a batch have a start and an end and nothing else: what only some have is kept beside the
runs, by its owner, so that it costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plet_celery import events
from plet_celery.events import END_STATES, Event
from plet_celery.store import eventrows, stages
from plet_celery.store.merge import attempt_key
from plet_celery.store.settle import run_key

Owner = tuple[str, str]
"""(run id, attempt id); the attempt is empty for what names none."""
Owned = dict[Owner, list[Event]]

_WORKERS = frozenset(
    {events.WORKER_STARTED, events.WORKER_STOPPING, events.WORKER_STOPPED, events.WORKER_LOST}
)


@dataclass
class Batch:
    """A batch, sorted."""

    attempts: dict[str, dict[str, list[Event]]] = field(default_factory=dict)
    """Every run of the batch, with all events of each of its attempts."""
    full_ids: dict[str, str] = field(default_factory=dict)
    """Task ids that are longer than their key."""
    queued: dict[str, list[Event]] = field(default_factory=dict)
    upstream: dict[str, list[Event]] = field(default_factory=dict)
    abandoned: dict[str, list[Event]] = field(default_factory=dict)
    reports: dict[str, list[Event]] = field(default_factory=dict)
    """Ends that name no attempt."""
    drops: dict[str, list[Event]] = field(default_factory=dict)
    metadata: dict[str, list[Event]] = field(default_factory=dict)
    stages: Owned = field(default_factory=dict)
    logs: Owned = field(default_factory=dict)
    measures: Owned = field(default_factory=dict)
    rows: Owned = field(default_factory=dict)
    """Events that have a row of their own."""
    workers: list[Event] = field(default_factory=list)
    beats: list[Event] = field(default_factory=list)
    hostly: list[Event] = field(default_factory=list)
    """Events of no run that have a row."""

    def rich_runs(self) -> set[str]:
        """Return the runs of which there is more than starts and ends."""
        owned: tuple[Owned, ...] = (self.stages, self.logs, self.measures, self.rows)
        told = (
            *(self.full_ids, self.queued, self.upstream, self.abandoned),
            *(self.reports, self.drops, self.metadata),
        )
        return {*(run for some in owned for run, _ in some), *(run for some in told for run in some)}


def gather(found: Sequence[Event]) -> Batch:
    """Sort events by run and attempt, and by who folds them."""
    batch = Batch()
    runs = batch.attempts
    for event in found:
        run = event.run
        if not run:
            run = _run_of(event)
            if run is None:
                _add_hostly(batch, event)
                continue
        attempts = runs.get(run)
        if attempts is None:
            key = run_key(run)
            attempts = runs.setdefault(key, {})
            if key != run:
                batch.full_ids[key] = run
                run = key
        attempt = event.attempt
        kind = event.kind
        if not attempt:
            _add_to_run(batch, run, event)
            continue
        if attempt in attempts:
            attempts[attempt].append(event)
        else:
            attempt = attempt_key(attempt)
            attempts.setdefault(attempt, []).append(event)
        if kind != events.RUN_STARTED and kind not in END_STATES:
            _add_detail(batch, (run, attempt), event)
    return batch


def key_of(event: Event) -> str | None:
    """Return the key of the run that an event is about; None where it is about none."""
    run = event.run or _run_of(event)
    return run_key(run) if run else None


def _run_of(event: Event) -> str | None:
    """Return the run that a report of dropped events names in its data."""
    named = event.data.get("run") if event.kind == events.EVENTS_DROPPED else None
    return named if isinstance(named, str) and named else None


def _add_detail(batch: Batch, owner: Owner, event: Event) -> None:
    kind = event.kind
    if kind == events.LOG_WRITTEN:
        batch.logs.setdefault(owner, []).append(event)
    elif kind in stages.KINDS:
        batch.stages.setdefault(owner, []).append(event)
    elif kind == events.MEASURE_RECORDED:
        batch.measures.setdefault(owner, []).append(event)
    elif kind == events.METADATA_SET:
        batch.metadata.setdefault(owner[0], []).append(event)
    if eventrows.has_row(event):
        _add_row(batch, owner, event)


def _add_to_run(batch: Batch, run: str, event: Event) -> None:
    if event.kind == events.RUN_QUEUED:
        batch.queued.setdefault(run, []).append(event)
    elif event.kind == events.RUN_ABANDONED:
        batch.abandoned.setdefault(run, []).append(event)
    elif event.kind in END_STATES and "upstream" in event.data:
        batch.upstream.setdefault(run, []).append(event)
    elif eventrows.has_row(event):
        if event.kind in END_STATES:
            batch.reports.setdefault(run, []).append(event)
        _add_row(batch, (run, ""), event)


def _add_row(batch: Batch, owner: Owner, event: Event) -> None:
    batch.rows.setdefault(owner, []).append(event)
    if event.kind == events.EVENTS_DROPPED:
        batch.drops.setdefault(owner[0], []).append(event)


def _add_hostly(batch: Batch, event: Event) -> None:
    if event.kind in _WORKERS:
        batch.workers.append(event)
    if event.kind == events.HOST_BEAT:
        batch.beats.append(event)
    elif eventrows.has_row(event):
        batch.hostly.append(event)
