"""How long alerts are kept: those that are over go after a time, with their transitions and deliveries.

An open alert never goes, nor one of which something still waits to be sent. In small transactions, and
not while the clock cannot be trusted (`clockwatch.py`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk, clockwatch, outbox, watching
from plet_celery.store.schema import Tables
from plet_celery.store.settle import DAY
from plet_celery.store.store import Store
from plet_celery.watchfacts import AlertState, WatchLease

ENDED_KEPT: Final = DAY
"""Seconds an alert is kept that was pending and never fired."""
_AT_ONCE: Final = 200
_ROUNDS: Final = 5


def forget_alerts(store: Store, lease: WatchLease, *, now: float, days: float) -> int:
    """Delete alerts and silences that have been over for `days`; a bounded part of them.

    Args:
        now: this host's time; nothing goes while the store's differs much, or has jumped.

    Returns:
        How many alerts went.

    Raises:
        StaleWrite: another monitor has taken over.
        StoreUnavailable: the database is down or locked; what was done stays done.
    """
    if not _is_due(store, now, days) or clockwatch.check(store, wall=now, note=False) is not None:
        return 0
    gone = 0
    for _ in range(_ROUNDS):
        with store.writing() as connection:
            watching.fence(connection, store.tables, lease)
            found = _forget_some(connection, store.tables, now, days)
            if found < _AT_ONCE:
                _forget_silences(connection, store.tables, now - days * DAY)
        gone += found
        if found < _AT_ONCE:
            break
    return gone


def _is_due(store: Store, now: float, days: float) -> bool:
    """Tell whether there is anything to delete: a pass in 30 s has mostly nothing."""
    silence = store.tables.watching.silence
    with store.reading() as connection:
        if connection.execute(_over(store.tables, now, days).limit(1)).first() is not None:
            return True
        old = sa.select(silence.c.id).where(silence.c.until < now - days * DAY)
        return connection.execute(old.limit(1)).first() is not None


def _over(tables: Tables, now: float, days: float) -> sa.Select[tuple[str]]:
    alert, delivery = tables.watching.alert, tables.watching.delivery
    waits = sa.exists().where(delivery.c.alert_id == alert.c.id, delivery.c.state == outbox.WAITING)
    never_fired = sa.and_(alert.c.fired_at.is_(None), alert.c.resolved_at < now - min(ENDED_KEPT, days * DAY))
    return (
        sa.select(alert.c.id)
        .where(
            alert.c.resolved_at < now - min(ENDED_KEPT, days * DAY),
            alert.c.state == AlertState.RESOLVED.value,
            sa.or_(alert.c.resolved_at < now - days * DAY, never_fired),
            ~waits,
        )
        .order_by(alert.c.resolved_at)
    )


def _forget_some(connection: Connection, tables: Tables, now: float, days: float) -> int:
    own = tables.watching
    ids = sorted(connection.execute(_over(tables, now, days).limit(_AT_ONCE)).scalars())
    if ids:
        connection.execute(own.delivery.delete().where(own.delivery.c.alert_id.in_(ids)))
        connection.execute(own.transition.delete().where(own.transition.c.alert_id.in_(ids)))
        bulk.delete(connection, own.alert, [(one,) for one in ids])
    return len(ids)


def _forget_silences(connection: Connection, tables: Tables, before: float) -> None:
    silence = tables.watching.silence
    query = sa.select(silence.c.id).where(silence.c.until < before).limit(_AT_ONCE)
    bulk.delete(connection, silence, [(one,) for one in connection.execute(query).scalars()])
