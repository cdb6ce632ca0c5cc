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

from plet_celery.store import bulk, merge
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.hoststatus import silent_since
from plet_celery.store.probing import STATES
from plet_celery.store.schema import Tables
from plet_celery.store.settle import OPEN

OPEN_MAX: Final = 5000
"""So many of the oldest open runs of a state are read; of more, the oldest of each task."""
PER_TASK_MAX: Final = 200
NEWEST_MAX: Final = 50
HAPPENED_MAX: Final = 300
SKEW_MIN: Final = 2.0
"""Seconds; what a clock seems to be wrong by less is how long the question took."""
_AT_ONCE_MAX: Final = 50
# In the order of the table, in which rows come.
_ROOT: Final = ("id", "task", "tenant", "created_at", "queued_at", "started_at")
_CANVASES_MAX: Final = 500
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


@dataclass(frozen=True, kw_only=True)
class OpenCanvas:
    """A canvas of which at least one run is open."""

    key: str
    task: str
    """Of the run that began it."""
    root: str
    created_at: float
    queued_at: float | None
    started_at: float | None
    runs: tuple[str, ...]
    """Its open runs."""
    tenant: str = ""
    ahead: float = 0.0
    silent_since: float | None = None


class Ended(NamedTuple):
    """When something happened that was waited for, and in which run."""

    at: float
    run: str


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


def open_canvases(connection: Connection, tables: Tables, runs: Iterable[OpenRun]) -> tuple[OpenCanvas, ...]:
    """Return the canvases that these open runs belong to, at most 500 of the oldest."""
    members: dict[str, list[OpenRun]] = {}
    for run in runs:
        members.setdefault(run.canvas or run.id, []).append(run)
    keys = sorted(members, key=lambda key: members[key][0].created_at)[:_CANVASES_MAX]
    roots = {
        row[0]: row for row in bulk.fetch(connection, tables.run, [(key,) for key in keys], columns=_ROOT)
    }
    found = []
    for key in keys:
        root = roots.get(key) or _oldest(connection, tables, key)
        if root is not None:
            mine = members[key]
            silent = [run.silent_since for run in mine if run.silent_since is not None]
            found.append(
                OpenCanvas(
                    key=key,
                    task=root[1],
                    root=root[0],
                    tenant=root[2],
                    created_at=root[3],
                    queued_at=root[4],
                    started_at=root[5],
                    runs=tuple(run.id for run in mine),
                    ahead=mine[0].ahead,
                    silent_since=min(silent) if len(silent) == len(mine) else None,
                )
            )
    return tuple(found)


class Happened(NamedTuple):
    """Something that was waited for: a success, a start, a canvas that is done."""

    created_at: float
    """When the run was published that it happened in: by that it belongs to a due time."""
    at: float
    run: str


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
        found = _of_task(connection, tables, task, state, since, until, limit)
        if len(found) >= limit:
            is_all, end = False, min(end, found[-1].created_at)
        rows += found
    rows = sorted((row for row in rows if row.created_at <= end), key=lambda row: (row.created_at, row.id))
    if what == "canvas":
        told = _canvases_done(connection, tables, task, rows, skews)
    else:
        told = [
            Happened(row.created_at, at - skews.get(row.journal_id, 0.0), row.id)
            for row in rows
            if (at := row.ended_at if what == "success" else row.started_at) is not None
        ]
    return told, is_all


def canvas_end(connection: Connection, tables: Tables, key: str) -> float | None:
    """Return when the last run of a canvas ended; None while one is open."""
    by_state = _canvas_states(connection, tables, key)
    if not by_state or OPEN & by_state.keys():
        return None
    return max((at for at in by_state.values() if at is not None), default=None)


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


def _of_task(
    connection: Connection,
    tables: Tables,
    task: str,
    state: str,
    since: float,
    until: float,
    limit: int,
) -> list[Any]:
    table = tables.run
    mine = (
        table.c.task == asked(task, TASK_MAX),
        table.c.state == state,
        table.c.created_at >= since,
        table.c.created_at < until,
    )
    names = ("id", "created_at", "started_at", "ended_at", "canvas", "journal_id")
    query = sa.select(*(table.c[name] for name in names)).where(*mine)
    return list(connection.execute(query.order_by(table.c.created_at, table.c.id).limit(limit)).all())


def _canvases_done(
    connection: Connection, tables: Tables, task: str, rows: Sequence[Any], skews: Mapping[str, float]
) -> list[Happened]:
    begun: dict[str, Any] = {}
    for row in rows:
        begun.setdefault(row.canvas or row.id, row)
    done = []
    for key in sorted(begun, key=lambda key: begun[key].created_at)[:_AT_ONCE_MAX]:
        root = _root(connection, tables, key)
        if root is None or root[1] != asked(task, TASK_MAX):
            continue
        by_state = _canvas_states(connection, tables, key)
        if set(by_state) == {"succeeded"} and by_state["succeeded"] is not None:
            at = by_state["succeeded"] - skews.get(begun[key].journal_id, 0.0)
            done.append(Happened(begun[key].created_at, at, root[0]))
    return done


def _canvas_states(connection: Connection, tables: Tables, key: str) -> dict[str, float | None]:
    """Return by state when the last run of a canvas in it ended."""
    table = tables.run
    found: dict[str, float | None] = {}
    # Two questions: one with OR finds no index on every engine.
    for mine in (table.c.canvas == key, table.c.id == key):
        query = sa.select(table.c.state, sa.func.max(table.c.ended_at)).where(mine).group_by(table.c.state)
        for state, at in connection.execute(query):
            found[state] = max((one for one in (at, found.get(state)) if one is not None), default=None)
    return found


def _root(connection: Connection, tables: Tables, key: str) -> Any:
    for row in bulk.fetch(connection, tables.run, [(key,)], columns=_ROOT):
        return row
    return _oldest(connection, tables, key)


def _oldest(connection: Connection, tables: Tables, key: str) -> Any:
    """Return the first run of a canvas whose key is no run: a group that nothing began."""
    table = tables.run
    query = (
        sa.select(*(table.c[name] for name in _ROOT))
        .where(table.c.canvas == key)
        .order_by(table.c.created_at, table.c.id)
        .limit(1)
    )
    return connection.execute(query).first()
