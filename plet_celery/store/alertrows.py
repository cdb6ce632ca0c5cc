"""Alerts, transitions and silences as their rows have them, and what readers get of each."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from plet_celery.watchfacts import Alert, AlertDoc, AlertState, Severity, Silence

OPEN: Final = (AlertState.PENDING.value, AlertState.FIRING.value)
ACKNOWLEDGED: Final = "acknowledged"


class Transition(msgspec.Struct, kw_only=True, frozen=True):
    """What became of an alert at a moment."""

    alert_id: str
    number: int
    """From 1, without gaps."""
    at: float
    kind: str
    """As `Change.kind`."""
    state: str = ""
    severity: str = ""
    value: str = ""
    """The alert's value then, in words."""
    is_told: bool = False
    """Channels were told of it."""
    by: str = ""
    """Who acknowledged."""
    note: str = ""


class TransitionDoc(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The part of a transition that its row has as JSON."""

    state: str = ""
    severity: str = ""
    value: str = ""
    is_told: bool = False
    by: str = ""
    note: str = ""


class Sent(msgspec.Struct, kw_only=True, frozen=True):
    """A message of a transition to a channel, and how it went."""

    id: str
    """The idempotency key."""
    alert_id: str
    number: int
    """The transition's."""
    channel: str
    state: str
    """`waiting`, `delivered`, `dropped`."""
    made_at: float
    tries: int
    next_at: float | None = None
    """When it is tried next, while it waits."""
    ended_at: float | None = None
    status: str | None = None


class AlertCounts(msgspec.Struct, kw_only=True, frozen=True):
    """How many alerts are open."""

    firing: int = 0
    """Of which `silenced` and `acknowledged` are a part."""
    pending: int = 0
    silenced: int = 0
    """Firing, and nobody is told."""
    acknowledged: int = 0
    """Firing, and somebody has said that they know."""
    no_data: int = 0
    """Open, while their rule cannot say anything."""
    critical: int = 0
    """Firing, of severity `critical`."""


class SilenceDoc(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The part of a silence that its row has as JSON: the patterns as they were given, too."""

    rule: str = "*"
    subject: str = "*"
    tenants: tuple[str, ...] | None = None
    by: str = ""
    reason: str = ""
    ended_by: str = ""


_docs: Final = msgspec.json.Decoder(AlertDoc)
_transitions: Final = msgspec.json.Decoder(TransitionDoc)
_silences: Final = msgspec.json.Decoder(SilenceDoc)


def alert_of(row: Any) -> Alert:
    """Return the alert of a row."""
    return Alert(
        id=row.id,
        rule=row.rule,
        subject=row.subject,
        state=AlertState(row.state),
        severity=Severity(row.severity),
        task=row.task,
        queue=row.queue,
        tenant=row.tenant,
        pending_at=row.pending_at,
        fired_at=row.fired_at,
        broken_at=row.broken_at,
        resolved_at=row.resolved_at,
        acknowledged_at=row.acknowledged_at,
        updated_at=row.updated_at,
        transitions=row.transitions,
        doc=_docs.decode(row.doc),
    )


def values_of(alert: Alert) -> dict[str, Any]:
    """Return the columns of an alert."""
    return {
        "id": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "state": alert.state.value,
        "severity": alert.severity.value,
        "task": alert.task,
        "queue": alert.queue,
        "tenant": alert.tenant,
        "pending_at": alert.pending_at,
        "fired_at": alert.fired_at,
        "broken_at": alert.broken_at,
        "resolved_at": alert.resolved_at,
        "acknowledged_at": alert.acknowledged_at,
        "updated_at": alert.updated_at,
        "transitions": alert.transitions,
        "doc": msgspec.json.encode(alert.doc).decode(),
    }


def doc_of(text: str) -> AlertDoc:
    """Return what an alert says."""
    return _docs.decode(text)


def transition_of(row: Any) -> Transition:
    """Return the transition of a row."""
    doc = _transitions.decode(row.doc)
    return Transition(
        alert_id=row.alert_id,
        number=row.number,
        at=row.at,
        kind=row.kind,
        state=doc.state,
        severity=doc.severity,
        value=doc.value,
        is_told=doc.is_told,
        by=doc.by,
        note=doc.note,
    )


def silence_of(row: Any) -> Silence:
    """Return the silence of a row."""
    doc = _silences.decode(row.doc)
    return Silence(
        id=row.id,
        rule=doc.rule,
        subject=doc.subject,
        tenants=doc.tenants,
        made_at=row.made_at,
        until=row.until,
        ended_at=row.ended_at,
        by=doc.by,
        reason=doc.reason,
        ended_by=doc.ended_by,
    )
