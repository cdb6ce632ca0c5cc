"""Who may write for a journal: the lease row, its epoch, and how far each file was read.

Every transaction of a shipper touches its lease; when that finds no row, another shipper has taken
over (it bumped the epoch) and this one must step down. So a process that was frozen, or a cloned
host, cannot write twice.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.errors import StaleWrite
from plet_celery.store import bulk
from plet_celery.store.engine import store_clock
from plet_celery.store.schema import Tables

STALE_SECONDS: Final = 30.0
"""A lease that was not touched for so long counts as stale, where its holder did not say otherwise."""

Positions = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Lease:
    """The right to write for one journal, until somebody takes it over."""

    journal_id: str
    epoch: int


@dataclass(frozen=True)
class Held:
    """What a lease's row says to its holder."""

    change_seq: int
    """Number of the last batch that changed a run."""
    as_of: float | None


_HELD: Final = ("epoch", "change_seq", "as_of")


def take(
    connection: Connection,
    tables: Tables,
    journal: str,
    *,
    host: str,
    machine: str,
    boot: str,
    pid: int,
    stale_after: float = STALE_SECONDS,
) -> Lease:
    """Take the lease, from whoever holds it on this machine.

    Args:
        stale_after: seconds without a touch after which readers may call the host unreachable.

    Raises:
        StaleWrite: another machine holds it and is alive: the journal was copied, or is mounted twice.
    """
    table = tables.journal
    clock = store_clock(connection.dialect.name)
    query = (
        sa.select(table, clock.label("now")).where(table.c.journal_id == journal).with_for_update(of=table)
    )
    row = connection.execute(query).first()
    holder: dict[str, Any] = {"host": host[:255], "machine": machine[:64], "boot": boot[:64], "pid": pid}
    holder |= {"stale_after": stale_after, "left_at": None, "lost_at": None}
    now = {"taken_at": clock, "touched_at": clock}
    if row is None:
        fresh = {"journal_id": journal, "epoch": 1, "change_seq": 0} | holder | now
        connection.execute(table.insert().values(fresh))
        return Lease(journal, 1)
    age = row.now - row.touched_at
    if row.machine != holder["machine"] and row.left_at is None and age < row.stale_after:
        raise StaleWrite(
            f"journal {journal[:8]} is being stored by host {row.host!r} "
            f"({age:.0f} s ago), this is {host!r}: a copied journal needs its own id; "
            "delete the copy's journal.json and segments"
        )
    values = {"epoch": row.epoch + 1} | holder | now
    connection.execute(table.update().where(table.c.journal_id == journal).values(values))
    return Lease(journal, row.epoch + 1)


def lock(connection: Connection, tables: Tables, lease: Lease) -> Held:
    """Return what the lease's row says, locked; it is still ours.

    Raises:
        StaleWrite: another shipper took over.
    """
    for row in bulk.fetch(connection, tables.journal, [(lease.journal_id,)], columns=_HELD, lock=True):
        epoch, change_seq, as_of = row
        if epoch == lease.epoch:
            return Held(change_seq, as_of)
    raise _stale(lease)


def touch(connection: Connection, tables: Tables, lease: Lease, **values: Any) -> None:
    """Say by the store's clock that this shipper lives, with further columns of its row.

    Each touch also compares the clocks: `skew` is this host's minus the store's, in seconds.

    Raises:
        StaleWrite: another shipper took over.
    """
    statement = _touching(tables.journal, connection.dialect.name, tuple(values))
    # Read here, not where the transaction began: it may have waited for locks since.
    mine = {"held_journal": lease.journal_id, "held_epoch": lease.epoch, "held_wall": time.time()}
    if connection.execute(statement, mine | values).rowcount == 0:
        raise _stale(lease)


def keep(connection: Connection, tables: Tables, lease: Lease, **values: Any) -> None:
    """Write columns of a lease that is locked, without a sign of life."""
    if values:
        mine = tables.journal.c.journal_id == lease.journal_id
        connection.execute(tables.journal.update().where(mine).values(values))


def leave(connection: Connection, tables: Tables, lease: Lease) -> None:
    """Say that nobody writes into the journal any more: the lease may grow old without anything amiss.

    Raises:
        StaleWrite: another shipper took over.
    """
    touch(connection, tables, lease)
    mine = tables.journal.c.journal_id == lease.journal_id
    left = {"left_at": store_clock(connection.dialect.name)}
    connection.execute(tables.journal.update().where(mine).values(left))


def positions(connection: Connection, tables: Tables, journal: str) -> Positions:
    """Return how far each file of the journal was read: behind the last event that was stored."""
    table = tables.writer
    query = sa.select(table.c.writer, table.c.segment, table.c.offset).where(table.c.journal_id == journal)
    return {row.writer: (row.segment, row.offset) for row in connection.execute(query)}


def advance(
    connection: Connection, tables: Tables, journal: str, moved: Mapping[str, tuple[int, int]]
) -> None:
    """Keep new positions; a position never goes back."""
    table = tables.writer
    rows = [(journal, writer, *place) for writer, place in sorted(moved.items())]
    stored = {row[:2]: row for row in bulk.fetch(connection, table, [row[:2] for row in rows])}
    bulk.insert(connection, table, [row for row in rows if row[:2] not in stored])
    bulk.update(connection, table, [row for row in rows if row[:2] in stored and row > stored[row[:2]]])


def forget(connection: Connection, tables: Tables, journal: str, writers: Iterable[str]) -> None:
    """Drop the positions of files that are deleted."""
    bulk.delete(connection, tables.writer, [(journal, writer) for writer in sorted(set(writers))])


@functools.cache
def _touching(table: Table, dialect: str, names: tuple[str, ...]) -> sa.Update:
    mine = sa.and_(
        table.c.journal_id == sa.bindparam("held_journal"), table.c.epoch == sa.bindparam("held_epoch")
    )
    clock = store_clock(dialect)
    values = {"touched_at": clock, "skew": sa.bindparam("held_wall", type_=sa.Double()) - clock}
    return table.update().where(mine).values(values | {name: sa.bindparam(name) for name in names})


def _stale(lease: Lease) -> StaleWrite:
    return StaleWrite(
        f"another shipper has taken over journal {lease.journal_id[:8]} from epoch {lease.epoch}; step down"
    )
