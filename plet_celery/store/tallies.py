"""How many ends kept a promise: from the rollups, hour by hour, kept so that a month is summed quickly.

The rollups of a month are too many for a pass. So each pass counts the newest hour anew, some the one
before it, and some an older one in its turn: what a host brings late is in the tallies within a day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.objectives import (
    P95,
    MaxRuntime,
    MaxWait,
    Objective,
    SuccessRate,
    as_seconds,
)
from plet_celery.store import bulk
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.finding import FAILED_STATES
from plet_celery.store.histogram import bin_of
from plet_celery.store.rollups import BUCKET_SECONDS
from plet_celery.store.schema import Tables

HOUR: Final = 3600
_SUCCEEDED: Final = frozenset({"succeeded"})
_ENDS: Final = frozenset({"succeeded", *FAILED_STATES})


class Tally(NamedTuple):
    """How many ends kept a promise, and how many did not."""

    good: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        """All that were counted."""
        return self.good + self.bad

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(self.good + other.good, self.bad + other.bad)


NOTHING: Final = Tally()


class Counting(NamedTuple):
    """What of the rollups says whether a promise was kept."""

    task: str
    measure: str
    """`state`, or the durations `runtime`, `waited`."""
    states: frozenset[str] | None = None
    """Only ends in these states count; None: all attempts."""
    bin: int = 0
    """Of a duration: up to this bin of the histogram it is kept, which is right to 4 %."""


def counting_of(task: str, objective: Objective) -> Counting | None:
    """Return how a promise is counted; None where the rollups say nothing of it."""
    name = asked(task, TASK_MAX)
    if objective.scope != "run":
        return None
    if isinstance(objective, SuccessRate):
        return Counting(name, "state", _ENDS)
    if isinstance(objective, P95):
        return Counting(name, "runtime", _SUCCEEDED, bin_of(as_seconds(objective.seconds)))
    if isinstance(objective, MaxRuntime):
        return Counting(name, "runtime", _ENDS, bin_of(as_seconds(objective.seconds)))
    if isinstance(objective, MaxWait):
        return Counting(name, "waited", None, bin_of(as_seconds(objective.seconds)))
    return None


def hour_of(at: float) -> int:
    """Return the beginning of an hour."""
    return int(at // HOUR) * HOUR


def count(
    connection: Connection,
    tables: Tables,
    countings: Mapping[str, Counting],
    *,
    since: float,
    until: float,
    span: int = 0,
) -> dict[tuple[int, str], Tally]:
    """Return the tallies of promises by their ids, from the rollups.

    Args:
        since: the bucket of five minutes that it lies in is the first.
        until: and this one's is the last.
        span: seconds of a part, a multiple of five minutes; 0: all in one, whose time is 0.

    Returns:
        By the beginning of the part and the id; parts in which nothing ended are not there.
    """
    by_task: dict[tuple[str, str], list[tuple[str, Counting]]] = {}
    for one, counting in countings.items():
        by_task.setdefault((counting.measure, counting.task), []).append((one, counting))
    sums: dict[tuple[int, str], list[int]] = {}
    measures = {measure for measure, _ in by_task}
    for at, task, state, measure, place, times in _ends(connection, tables, measures, since, until, span):
        for one, counting in by_task.get((measure, task), ()):
            if counting.states is None or state in counting.states:
                is_good = state in _SUCCEEDED if measure == "state" else place <= counting.bin
                sums.setdefault((at, one), [0, 0])[0 if is_good else 1] += times
    return {key: Tally(*found) for key, found in sums.items()}


def stored(connection: Connection, tables: Tables, hours: Collection[int]) -> dict[tuple[int, str], Tally]:
    """Return what is kept of these hours."""
    rows = bulk.fetch(connection, tables.watching.tally, [(hour,) for hour in set(hours)])
    return {(row[0], row[1]): Tally(row[2], row[3]) for row in rows}


def summed(
    connection: Connection, tables: Tables, ids: Collection[str], *, since: float, until: float
) -> dict[str, Tally]:
    """Return the sums of the hours from `since`'s up to the one before `until`'s."""
    table = tables.watching.tally
    span = (table.c.hour >= hour_of(since), table.c.hour < hour_of(until))
    query = sa.select(table.c.objective_id, sa.func.sum(table.c.good), sa.func.sum(table.c.bad))
    rows = connection.execute(query.where(*span).group_by(table.c.objective_id))
    return {one: Tally(int(good), int(bad)) for one, good, bad in rows if one in ids}


def keep(connection: Connection, tables: Tables, tallies: Mapping[tuple[int, str], Tally]) -> None:
    """Put these in the place of what is kept of the same hours and promises."""
    table = tables.watching.tally
    before = stored(connection, tables, {hour for hour, _ in tallies})
    new, changed, gone = [], [], []
    for (hour, one), tally in sorted(tallies.items()):
        if (hour, one) not in before:
            new += [(hour, one, *tally)] if tally.total else []
        elif not tally.total:
            gone.append((hour, one))
        elif before[hour, one] != tally:
            changed.append((hour, one, *tally))
    bulk.insert(connection, table, new)
    bulk.update(connection, table, changed)
    bulk.delete(connection, table, gone)


def forget(connection: Connection, tables: Tables, ids: Iterable[str]) -> None:
    """Drop all that was counted of promises, and their due times: their numbers have changed."""
    if some := sorted(ids):
        for table in (tables.watching.tally, tables.watching.due):
            connection.execute(table.delete().where(table.c.objective_id.in_(some)))


def _ends(
    connection: Connection,
    tables: Tables,
    measures: Collection[str],
    since: float,
    until: float,
    span: int,
) -> Iterable[tuple[int, str, str, str, int, int]]:
    """Yield (part, task, state, measure, bin, count)."""
    prefer_indexes(connection)
    if "state" in measures:
        table = tables.rollup
        at = table.c.bucket - table.c.bucket % span if span else sa.literal_column("0")
        query = sa.select(at.label("part"), table.c.task, table.c.state, sa.func.sum(table.c.count))
        where = _within(table.c.bucket, since, until)
        for part, task, state, times in connection.execute(
            query.where(*where).group_by(sa.literal_column("part"), table.c.task, table.c.state)
        ):
            yield int(part), task, state, "state", 0, int(times)
    durations = sorted(set(measures) - {"state"})
    if durations:
        table = tables.rollup_bin
        at = table.c.bucket - table.c.bucket % span if span else sa.literal_column("0")
        group = (table.c.task, table.c.state, table.c.measure, table.c.bin)
        bins = sa.select(at.label("part"), *group, sa.func.sum(table.c.count))
        where = [*_within(table.c.bucket, since, until), table.c.measure.in_(durations)]
        for part, task, state, measure, place, times in connection.execute(
            bins.where(*where).group_by(sa.literal_column("part"), *group)
        ):
            yield int(part), task, state, measure, int(place), int(times)


def _within(column: sa.ColumnElement[int], since: float, until: float) -> list[sa.ColumnElement[bool]]:
    first = int(since // BUCKET_SECONDS) * BUCKET_SECONDS
    last = int(until // BUCKET_SECONDS) * BUCKET_SECONDS
    return [column >= first, column <= last]
