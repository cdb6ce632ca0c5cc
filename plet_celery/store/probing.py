"""How a list of runs is asked for: which index leads, and the statement whose answer is the list.

A filter that names several states or tasks has a part for each state and task, each for no more rows than
the page has, and the engine merges them: an index then gives them in order, and nothing is sorted. Of
several filters that have an index the one leads that fewest runs pass, counted a little way; where that is
few, all of them are read.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine

from plet_celery.events import RunState
from plet_celery.store import tenancy
from plet_celery.store.prepared import Part, Statement, prepared, united
from plet_celery.store.schema import Tables
from plet_celery.store.settle import run_key

AFTER_ANY: Final = "\U0010ffff"
STATES: Final = tuple(state.value for state in RunState)
FEW: Final = 1000
"""So many runs are read at once, and counted to know which filter leads."""
_MANY: Final = 10_000
"""So many where the best index has no order by time: in another's, one run in a thousand may pass."""
_SOME: Final = 5000
"""So many rather than all that have a value of metadata: few of those may pass, such as those that run."""
_PROBES_MAX: Final = 64
"""More pairs of state and task, or tenant, than this are looked for in the order of time instead."""
_CHOICE_SECONDS: Final = 10.0
"""So long what was counted decides which index leads: any index gives the same runs."""
_KEPT_MAX: Final = 512
"""Statements and choices."""

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


class _Choice(NamedTuple):
    """Which of the indexes leads; None: the one by time."""

    way: int | None = None
    is_few: bool = False
    """It leads to so few runs that all are read and sorted."""


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


def statements(
    connection: Connection, tables: Tables, wanted: Filters, place: Place | None, limit: int
) -> Sequence[Statement]:
    """Return the statements that give (created_at, id) of all runs of the page, and maybe of others."""
    if wanted.tasks == () or wanted.tenants == ():
        return []
    names = _tenant_names(connection, tables, wanted)
    choice = _choice(connection, tables, wanted, names)
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
    choice: _Choice,
) -> Sequence[Statement]:
    parts = _parts(tables, wanted, place, limit, names, choice, hides=dialect.name == "sqlite")
    order = "created_at, id" if place is not None and place.newer else "created_at DESC, id DESC"
    made = united(parts, dialect, order=order, limit=limit)
    return [one._replace(sorts=True) for one in made] if choice.is_few else made


def _parts(
    tables: Tables,
    wanted: Filters,
    place: Place | None,
    limit: int,
    names: tuple[str, ...],
    choice: _Choice,
    *,
    hides: bool,
) -> list[Part]:
    """Return the parts of the statement; several have the page's order and its limit."""
    table, newer = tables.run, place is not None and place.newer
    rest = _Rest(tables, wanted, place, hides=hides)
    if wanted.meta and choice.way is None:
        return [Part(_by_metadata(tables, wanted, place, rest, limit))]
    if wanted.canvas is not None:
        key = run_key(wanted.canvas)
        others = (*rest.besides({"canvas"}), *rest.times())
        either = (table.c.canvas == key, table.c.id == key)
        return [Part(_in_order(table, limit, newer, mine, *others)) for mine in either]
    if choice.way is None:
        return [Part(_in_order(table, limit, newer, *rest.besides(()), *rest.times()))]
    way = _ways(tables, wanted, names)[choice.way]
    if choice.is_few:
        where = (*way.where, *rest.besides(way.replaced), *rest.times(hidden=True))
        # By a sum: by the column alone, engines would read the index by time instead, from its end.
        at, run = table.c.created_at + 0.0, table.c.id
        order = (at, run) if newer else (at.desc(), run.desc())
        return [Part(sa.select(table.c.created_at, run).where(*where).order_by(*order).limit(limit))]
    names = tuple(f"one_{column.key}" for column in way.columns)
    same = (column == sa.bindparam(f"one_{column.key}", "", sa.String()) for column in way.columns)
    query = _in_order(table, limit, newer, *same, *way.more, *rest.besides(way.replaced), *rest.times())
    return [Part(query, dict(zip(names, values, strict=True))) for values in itertools.product(*way.values)]


def _tenant_names(connection: Connection, tables: Tables, wanted: Filters) -> tuple[str, ...]:
    """Return the tenants that are asked for one by one; none where there are too many, or no need."""
    if wanted.tenant or wanted.tenants is None or "" in wanted.tenants:
        return ()
    most = _PROBES_MAX // len(wanted.states or STATES)
    return tenancy.names(connection, tables, wanted.tenants, most) or ()


