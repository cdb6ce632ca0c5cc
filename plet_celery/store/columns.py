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
# An index row of PostgreSQL holds 2,704 bytes, and five names of 255 characters of four bytes are more.
_BYTES_PER_CHARACTER: Final = 3
# Not `utf8mb4_bin`, for which "a" and "a " are one key. Each server reads its own comment only; Alembic
# compares with the first.
_BYTEWISE: Final = "utf8mb4 /*M! COLLATE utf8mb4_nopad_bin */ /*!80000 COLLATE utf8mb4_0900_bin */"


def fit(value: str, limit: int) -> str:
    """Return `value`, or where a column of `limit` characters cannot hold it its start and a hash.

    So it is still one key per value. PostgreSQL has no NUL in a text: such a value is not held either.
    """
    if len(value) <= limit and (value.isascii() or _is_short(value, limit)) and "\0" not in value:
        return value
    encoded = value.encode("utf-8", "surrogatepass")
    start = encoded[: _BYTES_PER_CHARACTER * (limit - 17)].decode("utf-8", "ignore")
    start = start.replace("\0", "\ufffd")[: limit - 17]
    return f"{start}~{hashlib.sha256(encoded).hexdigest()[:16]}"


def asked(value: str, limit: int) -> str:
    """Return what somebody asks for as its column holds it; half a character is in no column."""
    return fit(value.encode("utf-8", "replace").decode(), limit)


def key(limit: int) -> String:
    """Return the type of an id or name: compared by bytes, whatever the database's own collation is."""
    return (
        String(limit)
        .with_variant(String(limit, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(limit, charset=_BYTEWISE), "mysql", "mariadb")
    )


def long_text() -> Text:
    """Return the type of a JSON document."""
    return Text().with_variant(mysql.MEDIUMTEXT(charset=_BYTEWISE), "mysql", "mariadb")


def blob() -> LargeBinary:
    """Return the type of compressed bytes."""
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def place(dialect: str) -> tuple[str, str | None]:
    """Return the tables' name prefix and schema on an engine."""
    if dialect == "postgresql":
        return "", "plet"
    return ("plet_", None) if dialect in ("mysql", "mariadb") else ("", None)


def options(*, dense: bool) -> dict[str, Any]:
    """Return what a table is told besides its columns, on each engine."""
    found: dict[str, Any] = {}
    for engine in ("mysql", "mariadb"):
        # Whatever the server's defaults are: a row format of before 10.2 has no room for our keys.
        given = {"engine": "InnoDB", "row_format": "DYNAMIC", "default_charset": "utf8mb4"}
        found |= {f"{engine}_{name}": value for name, value in given.items()}
    # A narrow table without SQLite's rowid is one tree instead of two.
    return found | ({"sqlite_with_rowid": False} if dense else {})


class TableMaker:
    """Makes tables with the names and options of an engine."""

    def __init__(self, metadata: MetaData, prefix: str) -> None:
        self.metadata = metadata
        self._prefix = prefix

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> Table:
        full = self._prefix + name
        constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
        return Table(full, self.metadata, *columns, constraint, **options(dense=dense))

    def index(self, table: Table, name: str, *columns: str, where: str | None = None) -> None:
        """Index columns of a table; with `where` only the rows that it names."""
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        partial: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        Index(f"ix_{table.name}_{name}", *(table.c[column] for column in columns), **partial)


def required(name: str, type_: Any) -> Column[Any]:
    """Return a column that is never null."""
    return Column(name, type_, nullable=False)


def _is_short(value: str, limit: int) -> bool:
    return len(value.encode("utf-8", "surrogatepass")) <= _BYTES_PER_CHARACTER * limit
