"""How a list of runs is asked for: which index leads, and the statements whose merged answers are the list.

A filter that names several states or tasks is asked once per state and task, each time for no more
rows than the page has, and merged: an index then gives them in order, and nothing is sorted. Of several
filters that have an index the one leads that fewest runs pass, counted a little way; where that is few,
all of them are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.events import RunState
from plet_celery.store import tenancy
from plet_celery.store.schema import Tables
from plet_celery.store.settle import run_key

AFTER_ANY: Final = "\U0010ffff"
STATES: Final = tuple(state.value for state in RunState)
FEW: Final = 1000
"""So many runs are read at once, and counted to know which filter leads."""
_MANY: Final = 10_000
"""So many where the best index has no order by time: in another's, one run in a thousand may pass."""
_PROBES_MAX: Final = 64
"""More pairs of state and task, or tenant, than this are looked for in the order of time instead."""

Key = tuple[float, str]
Condition = sa.ColumnElement[bool]


class Place(NamedTuple):
    """Where a page begins: behind this run, towards the older ones or the newer ones."""

    key: Key
    newer: bool = False


class Filters(NamedTuple):
    """Which runs are wanted; empty or None means any."""

    states: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    tenant: str | None = None
    tenants: tuple[str, ...] | None = None
    """Paths that the viewer may see, see `tenancy.py`."""
    worker: str | None = None
    queue: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    until: float | None = None
    canvas: str | None = None
    id_prefix: str | None = None
    digest_prefix: str | None = None


class Older(NamedTuple):
    """Runs of these tasks, in these states, that were created before a time."""

    tasks: tuple[str, ...]
    states: tuple[str, ...]
    until: float


class Probe(NamedTuple):
    """One statement, put together once for all states and tasks, and the values of one of them.

    It gives (created_at, id): at most the page in its order, or else few rows in any order.
    """

    query: sa.Select[Any]
    values: dict[str, str]


