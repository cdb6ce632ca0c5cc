"""What the database already holds of the runs in a batch.

Rows are read in key order and, where the engine can, locked: two hosts that tell of the same run wait
for each other in one order.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.events import END_STATES, EVENTS_DROPPED
from plet_celery.store import bulk, eventrows
from plet_celery.store.gather import Batch
from plet_celery.store.matching import Report
from plet_celery.store.merge import AttemptState, End, Outcome, rank_of
from plet_celery.store.merge import integer as as_integer
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunDoc, RunRow, View, by_start

_AT_ONCE: Final = 500
"""Values in one IN list: more make the statement's text long, fewer make more statements."""

_doc_of: Final = msgspec.json.Decoder(RunDoc).decode
state_of: Final = msgspec.json.Decoder(AttemptState).decode
"""Reads the `doc` of an attempt's row."""
_data_of: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(slots=True)
class AttemptWork:
    """An attempt under merge."""

    id: str
    view: View | None = None
    """As its columns had it, then as it becomes; None once it is gone."""
    state: AttemptState | None = None
    """In full: of those that the batch tells of, and of others when they are needed."""
    outcome: Outcome | None = None
    """What `state` amounts to, once the run is settled."""
    stored: tuple[Any, ...] | None = None
    """Its row as it was read in full."""


@dataclass(slots=True)
class RunWork:
    """A run under merge: what was stored, and what it becomes."""

    id: str
    row: RunRow | None = None
    before: RunRow | None = None
    """The row as it was stored, once `row` is the new one."""
    doc: RunDoc = field(default_factory=RunDoc)
    attempts: dict[str, AttemptWork] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    dropped: int = 0
    changed: bool = False

    def views(self) -> list[View]:
        """Return the attempts that there are, by start."""
        found = [one.view for one in self.attempts.values() if one.view is not None]
        return by_start(found) if len(found) > 1 else found


def load_runs(
    connection: Connection, tables: Tables, journal: str, batch: Batch, plain: Container[str]
) -> dict[str, RunWork]:
    """Return the runs of a batch, with the attempts it tells of and the reports, as stored.

    Args:
        plain: runs to be left out if they are not stored.
    """
    ids = sorted(batch.attempts)
    works = {run: RunWork(run) for run in ids if run not in plain}
    known = []
    for found in bulk.fetch(connection, tables.run, [(run,) for run in ids], lock=True):
        row = RunRow(*found)
        work = works.setdefault(row.id, RunWork(row.id))
        known.append(work)
        work.row = row
        work.dropped = row.dropped
        if row.doc is not None:
            work.doc = _doc_of(row.doc)
    if known:
        _load_views(connection, tables, known)
        _load_reports(connection, tables, known)
        load_states(connection, tables, [(work, _needed(work, journal, batch)) for work in known])
    return works


def load_states(
    connection: Connection, tables: Tables, wanted: Iterable[tuple[RunWork, Iterable[str]]]
) -> None:
    """Read attempts in full, those that are stored and not read yet."""
    missing: dict[tuple[str, str], AttemptWork] = {}
    for work, ids in wanted:
        for attempt in ids:
            one = work.attempts.get(attempt)
            if one is not None and one.state is None and one.view is not None:
                missing[work.id, attempt] = one
    if not missing:
        return
    for row in bulk.fetch(connection, tables.attempt, missing):
        found = missing[row[0], row[1]]
        found.state = state_of(row[-1])
        found.stored = row


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
) -> Iterator[Any]:
    """Yield the rows whose `column` is one of `values`, in key order within each statement."""
    statement = sa.select(*(columns or table.c)).order_by(*table.primary_key)
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
    end = End(kind=row.kind, stamp=stamp, data=data, rank=rank_of(data))
    return Report(row.journal_id, as_integer(data.get("pid")), end, (row.writer, row.segment, row.offset))


def _needed(work: RunWork, journal: str, batch: Batch) -> Iterable[str]:
    if not work.doc.reports and work.id not in batch.reports:
        return batch.attempts[work.id]
    # A report may move from one attempt of this journal to another: then all of them are read.
    mine = [one.id for one in work.attempts.values() if one.view and one.view.journal_id == journal]
    return {*mine, *batch.attempts[work.id]}


def _load_views(connection: Connection, tables: Tables, known: Sequence[RunWork]) -> None:
    works = {work.id: work for work in known}
    columns = ("run_id", *View._fields)
    for run, *view in bulk.fetch(connection, tables.attempt, [(run,) for run in works], columns=columns):
        works[run].attempts[view[0]] = AttemptWork(view[0], View(*view))


def _load_reports(connection: Connection, tables: Tables, known: Sequence[RunWork]) -> None:
    works = {work.id: work for work in known if work.doc.reports}
    for found in bulk.fetch(connection, tables.event, [(run, "") for run in works]):
        row = eventrows.Row(*found)
        if row.kind in END_STATES:
            works[row.run_id].reports.append(report_of(row))
