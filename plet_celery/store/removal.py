"""Runs that are being removed: the mark, what each host still has to remove, the rows, the tombstone.

A run goes in this order, and each step may be repeated after a crash: it is marked (from here on its
events are refused) → the shipper of each journal removes its own log folder and takes its part away →
the rows go, children first, in small transactions → the mark loses the run's id. What is left, a
digest, refuses replayed events until `forget_at`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.paths import run_folder
from plet_celery.store import bulk
from plet_celery.store.assemble import doc_of
from plet_celery.store.engine import store_clock
from plet_celery.store.load import select_in
from plet_celery.store.refusals import ERASED, covers, digest_of
from plet_celery.store.schema import Tables
from plet_celery.store.settle import DAY, RunRow, View, by_start, journal_starts
from plet_celery.store.store import Store

EXPIRED: Final = "expired"
ROWS_AT_ONCE: Final = 2000
"""Rows that one transaction deletes."""

_Removal = tuple[str, str | None, str, float, float, float, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How runs are to go; durations are seconds."""

    reason: str = EXPIRED
    patience: float = 7 * DAY
    """How long rows wait for a host to remove its files; a host that was silent for so long is not asked."""
    tombstone: float = DAY
    """How long replayed events of a removed run are refused."""
    mirror: bool = False
    """Whether copies may lie in a mirror."""


@dataclass(frozen=True)
class Part:
    """What is left to remove of a run outside the store."""

    journal_id: str
    digest: str
    folder: str
    """Relative to the root of the log folders."""
    reason: str
    here: bool
    """The folder on the journal's host."""
    mirror: bool
    """The copy in the mirror."""


def now_of(connection: Connection) -> float:
    """Return the store's own time, seconds since the epoch."""
    return float(connection.execute(sa.select(store_clock(connection.dialect.name))).scalar_one())


def mark(store: Store, runs: Iterable[str], plan: Plan) -> int:
    """Mark runs by their keys, in one transaction; return how many were not marked like this before."""
    tables = store.tables
    with store.writing() as connection:
        now = now_of(connection)
        # Locked: an ingest that is under way with one of them ends first, a later one sees the mark.
        rows = [
            RunRow(*row) for row in bulk.fetch(connection, tables.run, [(run,) for run in runs], lock=True)
        ]
        stored: dict[str, Any] = {
            row[0]: row
            for row in bulk.fetch(connection, tables.removal, [(digest_of(row.id),) for row in rows])
        }
        fresh = [row for row in rows if not _is_marked(stored.get(digest_of(row.id)), plan)]
        parts = _parts_of(connection, tables, fresh, plan, now)
        waiting = {part.digest for part in parts if part.here or part.mirror}
        new: list[_Removal] = []
        changed: list[_Removal] = []
        for row in fresh:
            digest = digest_of(row.id)
            waits = plan.reason == EXPIRED and digest in waiting
            removal = (digest, row.id, plan.reason, now, now + plan.patience if waits else now)
            old = stored.get(digest)
            late = old[6] if old is not None else 0
            (changed if old is not None else new).append((*removal, now + plan.tombstone, late))
        bulk.insert(connection, tables.removal, sorted(new))
        bulk.update(connection, tables.removal, sorted(changed))
        _put_parts(connection, tables, parts, now)
    return len(fresh)


def parts(
    store: Store,
    *,
    journals: Collection[str],
    after: tuple[str, str] = ("", ""),
    mirror_only: bool = False,
    limit: int,
) -> list[Part]:
    """Return what the hosts of these journals still have to remove, at most `limit`.

    Args:
        after: journal id and digest of the last part of the answer before.
    """
    table = store.tables.removal_part
    later = sa.or_(
        table.c.journal_id > after[0], sa.and_(table.c.journal_id == after[0], table.c.digest > after[1])
    )
    query = sa.select(table).where(table.c.journal_id.in_(sorted(journals)), later)
    if mirror_only:
        query = query.where(table.c.mirror != 0)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(*table.primary_key).limit(limit)).all()
    return [_part(row) for row in rows]


