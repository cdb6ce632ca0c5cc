"""Erasure: everything that names a run, or a tenant's runs, goes from the store at once.

Log folders and copies in the mirror are removed by the shippers of their hosts, as in retention. What
is left is a digest for each run, so that what a journal still holds does not bring it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import PletError, StoreUnavailable
from plet_celery.store import alerterasing, bulk, promiseerasing, removal, tenancy
from plet_celery.store.load import state_of
from plet_celery.store.refusals import ERASED, TENANT, digest_of, tenant_digest
from plet_celery.store.removal import Plan, now_of
from plet_celery.store.settle import DAY, OPEN
from plet_celery.store.store import Store
from plet_celery.store.troubles import translated

TOMBSTONE: Final = 90 * DAY
"""A journal that nobody has shipped for longer may bring an erased run back."""
IDS_MAX: Final = 100_000
"""Task ids that one erasure names for the result backend: some ten megabytes of memory."""
_AT_ONCE: Final = 200
_KIN: Final = ("canvas", "root_id", "parent_id", "group_id")
_KIN_FACTS: Final = ("canvas", "root", "parent", "group")
_VACUUM_MAX_BYTES: Final = 1 << 30
_BAD = re.compile(r"[\x00-\x1f\x7f%*?\\]")


@dataclass(frozen=True)
class Waiting:
    """A host that still has files of what was erased."""

    journal_id: str
    host: str
    folders: int
    copies: int
    seen_at: float
    """When its shipper was last heard of, by the store's clock."""


@dataclass
class Erasure:
    """What was erased."""

    runs: int = 0
    open_runs: list[str] = field(default_factory=list)
    """Runs that have not ended and were left alone, at most a hundred."""
    dead_letters: int = 0
    digests: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    """The task ids, for the result backend; at most `IDS_MAX`."""
    leftovers: str = ""
    """What the database itself may still hold, in words."""


def check_tenant(tenant: str) -> str:
    """Return the tenant's path if it can name one.

    Raises:
        PletError: it is empty, a pattern, or no path.
    """
    parts = tenant.split("/")
    if any(part in ("", ".", "..", "_") for part in parts) or _BAD.search(tenant):
        raise PletError(
            f"{tenant!r} names no tenant; give its whole path, as in acme or acme/site1 "
            "(acme covers all below it; patterns are not known, and runs without a tenant are not erased)"
        )
    return tenant


def open_runs_of(store: Store, tenant: str) -> list[str]:
    """Return runs of the tenant that have not ended, at most a hundred."""
    run = store.tables.run
    query = sa.select(run.c.id).where(_of_tenant(run, tenant), run.c.state.in_(sorted(OPEN)))
    with store.reading() as connection:
        return list(connection.execute(query.limit(100)).scalars())


def count_of(store: Store, tenant: str, limit: int = 100_000) -> int:
    """Return how many runs a tenant has, counted up to `limit`."""
    run = store.tables.run
    some = sa.select(run.c.id).where(_of_tenant(run, tenant)).limit(limit).subquery()
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def erase_run(store: Store, run: str, *, mirror: bool) -> Erasure:
    """Erase one run by the key of its row."""
    done = Erasure()
    _erase(store, [run], done, mirror=mirror)
    done.dead_letters = removal.forget_dead_letters(store, {run})
    _loosen(store, run)
    alerterasing.forget_absent_runs(store)
    promiseerasing.forget_absent_runs(store)
    done.leftovers = _scrub(store)
    return done


def erase_tenant(
    store: Store,
    tenant: str,
    *,
    mirror: bool,
    with_open: bool = False,
    progress: Callable[[int], None] = lambda runs: None,
) -> Erasure:
    """Erase all runs of a tenant and of those below it, and what is counted under their names.

    Args:
        with_open: those that have not ended, too; what they still tell is refused.
        progress: told how many runs are gone.
    """
    check_tenant(tenant)
    done = Erasure()
    # First: what is on its way from a journal must not slip in behind.
    _refuse(store, tenant)
    run = store.tables.run
    ended = sa.true() if with_open else run.c.state.not_in(sorted(OPEN))
    while True:
        with store.reading() as connection:
            query = sa.select(run.c.id).where(_of_tenant(run, tenant), ended).limit(_AT_ONCE)
            found = list(connection.execute(query).scalars())
        if not found:
            break
        _erase(store, found, done, mirror=mirror)
        done.dead_letters += removal.forget_dead_letters(store, set(found))
        progress(done.runs)
    done.dead_letters += removal.forget_dead_letters(store, (), tenant)
    done.open_runs = open_runs_of(store, tenant)
    if not done.open_runs:
        for table in (store.tables.rollup, store.tables.rollup_bin, store.tables.rollup_tenant):
            while removal.delete_some(store, table, _of_tenant(table, tenant)) >= removal.ROWS_AT_ONCE:
                pass
    alerterasing.forget_tenant(store, tenant)
    alerterasing.forget_absent_runs(store)
    promiseerasing.forget_absent_runs(store)
    done.leftovers = _scrub(store)
    return done


