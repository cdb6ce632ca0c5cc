"""The statement whose answer is a list of runs, by the index that leads.

A filter that names several states or tasks has a part for each state and task, each for no more rows than
the page has, and the engine merges them: an index then gives them in order, and nothing is sorted.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from plet_celery.store import tenancy
from plet_celery.store.engine import tie_breaker
from plet_celery.store.filters import STATES, Condition, Filters, Place, begins
from plet_celery.store.leading import PROBES_MAX, Choice, choice_of, ways_of
from plet_celery.store.oldest import oldest_in
from plet_celery.store.prepared import Part, Statement, prepared, united
from plet_celery.store.schema import Tables
from plet_celery.store.settle import run_key

_KEPT_MAX: Final = 512
"""Statements."""


def statements(
    connection: Connection, tables: Tables, wanted: Filters, place: Place | None, limit: int
) -> Sequence[Statement]:
    """Return the statements that give (created_at, id) of all runs of the page, and maybe of others."""
    if wanted.tasks == () or wanted.tenants == ():
        return []
    names = _tenant_names(connection, tables, wanted)
    choice = choice_of(connection, tables, wanted, names)
    return _statements(connection.dialect, tables, wanted, place, limit, names, choice)


@functools.lru_cache(_KEPT_MAX)
def in_time_order(
    dialect: Dialect,
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    limit: int,
    more: int = 0,
    without: tuple[str, ...] = (),
) -> Statement:
    """Return the statement that gives (created_at, id) of runs by their time alone.

    Args:
        more: of `limit` and so many more runs it gives the first `limit` that are in none of `without`.
    """
    table, newer = tables.run, place is not None and place.newer
    query = _in_order(table, limit + more, newer, *_times(table.c.created_at, table.c.id, wanted, place))
    if without:
        some = query.add_columns(table.c.state).subquery()
        query = _in_order(some, limit, newer, some.c.state.not_in(without))
    return prepared(query, dialect)


@functools.lru_cache(_KEPT_MAX)
def _statements(
    dialect: Dialect,
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    limit: int,
    names: tuple[str, ...],
    choice: Choice,
) -> Sequence[Statement]:
    parts = _parts(tables, wanted, place, limit, names, choice, dialect.name)
    order = "created_at, id" if place is not None and place.newer else "created_at DESC, id DESC"
    made = united(parts, dialect, order=order, limit=limit)
    return [one._replace(sorts=True) for one in made] if choice.is_few else made


def _parts(
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    limit: int,
    names: tuple[str, ...],
    choice: Choice,
    dialect: str,
) -> list[Part]:
    """Return the parts of the statement; several have the page's order and its limit."""
    table, newer = tables.run, place is not None and place.newer
    run = tie_breaker(table.c.id, dialect)
    rest = _Rest(tables, wanted, place, hides=dialect == "sqlite", is_late=choice.is_late)
    if wanted.meta and choice.way is None:
        return [Part(_by_metadata(tables, wanted, place, rest, limit))]
    if wanted.canvas is not None:
        key = run_key(wanted.canvas)
        others = (*rest.besides({"canvas"}), *rest.times())
        either = (table.c.canvas == key, table.c.id == key)
        return [Part(_in_order(table, limit, newer, mine, *others, run=run)) for mine in either]
    if choice.way is None:
        return [Part(_in_order(table, limit, newer, *rest.besides(()), *rest.times()))]
    way = ways_of(tables, wanted, names)[choice.way]
    if choice.is_few:
        where = (*way.where, *rest.besides(way.replaced), *rest.times(hidden=True))
        # By a sum: by the column alone, engines would read the index by time instead, from its end.
        at, tie = table.c.created_at + 0.0, table.c.id
        order = (at, tie) if newer else (at.desc(), tie.desc())
        return [Part(sa.select(table.c.created_at, tie).where(*where).order_by(*order).limit(limit))]
    names = tuple(f"one_{column.key}" for column in way.columns)
    same = (column == sa.bindparam(f"one_{column.key}", "", sa.String()) for column in way.columns)
    where = (*same, *way.more, *rest.besides(way.replaced), *rest.times())
    query = _in_order(table, limit, newer, *where, run=run)
    return [Part(query, dict(zip(names, values, strict=True))) for values in itertools.product(*way.values)]


def _tenant_names(connection: Connection, tables: Tables, wanted: Filters) -> tuple[str, ...]:
    """Return the tenants that are asked for one by one; none where there are too many, or no need."""
    if wanted.tenant or wanted.tenants is None or "" in wanted.tenants:
        return ()
    most = PROBES_MAX // len(wanted.states or STATES)
    return tenancy.names(connection, tables, wanted.tenants, most) or ()


