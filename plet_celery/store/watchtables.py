"""The monitor's tables: checks, objectives, alerts, what is sent of them, and who passes at the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Double, Integer, Table, Text

from plet_celery.store.columns import (
    QUEUE_MAX,
    TASK_MAX,
    TENANT_MAX,
    WORD_MAX,
    TableMaker,
    key,
    long_text,
    required,
)

SUBJECT_MAX: Final = 255
CHANNEL_MAX: Final = 64


@dataclass(frozen=True)
class WatchTables:
    """Those of a pass, see `docs/alerts.md`."""

    watch: Table
    """One row, `monitor`: the lease of a pass, and how the last one went."""
    health: Table
    """The newest answer of every check, one row a check and subject."""
    objective: Table
    """Every promise that was declared, by its id; one that nobody declares any more has `gone_at`."""
    due: Table
    """Times at which a success was due, once each, and whether it came."""
    tally: Table
    """How many ends of an hour kept an objective, and how many did not."""
    alert: Table
    """One row per rule, subject and episode."""
    transition: Table
    """What became of an alert, in order."""
    delivery: Table
    """The outbox: one row per transition and channel; its id is the idempotency key."""
    silence: Table
    channel: Table
    """How each channel does; one that fails for long is disabled here."""


def watch_tables(make: TableMaker) -> WatchTables:
    """Return the tables as they are named on the engine of `make`."""
    return WatchTables(
        watch=_watch(make),
        health=_health(make),
        objective=_objective(make),
        due=_due(make),
        tally=_tally(make),
        alert=_alert(make),
        transition=_transition(make),
        delivery=_delivery(make),
        silence=_silence(make),
        channel=_channel(make),
    )


def _watch(make: TableMaker) -> Table:
    return make(
        "watch",
        required("name", key(WORD_MAX)),
        required("owner", key(WORD_MAX)),
        required("epoch", BigInteger()),
        required("held_until", Double()),
        Column("begun_at", Double()),
        Column("passed_at", Double()),
        required("has_app", Integer()),
        Column("doc", long_text()),
        primary=("name",),
        dense=True,
    )


def _health(make: TableMaker) -> Table:
    return make(
        "health",
        required("name", key(WORD_MAX)),
        required("subject", key(SUBJECT_MAX)),
        required("level", key(16)),
        required("since", Double()),
        required("checked_at", Double()),
        required("doc", long_text()),
        primary=("name", "subject"),
    )


def _objective(make: TableMaker) -> Table:
    return make(
        "objective",
        required("id", key(WORD_MAX)),
        required("task", key(TASK_MAX)),
        required("kind", key(16)),
        required("seen_at", Double()),
        required("first_seen_at", Double()),
        Column("gone_at", Double()),
        required("state", key(16)),
        Column("since", Double()),
        required("doc", long_text()),
        primary=("id",),
    )


def _due(make: TableMaker) -> Table:
    table = make(
        "due",
        required("objective_id", key(WORD_MAX)),
        required("due_at", Double()),
        required("state", key(16)),
        Column("met_at", Double()),
        Column("run_id", Text()),
        primary=("objective_id", "due_at"),
        dense=True,
    )
    make.index(table, "time", "due_at")
    return table


def _tally(make: TableMaker) -> Table:
    return make(
        "tally",
        required("hour", BigInteger()),
        required("objective_id", key(WORD_MAX)),
        required("good", BigInteger()),
        required("bad", BigInteger()),
        primary=("hour", "objective_id"),
        dense=True,
    )


def _alert(make: TableMaker) -> Table:
    table = make(
        "alert",
        required("id", key(WORD_MAX)),
        required("rule", key(WORD_MAX)),
        required("subject", key(SUBJECT_MAX)),
        required("state", key(16)),
        required("severity", key(16)),
        Column("task", key(TASK_MAX)),
        Column("queue", key(QUEUE_MAX)),
        required("tenant", key(TENANT_MAX)),
        required("pending_at", Double()),
        Column("fired_at", Double()),
        Column("broken_at", Double()),
        Column("resolved_at", Double()),
        Column("acknowledged_at", Double()),
        required("updated_at", Double()),
        required("transitions", Integer()),
        required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "updated", "updated_at")
    make.index(table, "state", "state", "updated_at")
    make.index(table, "subject", "rule", "subject", "pending_at")
    make.index(table, "resolved", "resolved_at", where="resolved_at IS NOT NULL")
    return table


def _transition(make: TableMaker) -> Table:
    return make(
        "transition",
        required("alert_id", key(WORD_MAX)),
        required("number", Integer()),
        required("at", Double()),
        required("kind", key(16)),
        required("doc", long_text()),
        primary=("alert_id", "number"),
    )


def _delivery(make: TableMaker) -> Table:
    table = make(
        "delivery",
        required("id", key(WORD_MAX)),
        required("alert_id", key(WORD_MAX)),
        required("number", Integer()),
        required("channel", key(CHANNEL_MAX)),
        required("state", key(16)),
        required("needs_app", Integer()),
        required("made_at", Double()),
        required("next_at", Double()),
        Column("held_until", Double()),
        Column("owner", key(WORD_MAX)),
        required("tries", Integer()),
        Column("ended_at", Double()),
        Column("status", key(255)),
        required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "next", "state", "next_at")
    make.index(table, "alert", "alert_id", "number")
    return table


def _silence(make: TableMaker) -> Table:
    table = make(
        "silence",
        required("id", key(WORD_MAX)),
        required("rule", key(WORD_MAX)),
        required("subject", key(SUBJECT_MAX)),
        required("made_at", Double()),
        required("until", Double()),
        Column("ended_at", Double()),
        required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "until", "until")
    return table


def _channel(make: TableMaker) -> Table:
    return make(
        "channel",
        required("name", key(CHANNEL_MAX)),
        required("failures", Integer()),
        Column("failing_since", Double()),
        Column("succeeded_at", Double()),
        Column("disabled_at", Double()),
        required("doc", long_text()),
        primary=("name",),
    )
