"""The monitor's tables: checks, objectives, alerts and their outbox."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, PrimaryKeyConstraint, Text, inspect, text

from plet_celery.store.columns import key, long_text, options, place
from plet_celery.store.schema import WORKS_FROM, tables_for

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what MariaDB has made before it was interrupted is passed over."""
    make = _Maker(op.get_context().dialect.name)
    for table in (
        *(_watch, _health, _objective, _due, _tally),
        *(_alert, _transition, _delivery, _silence, _channel),
    ):
        table(make)
    info = tables_for(op.get_context().dialect.name).info
    op.execute(info.delete().where(info.c.name == WORKS_FROM))
    # Nothing is changed of the tables that were there.
    op.execute(info.insert().values(name=WORKS_FROM, value=f"{revision} 0001"))


class _Maker:
    """Makes what is not there yet: MariaDB commits each statement, and may have been interrupted."""

    def __init__(self, dialect: str) -> None:
        self._prefix, self._schema = place(dialect)
        self._found = None if op.get_context().as_sql else inspect(op.get_bind())

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> str:
        full = self._prefix + name
        if self._found is None or not self._found.has_table(full, schema=self._schema):
            constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
            op.create_table(full, *columns, constraint, schema=self._schema, **options(dense=dense))
        return full

    def index(self, table: str, name: str, *columns: str, where: str | None = None) -> None:
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        partial: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        full = f"ix_{table}_{name}"
        if full not in self._indexes(table):
            op.create_index(full, table, list(columns), schema=self._schema, **partial)

    def _indexes(self, table: str) -> set[str]:
        if self._found is None:
            return set()
        self._found.clear_cache()
        if not self._found.has_table(table, schema=self._schema):
            return set()
        return {one["name"] or "" for one in self._found.get_indexes(table, schema=self._schema)}


def _required(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _watch(make: _Maker) -> None:
    make(
        "watch",
        _required("name", key(64)),
        _required("owner", key(64)),
        _required("epoch", BigInteger()),
        _required("held_until", Double()),
        Column("begun_at", Double()),
        Column("passed_at", Double()),
        _required("has_app", Integer()),
        Column("doc", long_text()),
        primary=("name",),
        dense=True,
    )


def _health(make: _Maker) -> None:
    make(
        "health",
        _required("name", key(64)),
        _required("subject", key(255)),
        _required("level", key(16)),
        _required("since", Double()),
        _required("checked_at", Double()),
        _required("doc", long_text()),
        primary=("name", "subject"),
    )


def _objective(make: _Maker) -> None:
    make(
        "objective",
        _required("id", key(64)),
        _required("task", key(255)),
        _required("kind", key(16)),
        _required("seen_at", Double()),
        _required("first_seen_at", Double()),
        Column("gone_at", Double()),
        _required("state", key(16)),
        Column("since", Double()),
        _required("doc", long_text()),
        primary=("id",),
    )


def _due(make: _Maker) -> None:
    table = make(
        "due",
        _required("objective_id", key(64)),
        _required("due_at", Double()),
        _required("state", key(16)),
        Column("met_at", Double()),
        Column("run_id", Text()),
        primary=("objective_id", "due_at"),
        dense=True,
    )
    make.index(table, "time", "due_at")


def _tally(make: _Maker) -> None:
    make(
        "tally",
        _required("hour", BigInteger()),
        _required("objective_id", key(64)),
        _required("good", BigInteger()),
        _required("bad", BigInteger()),
        primary=("hour", "objective_id"),
        dense=True,
    )


def _alert(make: _Maker) -> None:
    table = make(
        "alert",
        _required("id", key(64)),
        _required("rule", key(64)),
        _required("subject", key(255)),
        _required("state", key(16)),
        _required("severity", key(16)),
        Column("task", key(255)),
        Column("queue", key(128)),
        _required("tenant", key(255)),
        _required("pending_at", Double()),
        Column("fired_at", Double()),
        Column("broken_at", Double()),
        Column("resolved_at", Double()),
        Column("acknowledged_at", Double()),
        _required("updated_at", Double()),
        _required("transitions", Integer()),
        _required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "updated", "updated_at")
    make.index(table, "state", "state", "updated_at")
    make.index(table, "subject", "rule", "subject", "pending_at")
    make.index(table, "resolved", "resolved_at", where="resolved_at IS NOT NULL")


def _transition(make: _Maker) -> None:
    make(
        "transition",
        _required("alert_id", key(64)),
        _required("number", Integer()),
        _required("at", Double()),
        _required("kind", key(16)),
        _required("doc", long_text()),
        primary=("alert_id", "number"),
    )


def _delivery(make: _Maker) -> None:
    table = make(
        "delivery",
        _required("id", key(64)),
        _required("alert_id", key(64)),
        _required("number", Integer()),
        _required("channel", key(64)),
        _required("state", key(16)),
        _required("needs_app", Integer()),
        _required("made_at", Double()),
        _required("next_at", Double()),
        Column("held_until", Double()),
        Column("owner", key(64)),
        _required("tries", Integer()),
        Column("ended_at", Double()),
        Column("status", key(255)),
        _required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "next", "state", "next_at")
    make.index(table, "alert", "alert_id", "number")


def _silence(make: _Maker) -> None:
    table = make(
        "silence",
        _required("id", key(64)),
        _required("rule", key(64)),
        _required("subject", key(255)),
        _required("made_at", Double()),
        _required("until", Double()),
        Column("ended_at", Double()),
        _required("doc", long_text()),
        primary=("id",),
    )
    make.index(table, "until", "until")


def _channel(make: _Maker) -> None:
    make(
        "channel",
        _required("name", key(64)),
        _required("failures", Integer()),
        Column("failing_since", Double()),
        Column("succeeded_at", Double()),
        Column("disabled_at", Double()),
        _required("doc", long_text()),
        primary=("name",),
    )
