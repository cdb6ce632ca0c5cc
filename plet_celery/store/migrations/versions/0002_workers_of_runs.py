"""The worker of a run as a column, and indexes by worker and by queue.

A shipper of the version before knows nothing of the column: its rows have none, and are found by it once
a newer one tells of them.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Column, inspect, text

from plet_celery.store.columns import key, place
from plet_celery.store.schema import WORKS_FROM, tables_for

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the indexes."""
    prefix, schema = place(op.get_context().dialect.name)
    table = f"{prefix}run"
    done = _done(table, schema)
    if "worker" not in done:
        op.add_column(table, Column("worker", key(255), nullable=True), schema=schema)
    for name in ("worker", "queue"):
        if f"ix_{table}_{name}" in done:
            continue
        # MariaDB has no partial indexes; there the whole column is indexed.
        where: dict[str, Any] = {
            f"{engine}_where": text(f"{name} IS NOT NULL") for engine in ("sqlite", "postgresql")
        }
        op.create_index(f"ix_{table}_{name}", table, [name, "state", "created_at"], schema=schema, **where)
    info = tables_for(op.get_context().dialect.name).info
    op.execute(info.delete().where(info.c.name == WORKS_FROM))
    op.execute(info.insert().values(name=WORKS_FROM, value=f"{revision} {down_revision}"))


def _done(table: str, schema: str | None) -> set[str]:
    """Return the columns and indexes that are there: MariaDB commits each statement by itself."""
    if op.get_context().as_sql:
        return set()
    found = inspect(op.get_bind())
    names = [one["name"] for one in found.get_columns(table, schema=schema)]
    return {*names, *(one["name"] or "" for one in found.get_indexes(table, schema=schema))}
