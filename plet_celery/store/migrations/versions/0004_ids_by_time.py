"""The index of runs by time holds their ids: a page is read from it alone, and so is a search by id."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from plet_celery.store.columns import place
from plet_celery.store.schema import WORKS_FROM, tables_for

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index that holds more, then drop the one that holds less."""
    dialect = op.get_context().dialect.name
    prefix, schema = place(dialect)
    table = f"{prefix}run"
    newer, older = f"ix_{table}_newest", f"ix_{table}_created"
    found = _indexes(table, schema)
    if found is None or newer not in found:
        op.create_index(newer, table, ["created_at", "id"], schema=schema)
    if found is None or older in found:
        op.drop_index(older, table, schema=schema)
    info = tables_for(dialect).info
    op.execute(info.delete().where(info.c.name == WORKS_FROM))
    # No table changes: a version that knows 0001 alone goes on.
    op.execute(info.insert().values(name=WORKS_FROM, value=f"{revision} 0001"))


def _indexes(table: str, schema: str | None) -> set[str] | None:
    """Return the indexes that are there, or None where only text is asked for."""
    # MariaDB commits each statement by itself, and may have been interrupted.
    if op.get_context().as_sql:
        return None
    return {one["name"] or "" for one in inspect(op.get_bind()).get_indexes(table, schema=schema)}
