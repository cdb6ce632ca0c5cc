"""Alerts for tests of channels: plain ones, and rows of them with what is to be sent."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor.channels import Undelivered
from plet_celery.monitor.routing import Channels
from plet_celery.monitor.texts import message_of
from plet_celery.store import Store, outbox
from plet_celery.watchfacts import Alert, AlertDoc, AlertState, Change, Route, Severity

NOW = 1_800_000_000.0
_numbers = itertools.count(1)


def an_alert(**fields: Any) -> Alert:
    """A firing alert about a task."""
    doc = AlertDoc(
        title="too many runs fail",
        value="34 % of 41 runs in the last hour",
        limit="20 %",
        affected="14 runs of shop.import_catalogue",
        advice="look at the errors of the task",
        since=NOW - 3600,
        runs=("1f9f7a2e", "7a41c06b"),
        count=14,
    )
    values: dict[str, Any] = {
        "id": f"{next(_numbers):032x}",
        "rule": "failure_rate",
        "subject": "shop.import_catalogue",
        "state": AlertState.FIRING,
        "severity": Severity.WARNING,
        "task": "shop.import_catalogue",
        "tenant": "acme/north",
        "pending_at": NOW - 60,
        "fired_at": NOW,
        "updated_at": NOW,
        "transitions": 2,
        "doc": doc,
    }
    return Alert(**values | fields)


def a_message(kind: str = "fired", **fields: Any) -> AlertMessage:
    """The message of a transition of `an_alert`."""
    told = outbox.Told(kind=kind, at=NOW, alert=an_alert(**fields))
    return message_of(told, key="5f" * 16, number=2, redact=str)


def told(
    store: Store, alert: Alert, *routes: str | Route, kind: str = "fired", number: int = 2, now: float = NOW
) -> list[str]:
    """Write a transition with what is to be sent of it; return the keys."""
    chosen = [one if isinstance(one, Route) else Route(channel=one, needs_app=False) for one in routes]
    if kind == "resolved":
        alert = replace(alert, state=AlertState.RESOLVED, resolved_at=now, transitions=number)
    values = {name: getattr(alert, name) for name in store.tables.watching.alert.columns.keys()}  # noqa: SIM118 - columns
    values["doc"] = msgspec.json.encode(alert.doc).decode()
    table, transition = store.tables.watching.alert, store.tables.watching.transition
    with store.writing() as connection:
        connection.execute(table.delete().where(table.c.id == alert.id))
        connection.execute(table.insert().values(values))
        row = {"alert_id": alert.id, "number": number, "at": now, "kind": kind, "doc": "{}"}
        connection.execute(transition.insert().values(row))
        outbox.put(
            connection, store.tables, outbox.Told(kind=kind, at=now, alert=alert), number, chosen, now=now
        )
    return [outbox.delivery_id(alert.id, number, one.channel) for one in chosen]


def change(alert: Alert, kind: str = "fired") -> Change:
    """A change that is told."""
    return Change(alert=alert, kind=kind, is_told=True)


def rows(store: Store, key: str | None = None) -> list[dict[str, Any]]:
    """The rows of the outbox, or the one with a key."""
    table = store.tables.watching.delivery
    query = sa.select(table).order_by(table.c.made_at, table.c.number, table.c.channel)
    with store.reading() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    return [row for row in found if key is None or row["id"] == key]


def row_of(store: Store, key: str) -> dict[str, Any]:
    """The row with a key."""
    return rows(store, key)[0]


class Recorder:
    """A channel that keeps what it is told, or fails as a test says."""

    kind = "log"

    def __init__(self, name: str = "ops", *, needs_app: bool = False, timeout: float = 10.0) -> None:
        self.name, self.needs_app, self.timeout = name, needs_app, timeout
        self.target = f"recorder {name}"
        self.told: list[AlertMessage] = []
        self.tries = 0
        self.failure: BaseException | None = None

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Keep the message."""
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        self.told.append(message)
        return "kept"

    def fail(self, status: str = "answered 500") -> None:
        """Take nothing from here on."""
        self.failure = Undelivered(status)


def channels(*ones: Any, **options: Any) -> Channels:
    """Channels as a pass has them."""
    return Channels(by_name={one.name: one for one in ones}, **options)
