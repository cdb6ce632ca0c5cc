"""What the database already holds of the runs in a batch.

Rows are read in key order and, where the engine can, locked: two hosts that tell of the same run wait
for each other in one order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.events import END_STATES, EVENTS_DROPPED
from plet_celery.store import eventrows
from plet_celery.store.gather import Batch
from plet_celery.store.merge import AttemptState, End
from plet_celery.store.merge import integer as as_integer
from plet_celery.store.schema import Tables
from plet_celery.store.settle import Report, RunDoc, RunRow, View

_AT_ONCE: Final = 500
"""Values in one IN list: more make the statement's text long, fewer make more statements."""

_doc_of: Final = msgspec.json.Decoder(RunDoc).decode
state_of: Final = msgspec.json.Decoder(AttemptState).decode
"""Reads the `doc` of an attempt's row."""
_data_of: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass
class RunWork:
    """A run under merge: what was stored, and what it becomes."""

    id: str
    row: RunRow | None = None
    before: RunRow | None = None
    """The row as it was stored, once `row` is the new one."""
    doc: RunDoc = field(default_factory=RunDoc)
    views: dict[str, View] = field(default_factory=dict)
    states: dict[str, AttemptState] = field(default_factory=dict)
    """Attempts in full: at least those that the batch tells of."""
    stored: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Rows of the attempts in `states` as they were read."""
    reports: list[Report] = field(default_factory=list)
    dropped: int = 0
    changed: bool = False


def load_runs(connection: Connection, tables: Tables, journal: str, batch: Batch) -> dict[str, RunWork]:
    """Return the runs of a batch, with the attempts it tells of and the reports, as stored."""
    works = {run: RunWork(run) for run in sorted(batch.runs)}
    for row in select_in(connection, tables.run, tables.run.c.id, works, lock=True):
        work = works[row.id]
        work.row = RunRow(*row)
        work.dropped = row.dropped
        if row.doc is not None:
            work.doc = _doc_of(row.doc)
    known = [work for work in works.values() if work.row is not None]
    if known:
        _load_views(connection, tables, known)
        _load_reports(connection, tables, known)
        load_states(connection, tables, {work.id: (work, _needed(work, journal, batch)) for work in known})
    return works


def load_states(
    connection: Connection, tables: Tables, wanted: Mapping[str, tuple[RunWork, Iterable[str]]]
) -> None:
    """Read attempts in full, those that are not read yet."""
    missing = {
        (run, attempt)
        for run, (work, ids) in wanted.items()
        for attempt in ids
        if attempt in work.views and attempt not in work.states
    }
    if not missing:
        return
    attempt = tables.attempt
    runs = sorted({run for run, _ in missing})
    ids = sorted({found for _, found in missing})
    for some in batched(ids):
        for row in select_in(connection, attempt, attempt.c.run_id, runs, attempt.c.id.in_(some)):
            if (row.run_id, row.id) in missing:
                work = wanted[row.run_id][0]
                work.states[row.id] = state_of(row.doc)
                work.stored[row.id] = tuple(row)


def load_drops(
    connection: Connection, tables: Tables, runs: Iterable[str]
) -> dict[str, dict[eventrows.Place, int]]:
    """Return how many events each report of dropped ones counts, by run and the report's place."""
    event = tables.event
    counts: dict[str, dict[eventrows.Place, int]] = {}
    for row in select_in(connection, event, event.c.run_id, runs, event.c.kind == EVENTS_DROPPED):
        found = eventrows.Row(*row)
        counts.setdefault(found.run_id, {})[found.place] = as_integer(_data_of(found.data).get("count")) or 0
    return counts


def select_in(
    connection: Connection,
    table: Table,
    column: sa.ColumnElement[Any],
    values: Iterable[Any],
    *where: sa.ColumnElement[bool],
    columns: Sequence[sa.ColumnElement[Any]] | None = None,
    lock: bool = False,
) -> Iterator[Any]:
    """Yield the rows whose `column` is one of `values`, in key order within each statement."""
    statement = sa.select(*(columns or table.c)).order_by(*table.primary_key)
    if lock:
        statement = statement.with_for_update()
    for some in batched(sorted(values)):
        yield from connection.execute(statement.where(column.in_(some), *where))


def batched(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield `values` in pieces that fit one IN list."""
    for start in range(0, len(values), _AT_ONCE):
        yield list(values[start : start + _AT_ONCE])


def report_of(row: eventrows.Row) -> Report:
    """Return the report that an event row holds."""
    data = _data_of(row.data)
    stamp = (row.at, row.writer[:8], row.segment, row.offset)
    rank = {"child": 0, "main": 1}.get(str(data.get("by")), 2)
    end = End(kind=row.kind, stamp=stamp, data=data, rank=rank)
    return Report(row.journal_id, as_integer(data.get("pid")), end, (row.writer, row.segment, row.offset))


def _needed(work: RunWork, journal: str, batch: Batch) -> Iterable[str]:
    found = batch.runs[work.id]
    if not work.doc.reports and not found.reports:
        return found.attempts
    # A report may move from one attempt of this journal to another: then all of them are read.
    return [view.id for view in work.views.values() if view.journal_id == journal]


def _load_views(connection: Connection, tables: Tables, known: Sequence[RunWork]) -> None:
    attempt = tables.attempt
    works = {work.id: work for work in known}
    columns = [attempt.c.run_id, *(attempt.c[name] for name in View._fields)]
    for row in select_in(connection, attempt, attempt.c.run_id, works, columns=columns):
        works[row[0]].views[row[1]] = View(*row[1:])


def _load_reports(connection: Connection, tables: Tables, known: Sequence[RunWork]) -> None:
    works = {work.id: work for work in known if work.doc.reports}
    event = tables.event
    of_run = (event.c.attempt_id == "", event.c.kind.in_(list(END_STATES)))
    for row in select_in(connection, event, event.c.run_id, works, *of_run):
        works[row.run_id].reports.append(report_of(eventrows.Row(*row)))
