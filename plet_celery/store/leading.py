"""Which index leads to the runs of a list.

Of several filters that have an index the one leads that fewest runs pass, counted a little way; where that is
few, all of them are read. Any index gives the same runs, so a choice holds for some seconds.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from plet_celery.store import tenancy
from plet_celery.store.filters import STATES, Condition, Filters, begins
from plet_celery.store.oldest import oldest_in
from plet_celery.store.schema import Tables

FEW: Final = 1000
"""So many runs are read at once, and counted to know which filter leads."""
PROBES_MAX: Final = 64
"""More pairs of state and task, or tenant, than this are looked for in the order of time instead."""
_MANY: Final = 10_000
"""So many where the best index has no order by time: in another's, one run in a thousand may pass."""
_SOME: Final = 5000
"""So many rather than all that have a value of metadata: few of those may pass, such as those that run."""
_CHOICE_SECONDS: Final = 10.0
"""So long what was counted decides which index leads: any index gives the same runs."""
_KEPT_MAX: Final = 512


class Choice(NamedTuple):
    """Which of the indexes leads; None: the one by time."""

    way: int | None = None
    is_few: bool = False
    """It leads to so few runs that all are read and sorted."""
    is_late: bool = False
    """No run is looked at that is older than the oldest one in the states that are asked for."""


@dataclass(frozen=True)
class Way:
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
        return bool(self.columns) and 0 < self.size <= PROBES_MAX

    @property
    def size(self) -> int:
        """How many statements it takes."""
        product = 1
        for some in self.values:
            product *= len(some)
        return product


_choices: WeakKeyDictionary[Engine, OrderedDict[Any, tuple[Choice, float]]] = WeakKeyDictionary()
_choosing: Final = threading.Lock()


def choice_of(connection: Connection, tables: Tables, wanted: Filters, names: tuple[str, ...]) -> Choice:
    """Return which index leads, as it was chosen a moment ago, or counted now."""
    if wanted.canvas is not None:
        return Choice()
    key, now = (wanted, names), time.monotonic()
    with _choosing:
        found = _choices.setdefault(connection.engine, OrderedDict()).get(key)
    if found is not None and now < found[1]:
        return found[0]
    ways = ways_of(tables, wanted, names)
    made = _chosen(connection, tables.run, ways, has_own=bool(wanted.meta))
    if made.is_few and _is_better_late(connection, tables, wanted, ways[made.way or 0]):
        made = Choice(is_late=True)
    with _choosing:
        kept = _choices.setdefault(connection.engine, OrderedDict())
        kept.pop(key, None)
        kept[key] = (made, now + _CHOICE_SECONDS)
        while len(kept) > _KEPT_MAX:
            kept.popitem(last=False)
    return made


def ways_of(tables: Tables, wanted: Filters, names: tuple[str, ...]) -> list[Way]:
    """Return the indexes that may lead, the best first where all have many runs.

    Args:
        names: the tenants that `wanted.tenants` stands for.
    """
    column = tables.run.c
    found = []
    for name, prefix in (("id", wanted.id_prefix), ("digest", wanted.digest_prefix)):
        if prefix is not None:
            found.append(Way(frozenset({name}), (begins(column[name], prefix),)))
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
        found.append(Way(frozenset({"state"}), state, (column.state,), (wanted.states,)))
    return found


def _with_states(
    tables: Tables,
    wanted: Filters,
    name: str,
    column: sa.ColumnElement[str],
    values: tuple[str, ...],
    mine: Condition,
    more: tuple[Condition, ...] = (),
) -> Way:
    """Return the way of an index over a column, the state and the time."""
    state = tables.run.c.state
    where = (mine, *more, *([state.in_(wanted.states)] if wanted.states else []))
    pairs = (values, wanted.states or STATES)
    return Way(frozenset({name, "state"}), where, (column, state), pairs, more)


def _chosen(connection: Connection, table: sa.Table, ways: Sequence[Way], *, has_own: bool) -> Choice:
    """Return which of these leads; metadata has an index of its own, better than any but one to few runs."""
    if has_own:
        counts = [_count(connection, table, way.where, _SOME) for way in ways]
        is_few = bool(counts) and min(counts) <= _SOME
        return Choice(counts.index(min(counts)), is_few=True) if is_few else Choice()
    ordered = next((number for number, way in enumerate(ways) if way.is_ordered), None)
    if ordered == 0 and all(way.replaced <= ways[0].replaced for way in ways):
        return Choice(0)
    most = FEW if not ways or ways[0].is_ordered else _MANY
    counts = [_count(connection, table, way.where, most) for way in ways]
    if counts and min(counts) <= most:
        return Choice(counts.index(min(counts)), is_few=True)
    return Choice(ordered)


def _is_better_late(connection: Connection, tables: Tables, wanted: Filters, way: Way) -> bool:
    """Tell whether less is read from the oldest run in the asked states on, such as those that are open.

    Of a busy day thousands are, and their rows would all be read for a rare value of metadata or an id.
    """
    if not wanted.states or way.replaced != {"state"} or not (wanted.meta or wanted.id_prefix):
        return False
    lookups = _count(connection, tables.run, way.where, _MANY)
    if lookups <= FEW // 2:
        return False
    if wanted.meta:
        ((name, value), *_), kept = wanted.meta, tables.run_metadata
        mine: list[Condition] = [kept.c.key == name, kept.c.value == value]
        mine.append(kept.c.created_at >= oldest_in(tables, wanted.states))
        return _count(connection, kept, mine, lookups) <= lookups // 2
    # Of the index by time alone a dozen are read as fast as one row.
    late = [tables.run.c.created_at >= oldest_in(tables, wanted.states)]
    return _count(connection, tables.run, late, 4 * lookups) <= 4 * lookups


def _count(connection: Connection, table: sa.Table, where: Sequence[Condition], most: int) -> int:
    """Return how many runs there are of these, or more than `most`."""
    some = sa.select(sa.literal(1)).select_from(table).where(*where).limit(most + 1).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())
