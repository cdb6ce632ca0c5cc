"""The only queries: pages, API, commands and monitor show the same number because they ask here.

Every function takes the store first, the rest by keyword, and returns records. Lists page by key, with
an opaque cursor; nothing counts all runs. Most take `tenants`: what the viewer may see (`tenancy.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.events import RUN_QUEUED, RUN_STARTED, RunState
from plet_celery.store import assemble, lease, merge, series, tenancy
from plet_celery.store.canvasruns import canvas_runs
from plet_celery.store.changes import Changes, Notice, change_mark, changes
from plet_celery.store.finding import FAILED_STATES, resolve_run, run_row
from plet_celery.store.glance import ends_over_time, glance, known_tasks, recorded_since
from plet_celery.store.hoststatus import host_losses, list_hosts
from plet_celery.store.listing import is_cursor, list_runs, list_together
from plet_celery.store.load import select_in, state_of
from plet_celery.store.logs import stored_log
from plet_celery.store.merge import AttemptState
from plet_celery.store.records import Attempt, EventRow, Measure, MeasurePoint, Run, Stage
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunRow
from plet_celery.store.store import Store
from plet_celery.store.workers import list_workers, lost_runs, running_by_worker

__all__ = [
    "FAILED_STATES",
    "Changes",
    "Notice",
    "as_of",
    "attempts",
    "canvas_runs",
    "change_mark",
    "changes",
    "children",
    "count_runs_by_state",
    "ends_over_time",
    "get_run",
    "glance",
    "host_losses",
    "is_cursor",
    "known_tasks",
    "list_hosts",
    "list_runs",
    "list_together",
    "list_workers",
    "lost_runs",
    "measures",
    "recorded_since",
    "resolve_run",
    "run_events",
    "running_by_worker",
    "shipped_positions",
    "stages",
    "stored_log",
]

COUNT_MAX: Final = 1000
"""Where counting stops: readers show "1 000+"."""


def get_run(store: Store, run_id: str, *, tenants: Sequence[str] | None = None) -> Run:
    """Return a run by its full id.

    Args:
        tenants: paths that the viewer may see, each with what lies below it; None: all. So everywhere here.

    Raises:
        RunNotFound: there is none that the viewer may see.
    """
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        return assemble.runs(connection, store.tables, [row])[0]


def attempts(store: Store, run_id: str, *, tenants: Sequence[str] | None = None) -> list[Attempt]:
    """Return a run's attempts, the first one first.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        return assemble.attempts(row, _attempt_rows(connection, store.tables, row.id))


def stages(
    store: Store, run_id: str, attempt_id: str | None = None, *, tenants: Sequence[str] | None = None
) -> list[Stage]:
    """Return the stages of one attempt or of all, by attempt and number.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    table = store.tables.stage
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        rows = _attempt_rows(connection, store.tables, row.id)
        states: dict[str, AttemptState] = {one.id: state_of(one.doc) for one in rows}
        query = sa.select(table).where(table.c.run_id == row.id)
        if attempt_id is not None:
            query = query.where(table.c.attempt_id == attempt_id)
        by_attempt: dict[str, list[Any]] = {}
        for one in connection.execute(query):
            by_attempt.setdefault(one.attempt_id, []).append(one)
    return [
        stage
        for attempt in assemble.attempts(row, rows)
        if attempt_id in (None, attempt.id)
        for stage in assemble.stages(attempt, states[attempt.id], by_attempt.get(attempt.id, []))
    ]


def run_events(
    store: Store, run_id: str, *, limit: int = 200, tenants: Sequence[str] | None = None
) -> list[EventRow]:
    """Return the newest `limit` facts of a run's life, oldest first.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    table = store.tables.event
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        found = _own_events(row, _attempt_rows(connection, store.tables, row.id))
        newest = sa.select(table).where(table.c.run_id == row.id)
        for one in connection.execute(newest.order_by(table.c.at.desc()).limit(limit)):
            data = msgspec.json.decode(one.data)
            found.append(
                EventRow(
                    run_id=assemble.run_id_of(row),
                    attempt_id=one.attempt_id or None,
                    kind=one.kind,
                    at=one.at,
                    level=one.level,
                    text=data.get("text") if isinstance(data.get("text"), str) else None,
                    data=data,
                    position=(one.writer, one.segment, one.offset),
                )
            )
    found.sort(key=lambda event: (event.at, event.position or ("", 0, 0)))
    return found[-limit:] if limit > 0 else []


