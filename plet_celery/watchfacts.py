"""What the parts of a pass hand to each other: plain facts, no clock, no database.

checks ──► CheckResult ─┐
snapshot ─► promises ───┼─► Judgement ─► life ─► Change ─► store ─► outbox ─► channels
rollups ──► rules ──────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """The answer of a check. A check without data is never ok."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    NO_DATA = "no_data"
    """It could not be asked, or did not answer in time: the reason is the observation."""


class Verdict(StrEnum):
    """What a rule says of its subject at a moment."""

    KEPT = "kept"
    BROKEN = "broken"
    NO_DATA = "no_data"


class Severity(StrEnum):
    """How much an alert matters; channels are routed by it."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an episode is."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What one check found of one subject."""

    name: str
    """The check, a word: `store`, `broker`, `queue`, `workers`, `shipper`, …"""
    subject: str = ""
    """What was looked at where there are several: a queue, a host, a worker; unique within the check."""
    level: Level
    observation: str
    """What was seen, a sentence with its value and unit."""
    expectation: str = ""
    """What is wanted, with the limit."""
    affected: str = ""
    """Who or what suffers: tasks, queues, users."""
    advice: str = ""
    """What to do."""
    since: float | None = None
    """Since when by its own evidence, seconds since the epoch; None: since the pass that first saw it."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and names for machines, JSON values; never secret."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a rule says of one subject in this pass. Rule and subject together are the identity."""

    rule: str
    """`objective:<id>`, `failure_rate`, `check:broker`, …: at most 64 bytes."""
    subject: str
    """A task, queue, host, worker or check: at most 255 bytes; never a run, many of which are one alert."""
    verdict: Verdict
    severity: Severity = Severity.WARNING
    pending_for: float = 0.0
    """Seconds that passes have to see it broken before the alert fires (`for`)."""
    keep_firing_for: float = 0.0
    """Seconds it has to be kept before the alert resolves."""
    since: float | None = None
    """Since when it is broken, where that is known: seconds since the epoch."""
    title: str = ""
    """What is wrong, a short sentence without values that change."""
    value: str = ""
    """What is, in words: `last success 26 h ago`."""
    limit: str = ""
    """What was promised, in words: `every 24 h + 1 h grace`."""
    affected: str = ""
    advice: str = ""
    task: str | None = None
    queue: str | None = None
    tenant: str = ""
    runs: tuple[str, ...] = ()
    """Run ids that are involved, at most 20."""
    count: int = 0
    """How many runs (or hosts, …) are involved, also those not named."""


@dataclass(frozen=True, kw_only=True)
class AlertDoc:
    """What an alert says, kept as JSON in its row."""

    title: str = ""
    value: str = ""
    limit: str = ""
    affected: str = ""
    advice: str = ""
    since: float | None = None
    """Since when it is broken, where that is known."""
    runs: tuple[str, ...] = ()
    count: int = 0
    pending_for: float = 0.0
    keep_firing_for: float = 0.0
    is_flapping: bool = False
    has_data: bool = True
    """False while the rule cannot say anything."""
    unjudged_since: float | None = None
    """Since when no rule speaks of it; None while one does."""
    is_gone: bool = False
    """It was resolved because no rule spoke of it any more, not because all was well."""
    kept_since: float | None = None
    """Since when passes see it kept; None while it is broken."""
    is_silenced: bool = False
    """As the last pass saw it."""
    is_told: bool = False
    """Channels were told of this episode."""
    acknowledged_by: str = ""
    note: str = ""
    recent: tuple[float, ...] = ()
    """When it fired and resolved in the last hour, of all episodes of this rule and subject; while it
    flaps, when it turned."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One episode of a rule and subject, as its row has it. Times are seconds since the epoch."""

    id: str
    """32 hex digits, random."""
    rule: str
    subject: str
    state: AlertState
    severity: Severity
    task: str | None = None
    queue: str | None = None
    tenant: str = ""
    pending_at: float
    fired_at: float | None = None
    broken_at: float | None = None
    """When a pass last saw it broken."""
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    updated_at: float
    transitions: int = 0
    """How many there are; the newest one's number."""
    doc: AlertDoc = AlertDoc()


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a pass makes of one alert."""

    alert: Alert
    """As it is from now on."""
    kind: str = ""
    """The transition: `pending`, `fired`, `resolved`, `ended` (pending and never fired), `worse` (its
    severity rose), `flapping`, `steady` (it fires and does not flap any more), `no_data`, `has_data`,
    `unsilenced` (a silence ended while it fires), `acknowledged`; empty: only values changed."""
    is_told: bool = False
    """Channels are told of it; never while it is silenced."""


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Alerts of which nobody is told until a time. Patterns are those of `fnmatch`: `*`, `?`, `[ab]`."""

    id: str
    """32 hex digits, random."""
    rule: str = "*"
    subject: str = "*"
    tenants: tuple[str, ...] | None = None
    """What its maker may see, and so may silence; None: everything."""
    made_at: float
    until: float
    ended_at: float | None = None
    """When a person ended it before its time."""
    by: str = ""
    reason: str = ""
    ended_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Route:
    """A channel that is told of a transition."""

    channel: str
    needs_app: bool
    """Only a pass that has the user's app may deliver it (Python callables, signals)."""


@dataclass(frozen=True, kw_only=True)
class WatchLease:
    """The right to pass; whoever has an older epoch writes nothing any more."""

    owner: str
    epoch: int
    held_until: float
    """By the store's clock."""
