"""What promises are judged by: open runs, ends within a span, successes of a task. Each answer is bounded.

A pass reads this every few seconds, so nothing here may grow with the number of runs on record: open runs
are found by their state, the newest of a task by its index, and what ended long ago from the rollups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk, canvases, merge
from plet_celery.store.canvases import Happened
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.filters import STATES
from plet_celery.store.hoststatus import silent_since
from plet_celery.store.load import state_of
from plet_celery.store.schema import Tables
from plet_celery.store.settle import OPEN

OPEN_MAX: Final = 5000
"""So many of the oldest open runs of a state are read; of more, the oldest of each task."""
PER_TASK_MAX: Final = 200
NEWEST_MAX: Final = 50
HAPPENED_MAX: Final = 300
SKEW_MIN: Final = 2.0
"""Seconds; what a clock seems to be wrong by less is how long the question took."""
COUNT_MAX: Final = 1000
"""Where counting stops."""


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run without an end. Times are those of the host that tells of it."""

    id: str
    task: str
    state: str
    created_at: float
    queued_at: float | None = None
    not_before: float | None = None
    """The publisher's `eta`, while it is queued."""
    started_at: float | None = None
    canvas: str | None = None
    """Key of its canvas; None: it began one, or stands alone."""
    tenant: str = ""
    ahead: float = 0.0
    """Seconds by which its host's clock is ahead of the store's."""
    silent_since: float | None = None
    """Its host is not heard of since then: it may have ended."""


@dataclass(frozen=True, kw_only=True)
class OpenRuns:
    """Open runs, oldest first."""

    runs: tuple[OpenRun, ...]
    more: frozenset[tuple[str, str]] = frozenset()
    """(task, state) of which there are more than these."""


class Ended(NamedTuple):
    """When something happened that was waited for, and in which run."""

    at: float
    run: str


class LateRun(NamedTuple):
    """A run that ended, and had ended or started late."""

    at: float
    """When it ended or started, by its host's clock."""
    took: float
    run: str
    tenant: str


class _Queued(msgspec.Struct):
    data: dict[str, Any] = {}


class _Doc(msgspec.Struct):
    queued: _Queued | None = None


_doc = msgspec.json.Decoder(_Doc).decode


def open_runs(
    connection: Connection, tables: Tables, tasks: Collection[str], *, limit: int = OPEN_MAX
) -> OpenRuns:
    """Return the open runs: of every task up to `limit` in a state, of more those of `tasks` alone."""
    prefer_indexes(connection)
    rows: list[Any] = []
    more: set[tuple[str, str]] = set()
    for state in sorted(OPEN):
        found = _open_rows(connection, tables, state, None, limit + 1)
        if len(found) > limit:
            found = []
            for task in sorted(tasks):
                mine = _open_rows(connection, tables, state, task, PER_TASK_MAX + 1)
                more |= {(task, state)} if len(mine) > PER_TASK_MAX else set()
                found += mine[:PER_TASK_MAX]
        rows += found
    return OpenRuns(runs=tuple(_told(connection, tables, rows)), more=frozenset(more))


def count_waiting(connection: Connection, tables: Tables, task: str, *, before: float) -> int:
    """Return how many runs of a task wait in a queue and were created before then, up to 1,000."""
    table = tables.run
    mine = (table.c.task == asked(task, TASK_MAX), table.c.state == "queued", table.c.created_at < before)
    some = sa.select(sa.literal(1)).select_from(table).where(*mine).limit(COUNT_MAX).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def happened(
    connection: Connection,
    tables: Tables,
    task: str,
    what: str,
    *,
    since: float,
    until: float,
    skews: Mapping[str, float],
    limit: int = HAPPENED_MAX,
) -> tuple[list[Happened], bool]:
    """Return what happened in the runs of a task that were created in a span, by their creation.

    Args:
        what: `success`, `start`, or `canvas`: the end of one that such a run began, all of it succeeded.
        skews: as `skews_of` has them.
        limit: so many of the first runs are read, in a state each.

    Returns:
        What happened, and whether that is all; what comes behind the last one is not known otherwise.
    """
    states = ("succeeded",) if what == "success" else STATES
    rows: list[Any] = []
    is_all, end = True, until
    for state in states:
        found = canvases.of_task(connection, tables, task, state, since, until, limit)
        if len(found) >= limit:
            is_all, end = False, min(end, found[-1].created_at)
        rows += found
    rows = sorted((row for row in rows if row.created_at <= end), key=lambda row: (row.created_at, row.id))
    if what == "canvas":
        told = canvases.canvases_done(connection, tables, task, rows, skews)
    else:
        told = [
            Happened(row.created_at, at - skews.get(row.journal_id, 0.0), row.id)
            for row in rows
            if (at := row.ended_at if what == "success" else row.started_at) is not None
        ]
    return told, is_all