def _ways(tables: Tables, wanted: Filters, names: tuple[str, ...]) -> list[_Way]:
    """Return the indexes that may lead, the best first where all have many runs.

    Args:
        names: the tenants that `wanted.tenants` stands for.
    """
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
        mine = sa.and_(*tenancy.visible(column.tenant, wanted.tenants))
        found.append(_with_states(tables, wanted, "tenants", column.tenant, names, mine, named))
    if wanted.tasks is not None:
        mine = column.task.in_(wanted.tasks)
        found.append(_with_states(tables, wanted, "task", column.task, wanted.tasks, mine))
    for name, value in (("worker", wanted.worker), ("queue", wanted.queue)):
        if value is not None:
            found.append(_with_states(tables, wanted, name, column[name], (value,), column[name] == value))
    # One that leaves out few states is no way where something else is asked: a part for a rare state would
    # be read to its end.
    if wanted.states and (not found or len(wanted.states) <= len(STATES) // 2):
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


_choices: WeakKeyDictionary[Engine, OrderedDict[Any, tuple[_Choice, float]]] = WeakKeyDictionary()
_choosing: Final = threading.Lock()


def _choice(connection: Connection, tables: Tables, wanted: Filters, names: tuple[str, ...]) -> _Choice:
    """Return which index leads, as it was chosen a moment ago, or counted now."""
    if wanted.canvas is not None:
        return _Choice()
    key, now = (wanted, names), time.monotonic()
    with _choosing:
        found = _choices.setdefault(connection.engine, OrderedDict()).get(key)
    if found is not None and now < found[1]:
        return found[0]
    ways = _ways(tables, wanted, names)
    made = _chosen(connection, tables.run, ways, has_own=bool(wanted.meta))
    with _choosing:
        kept = _choices.setdefault(connection.engine, OrderedDict())
        kept.pop(key, None)
        kept[key] = (made, now + _CHOICE_SECONDS)
        while len(kept) > _KEPT_MAX:
            kept.popitem(last=False)
    return made


def _chosen(connection: Connection, table: sa.Table, ways: Sequence[_Way], *, has_own: bool) -> _Choice:
    """Return which of these leads; metadata has an index of its own, better than any but one to few runs."""
    if has_own:
        counts = [_count(connection, table, way.where, _SOME) for way in ways]
        is_few = bool(counts) and min(counts) <= _SOME
        return _Choice(counts.index(min(counts)), is_few=True) if is_few else _Choice()
    ordered = next((number for number, way in enumerate(ways) if way.is_ordered), None)
    if ordered == 0 and all(way.replaced <= ways[0].replaced for way in ways):
        return _Choice(0)
    most = FEW if not ways or ways[0].is_ordered else _MANY
    counts = [_count(connection, table, way.where, most) for way in ways]
    if counts and min(counts) <= most:
        return _Choice(counts.index(min(counts)), is_few=True)
    return _Choice(ordered)


def _count(connection: Connection, table: sa.Table, where: Sequence[Condition], most: int) -> int:
    """Return how many runs there are of these, or more than `most`."""
    some = sa.select(sa.literal(1)).select_from(table).where(*where).limit(most + 1).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


class _Rest:
    """What is asked of a run besides what the leading index answers."""

    def __init__(self, tables: Tables, wanted: Filters, place: Place | None, *, hides: bool) -> None:
        self._run = tables.run.c
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
        return _times(created, self._run.id, self._wanted, self._place)

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


def _in_order(table: sa.FromClause, limit: int, newer: bool, *where: Condition) -> sa.Select[Any]:
    created, run = table.c.created_at, table.c.id
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
    mine += _times(first.c.created_at, first.c.run_id, wanted, place)
    at, member = first.c.created_at, first.c.run_id
    order = (at, member) if place is not None and place.newer else (at.desc(), member.desc())
    return sa.select(at, member).where(*mine).order_by(*order).limit(limit)


def begins(column: sa.ColumnElement[str], prefix: str) -> Condition:
    """Return the condition that a text begins so, letter by letter."""
    return sa.and_(column >= prefix, column < prefix + AFTER_ANY)
