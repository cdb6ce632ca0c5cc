"""A batch of events, sorted by what they are about. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plet_celery import events
from plet_celery.events import END_STATES, Event
from plet_celery.store import eventrows, stages
from plet_celery.store.merge import attempt_key
from plet_celery.store.settle import run_key

_WORKERS = frozenset({events.WORKER_STARTED, events.WORKER_STOPPING, events.WORKER_STOPPED})


class AttemptBatch:
    """What a batch holds of one attempt."""

    __slots__ = ("all", "logs", "measures", "rows", "stages")

    def __init__(self) -> None:
        self.all: list[Event] = []
        self.stages: list[Event] = []
        self.logs: list[Event] = []
        self.measures: list[Event] = []
        self.rows: list[Event] = []


class RunBatch:
    """What a batch holds of one run."""

    __slots__ = ("attempts", "full_id", "metadata", "queued", "reports", "rows", "upstream")

    def __init__(self, full_id: str) -> None:
        self.full_id = full_id
        self.attempts: dict[str, AttemptBatch] = {}
        self.queued: list[Event] = []
        self.upstream: list[Event] = []
        self.reports: list[Event] = []
        """Ends that name no attempt."""
        self.metadata: list[Event] = []
        self.rows: list[Event] = []
        """Events that have a row and name no attempt."""


@dataclass
class Batch:
    """A batch, sorted."""

    runs: dict[str, RunBatch] = field(default_factory=dict)
    workers: list[Event] = field(default_factory=list)
    beats: list[Event] = field(default_factory=list)
    rows: list[Event] = field(default_factory=list)
    """Events of no run that have a row."""


def gather(found: Sequence[Event]) -> Batch:
    """Sort events by run and attempt, and by who folds them."""
    batch = Batch()
    runs = batch.runs
    for event in found:
        name = event.run
        if not name and event.kind == events.EVENTS_DROPPED and isinstance(event.data.get("run"), str):
            name = event.data["run"]
        if not name:
            _add_hostly(batch, event)
            continue
        run = runs.get(name)
        if run is None:
            key = run_key(name)
            run = runs.get(key)
            if run is None:
                run = runs[key] = RunBatch(name)
        if not event.attempt:
            _add_to_run(run, event)
        else:
            attempt = run.attempts.get(event.attempt)
            if attempt is None:
                attempt = run.attempts.setdefault(attempt_key(event.attempt), AttemptBatch())
            attempt.all.append(event)
            kind = event.kind
            if kind != events.RUN_STARTED and kind not in END_STATES:
                _add_detail(run, attempt, event)
    return batch


def _add_detail(run: RunBatch, attempt: AttemptBatch, event: Event) -> None:
    kind = event.kind
    if kind == events.LOG_WRITTEN:
        attempt.logs.append(event)
    elif kind in stages.KINDS:
        attempt.stages.append(event)
    elif kind == events.MEASURE_RECORDED:
        attempt.measures.append(event)
    elif kind == events.METADATA_SET:
        run.metadata.append(event)
    if eventrows.has_row(event):
        attempt.rows.append(event)


def _add_to_run(run: RunBatch, event: Event) -> None:
    if event.kind == events.RUN_QUEUED:
        run.queued.append(event)
    elif event.kind in END_STATES:
        if "upstream" in event.data:
            run.upstream.append(event)
        else:
            run.reports.append(event)
            run.rows.append(event)
    elif eventrows.has_row(event):
        run.rows.append(event)


def _add_hostly(batch: Batch, event: Event) -> None:
    if event.kind in _WORKERS:
        batch.workers.append(event)
    if event.kind == events.HOST_BEAT:
        batch.beats.append(event)
    elif eventrows.has_row(event):
        batch.rows.append(event)
