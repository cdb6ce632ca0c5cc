"""What a message says: fixed templates, filled with the words of an alert.

The words are data: they hold no secret and no control character when they leave here, and no template is
ever made of them. All that is said is of the transition, nothing of the moment of sending, so that a
repeat says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from plet_celery.alertsignals import AlertMessage
from plet_celery.store.outbox import Told
from plet_celery.terminal.text import printable, shorten, span
from plet_celery.watchfacts import Alert, AlertDoc, AlertState, Severity

WORDS_MAX: Final = 500
"""Characters of one answer; the page has the rest."""
HEADLINE_MAX: Final = 200
"""A subject of an e-mail, the first line of a chat message."""
RUNS_MAX: Final = 20
_RUNS_SHOWN: Final = 5
TEST: Final = "test"
_BEGINNINGS: Final = {
    "resolved": "RESOLVED",
    "ended": "RESOLVED",
    "flapping": "FLAPPING",
    TEST: "TEST",
}
_NOTES: Final = {
    "worse": "it was a warning before",
    "flapping": "it fires and resolves again and again; each time is not told",
    "unsilenced": "its silence is over, and it still fires",
}

Redact = Callable[[str], str]


def message_of(
    told: Told, *, key: str, number: int, redact: Redact, pages_url: str | None = None
) -> AlertMessage:
    """Return the message of a transition.

    Args:
        key: the message's id, the idempotency key.
        number: the transition's number within its alert.
        redact: takes secrets out of a text.
        pages_url: where people reach the pages; None: no link.
    """
    alert, doc = told.alert, told.alert.doc

    def words(text: str | None) -> str:
        return shorten(printable(redact(text or "")), WORDS_MAX)

    facts = AlertMessage(
        id=key,
        kind=told.kind,
        at=told.at,
        headline="",
        text="",
        alert_id=alert.id,
        number=number,
        rule=words(alert.rule),
        subject=words(alert.subject),
        state=str(alert.state),
        severity=str(alert.severity),
        task=words(alert.task) if alert.task is not None else None,
        queue=words(alert.queue) if alert.queue is not None else None,
        tenant=words(alert.tenant),
        title=words(doc.title),
        value=words(doc.value),
        limit=words(doc.limit),
        affected=words(doc.affected),
        advice=words(doc.advice),
        since=doc.since if doc.since is not None else alert.pending_at,
        fired_at=alert.fired_at,
        resolved_at=alert.resolved_at,
        runs=tuple(words(run) for run in doc.runs[:RUNS_MAX]),
        count=doc.count,
        is_flapping=doc.is_flapping,
        link=f"{pages_url.rstrip('/')}/alerts/{alert.id}" if pages_url else "",
    )
    facts = replace(facts, headline=_headline(facts))
    return replace(facts, text="\n".join(_lines(facts)))


def trial(channel: str, *, key: str, now: float) -> AlertMessage:
    """Return a message that says it is a test; without a link, as a test has no page."""
    doc = AlertDoc(
        title="this is a test",
        value="a person asked whether this channel works",
        affected="nobody",
        advice="nothing; alerts will look like this",
    )
    alert = Alert(
        id="0" * 32,
        rule=TEST,
        subject=channel,
        state=AlertState.RESOLVED,
        severity=Severity.WARNING,
        pending_at=now,
        updated_at=now,
        doc=doc,
    )
    told = Told(kind=TEST, at=now, alert=alert)
    return message_of(told, key=key, number=0, redact=str)


def moment(at: float) -> str:
    """Return a time for a sentence: `2026-11-29 16:02:11 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _headline(facts: AlertMessage) -> str:
    beginning = _BEGINNINGS.get(facts.kind, facts.severity.upper())
    what = facts.title or facts.rule
    where = f"{facts.subject}: " if facts.subject and facts.subject not in what else ""
    return shorten(f"{beginning} {where}{what}", HEADLINE_MAX)


def _lines(facts: AlertMessage) -> list[str]:
    answers = (
        ("What", facts.title or facts.rule),
        ("With", facts.subject),
        ("Since", _when(facts)),
        ("Value", facts.value),
        ("Limit", facts.limit),
        ("Affected", facts.affected),
        ("Tenant", facts.tenant),
        ("Runs", _runs(facts)),
        ("Do", facts.advice if facts.kind != "resolved" else ""),
        ("Note", _NOTES.get(facts.kind, "")),
        ("Link", facts.link),
    )
    lines = [f"{name}: {text}" for name, text in answers if text]
    return [facts.headline, *lines, f"alert {facts.alert_id[:8]}, message {facts.id[:8]}"]


def _when(facts: AlertMessage) -> str:
    if facts.since is None:
        return ""
    end = facts.resolved_at if facts.resolved_at is not None else facts.at
    lasted = span(max(0.0, end - facts.since), whole=True)
    if facts.resolved_at is not None:
        return f"{moment(facts.since)} until {moment(facts.resolved_at)} ({lasted})"
    return f"{moment(facts.since)} ({lasted})"


def _runs(facts: AlertMessage) -> str:
    shown = ", ".join(facts.runs[:_RUNS_SHOWN])
    if not shown:
        # What is counted may be no runs: due times, messages. The value says the number with its noun.
        return ""
    more = max(facts.count, len(facts.runs)) - min(len(facts.runs), _RUNS_SHOWN)
    return f"{shown} and {more:,} more" if more > 0 else shown
