"""Rows in bulk: the one place where engines differ in how many rows go in at once.

Rows are plain tuples in the order of the table's columns. The statements are made once per table and
engine and run by the driver's executemany, past SQLAlchemy's handling of single values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.schema import Table

Row = tuple[Any, ...]

# Keys in one statement: it has always so many places, so that it is put together once.
_AT_ONCE: Final = 500
_FEW: Final = 50


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows whose keys are not there yet; sort them by key (locks are then taken in one order)."""
    if rows:
        connection.exec_driver_sql(_insert_sql(table, _Style(connection.dialect)), list(rows))


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Replace all columns but the key of rows that are there."""
    if rows:
        at = [table.columns.keys().index(column.name) for column in table.primary_key]
        rest = [index for index in range(len(table.columns)) if index not in at]
        order = [*rest, *at]
        values = [tuple(row[index] for index in order) for row in rows]
        connection.exec_driver_sql(_update_sql(table, _Style(connection.dialect)), values)


def delete(connection: Connection, table: Table, keys: Iterable[Row]) -> None:
    """Delete rows by their primary key's values."""
    found = list(keys)
    if found:
        connection.exec_driver_sql(_delete_sql(table, _Style(connection.dialect)), found)


def add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert counters, or add to those that are there: every column that is no key is a count."""
    if rows:
        connection.exec_driver_sql(_add_sql(table, _Style(connection.dialect)), list(rows))


def fetch(
    connection: Connection,
    table: Table,
    keys: Iterable[Row],
    *,
    columns: tuple[str, ...] = (),
    lock: bool = False,
) -> Iterator[Row]:
    """Yield the rows with these primary keys, or with these first parts of it, in the order of the key.

    As fast as the driver: a statement of the toolkit takes longer to be put together than to run.

    Args:
        keys: all of one length.
        columns: all of them by default.
        lock: until the transaction ends, where the engine locks rows (SQLite has locked the database).
    """
    ordered = sorted(keys)
    if not ordered:
        return
    style, width = _Style(connection.dialect), len(ordered[0])
    at_once = _AT_ONCE if len(ordered) > _FEW else _FEW
    sql = _fetch_sql(table, style, columns, width, at_once, lock and style.name != "sqlite")
    for start in range(0, len(ordered), at_once):
        some = ordered[start : start + at_once]
        some += some[-1:] * (at_once - len(some))
        values = tuple(value for key in some for value in key)
        if width > 1:
            values = (*(key[0] for key in some), *values)
        yield from map(tuple, connection.exec_driver_sql(sql, values))


class _Style:
    """How an engine writes names and placeholders; equal ones share their statements."""

    def __init__(self, dialect: Dialect) -> None:
        self.name = dialect.name
        self.preparer = dialect.identifier_preparer
        self.mark = "?" if dialect.paramstyle == "qmark" else "%s"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Style) and (self.name, self.mark) == (other.name, other.mark)

    def __hash__(self) -> int:
        return hash((self.name, self.mark))

    def table(self, table: Table) -> str:
        return str(self.preparer.format_table(table))

    def column(self, column: sa.Column[Any]) -> str:
        return str(self.preparer.format_column(column))

    def pairs(self, columns: Iterable[sa.Column[Any]], between: str) -> str:
        return between.join(f"{self.column(column)} = {self.mark}" for column in columns)


@functools.cache
def _fetch_sql(
    table: Table, style: _Style, columns: tuple[str, ...], width: int, at_once: int, lock: bool
) -> str:
    shown = [column for column in table.columns if not columns or column.name in columns]
    keys = [style.column(column) for column in table.primary_key]
    marks = ", ".join([style.mark] * at_once)
    among = f"{keys[0]} IN ({marks})"
    if width > 1:
        # The first part alone as well: SQLite finds no index for several. It takes rows in a list
        # only as VALUES, which MariaDB does not know.
        row = f"({', '.join([style.mark] * width)})"
        values = "VALUES " if style.name == "sqlite" else ""
        among += f" AND ({', '.join(keys[:width])}) IN ({values}{', '.join([row] * at_once)})"
    names = ", ".join(map(style.column, shown))
    sql = f"SELECT {names} FROM {style.table(table)} WHERE {among} ORDER BY {', '.join(keys)}"
    return f"{sql} FOR UPDATE" if lock else sql


@functools.cache
def _insert_sql(table: Table, style: _Style) -> str:
    names = ", ".join(map(style.column, table.columns))
    marks = ", ".join(style.mark for _ in table.columns)
    return f"INSERT INTO {style.table(table)} ({names}) VALUES ({marks})"


@functools.cache
def _update_sql(table: Table, style: _Style) -> str:
    rest = [column for column in table.columns if not column.primary_key]
    where = style.pairs(table.primary_key, " AND ")
    return f"UPDATE {style.table(table)} SET {style.pairs(rest, ', ')} WHERE {where}"


@functools.cache
def _delete_sql(table: Table, style: _Style) -> str:
    return f"DELETE FROM {style.table(table)} WHERE {style.pairs(table.primary_key, ' AND ')}"


@functools.cache
def _add_sql(table: Table, style: _Style) -> str:
    counts = [style.column(column) for column in table.columns if not column.primary_key]
    if style.name in ("mysql", "mariadb"):
        sums = ", ".join(f"{name} = {name} + VALUES({name})" for name in counts)
        return f"{_insert_sql(table, style)} ON DUPLICATE KEY UPDATE {sums}"
    own = style.table(table)
    keys = ", ".join(map(style.column, table.primary_key))
    sums = ", ".join(f"{name} = {own}.{name} + excluded.{name}" for name in counts)
    return f"{_insert_sql(table, style)} ON CONFLICT ({keys}) DO UPDATE SET {sums}"
