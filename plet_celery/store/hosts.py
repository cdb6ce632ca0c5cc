"""What hosts and workers tell of themselves: the worker rows, the beat of a journal, events of no run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery import events
from plet_celery.events import Event
from plet_celery.store import eventrows, merge
from plet_celery.store.engine import SET_BACK
from plet_celery.store.gather import Batch
from plet_celery.store.load import select_in
from plet_celery.store.merge import Start
from plet_celery.store.schema import Tables
from plet_celery.store.writes import Writes

_WRITER_MAX: Final = 32


class WorkerFacts(msgspec.Struct, omit_defaults=True):
    """What a worker's main process told; the `doc` of its row."""

    started: Start | None = None
    stopping: Start | None = None
    stopped: Start | None = None
    lost: Start | None = None
    """Its shipper saw that its process is gone; void where it has said that it stopped."""

    @property
    def first(self) -> Start | None:
        """Who it is, by whatever was told."""
        return self.started or self.stopping or self.stopped or self.lost


facts_of = msgspec.json.Decoder(WorkerFacts).decode
"""Reads the `doc` of a worker's row."""


def write_workers(connection: Connection, tables: Tables, journal: str, batch: Batch, writes: Writes) -> None:
    """Merge `worker.*` and `host.beat`, and add the rows of events that belong to no run."""
    if batch.workers:
        _merge_workers(connection, tables, journal, batch.workers, writes)
    if batch.beats:
        newest = max(batch.beats, key=merge.stamp_of)
        keep_beat(connection, tables, journal, newest.wall, newest.data)
    if batch.hostly:
        _add_rows(connection, tables, journal, batch.hostly, writes)


def keep_beat(connection: Connection, tables: Tables, journal: str, at: float, facts: Any) -> None:
    """Keep what a host told of itself, if it is newer than what is kept."""
    table = tables.journal
    # A journal's beats come by its own shipper: one ahead of this clock was told before that was put back.
    ahead = table.c.beat_at > time.time() + SET_BACK
    older = sa.or_(table.c.beat_at.is_(None), table.c.beat_at < at, ahead)
    statement = table.update().where(table.c.journal_id == journal, older)
    connection.execute(statement.values(beat_at=at, beat=msgspec.json.encode(facts).decode()))


def _merge_workers(
    connection: Connection, tables: Tables, journal: str, found: Iterable[Event], writes: Writes
) -> None:
    table = tables.worker
    by_writer: dict[str, list[Event]] = {}
    for event in found:
        by_writer.setdefault(_worker_of(event), []).append(event)
    mine = table.c.journal_id == journal
    stored = {row.writer: row for row in select_in(connection, table, table.c.writer, by_writer, mine)}
    for writer, told in by_writer.items():
        row = stored.get(writer)
        facts = facts_of(row.doc) if row is not None else WorkerFacts()
        for event in told:
            _fold(facts, event)
        first = facts.first
        assert first is not None
        name = merge.text(first.data.get("worker"), 255) or ""
        stopped = facts.stopped.stamp[0] if facts.stopped is not None else None
        new = (journal, writer, name, first.stamp[0], stopped, msgspec.json.encode(facts).decode())
        writes.put(table, new, tuple(row) if row is not None else None)


def _worker_of(event: Event) -> str:
    """Return the writer of the worker that an event is about: a loss is told by the shipper."""
    named = event.data.get("writer") if event.kind == events.WORKER_LOST else None
    return merge.text(named, _WRITER_MAX) or event.writer


def _fold(facts: WorkerFacts, event: Event) -> None:
    told = Start(merge.stamp_of(event), event.data)
    if event.kind == events.WORKER_STARTED:
        if facts.started is None or told.stamp < facts.started.stamp:
            facts.started = told
    elif event.kind == events.WORKER_STOPPING:
        if facts.stopping is None or told.stamp < facts.stopping.stamp:
            facts.stopping = told
    elif event.kind == events.WORKER_LOST:
        if facts.lost is None or told.stamp < facts.lost.stamp:
            facts.lost = told
    elif facts.stopped is None or told.stamp > facts.stopped.stamp:
        facts.stopped = told


def _add_rows(
    connection: Connection, tables: Tables, journal: str, found: Sequence[Event], writes: Writes
) -> None:
    table = tables.event
    rows = {row.place: row for row in (eventrows.row_of(event, "", journal) for event in found)}
    hostly = table.c.run_id == ""
    known = {
        eventrows.Row(*row).place
        for row in select_in(connection, table, table.c.at, {row.at for row in rows.values()}, hostly)
    }
    for place, row in rows.items():
        if place not in known:
            writes.put(table, tuple(row), None)
