"""Runs of a host that is gone for ever: when they count as lost, and who writes that.

Decide and act are apart. The decision is a pure function of leases and of one's own view of the store:
a database that was down has aged every lease, so only the time counts in which it answered without a
break, by its own clock. The act is for one among all who decide the same: it takes the silent journal's lease
over, which also fences that journal's own shipper, should it wake up. That one takes the lease again
when it comes back; an event it brings then voids the loss (`merge.effective_end`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery import events
from plet_celery.events import Event
from plet_celery.store import bulk, eventrows, lease
from plet_celery.store.engine import store_clock
from plet_celery.store.lease import Lease
from plet_celery.store.limits import IngestLimits
from plet_celery.store.schema import Tables
from plet_celery.store.store import OpenAttempt, Store, open_attempt

LOOK_GAP_MAX: Final = 60.0
"""Seconds between two looks at the store; after a longer pause nobody knows whether it was reachable."""
_CLOCK_JUMP_MAX: Final = 5.0
_AT_ONCE: Final = 200
# Touched in the meantime: by a shipper that is back. A float need not come back to the last bit.
_SAME_TIME: Final = 0.001


@dataclass(frozen=True, kw_only=True)
class Silent:
    """A lease that was not touched for longer than its holder promised."""

    journal: str
    host: str
    machine: str
    boot: str
    epoch: int
    touched_at: float
    """When its shipper was last heard of, by the store's clock."""


@dataclass(frozen=True, kw_only=True)
class View:
    """For how long one has seen the store without a break."""

    since: float
    """By the store's clock."""
    store: float
    """The store's clock at the newest look."""
    mono: float
    """Our own monotonic clock then."""


@dataclass(frozen=True, kw_only=True)
class HostLoss:
    """What one act has done."""

    journal: str
    host: str
    attempts: int
    """How many it has marked as lost."""


def looked(view: View | None, *, store: float, mono: float) -> View:
    """Return the view after another look.

    It begins anew after a pause, and when the store's clock went otherwise than ours: it was set, or
    the machine it runs on stood still, and every lease has aged without anybody's fault.
    """
    if view is None:
        return View(since=store, store=store, mono=mono)
    passed = mono - view.mono
    is_whole = 0 <= passed <= LOOK_GAP_MAX and abs(store - view.store - passed) <= _CLOCK_JUMP_MAX
    return View(since=view.since if is_whole else store, store=store, mono=mono)


def lost_hosts(leases: Iterable[Silent], view: View, *, after: float) -> list[Silent]:
    """Return those that were silent for `after` seconds in which the store answered without a break."""
    return [one for one in leases if view.store - max(one.touched_at, view.since) >= after]


def silent(store: Store) -> tuple[float, list[Silent]]:
    """Return the store's clock, and every journal that is silent and not yet marked."""
    table = store.tables.journal
    with store.reading() as connection:
        clock = store_clock(connection.dialect.name)
        query = (
            sa.select(table)
            .where(table.c.left_at.is_(None), table.c.lost_at.is_(None))
            .where(clock - table.c.touched_at >= table.c.stale_after)
            .order_by(table.c.touched_at)
        )
        found = [
            Silent(
                journal=row.journal_id,
                host=row.host,
                machine=row.machine,
                boot=row.boot,
                epoch=row.epoch,
                touched_at=row.touched_at,
            )
            for row in connection.execute(query)
        ]
        return float(connection.execute(sa.select(clock)).scalar_one()), found


def mark_lost(
    store: Store, gone: Silent, *, after: float, by: str, limits: IngestLimits | None = None
) -> HostLoss | None:
    """Mark every open attempt of a journal as lost, in small transactions.

    Whoever dies in the middle leaves a journal that is still silent: the next one goes on.

    Args:
        gone: as it was seen; not a journal that was heard of since.
        after: for how long it was not heard of, in seconds, for the words.
        by: id of the journal whose shipper acts, or another word.

    Returns:
        What was done; None if the host is back, or somebody else was first.
    """
    with store.writing() as connection:
        held = _take_over(connection, store.tables, gone)
        if held is None:
            return None
        now = float(connection.execute(sa.select(store_clock(connection.dialect.name))).scalar_one())
        incident = _incident(connection, store.tables, gone, now, after=after, by=by)
    marked, behind = 0, ("", "")
    while found := _open_attempts(store, gone.journal, behind):
        lost = [_loss(gone, one, after_position, incident) for one, after_position in found]
        store.ingest(held, lost, {}, limits=limits, now=now, heard=False)
        marked += len(lost)
        # By key: one that cannot be marked must not come again for ever.
        behind = (found[-1][0].run_id, found[-1][0].attempt_id)
    with store.writing() as connection:
        lease.lock(connection, store.tables, held)
        mine = store.tables.journal.c.journal_id == gone.journal
        clock = store_clock(connection.dialect.name)
        connection.execute(store.tables.journal.update().where(mine).values(lost_at=clock))
    return HostLoss(journal=gone.journal, host=gone.host, attempts=marked)


