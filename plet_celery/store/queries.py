"""The only queries: pages, API, commands and monitor show the same number because they ask here.

Every function takes the store first, the rest by keyword, and returns records. Lists page by key, with
an opaque cursor; nothing counts all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import RunAmbiguous, RunNotFound
from plet_celery.events import RUN_QUEUED, RUN_STARTED, RunState
from plet_celery.store import assemble, lease, merge, series
from plet_celery.store.changes import Changes, Notice, changes
from plet_celery.store.listing import list_runs
from plet_celery.store.load import select_in, state_of
from plet_celery.store.logs import stored_log
from plet_celery.store.merge import AttemptState
from plet_celery.store.records import Attempt, EventRow, Measure, MeasurePoint, Run, Stage
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunRow, run_key
from plet_celery.store.store import Store

__all__ = [
    "Changes",
    "Notice",
    "as_of",
    "attempts",
    "changes",
    "children",
    "count_runs_by_state",
    "get_run",
    "list_runs",
    "measures",
    "resolve_run",
    "run_events",
    "shipped_positions",
    "stages",
    "stored_log",
]

COUNT_MAX: Final = 1000
"""Where counting stops: readers show "1 000+"."""
FAILED_STATES: Final = ("failed", "timed_out", "lost", "interrupted", "rejected")
"""What `@last-failed` looks for."""
_CANDIDATES: Final = 5
_AFTER_ANY: Final = "\U0010ffff"


def get_run(store: Store, run_id: str) -> Run:
    """Return a run by its full id.

    Raises:
        RunNotFound: there is none.
    """
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
        return assemble.runs(connection, store.tables, [row])[0]


def attempts(store: Store, run_id: str) -> list[Attempt]:
    """Return a run's attempts, the first one first.

    Raises:
        RunNotFound: there is no such run.
    """
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
        return assemble.attempts(row, _attempt_rows(connection, store.tables, row.id))


def stages(store: Store, run_id: str, attempt_id: str | None = None) -> list[Stage]:
    """Return the stages of one attempt or of all, by attempt and number.

    Raises:
        RunNotFound: there is no such run.
    """
    table = store.tables.stage
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
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


def run_events(store: Store, run_id: str, *, limit: int = 200) -> list[EventRow]:
    """Return the newest `limit` facts of a run's life, oldest first.

    Raises:
        RunNotFound: there is no such run.
    """
    table = store.tables.event
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
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


def children(store: Store, run_id: str, *, limit: int = 200) -> list[Run]:
    """Return the runs that this one published, and those of the same canvas, the first one first.

    Raises:
        RunNotFound: there is no such run.
    """
    table = store.tables.run
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
        canvas = row.canvas or row.id
        rows: dict[str, RunRow] = {}
        for mine in (table.c.canvas == canvas, table.c.parent_id == row.id, table.c.id == canvas):
            query = sa.select(table).where(mine).order_by(table.c.created_at, table.c.id).limit(limit + 1)
            rows.update({one.id: RunRow(*one) for one in connection.execute(query)})
        rows.pop(row.id, None)
        shown = sorted(rows.values(), key=lambda one: (one.created_at, one.id))[:limit]
        return assemble.runs(connection, store.tables, shown)


def measures(store: Store, run_id: str) -> list[Measure]:
    """Return a run's series, by attempt and name.

    Raises:
        RunNotFound: there is no such run.
    """
    table = store.tables.measure
    with store.reading() as connection:
        row = _row(connection, store.tables, run_id)
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


def resolve_run(store: Store, text: str) -> str:
    """Return the full id of the run that `text` names: an id, a unique prefix, `@last`, `@last-failed`.

    Raises:
        RunNotFound: none fits.
        RunAmbiguous: several fit; the message lists some.
    """
    if text in ("@last", "@last-failed"):
        found = list_runs(store, states=FAILED_STATES if text == "@last-failed" else (), limit=1).items
        if not found:
            raise RunNotFound(f"{text}: no {'failed ' if text != '@last' else ''}run is recorded yet")
        return found[0].id
    table = store.tables.run
    with store.reading() as connection:
        exact = connection.execute(sa.select(table).where(table.c.id == run_key(text))).first()
        if exact is not None:
            return assemble.run_id_of(RunRow(*exact))
        rows = {} if not text else _with_prefix(connection, store.tables, text)
    if not rows:
        raise RunNotFound(f"no run {text!r}; runs are kept for plet_retention_days, `runs` lists them")
    if len(rows) > 1:
        raise RunAmbiguous(_several(text, list(rows.values())))
    return assemble.run_id_of(next(iter(rows.values())))


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


def _row(connection: Connection, tables: Tables, run_id: str) -> RunRow:
    row = connection.execute(sa.select(tables.run).where(tables.run.c.id == run_key(run_id))).first()
    if row is None:
        raise RunNotFound(f"no run {run_id!r}; runs are kept for plet_retention_days, `runs` lists them")
    return RunRow(*row)


def _attempt_rows(connection: Connection, tables: Tables, run: str) -> list[Any]:
    return list(select_in(connection, tables.attempt, tables.attempt.c.run_id, [run]))


def _with_prefix(connection: Connection, tables: Tables, text: str) -> dict[str, RunRow]:
    table = tables.run
    rows: dict[str, RunRow] = {}
    for column in (table.c.id, table.c.digest):
        begins = sa.and_(column >= text, column < text + _AFTER_ANY)
        query = sa.select(table).where(begins).order_by(column).limit(_CANDIDATES + 1)
        rows.update({row.id: RunRow(*row) for row in connection.execute(query)})
    return rows


def _several(text: str, rows: Sequence[RunRow]) -> str:
    shown = [f"{assemble.run_id_of(row)} ({row.task}, {row.state})" for row in rows[:_CANDIDATES]]
    more = " and more" if len(rows) > _CANDIDATES else ""
    return f"{text!r} fits several runs: {', '.join(shown)}{more}; give more characters"


def _own_events(row: RunRow, rows: Sequence[Any]) -> list[EventRow]:
    """Return the events whose facts are in the rows of the run and its attempts."""
    doc, run = assemble.doc_of(row), assemble.run_id_of(row)
    found = []
    if doc.queued is not None:
        found.append(_event(run, None, RUN_QUEUED, doc.queued.stamp, doc.queued.data, {}))
    if doc.upstream is not None:
        found.append(_event(run, None, doc.upstream.kind, doc.upstream.stamp, doc.upstream.data, {}))
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