def children(
    store: Store, run_id: str, *, limit: int = 200, tenants: Sequence[str] | None = None
) -> list[Run]:
    """Return the runs that this one published, and those of the same canvas, the first one first.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    table = store.tables.run
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        canvas = row.canvas or row.id
        rows: dict[str, RunRow] = {}
        visible = tenancy.visible(table.c.tenant, tenants)
        for mine in (table.c.canvas == canvas, table.c.parent_id == row.id, table.c.id == canvas):
            query = (
                sa.select(table)
                .where(mine, *visible)
                .order_by(table.c.created_at, table.c.id)
                .limit(limit + 1)
            )
            rows.update({one.id: RunRow(*one) for one in connection.execute(query)})
        rows.pop(row.id, None)
        shown = sorted(rows.values(), key=lambda one: (one.created_at, one.id))[:limit]
        return assemble.runs(connection, store.tables, shown)


def measures(store: Store, run_id: str, *, tenants: Sequence[str] | None = None) -> list[Measure]:
    """Return a run's series, by attempt and name.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    table = store.tables.measure
    with store.reading() as connection:
        row = run_row(connection, store.tables, run_id, tenants)
        order = {
            attempt.id: attempt.number
            for attempt in assemble.attempts(row, _attempt_rows(connection, store.tables, row.id))
        }
        rows = connection.execute(sa.select(table).where(table.c.run_id == row.id)).all()
    rows = sorted(rows, key=lambda one: (order.get(one.attempt_id, 0), one.name))
    return [
        Measure(
            run_id=assemble.run_id_of(row),
            attempt_id=one.attempt_id,
            name=one.name,
            points=[
                MeasurePoint(at=point.at, value=point.value, number=point.number, stage=point.stage)
                for point in series.unpack(one.points)
            ],
        )
        for one in rows
    ]


def count_runs_by_state(store: Store) -> dict[str, int]:
    """Return how many runs each state has; the counting stops at 1,000 each."""
    table = store.tables.run
    state = sa.bindparam("one_state", type_=sa.String())
    some = sa.select(table.c.id).where(table.c.state == state).limit(COUNT_MAX).subquery()
    query = sa.select(sa.func.count()).select_from(some)
    with store.reading() as connection:
        counts = {
            one.value: connection.execute(query, {"one_state": one.value}).scalar_one() for one in RunState
        }
    return {state: count for state, count in counts.items() if count}


def as_of(store: Store) -> float | None:
    """Return the wall time of the newest event that any journal has shipped; None before the first."""
    with store.reading() as connection:
        return assemble.as_of(connection, store.tables)


def shipped_positions(store: Store, journal_id: str) -> lease.Positions:
    """Return how far each file of a journal was read."""
    return store.positions(journal_id)


def _attempt_rows(connection: Connection, tables: Tables, run: str) -> list[Any]:
    return list(select_in(connection, tables.attempt, tables.attempt.c.run_id, [run]))


def _own_events(row: RunRow, rows: Sequence[Any]) -> list[EventRow]:
    """Return the events whose facts are in the rows of the run and its attempts."""
    doc, run = assemble.doc_of(row), assemble.run_id_of(row)
    found = []
    if doc.queued is not None:
        writers = {doc.queued.stamp[1]: doc.queued_by or ""}
        found.append(_event(run, None, RUN_QUEUED, doc.queued.stamp, doc.queued.data, writers))
    if doc.upstream is not None:
        kind, stamp, data = doc.upstream.kind, doc.upstream.stamp, doc.upstream.data
        found.append(_event(run, None, kind, stamp, data, {stamp[1]: doc.upstream_by or ""}))
    if doc.abandoned is not None:
        kind, stamp, data = doc.abandoned.kind, doc.abandoned.stamp, doc.abandoned.data
        found.append(_event(run, None, kind, stamp, data, {stamp[1]: doc.abandoned_by or ""}))
    for one in rows:
        state = state_of(one.doc)
        writers = {writer[:8]: writer for writer in state.seen}
        if state.start is not None:
            found.append(_event(run, one.id, RUN_STARTED, state.start.stamp, state.start.data, writers))
        for end in state.ends:
            found.append(_event(run, one.id, end.kind, end.stamp, end.data, writers))
    return found


def _event(
    run: str,
    attempt: str | None,
    kind: str,
    stamp: merge.Stamp,
    data: dict[str, Any],
    writers: dict[str, str],
) -> EventRow:
    wall, writer, segment, offset = stamp
    position = (writers.get(writer, writer), segment, offset)
    return EventRow(run_id=run, attempt_id=attempt, kind=kind, at=wall, data=data, position=position)
