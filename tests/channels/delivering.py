"""A process that forks deliverers, each of which kills itself at a call of its choice.

Run as a program: one JSON document a line on stdin says what the next child does, one on stdout what
became of it. It has one thread and no connection when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor import outbox, texts
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.channels.webhook import WebhookChannel
from plet_celery.monitor.routing import Channels
from plet_celery.store import Store, open_store
from plet_celery.store import outbox as rows
from plet_celery.watchfacts import Alert, AlertState, Route, Severity

KINDS = ("fired", "worse", "resolved")
CHANNELS = ("ops", "team")
START = 1_800_000_000.0
ROUND_SECONDS = 600.0
"""Longer than most waits after a failure; all rounds together are shorter than what is given up after."""


def main() -> None:
    """Serve until stdin ends."""
    given = json.loads(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(forked(given, order)), flush=True)


def forked(given: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """Do one order in a child, which dies at its `kill_at`-th call."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            calls = Counted(order["kill_at"])
            done = work(given, order, calls)
            os.write(writing, json.dumps({"calls": calls.made} | done).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as told:
        answer = told.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


class Counted:
    """Counts the calls of every thread of this process, and kills it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.made, self._kill_at = 0, kill_at

    def start(self) -> None:
        """From here on."""
        threading.setprofile(self._count)
        sys.setprofile(self._count)

    def stop(self) -> None:
        """It has lived."""
        sys.setprofile(None)
        threading.setprofile(None)

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.made += 1
            if self.made == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def work(given: dict[str, Any], order: dict[str, Any], calls: Counted) -> dict[str, Any]:
    """What a pass does of alerts: write transitions with what is to be sent, then send."""
    store = open_store(given["url"])
    if given["careless"]:
        be_careless(given["careless"])
    channels = Channels(
        by_name={
            name: WebhookChannel(
                name=name,
                url=f"http://127.0.0.1:{given['port']}/{name}",
                keys=("0123456789abcdef",),
                timeout=given["timeout"],
                rules=Rules(allow_private=True),
            )
            for name in CHANNELS
        },
        disable_after=1e9,
        stale_after=1e9,
    )
    now = START + ROUND_SECONDS * order["round"]
    calls.start()
    for subject in order["subjects"]:
        step(store, subject, now)
    done = outbox.deliver(
        store, channels, owner=f"pid {os.getpid()}", now=now, has_app=True, seconds=60, hold=given["hold"]
    )
    calls.stop()
    store.close()
    return {"waiting": done.waiting}


def step(store: Store, subject: str, now: float) -> None:
    """Write the next transition of an alert, unless all are written: as a pass does that finds it again."""
    table, transition = store.tables.watching.alert, store.tables.watching.transition
    with store.writing() as connection:
        query = sa.select(table.c.transitions).where(table.c.id == subject).with_for_update()
        number = connection.execute(query).scalar()
        if number == len(KINDS):
            return
        alert = alert_of(subject, number or 0, now)
        kind = KINDS[number or 0]
        values = {name: getattr(alert, name) for name in table.columns.keys()}  # noqa: SIM118 - columns
        values["doc"] = msgspec.json.encode(alert.doc).decode()
        if number is None:
            connection.execute(table.insert().values(values))
        else:
            connection.execute(table.update().where(table.c.id == subject).values(values))
        row = {"alert_id": alert.id, "number": alert.transitions, "at": now, "kind": kind, "doc": "{}"}
        connection.execute(transition.insert().values(row))
        routes = [Route(channel=name, needs_app=False) for name in CHANNELS]
        told = rows.Told(kind=kind, at=now, alert=alert)
        rows.put(connection, store.tables, told, alert.transitions, routes, now=now)


def alert_of(subject: str, number: int, now: float) -> Alert:
    """The alert after one transition more."""
    alert = Alert(
        id=subject,
        rule="failure_rate",
        subject=subject,
        state=AlertState.FIRING,
        severity=Severity.WARNING if number == 0 else Severity.CRITICAL,
        pending_at=now,
        updated_at=now,
        transitions=number + 1,
    )
    return replace(alert, state=AlertState.RESOLVED, resolved_at=now) if number == 2 else alert


def be_careless(how: str) -> None:
    """Deliver as one would without thinking: a new key for each try, or marked as sent before it is."""
    if how == "key":
        made = texts.message_of

        def message_of(*args: Any, **kwargs: Any) -> AlertMessage:
            return replace(made(*args, **kwargs), id=os.urandom(16).hex())

        texts.message_of = message_of
    else:
        send = outbox._Turn._send

        def mark_and_send(turn: Any, channel: Any, delivery: Any, deadline: float) -> Any:
            with turn.store.writing() as connection:
                rows.end(
                    connection, turn.store.tables, delivery, state="delivered", status="sent", now=turn.now
                )
            claim = rows.claim
            rows.claim = lambda store, delivery, **kwargs: delivery
            try:
                return send(turn, channel, delivery, deadline)
            finally:
                rows.claim = claim

        outbox._Turn._send = mark_and_send  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    main()