def newest_successes(
    connection: Connection,
    tables: Tables,
    task: str,
    *,
    skews: Mapping[str, float],
    limit: int = NEWEST_MAX,
) -> list[Ended]:
    """Return the successes among a task's newest runs, by their ends."""
    table = tables.run
    mine = (table.c.task == asked(task, TASK_MAX), table.c.state == "succeeded")
    query = sa.select(table.c.ended_at, table.c.id, table.c.journal_id).where(*mine)
    rows = connection.execute(query.order_by(table.c.created_at.desc()).limit(limit)).all()
    return sorted(Ended(at - skews.get(journal, 0.0), run) for at, run, journal in rows if at is not None)


def late_runs(
    connection: Connection, tables: Tables, task: str, measure: str, *, limit: float, since: float
) -> list[LateRun]:
    """Return runs among a task's newest ones that ended at `since` or later and were late; newest first.

    Args:
        measure: `runtime`, or `waited`: from the publish to the start, whatever the publisher's `eta`.
        limit: seconds; what took longer is late.
    """
    table, found = tables.run, list[LateRun]()
    names = ("id", "tenant", "runtime", "queued_at", "started_at", "ended_at")
    for state in (one for one in STATES if one not in OPEN):
        mine = (table.c.task == asked(task, TASK_MAX), table.c.state == state)
        query = sa.select(*(table.c[name] for name in names)).where(*mine)
        for row in connection.execute(query.order_by(table.c.created_at.desc()).limit(NEWEST_MAX)):
            took, at = row.runtime, row.ended_at
            if measure == "waited":
                known = row.started_at is not None and row.queued_at is not None
                took, at = (row.started_at - row.queued_at, row.started_at) if known else (None, None)
            if row.ended_at is not None and row.ended_at >= since and took is not None and took > limit:
                found.append(LateRun(at, took, row.id, row.tenant))
    return sorted(found, reverse=True)


def etas_of(connection: Connection, tables: Tables, runs: Iterable[str]) -> dict[str, float]:
    """Return when runs that have started were to start at the earliest, of those that were to wait."""
    columns = ("id", "face")
    faces = [
        (run, face)
        for run, face in bulk.fetch(connection, tables.run, [(run,) for run in runs], columns=columns)
        if face is not None
    ]
    found: dict[str, float] = {}
    for run, doc in bulk.fetch(connection, tables.attempt, faces, columns=("run_id", "doc")):
        start = state_of(doc).start
        eta = merge.iso_moment(start.data.get("eta")) if start is not None else None
        found |= {run: eta} if eta is not None else {}
    return found


def skews_of(connection: Connection, tables: Tables) -> dict[str, float]:
    """Return by journal how far its clock is ahead of the store's, where that is worth a correction."""
    table = tables.journal
    query = sa.select(table.c.journal_id, table.c.skew)
    found = connection.execute(query).all()
    return {journal: skew for journal, skew in found if skew is not None and abs(skew) >= SKEW_MIN}


def heard_at(connection: Connection, tables: Tables) -> float | None:
    """Return when a shipper last wrote, by the store's clock; None before the first."""
    found = connection.execute(sa.select(sa.func.max(tables.journal.c.touched_at))).scalar()
    return float(found) if found is not None else None


def known(connection: Connection, tables: Tables, tasks: Collection[str]) -> frozenset[str]:
    """Return those of these tasks of which a run was ever seen."""
    asking = {asked(task, TASK_MAX): task for task in tasks}
    found = bulk.fetch(connection, tables.task, [(name,) for name in asking], columns=("name",))
    return frozenset(asking[row[0]] for row in found)


def _open_rows(connection: Connection, tables: Tables, state: str, task: str | None, limit: int) -> list[Any]:
    table = tables.run
    columns = [
        *(table.c.id, table.c.task, table.c.state, table.c.created_at, table.c.queued_at, table.c.started_at),
        *(table.c.canvas, table.c.tenant, table.c.journal_id),
        *([table.c.doc] if state == "queued" else [sa.null().label("doc")]),
    ]
    mine = [table.c.state == state, *([table.c.task == asked(task, TASK_MAX)] if task is not None else [])]
    query = sa.select(*columns).where(*mine).order_by(table.c.created_at).limit(limit)
    return list(connection.execute(query).all())


def _told(connection: Connection, tables: Tables, rows: Sequence[Any]) -> list[OpenRun]:
    skews = skews_of(connection, tables)
    silent = silent_since(connection, tables, {row.journal_id for row in rows})
    found = [
        OpenRun(
            id=row.id,
            task=row.task,
            state=row.state,
            created_at=row.created_at,
            queued_at=row.queued_at,
            not_before=_eta(row.doc),
            started_at=row.started_at,
            canvas=row.canvas,
            tenant=row.tenant,
            ahead=skews.get(row.journal_id, 0.0),
            # A run that waits does so whether its publisher is heard of or not.
            silent_since=silent.get(row.journal_id) if row.state == "running" else None,
        )
        for row in rows
    ]
    return sorted(found, key=lambda run: (run.created_at, run.id))


def _eta(doc: str | None) -> float | None:
    queued = _doc(doc).queued if doc is not None else None
    return merge.iso_moment(queued.data.get("eta")) if queued is not None else None
