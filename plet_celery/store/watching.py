"""Who passes at the moment, and how the last pass went: one row, fenced by its epoch.

A pass belongs to whoever holds the lease. Time is the store's clock alone, so that hosts whose clocks
differ agree. A holder that was frozen and wakes up finds another epoch and writes nothing any more; one
that died leaves a lease that runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from plet_celery.errors import StaleWrite
from plet_celery.store.columns import WORD_MAX
from plet_celery.store.engine import SET_BACK, store_clock
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.watchfacts import WatchLease

HELD_MAX: Final = 3600.0
"""Nobody holds a lease for longer; one that says so was left by a clock that has been put back since."""

_NAME: Final = "monitor"


@dataclass(frozen=True, kw_only=True)
class LastPass:
    """What is known of passes; times are the store's, seconds since the epoch."""

    now: float
    """The store's clock when this was read."""
    owner: str = ""
    """Who began the newest pass."""
    held_until: float = 0.0
    begun_at: float | None = None
    """When the newest pass began, whatever became of it."""
    passed_at: float | None = None
    """When the newest complete pass ended."""
    has_app: bool = False
    """Whether the newest that ended had the user's app."""
    doc: Mapping[str, Any] = field(default_factory=dict)
    """Its summary, also of one that was not complete."""

    @property
    def age(self) -> float | None:
        """Seconds since the last complete pass; None: there was none."""
        return None if self.passed_at is None else max(0.0, self.now - self.passed_at)

    @property
    def is_held(self) -> bool:
        """Whether somebody passes now."""
        return self.now < self.held_until <= self.now + HELD_MAX

    @property
    def lag(self) -> float | None:
        """Seconds since the last complete pass, up to the begin of one that goes on; None: there was none."""
        if self.passed_at is None:
            return None
        until = self.begun_at if self.is_held and self.begun_at is not None else self.now
        return max(0.0, until - self.passed_at)

    @property
    def idle(self) -> float | None:
        """Seconds since somebody last began a pass or completed one; None: nobody ever did."""
        latest = self.now + SET_BACK
        known = [at for at in (self.begun_at, self.passed_at) if at is not None and at <= latest]
        return max(0.0, self.now - max(known)) if known else None

    def is_recent(self, spacing: float) -> bool:
        """Tell whether the newest pass is complete and began less than `spacing` seconds ago."""
        if self.passed_at is None or self.begun_at is None or self.passed_at < self.begun_at:
            return False
        # One in the future was left by a clock that has been put back since.
        return 0 <= self.now - self.begun_at < spacing


def take(store: Store, owner: str, *, seconds: float, spacing: float = 0.0) -> WatchLease | None:
    """Take the right to pass; None while another one has it, or where a pass is not due.

    Args:
        owner: who asks, for people: a host, a process.
        seconds: for how long it is held without being renewed.
        spacing: a pass is not due where the last complete one began less than so many seconds ago.

    Raises:
        StoreUnavailable: the database is down or locked.
        SchemaError: it has no such table yet.
    """
    seconds = min(seconds, HELD_MAX)
    table = store.tables.watching.watch
    # A read first: whoever comes too early has written nothing. It looks at the tables' version, too.
    seen = last_pass(store)
    if seen.is_held or seen.is_recent(spacing):
        return None
    try:
        with store.writing() as connection:
            clock = store_clock(connection.dialect.name)
            query = sa.select(table, clock.label("now")).where(table.c.name == _NAME)
            row = connection.execute(query.with_for_update(of=table)).first()
            if row is None:
                now = float(connection.execute(sa.select(clock)).scalar_one())
                fresh = _holding(owner, 1, now, seconds) | {"name": _NAME, "has_app": 0}
                connection.execute(table.insert().values(fresh))
                return _lease(owner, 1, now + seconds)
            seen = _seen(row, row.now)
            if seen.is_held or seen.is_recent(spacing):
                return None
            values = _holding(owner, row.epoch + 1, row.now, seconds)
            connection.execute(table.update().where(table.c.name == _NAME).values(values))
            return _lease(owner, row.epoch + 1, row.now + seconds)
    except IntegrityError:
        return None  # another one made the row


def fence(connection: Connection, tables: Tables, lease: WatchLease) -> None:
    """Lock the lease's row for this transaction: until it ends, nobody takes over.

    Raises:
        StaleWrite: somebody has taken over; write nothing.
    """
    table = tables.watching.watch
    query = sa.select(table.c.epoch).where(table.c.name == _NAME).with_for_update()
    if connection.execute(query).scalar() != lease.epoch:
        raise _stale(lease)


def renew(store: Store, lease: WatchLease, *, seconds: float) -> WatchLease:
    """Hold the lease for `seconds` from now on.

    Raises:
        StaleWrite: somebody has taken over.
        StoreUnavailable: the database is down or locked.
    """
    seconds = min(seconds, HELD_MAX)
    table = store.tables.watching.watch
    with store.writing() as connection:
        clock = store_clock(connection.dialect.name)
        statement = table.update().where(table.c.name == _NAME, table.c.epoch == lease.epoch)
        if connection.execute(statement.values(held_until=clock + seconds)).rowcount == 0:
            raise _stale(lease)
        now = float(connection.execute(sa.select(clock)).scalar_one())
    return _lease(lease.owner, lease.epoch, now + seconds)


def release(
    store: Store, lease: WatchLease, *, passed: bool, has_app: bool = False, doc: Mapping[str, Any]
) -> None:
    """Let others pass.

    Args:
        passed: it is complete; else the last complete one stays the last.
        has_app: whether it had the user's app.
        doc: its summary, plain JSON.

    Raises:
        StaleWrite: somebody has taken over.
        StoreUnavailable: the database is down or locked.
    """
    table = store.tables.watching.watch
    with store.writing() as connection:
        clock = store_clock(connection.dialect.name)
        text = msgspec.json.encode(dict(doc)).decode()
        values: dict[str, Any] = {"held_until": clock, "has_app": int(has_app), "doc": text}
        if passed:
            values["passed_at"] = clock
        statement = table.update().where(table.c.name == _NAME, table.c.epoch == lease.epoch)
        if connection.execute(statement.values(values)).rowcount == 0:
            raise _stale(lease)


def last_pass(store: Store) -> LastPass:
    """Return what is known of passes.

    Raises:
        StoreUnavailable: the database cannot be reached.
        SchemaError: it has no tables yet, or those of another version.
    """
    table = store.tables.watching.watch
    with store.reading() as connection:
        clock = store_clock(connection.dialect.name)
        row = connection.execute(sa.select(table).where(table.c.name == _NAME)).first()
        now = float(connection.execute(sa.select(clock)).scalar_one())
    return LastPass(now=now) if row is None else _seen(row, now)


def _seen(row: sa.Row[Any], now: float) -> LastPass:
    return LastPass(
        now=now,
        owner=row.owner,
        held_until=row.held_until,
        begun_at=row.begun_at,
        passed_at=row.passed_at,
        has_app=bool(row.has_app),
        doc=msgspec.json.decode(row.doc) if row.doc else {},
    )


def _lease(owner: str, epoch: int, held_until: float) -> WatchLease:
    return WatchLease(owner=owner, epoch=epoch, held_until=held_until)


def _holding(owner: str, epoch: int, now: float, seconds: float) -> dict[str, Any]:
    return {"owner": owner[:WORD_MAX], "epoch": epoch, "held_until": now + seconds, "begun_at": now}


def _stale(lease: WatchLease) -> StaleWrite:
    return StaleWrite(f"another monitor has taken over from epoch {lease.epoch}; write nothing more")
