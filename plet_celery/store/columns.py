"""What tables are made of: widths and types of columns, and how a table is named on each engine."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from sqlalchemy import Column, Index, LargeBinary, MetaData, PrimaryKeyConstraint, String, Table, Text, text
from sqlalchemy.dialects import mysql

ID_MAX: Final = 255
TASK_MAX: Final = 255
TENANT_MAX: Final = 255
QUEUE_MAX: Final = 128
WORD_MAX: Final = 64
META_KEY_MAX: Final = 255
META_VALUE_MAX: Final = 200


def fit(value: str, limit: int) -> str:
    """Return `value`, or where it is longer than `limit` its start and a hash: still one key per value."""
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{value[: limit - 17]}~{digest}"


def key(limit: int) -> String:
    """Return the type of an id or name: compared by bytes, whatever the database's own collation is."""
    return (
        String(limit)
        .with_variant(String(limit, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(limit, collation="utf8mb4_bin"), "mysql", "mariadb")
    )


def long_text() -> Text:
    """Return the type of a JSON document."""
    return Text().with_variant(mysql.MEDIUMTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


def blob() -> LargeBinary:
    """Return the type of compressed bytes."""
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def place(dialect: str) -> tuple[str, str | None]:
    """Return the tables' name prefix and schema on an engine."""
    if dialect == "postgresql":
        return "", "plet"
    return ("plet_", None) if dialect in ("mysql", "mariadb") else ("", None)


class TableMaker:
    """Makes tables with the names and options of an engine."""

    def __init__(self, metadata: MetaData, prefix: str) -> None:
        self.metadata = metadata
        self._prefix = prefix

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> Table:
        # A narrow table without SQLite's rowid is one tree instead of two.
        options: dict[str, Any] = {"sqlite_with_rowid": False} if dense else {}
        full = self._prefix + name
        constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
        return Table(full, self.metadata, *columns, constraint, **options)

    def index(self, table: Table, name: str, *columns: str, where: str | None = None) -> None:
        """Index columns of a table; with `where` only the rows that it names."""
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        options: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        Index(f"ix_{table.name}_{name}", *(table.c[column] for column in columns), **options)


def required(name: str, type_: Any) -> Column[Any]:
    """Return a column that is never null."""
    return Column(name, type_, nullable=False)