@dataclass(frozen=True)
class _Way:
    """An index that can lead."""

    replaced: frozenset[str]
    """Names of the conditions that it answers."""
    where: tuple[Condition, ...]
    """What all runs it leads to have in common."""
    columns: tuple[sa.ColumnElement[str], ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    """Of each column, the values that are asked for one by one; without any it has no order by time."""
    more: tuple[Condition, ...] = ()
    """What an ordered probe is told besides."""

    @property
    def is_ordered(self) -> bool:
        """It can give the newest runs first, with a bearable number of statements."""
        return bool(self.columns) and 0 < self.size <= _PROBES_MAX

    @property
    def size(self) -> int:
        """How many statements it takes."""
        product = 1
        for some in self.values:
            product *= len(some)
        return product


def probes(
    connection: Connection, tables: Tables, wanted: Filters, place: Place | None, limit: int
) -> list[Probe]:
    """Return the statements whose merged answers are the page."""
    table = tables.run
    if wanted.tasks == () or wanted.tenants == ():
        return []
    rest = _Rest(tables, wanted, place, hides=connection.dialect.name == "sqlite")
    newer = place is not None and place.newer
    if wanted.meta:
        return [_by_metadata(tables, wanted, place, rest, limit)]
    if wanted.canvas is not None:
        key = run_key(wanted.canvas)
        others = (*rest.besides({"canvas"}), *rest.times())
        either = (table.c.canvas == key, table.c.id == key)
        return [Probe(_in_order(table, limit, newer, mine, *others), {}) for mine in either]
    way, is_few = _chosen(connection, table, _ways(connection, tables, wanted))
    if way is None:
        return [Probe(_in_order(table, limit, newer, *rest.besides(()), *rest.times()), {})]
    if is_few:
        where = (*way.where, *rest.besides(way.replaced), *rest.times(hidden=True))
        return [Probe(sa.select(table.c.created_at, table.c.id).where(*where), {})]
    names = [f"one_{column.key}" for column in way.columns]
    same = [
        column == sa.bindparam(name, type_=sa.String())
        for column, name in zip(way.columns, names, strict=True)
    ]
    others = (*way.more, *rest.besides(way.replaced), *rest.times())
    query = _in_order(table, limit, newer, *same, *others)
    return [Probe(query, dict(zip(names, values, strict=True))) for values in itertools.product(*way.values)]


def in_time_order(tables: Tables, wanted: Filters, place: Place | None, limit: int) -> sa.Select[Any]:
    """Return the statement that gives (created_at, id, state) of runs by their time alone."""
    table = tables.run
    times = _times(table.c.created_at, table.c.id, wanted, place)
    query = _in_order(table, limit, place is not None and place.newer, *times)
    return query.add_columns(table.c.state)


def _ways(connection: Connection, tables: Tables, wanted: Filters) -> list[_Way]:
    """Return the indexes that may lead, the best first where all have many runs."""
    column = tables.run.c
    found = []
    for name, prefix in (("id", wanted.id_prefix), ("digest", wanted.digest_prefix)):
        if prefix is not None:
            found.append(_Way(frozenset({name}), (begins(column[name], prefix),)))
    # Spelled out, or the engine cannot know that the partial index holds this tenant.
    named = (column.tenant != sa.literal_column("''"),)
    if wanted.tenant:
        mine = column.tenant == wanted.tenant
        found.append(_with_states(tables, wanted, "tenant", column.tenant, (wanted.tenant,), mine, named))
    elif wanted.tenants is not None and "" not in wanted.tenants:
        most = _PROBES_MAX // len(wanted.states or STATES)
        some = tenancy.names(connection, tables, wanted.tenants, most) or ()
        mine = sa.and_(*tenancy.visible(column.tenant, wanted.tenants))
        found.append(_with_states(tables, wanted, "tenants", column.tenant, some, mine, named))
    if wanted.tasks is not None:
        mine = column.task.in_(wanted.tasks)
        found.append(_with_states(tables, wanted, "task", column.task, wanted.tasks, mine))
    for name, value in (("worker", wanted.worker), ("queue", wanted.queue)):
        if value is not None:
            found.append(_with_states(tables, wanted, name, column[name], (value,), column[name] == value))
    if wanted.states:
        state = (column.state.in_(wanted.states),)
        found.append(_Way(frozenset({"state"}), state, (column.state,), (wanted.states,)))
    return found


def _with_states(
    tables: Tables,
    wanted: Filters,
    name: str,
    column: sa.ColumnElement[str],
    values: tuple[str, ...],
    mine: Condition,
    more: tuple[Condition, ...] = (),
) -> _Way:
    """Return the way of an index over a column, the state and the time."""
    state = tables.run.c.state
    where = (mine, *more, *([state.in_(wanted.states)] if wanted.states else []))
    pairs = (values, wanted.states or STATES)
    return _Way(frozenset({name, "state"}), where, (column, state), pairs, more)


def _chosen(connection: Connection, table: sa.Table, ways: Sequence[_Way]) -> tuple[_Way | None, bool]:
    """Return the index that leads (None: the one by time), and whether it leads to few runs only."""
    ordered = next((way for way in ways if way.is_ordered), None)
    if ordered is not None and ways[0] is ordered and all(way.replaced <= ordered.replaced for way in ways):
        return ordered, False
    most = FEW if not ways or ways[0].is_ordered else _MANY
    counts = [_count(connection, table, way.where, most) for way in ways]
    if counts and min(counts) <= most:
        return ways[counts.index(min(counts))], True
    return ordered, False


def _count(connection: Connection, table: sa.Table, where: Sequence[Condition], most: int) -> int:
    """Return how many runs there are of these, or more than `most`."""
    some = sa.select(sa.literal(1)).select_from(table).where(*where).limit(most + 1).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


class _Rest:
    """What is asked of a run besides what the leading index answers."""

    def __init__(self, tables: Tables, wanted: Filters, place: Place | None, *, hides: bool) -> None:
        self._run = tables.run.c
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
        return _times(created, self._run.id, self._wanted, self._place)

    def _conditions(self) -> Iterator[tuple[str, list[Condition]]]:
        wanted, hidden = self._wanted, self._hidden
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
        for name, prefix in (("id", wanted.id_prefix), ("digest", wanted.digest_prefix)):
            if prefix is not None:
                yield name, [begins(hidden(name), prefix)]

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


def _in_order(table: sa.Table, limit: int, newer: bool, *where: Condition) -> sa.Select[Any]:
    created, run = table.c.created_at, table.c.id
    order = (created, run) if newer else (created.desc(), run.desc())
    return sa.select(created, run).where(*where).order_by(*order).limit(limit)


def _by_metadata(
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    rest: _Rest,
    limit: int,
) -> Probe:
    run, first = tables.run, tables.run_metadata.alias("first")
    (name, value), *others = wanted.meta
    mine = [first.c.key == name, first.c.value == value, run.c.id == first.c.run_id]
    for name, value in others:
        more = tables.run_metadata.alias()
        mine.append(sa.exists().where(more.c.run_id == run.c.id, more.c.key == name, more.c.value == value))
    mine += rest.besides(())
    mine += _times(first.c.created_at, first.c.run_id, wanted, place)
    at, member = first.c.created_at, first.c.run_id
    order = (at, member) if place is not None and place.newer else (at.desc(), member.desc())
    return Probe(sa.select(at, member).where(*mine).order_by(*order).limit(limit), {})


def begins(column: sa.ColumnElement[str], prefix: str) -> Condition:
    """Return the condition that a text begins so, letter by letter."""
    return sa.and_(column >= prefix, column < prefix + AFTER_ANY)
