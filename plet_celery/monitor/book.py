"""Alerts as people look at them, on pages and in terminals: with their silence, and who was told.

Both show the same, because both ask here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plet_celery.monitor.checks.upkeep import late_after
from plet_celery.monitor.life import is_silenced
from plet_celery.store import Store, alerting
from plet_celery.store.alerting import Sent, Transition
from plet_celery.store.pastalerts import past_alerts
from plet_celery.store.records import Page, iso
from plet_celery.store.watching import LastPass
from plet_celery.watchfacts import Alert, AlertState, Severity, Silence

OPEN_MAX: Final = 500
"""So many open alerts are looked at; there is one per rule and subject."""
_OPEN: Final = (AlertState.FIRING.value, AlertState.PENDING.value)
_TITLES: Final = {
    "objective": "A promise is broken",
    "failure_rate": "Too many runs fail",
    "timeout_rate": "Too many runs time out",
    "queue_depth": "Too many runs wait",
    "run_lost": "Runs were lost",
    "host_lost": "A host is lost",
    "stuck": "Runs are stuck",
    "missed_schedule": "A schedule was missed",
    "drops": "Events were dropped",
    "monitor_silent": "The monitor is silent",
    "killer_task": "A task kills its workers",
    "check": "A check fails",
}
"""What a rule is about, where an alert has no title of its own."""


@dataclass(frozen=True)
class Word:
    """What a channel was last told of an alert."""

    channel: str
    state: str
    """`delivered`, `dropped`, `failing` (it is tried again) or `waiting`."""
    at: float | None
    """When that was; of one that waits, since when."""


@dataclass(frozen=True)
class Entry:
    """One alert of the book."""

    alert: Alert
    silences: tuple[Silence, ...]
    """Those that cover it now and that the viewer may see."""
    is_silenced: bool
    """One covers it now, whoever may see that."""
    told: tuple[Word, ...]
    """What each channel was last told, by its name."""

    @property
    def is_open(self) -> bool:
        """It is pending or firing."""
        return self.alert.state is not AlertState.RESOLVED

    @property
    def state(self) -> str:
        """Its state; `ended` where it was pending and has never fired."""
        if self.alert.state is AlertState.RESOLVED and self.alert.fired_at is None:
            return "ended"
        return self.alert.state.value

    @property
    def since(self) -> float:
        """Since when something is wrong."""
        since = self.alert.doc.since
        return since if since is not None else self.alert.pending_at

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        return self.alert.doc.title or _TITLES.get(self.alert.rule.partition(":")[0], "") or self.alert.rule

    @property
    def value(self) -> str:
        """What is, against what was promised: `last success 26 h ago, expected every 24 h + 1 h grace`."""
        doc = self.alert.doc
        return f"{doc.value}, expected {doc.limit}" if doc.value and doc.limit else doc.value or doc.limit

    @property
    def involved(self) -> int:
        """How many runs are involved; 0 where `value` says the number, or no run is named.

        Without a run named, what is counted may be something else: due times, messages.
        """
        doc = self.alert.doc
        is_said = str(doc.count) in re.findall(r"\d+", doc.value.replace(",", ""))
        return doc.count if doc.runs and not is_said else 0


@dataclass(frozen=True)
class Counts:
    """How many open alerts there are of each kind; one is of one kind, but for `no_data`."""

    firing: int = 0
    """And not silenced."""
    pending: int = 0
    silenced: int = 0
    no_data: int = 0
    """Whose rule cannot say anything."""
    critical: int = 0
    """Of the firing ones."""
    is_capped: bool = False
    """There may be more of each."""


@dataclass(frozen=True)
class Book:
    """The open alerts that a viewer may see, firing ones first, the worst and newest of them first."""

    entries: tuple[Entry, ...]
    is_cut: bool

    @property
    def counts(self) -> Counts:
        """The figures of the tiles."""
        firing = self.shown("firing")
        return Counts(
            firing=len(firing),
            pending=len(self.shown("pending")),
            silenced=len(self.shown("silenced")),
            no_data=len(self.shown("no_data")),
            critical=sum(one.alert.severity is Severity.CRITICAL for one in firing),
            is_capped=self.is_cut,
        )

    def shown(self, what: str, prefix: str = "") -> list[Entry]:
        """Return the entries of one kind: `open`, `firing`, `pending`, `silenced`, `no_data`.

        Args:
            prefix: how the rule, the subject or the task begins.
        """
        return [one for one in self.entries if _is_of(one, what) and _begins(one.alert, prefix)]


def open_book(store: Store, *, now: float, tenants: Sequence[str] | None = None, told: bool = True) -> Book:
    """Return the open alerts.

    Args:
        now: seconds since the epoch.
        tenants: paths that the viewer may see, each with what lies below it; None: all. So everywhere here.
        told: ask for what channels were told, too.
    """
    found: list[Alert] = []
    is_cut = False
    for state in _OPEN:
        page = alerting.list_alerts(store, states=(state,), tenants=tenants, limit=OPEN_MAX)
        found += page.items
        is_cut = is_cut or page.next is not None
    found.sort(key=_urgency)
    return Book(tuple(entries_of(store, found, now=now, tenants=tenants, told=told)), is_cut)


def past_page(
    store: Store,
    *,
    now: float,
    prefix: str = "",
    tenants: Sequence[str] | None = None,
    limit: int = 50,
    after: str | None = None,
    before: str | None = None,
) -> Page[Entry]:
    """Return entries of alerts that are over, the last to end first.

    Raises:
        PletError: `after` or `before` is no cursor.
    """
    found = past_alerts(store, prefix=prefix, tenants=tenants, limit=limit, after=after, before=before)
    return Page(
        items=entries_of(store, found.items, now=now, tenants=tenants),
        next=found.next,
        previous=found.previous,
    )


def entry_of(store: Store, alert_id: str, *, now: float, tenants: Sequence[str] | None = None) -> Entry:
    """Return one alert's entry, by its full id.

    Raises:
        AlertNotFound: there is none that the viewer may see.
    """
    alert = alerting.get_alert(store, alert_id, tenants=tenants)
    return entries_of(store, [alert], now=now, tenants=tenants)[0]


def entries_of(
    store: Store,
    alerts: Iterable[Alert],
    *,
    now: float,
    tenants: Sequence[str] | None = None,
    told: bool = True,
) -> list[Entry]:
    """Return entries of alerts that the viewer may see."""
    alerts = list(alerts)
    if not alerts:
        return []
    holding = alerting.silences(store, now=now)
    mine = {one.id for one in holding}
    if tenants is not None:
        mine = {one.id for one in alerting.silences(store, now=now, tenants=tenants)}
    sent: dict[str, list[Sent]] = {}
    if told:
        for one in alerting.deliveries_of(store, [alert.id for alert in alerts], tenants=tenants):
            sent.setdefault(one.alert_id, []).append(one)
    return [_entry(alert, holding, mine, sent.get(alert.id, []), now) for alert in alerts]


def is_late(passed: LastPass, interval: float) -> bool:
    """Tell whether the monitor should have passed again by now, or never has.

    Args:
        interval: seconds between two passes, as they are set.
    """
    return passed.lag is None or passed.lag > late_after(interval)


def word_of(one: Sent) -> Word:
    """Return what became of a message, in a word."""
    if one.state != "waiting":
        return Word(one.channel, one.state, one.ended_at)
    return Word(one.channel, "failing" if one.tries else "waiting", one.made_at)


def to_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON values; the shape is in docs/json.md."""
    alert, doc = entry.alert, entry.alert.doc
    return {
        "id": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "state": entry.state,
        "severity": alert.severity.value,
        "title": entry.title,
        "value": doc.value,
        "limit": doc.limit,
        "affected": doc.affected,
        "advice": doc.advice,
        "task": alert.task,
        "queue": alert.queue,
        "tenant": alert.tenant,
        "since": _iso(entry.since),
        "pending_at": _iso(alert.pending_at),
        "fired_at": _iso(alert.fired_at),
        "broken_at": _iso(alert.broken_at),
        "resolved_at": _iso(alert.resolved_at),
        "count": doc.count,
        "runs": list(doc.runs),
        "is_flapping": doc.is_flapping,
        "has_data": doc.has_data,
        "acknowledged_at": _iso(alert.acknowledged_at),
        "acknowledged_by": doc.acknowledged_by,
        "note": doc.note,
        "is_silenced": entry.is_silenced,
        "silences": [silence_json(one) for one in entry.silences],
        "told": [{"channel": one.channel, "state": one.state, "at": _iso(one.at)} for one in entry.told],
    }


