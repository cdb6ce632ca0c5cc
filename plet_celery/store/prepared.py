"""Statements as text with their values: put together by the toolkit once, and run as fast as the driver.

What a live page asks every other second is the same statement each time: to put it together takes longer
than to run it. Whoever makes these keeps them (`functools.lru_cache`), by all that they depend on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

_NAMED: Final = re.compile(r"%\((\w+)\)s")

Values = dict[str, Any] | tuple[Any, ...]


class Statement(NamedTuple):
    """A statement of one engine; its values are named or in order, as its driver wants them."""

    text: str
    values: Values
    sorts: bool = False
    """It sorts what it reads, which is not much."""

    def rows(self, connection: Connection) -> list[tuple[Any, ...]]:
        """Return its rows, as plain as the driver gives them."""
        return driver_rows(connection.exec_driver_sql(self.text, self.values))


def driver_rows(result: sa.CursorResult[Any]) -> list[tuple[Any, ...]]:
    """Return all rows of a result without making a row of the toolkit of each."""
    cursor: Any = result.cursor
    found: list[tuple[Any, ...]] = list(cursor.fetchall())
    result.close()
    return found


class Part(NamedTuple):
    """A query, and the values of some of its parameters: the same query serves several parts."""

    query: sa.Select[Any]
    values: Mapping[str, str] = MappingProxyType({})


def prepared(query: Any, dialect: Dialect) -> Statement:
    """Return a query (a Select) as text; lists of values that it compares with are part of it."""
    return united([Part(query)], dialect, order="", limit=0)[0]


def united(parts: Sequence[Part], dialect: Dialect, *, order: str, limit: int) -> list[Statement]:
    """Return one statement with the first `limit` rows of all parts together, or several with more rows.

    MariaDB gets a statement for each part: in a union it reads a whole table where an index has the order.

    Args:
        parts: each in the order of `order`, with a limit of its own.
        order: as text, of names that all parts have: `at DESC, id DESC`.
        limit: a count of rows.
    """
    is_single = len(parts) == 1 or dialect.name not in ("sqlite", "postgresql")
    made: dict[int, tuple[str, dict[str, Any], Sequence[str] | None]] = {}
    for query, _ in parts:
        if id(query) not in made:
            # SQLite merges parts row by row, each from its index: none is read further than is needed.
            is_bare = dialect.name == "sqlite" and not is_single
            made[id(query)] = _compiled(query.order_by(None).limit(None) if is_bare else query, dialect)
    texts, all_values = [], list[Values]()
    for number, (query, mine) in enumerate(parts):
        text, values, places = made[id(query)]
        values = {**values, **mine}
        if places is not None:
            all_values.append(tuple(values[name] for name in places))
        elif is_single:
            all_values.append(values)
        else:
            text = _NAMED.sub(rf"%(\g<1>_{number})s", text)
            all_values.append({f"{name}_{number}": value for name, value in values.items()})
        texts.append(text)
    if is_single:
        return list(map(Statement, texts, all_values))
    each = "{}" if dialect.name == "sqlite" else "({})"
    text = " UNION ALL ".join(map(each.format, texts))
    return [Statement(f"{text} ORDER BY {order} LIMIT {limit:d}", _together(all_values))]


def _compiled(query: sa.Select[Any], dialect: Dialect) -> tuple[str, dict[str, Any], Sequence[str] | None]:
    """Return text, values, and the names of the values in their order where the driver wants them so."""
    compiled: Any = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return str(compiled), dict(compiled.params), compiled.positiontup if compiled.positional else None


def _together(values: Sequence[Values]) -> Values:
    if isinstance(values[0], tuple):
        return tuple(value for some in values for value in some)
    return {name: value for some in values for name, value in dict(some).items()}