def waiting(store: Store, digests: Collection[str]) -> list[Waiting]:
    """Return which hosts still have to remove files of these runs."""
    found = removal.parts_of(store, digests)
    journal = store.tables.journal
    with store.reading() as connection:
        facts = {
            row.journal_id: row
            for row in connection.execute(
                sa.select(journal.c.journal_id, journal.c.host, journal.c.touched_at)
            )
        }
    told = []
    for one in sorted({part.journal_id for part in found}):
        mine = [part for part in found if part.journal_id == one]
        row = facts.get(one)
        told.append(
            Waiting(
                one,
                row.host if row is not None else "",
                sum(part.here for part in mine),
                sum(part.mirror for part in mine),
                row.touched_at if row is not None else 0.0,
            )
        )
    return told


def _erase(store: Store, runs: Sequence[str], done: Erasure, *, mirror: bool) -> None:
    plan = Plan(reason=ERASED, tombstone=TOMBSTONE, mirror=mirror)
    removal.mark(store, runs, plan)
    digests = {digest_of(run) for run in runs}
    while gone := removal.remove_rows(store, only=digests):
        done.runs += gone
    done.digests |= digests
    done.ids += list(runs)[: max(0, IDS_MAX - len(done.ids))]


def _refuse(store: Store, tenant: str) -> None:
    table = store.tables.removal
    digest = tenant_digest(tenant)
    with store.writing() as connection:
        now = now_of(connection)
        stored = list(bulk.fetch(connection, table, [(digest,)], lock=True))
        row = (digest, None, TENANT, now, now, now + TOMBSTONE, 0)
        (bulk.update if stored else bulk.insert)(connection, table, [row])


def _of_tenant(table: sa.Table, tenant: str) -> sa.ColumnElement[bool]:
    return tenancy.covered(table.c.tenant, tenant)


def _loosen(store: Store, run: str) -> None:
    """Take a run's id out of the rows of its kin: those it published, and those of its canvas."""
    table = store.tables.run
    for name in _KIN:
        while True:
            with store.writing() as connection:
                query = sa.select(table.c.id).where(table.c[name] == run).limit(_AT_ONCE)
                kin = list(connection.execute(query).scalars())
                if kin:
                    _loosen_attempts(connection, store, kin, run)
                    values: dict[Any, Any] = {table.c[name]: None}
                    connection.execute(table.update().where(table.c.id.in_(kin)).values(values))
            if not kin:
                break


def _loosen_attempts(connection: Connection, store: Store, kin: Iterable[str], run: str) -> None:
    table = store.tables.attempt
    changed = []
    for row in bulk.fetch(connection, table, [(one,) for one in kin], lock=True):
        state = state_of(row[-1])
        if state.start is None:
            continue
        named = [name for name in _KIN_FACTS if state.start.data.get(name) == run]
        for name in named:
            del state.start.data[name]
        if named:
            changed.append((*row[:-1], msgspec.json.encode(state).decode()))
    bulk.update(connection, table, changed)


def _scrub(store: Store) -> str:
    """Have SQLite overwrite what it freed; say what another engine keeps."""
    name = store.url.get_backend_name()
    if name == "postgresql":
        return "dead rows in PostgreSQL's files until its vacuum, and its WAL as long as it is set to keep it"
    if name != "sqlite":
        return "freed pages of MariaDB until they are used again, and its binary log as long as it is kept"
    if _size_of(store) > _VACUUM_MAX_BYTES:
        return "freed pages of the SQLite file, which is large; celery plet prune --vacuum writes it anew"
    try:
        return vacuum(store)
    except StoreUnavailable as error:
        return f"freed pages of the SQLite file ({error}); celery plet prune --vacuum writes it anew"


def vacuum(store: Store) -> str:
    """Write a SQLite file anew without what was freed; return what is left to do, in words.

    Raises:
        StoreUnavailable: another process does not let go of it for ten seconds.
    """
    with translated(store.url), store.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("VACUUM")
        busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return "SQLite's -wal file, which a reader keeps until the next checkpoint" if busy else ""


def _size_of(store: Store) -> int:
    with store.reading() as connection:
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {one}").scalar_one() for one in ("page_count", "page_size")
        )
    return int(pages) * int(size)