def _take_over(connection: Connection, tables: Tables, gone: Silent) -> Lease | None:
    """Raise the epoch, and nothing else: the host stays as old as it is, and may come back at any time."""
    table = tables.journal
    statement = table.update().where(
        table.c.journal_id == gone.journal,
        table.c.epoch == gone.epoch,
        table.c.touched_at < gone.touched_at + _SAME_TIME,
        table.c.left_at.is_(None),
    )
    if connection.execute(statement.values(epoch=gone.epoch + 1)).rowcount == 0:
        return None
    return Lease(gone.journal, gone.epoch + 1)


def _incident(
    connection: Connection, tables: Tables, gone: Silent, now: float, *, after: float, by: str
) -> Event:
    """Return the fact that the host is lost, stored once however often the marking is begun.

    It has no row where nothing was open: then nothing is lost.
    """
    writer = hashlib.sha256(f"{events.HOST_LOST}:{gone.journal}:{gone.touched_at:.3f}".encode()).hexdigest()[
        :32
    ]
    table, attempt = tables.event, tables.attempt
    stored = connection.execute(
        sa.select(table.c.at).where(
            table.c.run_id == "", table.c.at >= gone.touched_at, table.c.writer == writer
        )
    ).scalar()
    open_ = sa.select(sa.func.count()).where(
        attempt.c.journal_id == gone.journal, attempt.c.state == "running"
    )
    count = connection.execute(open_).scalar_one()
    data = {
        "host": gone.host,
        "journal": gone.journal,
        "machine": gone.machine,
        "boot": gone.boot,
        "since": gone.touched_at,
        "after": after,
        "attempts": count,
        "by": by,
    }
    at = now if stored is None else float(stored)
    event = Event(
        kind=events.HOST_LOST,
        wall=at,
        mono=0.0,
        run=None,
        attempt=None,
        data=data,
        writer=writer,
        segment=0,
        offset=0,
    )
    if stored is None and count:
        bulk.insert(connection, table, [tuple(eventrows.row_of(event, "", gone.journal))])
    return event


def _open_attempts(
    store: Store, journal: str, behind: tuple[str, str]
) -> list[tuple[OpenAttempt, tuple[int, int]]]:
    """Return some attempts without an end, each with the position behind what the store has of its writer.

    Args:
        behind: run and attempt after which to go on.
    """
    table = store.tables.attempt
    run, attempt = behind
    later = sa.or_(table.c.run_id > run, sa.and_(table.c.run_id == run, table.c.id > attempt))
    mine = (table.c.journal_id == journal, table.c.state == "running", later)
    query = sa.select(table.c.run_id, table.c.id, table.c.writer, table.c.doc).where(*mine)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(table.c.run_id, table.c.id).limit(_AT_ONCE)).all()
        stored = lease.positions(connection, store.tables, journal) if rows else {}
    found = []
    for row in rows:
        one = open_attempt(row.run_id, row.id, row.doc, row.writer)
        tail = (one.last_segment, one.last_offset + 1)
        found.append((one, max(tail, stored.get(row.writer, tail))))
    return found


def _loss(gone: Silent, one: OpenAttempt, after: tuple[int, int], incident: Event) -> Event:
    data: dict[str, Any] = {
        "by": "shipper",
        "reason": f"its host {gone.host} was not heard of for {incident.data['after']:.0f} s",
        "writer": one.writer,
        "after": list(after),
        "host": gone.host,
        "since": gone.touched_at,
        "incident": incident.writer,
        "task": one.task,
        "queue": one.queue,
        "tenant": one.tenant,
        "worker": one.worker,
        "pid": one.pid,
        "started": one.started,
        "queued_at": one.queued_at,
    }
    # An offset of its own for each attempt: the position is the event's identity.
    digest = hashlib.sha256(msgspec.json.encode((one.run_id, one.attempt_id))).digest()
    return Event(
        kind=events.RUN_LOST,
        wall=incident.wall,
        mono=0.0,
        run=one.run_id,
        attempt=one.attempt_id,
        data={name: value for name, value in data.items() if value is not None},
        writer=incident.writer,
        segment=0,
        offset=int.from_bytes(digest[:6], "big") + 1,
    )