def silent_journals(store: Store, patience: float) -> list[str]:
    """Return journals with copies to remove that nobody has shipped for so many seconds."""
    part, journal = store.tables.removal_part, store.tables.journal
    wanted = sa.select(part.c.digest).where(part.c.journal_id == journal.c.journal_id, part.c.mirror != 0)
    with store.reading() as connection:
        silent = journal.c.touched_at < now_of(connection) - patience
        query = sa.select(journal.c.journal_id).where(silent, wanted.exists())
        return list(connection.execute(query.limit(100)).scalars())


def parts_of(store: Store, digests: Collection[str]) -> list[Part]:
    """Return what is left to remove of these runs."""
    table = store.tables.removal_part
    with store.reading() as connection:
        return [_part(row) for row in select_in(connection, table, table.c.digest, digests)]


def acknowledge(store: Store, done: Iterable[Part], *, here: bool = True, mirror: bool = True) -> None:
    """Take away the parts that are removed; a run that has none left loses its rows next."""
    found = {(part.journal_id, part.digest) for part in done}
    if not found:
        return
    removal, part = store.tables.removal, store.tables.removal_part
    digests = sorted({digest for _, digest in found})
    with store.writing() as connection:
        # Two hosts that remove their parts of one run wait for each other here: the last one sees it.
        marked = {
            row[0]: row for row in bulk.fetch(connection, removal, [(one,) for one in digests], lock=True)
        }
        left = []
        for row in bulk.fetch(connection, part, found):
            *facts, on_host, in_mirror = row
            on_host, in_mirror = 0 if here else on_host, 0 if mirror else in_mirror
            if on_host or in_mirror:
                left.append((*facts, on_host, in_mirror))
        kept = {row[:2] for row in left}
        bulk.update(connection, part, left)
        bulk.delete(connection, part, sorted(found - kept))
        waiting = {row.digest for row in select_in(connection, part, part.c.digest, digests)}
        ready = [(*row[:4], 0.0, *row[5:]) for one, row in sorted(marked.items()) if one not in waiting]
        bulk.update(connection, removal, [row for row in ready if row[1] is not None])


def remove_rows(store: Store, *, runs: int = 200, only: Collection[str] = ()) -> int:
    """Delete the rows of marked runs whose time has come; return how many runs are gone.

    Args:
        runs: at most so many of them.
        only: of these digests; all by default.
    """
    tables = store.tables
    with store.reading() as connection:
        now = now_of(connection)
        due = tables.removal
        query = sa.select(due.c.digest, due.c.run_id).where(
            due.c.run_id.is_not(None), due.c.rows_after <= now
        )
        if only:
            query = query.where(due.c.digest.in_(sorted(only)[:500]))
        found = {
            row.run_id: row.digest for row in connection.execute(query.order_by(due.c.rows_after).limit(runs))
        }
    if not found:
        return 0
    for table in _below(tables):
        while delete_some(store, table, table.c.run_id.in_(sorted(found))) >= ROWS_AT_ONCE:
            pass
    _forget_runs(store, found)
    return len(found)


def delete_some(store: Store, table: Table, *where: sa.ColumnElement[bool], limit: int = ROWS_AT_ONCE) -> int:
    """Delete at most `limit` rows in one transaction; return how many."""
    with store.writing() as connection:
        rows = connection.execute(sa.select(*table.primary_key).where(*where).limit(limit)).all()
        bulk.delete(connection, table, sorted(map(tuple, rows)))
    return len(rows)


def forget_dead_letters(store: Store, runs: Collection[str], tenant: str | None = None) -> int:
    """Delete the dead letters that name one of these runs, or the tenant; return how many."""
    table = store.tables.dead_letter
    place = tuple(table.primary_key)
    last: tuple[Any, ...] = ("", -1, -1)
    gone = 0
    while True:
        with store.writing() as connection:
            query = sa.select(*place, table.c.run_id, table.c.record).where(_after(table, last))
            rows = connection.execute(query.order_by(*place).limit(500)).all()
            named = [tuple(row[:3]) for row in rows if _names(row, runs, tenant)]
            bulk.delete(connection, table, named)
        gone += len(named)
        if not rows:
            return gone
        last = tuple(rows[-1][:3])


