"""Workers: those that live and those that lived, what they run, what they lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import assemble, merge
from plet_celery.store.engine import prefer_indexes, store_clock
from plet_celery.store.filters import Filters, Place
from plet_celery.store.glance import values_of_newest
from plet_celery.store.hosts import facts_of
from plet_celery.store.listing import list_runs, newest_keys
from plet_celery.store.load import batched
from plet_celery.store.overviews import RunningRuns, WorkerStatus
from plet_celery.store.records import Run
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store

_OLDEST: Final = Place((0.0, ""), newer=True)
_VERSIONS_MAX: Final = 20


def list_workers(
    store: Store, *, limit: int = 200, tenants: Sequence[str] | None = None
) -> list[WorkerStatus]:
    """Return workers: the living first, among them and the others the newest first.

    A worker lives as long as it has not said that it stopped, its shipper has not seen its process gone, its
    host is heard of, its journal's shipper reads what it writes, and no newer one of its name lives on
    there. One that was killed shows as living for the seconds until one of these is known.

    Args:
        limit: of more, those that have not stopped, then the newest.
        tenants: paths that the viewer may see; None: all. A viewer of some gets the workers of their
            running runs and of their newest 500.
    """
    tables = store.tables
    with store.reading() as connection:
        names = _names(connection, tables, tenants) if tenants is not None else None
        rows = _rows(connection, tables, names, limit)
    found, newest = [], set()
    for row in sorted(rows, key=lambda row: (_has_ended(row), -row.started_at)):
        place = (row.journal_id, row.worker)
        found.append(_status(row, is_newest=place not in newest))
        newest.add(place)
    return sorted(found, key=lambda one: (not one.is_living, -one.started_at, one.name))[:limit]


def open_workers(store: Store, journal: str) -> dict[str, str]:
    """Return the workers of a journal of which no end is known, as {writer: node name}."""
    table = store.tables.worker
    mine = (table.c.journal_id == journal, table.c.stopped_at.is_(None))
    with store.reading() as connection:
        rows = connection.execute(sa.select(table.c.writer, table.c.worker, table.c.doc).where(*mine))
        return {row.writer: row.worker for row in rows if facts_of(row.doc).lost is None}


def running_by_worker(store: Store, *, limit: int = 500, tenants: Sequence[str] | None = None) -> RunningRuns:
    """Return the runs in the state `running` by their worker, the oldest first.

    Args:
        limit: of more, the oldest.
        tenants: paths that the viewer may see; None: all.
    """
    mine = Filters(states=("running",), tenants=tuple(tenants) if tenants is not None else None)
    with store.reading() as connection:
        prefer_indexes(connection)
        keys = newest_keys(connection, store.tables, [mine], _OLDEST, limit + 1)
        runs = assemble.runs_by_id(connection, store.tables, [run for _, run in keys[:limit]])
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.worker or "", []).append(run)
    return RunningRuns(by_worker=dict(sorted(found.items())), truncated=len(keys) > limit)


def lost_runs(
    store: Store, *, since: float | None = None, limit: int = 20, tenants: Sequence[str] | None = None
) -> list[Run]:
    """Return runs in the state `lost`, the newest first, with their worker and the reason.

    Args:
        since: created at this time or later.
        tenants: paths that the viewer may see; None: all.
    """
    return list_runs(store, states=("lost",), since=since, limit=limit, tenants=tenants).items


def _names(connection: Connection, tables: Tables, tenants: Sequence[str]) -> set[str]:
    mine = Filters(tenants=tuple(tenants))
    running = mine._replace(states=("running",))
    found = (values_of_newest(connection, tables, "worker", [one]) for one in (mine, running))
    return set().union(*found)


def _rows(connection: Connection, tables: Tables, names: Iterable[str] | None, limit: int) -> list[Any]:
    worker, journal, writer = tables.worker, tables.journal, tables.writer
    is_read = sa.exists().where(
        writer.c.journal_id == worker.c.journal_id, writer.c.writer == worker.c.writer
    )
    query = (
        sa.select(
            worker,
            journal.c.host,
            journal.c.touched_at,
            journal.c.stale_after,
            journal.c.left_at,
            store_clock(connection.dialect.name).label("now"),
            is_read.label("is_read"),
        )
        .join(journal, journal.c.journal_id == worker.c.journal_id, isouter=True)
        .order_by(sa.case((worker.c.stopped_at.is_(None), 0), else_=1), worker.c.started_at.desc())
        .limit(limit)
    )
    if names is None:
        return list(connection.execute(query))
    some = batched(sorted(names))
    return [row for part in some for row in connection.execute(query.where(worker.c.worker.in_(part)))]


def _has_ended(row: Any) -> bool:
    return row.stopped_at is not None or facts_of(row.doc).lost is not None


def _status(row: Any, *, is_newest: bool) -> WorkerStatus:
    facts = facts_of(row.doc)
    started = facts.started.data if facts.started is not None else {}
    first = facts.first
    lost = facts.lost if row.stopped_at is None else None
    told = first.data if first is not None else {}
    age = max(0.0, float(row.now) - row.touched_at) if row.touched_at is not None else None
    is_silent = age is not None and row.left_at is None and age >= row.stale_after
    is_heard = age is not None and row.left_at is None and not is_silent
    return WorkerStatus(
        name=row.worker,
        host=merge.text(told.get("host"), 255) or row.host,
        pid=merge.integer(told.get("pid")),
        pool=merge.text(started.get("pool"), 64),
        concurrency=merge.integer(started.get("concurrency")),
        app=merge.text(started.get("app"), 255),
        versions=_versions(started.get("versions")),
        started_at=row.started_at,
        stopping_at=facts.stopping.stamp[0] if facts.stopping is not None else None,
        stopped_at=row.stopped_at,
        lost_at=lost.stamp[0] if lost is not None else None,
        journal=row.journal_id,
        lease_age=age,
        unreachable_since=row.touched_at if is_silent else None,
        is_living=row.stopped_at is None and lost is None and is_heard and bool(row.is_read) and is_newest,
    )


def _versions(told: Any) -> dict[str, str]:
    if not isinstance(told, dict):
        return {}
    pairs = ((name, version) for name, version in told.items() if isinstance(version, str))
    return dict(list(pairs)[:_VERSIONS_MAX])
