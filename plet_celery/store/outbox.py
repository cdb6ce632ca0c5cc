"""The outbox: what is to be sent of alerts, one row per transition and channel.

A row is put beside the transition, in its transaction; from then on it is waiting until it is delivered
or dropped. Whoever delivers it holds it for a while by the store's clock: if that process dies, the next
one takes it over and sends it again, under the same id. When to try again, and what is not worth sending
any more, is decided in `monitor/outbox.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.schema import Table

from plet_celery.store.columns import WORD_MAX, fit
from plet_celery.store.engine import store_clock
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.watchfacts import Alert, AlertState, Route

WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
DROPPED: Final = "dropped"
STATUS_MAX: Final = 255


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a delivery says, kept as JSON in its row: the alert as it was at that transition."""

    kind: str
    """The transition."""
    at: float
    alert: Alert


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One row that waits."""

    id: str
    """32 hex digits: the idempotency key."""
    alert_id: str
    number: int
    """The transition's, within its alert."""
    channel: str
    made_at: float
    tries: int
    told: Told | None
    """None: what it says cannot be read; another version wrote it."""
    is_over: bool = False
    """The alert has resolved since, or is gone."""
    was_told: bool = False
    """The channel got a message of this alert before."""


def delivery_id(alert_id: str, number: int, channel: str) -> str:
    """Return the idempotency key of a transition on a channel: the same whenever it is asked for."""
    return hashlib.sha256(f"{alert_id}\n{number}\n{channel}".encode()).hexdigest()[:32]


def put(
    connection: Connection, tables: Tables, told: Told, number: int, routes: Iterable[Route], *, now: float
) -> None:
    """Write what is to be sent of a transition, in the transaction that writes the transition.

    Args:
        number: the transition's number within its alert.
        routes: the channels that are told; one that is named twice is told once.
    """
    doc = msgspec.json.encode(told).decode()
    rows: dict[str, dict[str, Any]] = {
        route.channel: {
            "id": delivery_id(told.alert.id, number, route.channel),
            "alert_id": told.alert.id,
            "number": number,
            "channel": route.channel,
            "state": WAITING,
            "needs_app": int(route.needs_app),
            "made_at": now,
            "next_at": now,
            "tries": 0,
            "doc": doc,
        }
        for route in routes
    }
    if rows:
        connection.execute(tables.watching.delivery.insert(), [rows[name] for name in sorted(rows)])


def last_told(connection: Connection, tables: Tables, alert_id: str) -> dict[str, Alert]:
    """Return by channel the alert as it was when the newest message of it was put."""
    table = tables.watching.delivery
    query = sa.select(table.c.channel, table.c.doc).where(table.c.alert_id == alert_id)
    found = {}
    for channel, doc in connection.execute(query.order_by(table.c.number)):
        told = _told(doc)
        if told is not None:
            found[channel] = told.alert
    return found


def waiting(store: Store, channel: str, *, now: float, limit: int) -> list[Delivery]:
    """Return what a channel is to be told now, what has waited longest first.

    A transition comes only when none before it, of the same alert, still waits for this channel. What
    somebody holds does not come.
    """
    table, alert = store.tables.watching.delivery, store.tables.watching.alert
    earlier = table.alias()
    before = sa.exists().where(
        earlier.c.alert_id == table.c.alert_id,
        earlier.c.number < table.c.number,
        earlier.c.channel == table.c.channel,
    )
    with store.reading() as connection:
        query = (
            sa.select(
                table,
                (sa.func.coalesce(alert.c.state, AlertState.RESOLVED) == AlertState.RESOLVED).label("over"),
                before.where(earlier.c.state == DELIVERED).label("was_told"),
            )
            .select_from(table.outerjoin(alert, alert.c.id == table.c.alert_id))
            .where(
                table.c.state == WAITING,
                table.c.channel == channel,
                table.c.next_at <= now,
                _is_free(table, connection),
                ~before.where(earlier.c.state == WAITING),
            )
            .order_by(table.c.next_at, table.c.made_at, table.c.number, table.c.id)
            .limit(limit)
        )
        return [_delivery(row) for row in connection.execute(query).mappings()]