def _is_marked(row: _Removal | None, plan: Plan) -> bool:
    """Tell whether a mark is there already; one to erase takes the place of one that has expired."""
    return row is not None and row[1] is not None and (row[2] == plan.reason or row[2] == ERASED)


def _parts_of(
    connection: Connection, tables: Tables, rows: Sequence[RunRow], plan: Plan, now: float
) -> list[Part]:
    by_id = {row.id: row for row in rows}
    views: dict[str, list[View]] = {}
    columns = ("run_id", *View._fields)
    for run, *view in bulk.fetch(connection, tables.attempt, [(run,) for run in by_id], columns=columns):
        views.setdefault(run, []).append(View(*view))
    journal = tables.journal
    touched = sa.select(journal.c.journal_id).where(journal.c.touched_at >= now - plan.patience)
    alive = set(connection.execute(touched).scalars())
    found = []
    for run, attempts in sorted(views.items()):
        row = by_id[run]
        name = doc_of(row).full_id or run
        for one, start in sorted(journal_starts(by_start(attempts)).items()):
            asked = one in alive or plan.reason == ERASED
            if asked or plan.mirror:
                folder = str(run_folder(row.tenant, start, row.trigger, name))
                found.append(Part(one, digest_of(run), folder, plan.reason, asked, plan.mirror))
    return found


def _put_parts(connection: Connection, tables: Tables, found: Sequence[Part], now: float) -> None:
    table = tables.removal_part
    rows = {
        (part.journal_id, part.digest): (
            *(part.journal_id, part.digest, part.folder, part.reason, now),
            *(int(part.here), int(part.mirror)),
        )
        for part in found
    }
    stored = {row[:2] for row in bulk.fetch(connection, table, rows)}
    bulk.insert(connection, table, [row for key, row in sorted(rows.items()) if key not in stored])
    bulk.update(connection, table, [row for key, row in sorted(rows.items()) if key in stored])


def _below(tables: Tables) -> tuple[Table, ...]:
    """Return the tables below a run, the attempts last: they say which folders there are."""
    return (
        *(tables.run_metadata, tables.stage, tables.event, tables.event_overflow),
        *(tables.log_chunk, tables.log_stream, tables.measure, tables.attempt),
    )


def _forget_runs(store: Store, found: Mapping[str, str]) -> None:
    """Delete the rows of `run`, and take their ids out of the marks."""
    run, removal = store.tables.run, store.tables.removal
    with store.writing() as connection:
        keys = [
            key
            for (key,) in bulk.fetch(connection, run, [(one,) for one in found], columns=("id",), lock=True)
        ]
        bulk.delete(connection, run, [(key,) for key in keys])
        marked = bulk.fetch(connection, removal, [(one,) for one in found.values()], lock=True)
        bulk.update(connection, removal, [(row[0], None, *row[2:]) for row in marked])


def _part(row: Any) -> Part:
    return Part(row.journal_id, row.digest, row.folder, row.reason, bool(row.here), bool(row.mirror))


def _after(table: Table, last: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    writer, segment, offset = table.c.writer, table.c.segment, table.c.offset
    return sa.or_(
        writer > last[0],
        sa.and_(writer == last[0], segment > last[1]),
        sa.and_(writer == last[0], segment == last[1], offset > last[2]),
    )


def _names(row: Any, runs: Collection[str], tenant: str | None) -> bool:
    if row.run_id in runs:
        return True
    try:
        record = msgspec.json.decode(row.record)
        told = record["data"]
    except (msgspec.DecodeError, LookupError, TypeError):
        return False
    named = told.get("tenant") if isinstance(told, dict) else None
    return tenant is not None and isinstance(named, str) and covers(tenant, named)
