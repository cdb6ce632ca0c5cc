"""A monitor whose passes are told: alerts, their lives and deliveries in a real store, at any time.

watched = Watched(store)
watched.judge("failure_rate", "shop.import", Verdict.BROKEN, value="40 %", limit="at most 20 %")
watched.go(at=now - 600)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plet_celery.monitor import alarms
from plet_celery.store import Store, watching
from plet_celery.watchfacts import Alert, Change, Judgement, Route, Severity, Verdict

CHANNELS = ("ops", "mail")


class Watched:
    """Passes over one store: what was judged once is judged so again, until it is judged anew."""

    def __init__(self, store: Store, channels: Sequence[str] = CHANNELS) -> None:
        self.store = store
        self.channels = channels
        self._judged: dict[tuple[str, str], Judgement] = {}

    def judge(
        self,
        rule: str,
        subject: str,
        verdict: Verdict = Verdict.BROKEN,
        severity: Severity = Severity.WARNING,
        **facts: Any,
    ) -> None:
        """Say what a rule will say of a subject from the next pass on."""
        self._judged[rule, subject] = Judgement(
            rule=rule, subject=subject, verdict=verdict, severity=severity, **facts
        )

    def go(self, at: float, *, taken: bool = True) -> list[Change]:
        """Pass once; with `taken` channels take what they are told, but for `mail`, which fails."""
        lease = watching.take(self.store, "test", seconds=30)
        assert lease is not None
        changes = alarms.settle(self.store, lease, self._judged.values(), route=self._route, now=at)
        watching.release(self.store, lease, passed=True, doc={})
        if taken:
            self._deliver(at)
        return changes

    def alert(self, rule: str, subject: str) -> Alert:
        """The newest alert of a rule and subject."""
        from plet_celery.store import alerting

        page = alerting.list_alerts(
            self.store, states=("pending", "firing", "resolved"), rule=rule, subject=subject
        )
        return page.items[0]

    def _route(self, alert: Alert, change: Change) -> list[Route]:
        return [Route(channel=name, needs_app=False) for name in self.channels]

    def _deliver(self, at: float) -> None:
        table = self.store.tables.watching.delivery
        waiting = table.c.state == "waiting"
        taken: dict[str, Any] = {"state": "delivered", "ended_at": at + 1, "tries": 1, "status": "200"}
        failed: dict[str, Any] = {"tries": 3, "next_at": at + 240, "status": "answered 503"}
        with self.store.writing() as connection:
            connection.execute(table.update().where(waiting, table.c.channel != "mail").values(taken))
            connection.execute(table.update().where(waiting, table.c.channel == "mail").values(failed))


def tell(
    watched: Watched, now: float, runs: Callable[[str], Sequence[str]] = lambda task: ()
) -> dict[str, str]:
    """Tell an evening on call: every state an alert can be in. Returns alert ids by what they show."""
    store = watched.store
    from plet_celery.store import alerting

    watched.judge("check:broker", "redis", Verdict.BROKEN, Severity.CRITICAL, title="The broker is slow",
        value="answers in 4.2 s", limit="at most 1 s", affected="every task", queue="celery",
        advice="Look at the broker's memory and its slow log.")  # fmt: skip
    flapping = ("queue_depth", "emails")
    for turn in range(5):
        verdict = Verdict.BROKEN if turn % 2 == 0 else Verdict.KEPT
        watched.judge(*flapping, verdict, title="Too many runs wait", value=f"{140 - 90 * (turn % 2)} wait",
            limit="at most 100", queue="emails", count=140, advice="Add a worker for the queue.")  # fmt: skip
        if turn == 2:
            watched.judge("check:broker", "redis", Verdict.KEPT, Severity.CRITICAL, value="answers in 12 ms")
        watched.go(now - 3000 + 120 * turn)
    watched.judge("failure_rate", "shop.export_orders", Verdict.BROKEN, Severity.CRITICAL,
        title="Too many runs fail", value="38 % of 212 runs in 1 h failed", limit="at most 20 %",
        affected="shop.export_orders, 80 runs", task="shop.export_orders", count=80, since=now - 1300,
        runs=tuple(runs("shop.export_orders")),
        advice="Look at the newest failed run: most have one cause.")  # fmt: skip
    watched.judge("objective:0123456789abcdef", "shop.nightly_report", Verdict.BROKEN,
        title="No success lately", value="last success 26 h ago", limit="every 24 h + 1 h grace",
        task="shop.nightly_report", count=1, since=now - 3600 * 26,
        advice="Is beat running? celery -A proj plet health")  # fmt: skip
    watched.judge("stuck", "shop.import_catalogue", Verdict.BROKEN, title="Runs are stuck",
        value="no progress for 14 min", limit="at most 10 min", task="shop.import_catalogue", count=2,
        runs=tuple(runs("shop.import_catalogue")))  # fmt: skip
    watched.go(now - 1200)
    watched.judge("objective:fedcba9876543210", "shop.sync_prices", Verdict.BROKEN,
        title="Slower than promised", value="p95 41 s", limit="p95 at most 30 s", pending_for=900.0,
        task="shop.sync_prices")  # fmt: skip
    watched.judge("stuck", "shop.import_catalogue", Verdict.NO_DATA)
    watched.go(now - 200)
    watched.go(now - 20)
    ids = {
        "firing": watched.alert("failure_rate", "shop.export_orders").id,
        "objective": watched.alert("objective:0123456789abcdef", "shop.nightly_report").id,
        "pending": watched.alert("objective:fedcba9876543210", "shop.sync_prices").id,
        "no_data": watched.alert("stuck", "shop.import_catalogue").id,
        "flapping": watched.alert(*flapping).id,
        "resolved": watched.alert("check:broker", "redis").id,
    }
    alerting.acknowledge(store, ids["objective"], by="ada", note="beat was down, I am at it", now=now - 600)
    alerting.silence_alert(store, ids["flapping"], until=now + 5400, reason="the new worker comes at noon",
        by="ada", now=now - 15)  # fmt: skip
    ids["silenced"] = ids["flapping"]
    return ids


def promise(store: Store, now: float) -> None:
    """Declare promises about the busy shop's tasks, as a pass of its app does."""
    from plet_celery.monitor.wording import promised
    from plet_celery.objectives import Declared, FinishBy, Freshness, MaxRuntime, MaxWait
    from plet_celery.store.promiserows import declarations, declare

    declared = [
        Declared("shop.import_catalogue", MaxRuntime(60), "task"),
        Declared("shop.import_catalogue", MaxRuntime(3600, severity="critical"), "task"),
        Declared("shop.make_images", MaxRuntime(1200), "shop.*"),
        Declared("shop.nightly_report", Freshness(86_400, grace=3600), "task"),
        Declared("shop.nightly_report", FinishBy("06:00", zone="Europe/Berlin"), "task"),
        Declared("shop.send_newsletter", MaxWait(3600), "shop.send_*"),
        Declared("shop.brew", MaxRuntime(5), "task"),
    ]
    limits = {one.id: promised(one.objective) for one in declared}
    with store.writing() as connection:
        found = declarations(connection, store.tables, declared, now=now, limits=limits, has_app=True)
        declare(connection, store.tables, found)