def waiting_channels(store: Store) -> dict[str, int]:
    """Return how many messages wait for each channel."""
    table = store.tables.watching.delivery
    query = sa.select(table.c.channel, sa.func.count()).where(table.c.state == WAITING)
    with store.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(query.group_by(table.c.channel))}


def claim(store: Store, delivery: Delivery, *, owner: str, seconds: float, next_at: float) -> Delivery | None:
    """Take a delivery for a while, by the store's clock; None where somebody else has or had it.

    Args:
        owner: names the process that sends, for people.
        seconds: how long nobody else takes it.
        next_at: when it is tried again if nothing is ever heard of this try.

    Returns:
        The delivery with this try counted: that number is what `end` and `put_back` are refused by, once
        somebody else has taken it.
    """
    table = store.tables.watching.delivery
    with store.writing() as connection:
        values = {
            "owner": fit(owner, WORD_MAX),
            "held_until": store_clock(connection.dialect.name) + seconds,
            "tries": delivery.tries + 1,
            "next_at": next_at,
            "status": "is being sent",
        }
        query = table.update().where(_mine(table, delivery), _is_free(table, connection)).values(values)
        taken = connection.execute(query).rowcount == 1
    return replace(delivery, tries=delivery.tries + 1) if taken else None


def end(
    connection: Connection, tables: Tables, delivery: Delivery, *, state: str, status: str, now: float
) -> bool:
    """Write that a delivery is DELIVERED or DROPPED; False where somebody else has taken it."""
    return _write(
        connection,
        tables.watching.delivery,
        delivery,
        state=state,
        status=status[:STATUS_MAX],
        ended_at=now,
        held_until=None,
    )


def put_back(
    connection: Connection, tables: Tables, delivery: Delivery, *, status: str, next_at: float
) -> bool:
    """Write why a try failed, and when the next one is; False where somebody else has taken it."""
    return _write(
        connection,
        tables.watching.delivery,
        delivery,
        status=status[:STATUS_MAX],
        next_at=next_at,
        held_until=None,
    )


def hurry(connection: Connection, tables: Tables, channel: str, *, now: float) -> None:
    """Have all that waits for a channel tried at the next pass: it has just been seen to work."""
    table = tables.watching.delivery
    mine = (table.c.channel == channel, table.c.state == WAITING, table.c.next_at > now)
    connection.execute(table.update().where(*mine).values(next_at=now))


def drop_strangers(store: Store, known: Sequence[str], *, before: float, status: str, now: float) -> int:
    """Drop what waits for channels that are not `known`, made before a time; return how many."""
    table = store.tables.watching.delivery
    theirs = (table.c.state == WAITING, table.c.channel.not_in(known), table.c.made_at < before)
    with store.reading() as connection:
        if connection.execute(sa.select(table.c.id).where(*theirs).limit(1)).first() is None:
            return 0
    values = {"state": DROPPED, "status": status[:STATUS_MAX], "ended_at": now}
    with store.writing() as connection:
        free = _is_free(table, connection)
        return connection.execute(table.update().where(*theirs, free).values(values)).rowcount


def _write(connection: Connection, table: Table, delivery: Delivery, **values: Any) -> bool:
    # Each claim counts a try, so that the number says whose row this is.
    return connection.execute(table.update().where(_mine(table, delivery)).values(values)).rowcount == 1


def _mine(table: Table, delivery: Delivery) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.id == delivery.id, table.c.state == WAITING, table.c.tries == delivery.tries)


def _is_free(table: Table, connection: Connection) -> sa.ColumnElement[bool]:
    clock = store_clock(connection.dialect.name)
    return sa.or_(table.c.held_until.is_(None), table.c.held_until <= clock)


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(
        id=row["id"],
        alert_id=row["alert_id"],
        number=row["number"],
        channel=row["channel"],
        made_at=row["made_at"],
        tries=row["tries"],
        told=_told(row["doc"]),
        is_over=bool(row["over"]),
        was_told=bool(row["was_told"]),
    )


_decoder: Final = msgspec.json.Decoder(Told)


def _told(doc: str) -> Told | None:
    try:
        return _decoder.decode(doc)
    except msgspec.DecodeError:
        return None
