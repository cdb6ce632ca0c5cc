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

import sqlalchemy as sa
from waiting import wait_until

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor import alarms, outbox, texts
from plet_celery.monitor.channels.request import Rules
from plet_celery.monitor.channels.webhook import WebhookChannel
from plet_celery.monitor.routing import Channels
from plet_celery.store import Store, alerting, open_store, watching
from plet_celery.store import outbox as rows
from plet_celery.watchfacts import Alert, AlertState, Change, Judgement, Route, Severity, Verdict

CHANNELS = ("ops", "team")
START = 1_800_000_000.0
LEASE_SECONDS = 0.05
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
    """What a pass does of alerts: take the lease, write what has become of them, send, give it back."""
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
    owner = f"pid {os.getpid()}"
    # One that was killed has left its lease behind.
    wait_until(lambda: not watching.last_pass(store).is_held, 60)
    calls.start()
    lease = watching.take(store, owner, seconds=LEASE_SECONDS)
    assert lease is not None
    alarms.settle(store, lease, judgements(store, order["subjects"]), route=route, now=now)
    done = outbox.deliver(store, channels, owner=owner, now=now, has_app=True, seconds=60, hold=given["hold"])
    watching.release(store, lease, passed=True, doc={})
    calls.stop()
    store.close()
    return {"waiting": done.waiting}


def route(alert: Alert, change: Change) -> list[Route]:
    """Everything is told to both channels."""
    return [Route(channel=name, needs_app=False) for name in CHANNELS]


def judgements(store: Store, subjects: list[str]) -> list[Judgement]:
    """What the rules say: each of these subjects breaks, gets worse, is well again, one step a pass.

    It follows from what is stored, as where a pass that died is repeated by the next. Others stay.
    """
    table = store.tables.watching.alert
    query = sa.select(table.c.subject).where(table.c.state == AlertState.RESOLVED)
    with store.reading() as connection:
        over = set(connection.scalars(query))
    found = {alert.subject: alert for alert in alerting.open_alerts(store)}
    return [
        said_of(subject, found.get(subject), is_moving=subject in subjects)
        for subject in sorted({*found, *subjects} - over)
    ]


def said_of(subject: str, alert: Alert | None, *, is_moving: bool) -> Judgement:
    """What the rule says of one subject, whose alert is this."""
    severity = Severity.WARNING if alert is None else alert.severity
    is_well = is_moving and severity is Severity.CRITICAL
    if is_moving and alert is not None:
        severity = Severity.CRITICAL
    verdict = Verdict.KEPT if is_well else Verdict.BROKEN
    return Judgement(rule="failure_rate", subject=subject, verdict=verdict, severity=severity)


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