class _Rest:
    """What is asked of a run besides what the leading index answers."""

    def __init__(
        self, tables: Tables, wanted: Filters, place: Place | None, *, hides: bool, is_late: bool = False
    ) -> None:
        self._run = tables.run.c
        self._oldest = oldest_in(tables, wanted.states) if is_late else None
        self._metadata = tables.run_metadata
        self._wanted = wanted
        self._place = place
        self._hides = hides
        self._named = dict(self._conditions())

    def besides(self, answered: Collection[str]) -> list[Condition]:
        """Return the conditions but those of these names, and but those of time."""
        return [one for name, some in self._named.items() if name not in answered for one in some]

    def times(self, *, hidden: bool = False) -> list[Condition]:
        """Return the conditions of time."""
        created = self._hidden("created_at") if hidden else self._run.created_at
        return [*self.late(created), *_times(created, self._run.id, self._wanted, self._place)]

    def late(self, created: sa.ColumnElement[float]) -> list[Condition]:
        """Return the condition that a run is not older than the oldest one that can be meant."""
        return [created >= self._oldest] if self._oldest is not None else []

    def _conditions(self) -> Iterator[tuple[str, list[Condition]]]:
        wanted, hidden = self._wanted, self._hidden
        # First what an index by time has: of the other runs no more is read then.
        for name, prefix in (("id", wanted.id_prefix), ("digest", wanted.digest_prefix)):
            if prefix is not None:
                yield name, [begins(hidden(name), prefix)]
        yield "tenants", tenancy.visible(hidden("tenant"), wanted.tenants)
        if wanted.states:
            yield "state", [hidden("state").in_(wanted.states)]
        if wanted.tasks is not None:
            yield "task", [hidden("task").in_(wanted.tasks)]
        for name in ("tenant", "worker", "queue"):
            value = getattr(wanted, name)
            if value is not None:
                yield name, [hidden(name) == value]
        if wanted.canvas is not None:
            key = run_key(wanted.canvas)
            yield "canvas", [sa.or_(hidden("canvas") == key, hidden("id") == key)]
        for number, one in enumerate(wanted.meta):
            yield f"meta {number}", [self._has(*one)]

    def _has(self, name: str, value: str) -> Condition:
        kept = self._metadata.alias()
        return sa.exists().where(kept.c.run_id == self._run.id, kept.c.key == name, kept.c.value == value)

    def _hidden(self, name: str) -> sa.ColumnElement[Any]:
        """Return a column for which no index is looked for."""
        # SQLite would use it, and sort what it finds, rather than read in order until a page is full.
        column = self._run[name]
        return sa.func.coalesce(column, column) if self._hides else column


def _times(
    created: sa.ColumnElement[float], run: sa.ColumnElement[str], wanted: Filters, place: Place | None
) -> list[Condition]:
    found: list[Condition] = []
    if wanted.since is not None:
        found.append(created >= wanted.since)
    if wanted.until is not None:
        found.append(created < wanted.until)
    if place is not None:
        at, name = place.key
        # Not (a, b) < (x, y): MariaDB reads the whole index for that.
        if place.newer:
            found.append(sa.and_(created >= at, sa.or_(created > at, run > name)))
        else:
            found.append(sa.and_(created <= at, sa.or_(created < at, run < name)))
    return found


def _in_order(
    table: sa.FromClause,
    limit: int,
    newer: bool,
    *where: Condition,
    run: sa.ColumnElement[str] | None = None,
) -> sa.Select[Any]:
    created, run = table.c.created_at, table.c.id if run is None else run
    order = (created, run) if newer else (created.desc(), run.desc())
    return sa.select(created, run).where(*where).order_by(*order).limit(limit)


def _by_metadata(
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    rest: _Rest,
    limit: int,
) -> sa.Select[Any]:
    run, first = tables.run, tables.run_metadata.alias("first")
    (name, value), *_ = wanted.meta
    mine = [first.c.key == name, first.c.value == value, run.c.id == first.c.run_id]
    mine += rest.besides({"meta 0"})
    mine += [*rest.late(first.c.created_at), *_times(first.c.created_at, first.c.run_id, wanted, place)]
    at, member = first.c.created_at, first.c.run_id
    order = (at, member) if place is not None and place.newer else (at.desc(), member.desc())
    return sa.select(at, member).where(*mine).order_by(*order).limit(limit)
