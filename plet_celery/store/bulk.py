"""Rows in bulk: the one place where engines differ in how many rows go in at once.

Rows are plain tuples in the order of the table's columns. The statements are made once per table and
engine. SQLite runs them by executemany; PostgreSQL takes new rows by COPY and everything else as one
array a column; MariaDB takes one text of many rows (`multivalues.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.schema import Table

from plet_celery.store import multivalues
from plet_celery.store.prepared import driver_rows

Row = tuple[Any, ...]

# Keys in one statement: it has always so many places, so that it is put together once.
_AT_ONCE: Final = 500
_FEWER: Final = (1, 10, 50, 100)
# COPY takes three messages to and fro, however few rows there are.
_COPY_FROM: Final = 8


def prepare(engine: Engine) -> None:
    """Make an engine take rows by its driver's bulk path."""
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "do_executemany", _copied)
    elif engine.dialect.name != "sqlite":
        multivalues.prepare(engine)


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows whose keys are not there yet; sort them by key (locks are then taken in one order)."""
    if not rows:
        return
    style = _Style(connection.dialect)
    if style.is_postgres and len(rows) >= _COPY_FROM:
        connection.exec_driver_sql(_copy_sql(table, style), list(rows))
    elif style.is_postgres:
        connection.exec_driver_sql(_arrays_insert_sql(table, style), _arrays(rows))
    else:
        _many(connection, style, _insert_sql(table, style), rows)


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Replace all columns but the key of rows that are there."""
    if not rows:
        return
    style = _Style(connection.dialect)
    if style.is_postgres:
        connection.exec_driver_sql(_arrays_update_sql(table, style), _arrays(rows))
    elif style.is_mysql:
        _many(connection, style, _replace_sql(table, style), rows)
    else:
        at = [table.columns.keys().index(column.name) for column in table.primary_key]
        rest = [index for index in range(len(table.columns)) if index not in at]
        order = [*rest, *at]
        values = [tuple(row[index] for index in order) for row in rows]
        connection.exec_driver_sql(_update_sql(table, style), values)


def delete(connection: Connection, table: Table, keys: Iterable[Row]) -> None:
    """Delete rows by their primary key's values."""
    found = sorted(keys)
    if not found:
        return
    style = _Style(connection.dialect)
    if style.is_postgres:
        connection.exec_driver_sql(_arrays_delete_sql(table, style), _arrays(found))
    elif style.is_mysql:
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            sql = f"DELETE FROM {style.table(table)} WHERE {_among(table, style, len(some[0]), len(some))}"
            connection.exec_driver_sql(sql, _among_values(some))
    else:
        connection.exec_driver_sql(_delete_sql(table, style), found)


def add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert counters, or add to those that are there: every column that is no key is a count."""
    if not rows:
        return
    style = _Style(connection.dialect)
    if style.is_postgres:
        connection.exec_driver_sql(_add_sql(table, style), _arrays(rows))
    else:
        _many(connection, style, _add_sql(table, style), rows)


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
    ordered = sorted(set(keys))
    if not ordered:
        return
    style, width = _Style(connection.dialect), len(ordered[0])
    lock = lock and style.name != "sqlite"
    if style.is_postgres:
        sql = _arrays_fetch_sql(table, style, columns, width, lock)
        yield from driver_rows(connection.exec_driver_sql(sql, _arrays(ordered)))
        return
    at_once = next((few for few in _FEWER if len(ordered) <= few), _AT_ONCE)
    sql = _fetch_sql(table, style, columns, width, at_once, lock)
    for start in range(0, len(ordered), at_once):
        some = ordered[start : start + at_once]
        some += some[-1:] * (at_once - len(some))
        yield from driver_rows(connection.exec_driver_sql(sql, _among_values(some)))


class _Style:
    """How an engine writes names and placeholders; equal ones share their statements."""

    def __init__(self, dialect: Dialect) -> None:
        self.name = dialect.name
        self.is_postgres = dialect.name == "postgresql"
        self.is_mysql = dialect.name in ("mysql", "mariadb")
        self.dialect = dialect
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

    def arrays(self, columns: Iterable[sa.Column[Any]]) -> str:
        """Return the rows that arrays make, one array a column, as a table `given` with its names."""
        found = list(columns)
        types = (_array_type(column.type.compile(self.dialect)) for column in found)
        marks = ", ".join(f"{self.mark}::{name}[]" for name in types)
        return f"unnest({marks}) AS given({', '.join(map(self.column, found))})"


def _array_type(name: str) -> str:
    # The column's own width and collation are the column's business.
    return "text" if name.startswith("VARCHAR") else name.split(" COLLATE")[0].lower()


def _arrays(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))


def _many(connection: Connection, style: _Style, sql: str, rows: Sequence[Row]) -> None:
    options = {multivalues.OPTION: True} if style.is_mysql else {}
    connection.exec_driver_sql(sql, list(rows), execution_options=options)


def _copied(cursor: Any, statement: str, rows: Sequence[Row], context: Any) -> bool | None:
    """Take rows by COPY where the statement says so; what goes wrong in it, SQLAlchemy wraps as ever."""
    if not statement.startswith("COPY "):
        return None
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
    return True


def _among(table: Table, style: _Style, width: int, at_once: int) -> str:
    """Return the condition that a row's key, or the first part of it, is one of `at_once`."""
    keys = [style.column(column) for column in table.primary_key]
    marks = ", ".join([style.mark] * at_once)
    among = f"{keys[0]} IN ({marks})"
    if width > 1:
        # The first part alone as well: SQLite finds no index for several. It takes rows in a list
        # only as VALUES, which MariaDB does not know.
        row = f"({', '.join([style.mark] * width)})"
        values = "VALUES " if style.name == "sqlite" else ""
        among += f" AND ({', '.join(keys[:width])}) IN ({values}{', '.join([row] * at_once)})"
    return among


