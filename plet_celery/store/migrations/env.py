"""Alembic's entry: runs the versions on the connection that `migrating.py` hands over."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context

from plet_celery.store.columns import place
from plet_celery.store.schema import VERSION_TABLE, tables_for


def options(dialect: str) -> dict[str, Any]:
    """Return what online and offline runs share."""
    _, schema = place(dialect)
    return {
        "target_metadata": tables_for(dialect).metadata,
        "version_table": VERSION_TABLE,
        "version_table_schema": schema,
        "include_schemas": schema is not None,
        "render_as_batch": True,
        "compare_type": True,
    }


def naming(dialect: str) -> str:
    """Return the statement that gives a new store its id, as `migrating.py` does it online."""
    uuid = "CAST(gen_random_uuid() AS TEXT)" if dialect == "postgresql" else "uuid()"
    prefix, schema = place(dialect)
    table = f"{schema}.info" if schema else f"{prefix}info"
    return f"INSERT INTO {table} (name, value) VALUES ('store_id', replace({uuid}, '-', ''))"


def run() -> None:
    """Run the versions, or print them."""
    attributes = context.config.attributes
    if context.is_offline_mode():
        dialect = attributes["dialect"]
        context.configure(dialect_name=dialect, literal_binds=True, **options(dialect))
        with context.begin_transaction():
            if dialect == "postgresql":
                context.execute("CREATE SCHEMA IF NOT EXISTS plet")
            context.run_migrations()
            context.execute(naming(dialect))
        return
    connection = attributes["connection"]
    # IF NOT EXISTS asks for the right to make schemas even where there is nothing to make.
    if connection.dialect.name == "postgresql" and not sa.inspect(connection).has_schema("plet"):
        connection.execute(sa.schema.CreateSchema("plet", if_not_exists=True))
    context.configure(connection=connection, **options(connection.dialect.name))
    with context.begin_transaction():
        context.run_migrations()


run()