def silence_json(one: Silence) -> dict[str, Any]:
    """Return a silence as JSON values."""
    return {
        "id": one.id,
        "rule": one.rule,
        "subject": one.subject,
        "made_at": _iso(one.made_at),
        "until": _iso(one.until),
        "ended_at": _iso(one.ended_at),
        "by": one.by,
        "reason": one.reason,
    }


def step_json(one: Transition) -> dict[str, Any]:
    """Return a transition as JSON values."""
    return {
        "number": one.number,
        "at": iso(one.at),
        "kind": one.kind,
        "state": one.state,
        "severity": one.severity,
        "value": one.value,
        "is_told": one.is_told,
        "by": one.by,
        "note": one.note,
    }


def sent_json(one: Sent) -> dict[str, Any]:
    """Return a message as JSON values."""
    return {
        "id": one.id,
        "number": one.number,
        "channel": one.channel,
        "state": one.state,
        "made_at": iso(one.made_at),
        "ended_at": _iso(one.ended_at),
        "next_at": _iso(one.next_at),
        "tries": one.tries,
        "status": one.status,
    }


def _iso(at: float | None) -> str | None:
    return iso(at) if at is not None else None


def _entry(alert: Alert, holding: list[Silence], mine: set[str], sent: list[Sent], now: float) -> Entry:
    covering = [one for one in holding if alert.state in _OPEN and is_silenced(alert, [one], now)]
    newest = {one.channel: one for one in sorted(sent, key=lambda one: one.number)}
    return Entry(
        alert=alert,
        silences=tuple(one for one in covering if one.id in mine),
        is_silenced=bool(covering),
        told=tuple(word_of(newest[channel]) for channel in sorted(newest)),
    )


def _is_of(entry: Entry, what: str) -> bool:
    alert = entry.alert
    if what in ("firing", "pending"):
        return alert.state.value == what and not entry.is_silenced
    if what == "silenced":
        return entry.is_silenced
    return not alert.doc.has_data if what == "no_data" else True


def _begins(alert: Alert, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in (alert.rule, alert.subject, alert.task or ""))


def _urgency(alert: Alert) -> tuple[bool, bool, float, str, str]:
    fires = alert.state is AlertState.FIRING
    at = alert.fired_at if alert.fired_at is not None else alert.pending_at
    return (not fires, alert.severity is not Severity.CRITICAL, -at, alert.rule, alert.subject)