def _among_values(some: Sequence[Row]) -> Row:
    values = tuple(value for key in some for value in key)
    return (*(key[0] for key in some), *values) if len(some[0]) > 1 else values


@functools.cache
def _fetch_sql(
    table: Table, style: _Style, columns: tuple[str, ...], width: int, at_once: int, lock: bool
) -> str:
    among = _among(table, style, width, at_once)
    keys = ", ".join(map(style.column, table.primary_key))
    sql = f"SELECT {_shown(table, style, columns)} FROM {style.table(table)} WHERE {among} ORDER BY {keys}"
    return f"{sql} FOR UPDATE" if lock else sql


@functools.cache
def _arrays_fetch_sql(table: Table, style: _Style, columns: tuple[str, ...], width: int, lock: bool) -> str:
    own, key = style.table(table), list(table.primary_key)
    names = ", ".join(f"{own}.{style.column(column)}" for column in _columns(table, columns))
    sql = (
        f"SELECT {names} FROM {own} JOIN {style.arrays(key[:width])} ON {_matching(style, own, key[:width])}"
        f" ORDER BY {', '.join(f'{own}.{style.column(column)}' for column in key)}"
    )
    return f"{sql} FOR UPDATE OF {style.preparer.quote(table.name)}" if lock else sql


@functools.cache
def _insert_sql(table: Table, style: _Style) -> str:
    marks = ", ".join(style.mark for _ in table.columns)
    return f"INSERT INTO {style.table(table)} ({_shown(table, style)}) VALUES ({marks})"


@functools.cache
def _copy_sql(table: Table, style: _Style) -> str:
    return f"COPY {style.table(table)} ({_shown(table, style)}) FROM STDIN"


@functools.cache
def _arrays_insert_sql(table: Table, style: _Style) -> str:
    names = _shown(table, style)
    return f"INSERT INTO {style.table(table)} ({names}) SELECT * FROM {style.arrays(table.columns)}"


@functools.cache
def _update_sql(table: Table, style: _Style) -> str:
    where = style.pairs(table.primary_key, " AND ")
    return f"UPDATE {style.table(table)} SET {style.pairs(_rest(table), ', ')} WHERE {where}"


@functools.cache
def _replace_sql(table: Table, style: _Style) -> str:
    # One statement for all; an UPDATE takes no list of rows here.
    names = map(style.column, _rest(table))
    news = ", ".join(f"{name} = VALUES({name})" for name in names)
    return f"{_insert_sql(table, style)} ON DUPLICATE KEY UPDATE {news}"


@functools.cache
def _arrays_update_sql(table: Table, style: _Style) -> str:
    own = style.table(table)
    news = ", ".join(f"{name} = given.{name}" for name in map(style.column, _rest(table)))
    where = _matching(style, own, table.primary_key)
    return f"UPDATE {own} SET {news} FROM {style.arrays(table.columns)} WHERE {where}"


@functools.cache
def _delete_sql(table: Table, style: _Style) -> str:
    return f"DELETE FROM {style.table(table)} WHERE {style.pairs(table.primary_key, ' AND ')}"


@functools.cache
def _arrays_delete_sql(table: Table, style: _Style) -> str:
    own = style.table(table)
    where = _matching(style, own, table.primary_key)
    return f"DELETE FROM {own} USING {style.arrays(table.primary_key)} WHERE {where}"


@functools.cache
def _add_sql(table: Table, style: _Style) -> str:
    counts = list(map(style.column, _rest(table)))
    if style.is_mysql:
        sums = ", ".join(f"{name} = {name} + VALUES({name})" for name in counts)
        return f"{_insert_sql(table, style)} ON DUPLICATE KEY UPDATE {sums}"
    keys = ", ".join(map(style.column, table.primary_key))
    # In DO UPDATE the table goes by its bare name.
    name = style.preparer.quote(table.name)
    sums = ", ".join(f"{count} = {name}.{count} + excluded.{count}" for count in counts)
    rows = _arrays_insert_sql(table, style) if style.is_postgres else _insert_sql(table, style)
    return f"{rows} ON CONFLICT ({keys}) DO UPDATE SET {sums}"


def _matching(style: _Style, own: str, columns: Iterable[sa.Column[Any]]) -> str:
    return " AND ".join(f"{own}.{name} = given.{name}" for name in map(style.column, columns))


def _rest(table: Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if not column.primary_key]


def _columns(table: Table, names: tuple[str, ...]) -> list[sa.Column[Any]]:
    return [column for column in table.columns if not names or column.name in names]


def _shown(table: Table, style: _Style, names: tuple[str, ...] = ()) -> str:
    return ", ".join(map(style.column, _columns(table, names)))
