"""The figures at the head of the list of runs: what runs, waits and failed, and how runs ended over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.events import RunState
from plet_celery.store import bulk, tenancy
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.filters import Filters, begins
from plet_celery.store.finding import FAILED_STATES
from plet_celery.store.listing import newest_keys
from plet_celery.store.overviews import Count, EndsBucket, Glance
from plet_celery.store.rollups import BUCKET_SECONDS, OTHER
from plet_celery.store.schema import Tables
from plet_celery.store.settle import DAY
from plet_celery.store.store import Store

COUNT_MAX: Final = 1000
"""Where counting stops."""
BUCKETS_MAX: Final = 2000
NEWEST: Final = 500
"""Of a viewer of some tenants, so many of the newest runs are looked at for names."""
_NAMES_MAX: Final = 64
"""So many tenants are counted by name."""
_JOURNALS_MAX: Final = 64
"""Of more journals the rollups are read by time alone."""
NO_ENDS: Final = frozenset({RunState.RETRYING.value, RunState.RUNNING.value})
"""Under these the rollups count attempts after which the run goes on: retried, replaced."""


def glance(store: Store, *, now: float, tenants: Sequence[str] | None = None) -> Glance:
    """Return how many runs run, wait, and failed in 24 hours.

    Each is the number of runs that `list_runs` has under the same filter: failed are those in one of
    `FAILED_STATES` that were *created* at `now - 24 h` or later, whenever they ended.

    Args:
        now: seconds since the epoch.
        tenants: paths that the viewer may see, each with what lies below it; None: all.
    """
    table, wanted = store.tables.run, ("running", "queued", *FAILED_STATES)
    with store.reading() as connection:
        prefer_indexes(connection)
        mine = _visible(connection, store.tables, tenants)
        some = [[table.c.state == state, *mine] for state in wanted]
        for where in some[2:]:
            where.append(table.c.created_at >= now - DAY)
        running, queued, *failed = _counts(connection, table, some)
    return Glance(running=_count(running), queued=_count(queued), failed_24h=_count(sum(failed)))


def ends_over_time(
    store: Store, *, since: float, until: float, step: float, tenants: Sequence[str] | None = None
) -> list[EndsBucket]:
    """Return how attempts ended between two times, from the rollups; spans without ends are there, too.

    Spans begin at whole multiples of `step`; the first one holds `since`, the last one ends at `until` or
    later. Runs that were sampled count as all they stand for, and those that retention has removed count on.

    Args:
        step: seconds, made a multiple of five minutes, the grain of the rollups; and so large that there are
            at most 2,000 spans.
        tenants: paths that the viewer may see; None: all. Where a journal has very many tenants, the last
            of them are counted together: a viewer of some gets only what is certainly theirs.
    """
    step = max(step, (until - since) / BUCKETS_MAX)
    width = max(1, math.ceil(step / BUCKET_SECONDS)) * BUCKET_SECONDS
    first, last = int(since // width) * width, math.ceil(until / width) * width
    sums: dict[int, list[int]] = {at: [0, 0, 0] for at in range(first, last, width)}
    table = store.tables.rollup
    where = [table.c.bucket >= first, table.c.bucket < last, *tenancy.visible(table.c.tenant, tenants)]
    if tenants is not None:
        where.append(table.c.tenant != OTHER)
    span = (table.c.bucket - table.c.bucket % width).label("span")
    query = sa.select(span, table.c.state, sa.func.sum(table.c.count)).where(*where)
    with store.reading() as connection:
        prefer_indexes(connection)
        for mine in parts(connection, store.tables):
            for at, state, count in connection.execute(query.where(*mine).group_by(span, table.c.state)):
                if state not in NO_ENDS:
                    sums[int(at)][_kind_of(state)] += int(count)
    return [
        EndsBucket(at=float(at), succeeded=good, failed=bad, other=other)
        for at, (good, bad, other) in sums.items()
    ]


def recorded_since(store: Store) -> float | None:
    """Return when the oldest run that is still kept was created; None before the first."""
    table = store.tables.run
    with store.reading() as connection:
        found = connection.execute(sa.select(sa.func.min(table.c.created_at))).scalar()
    return float(found) if found is not None else None


def known_tasks(
    store: Store, prefix: str = "", *, limit: int = 50, tenants: Sequence[str] | None = None
) -> list[str]:
    """Return names of tasks that begin with `prefix`, sorted: for suggestions.

    Args:
        tenants: paths that the viewer may see; None: all. A viewer of some gets the names of their newest
            500 runs.
    """
    tables, name = store.tables, store.tables.task.c.name
    with store.reading() as connection:
        if tenants is None:
            query = sa.select(name).where(begins(name, asked(prefix, TASK_MAX))).order_by(name)
            return list(connection.execute(query.limit(limit)).scalars())
        found = values_of_newest(connection, tables, "task", [Filters(tenants=tuple(tenants))])
    return sorted(task for task in found if task.startswith(prefix))[:limit]


def values_of_newest(
    connection: Connection, tables: Tables, column: str, some: Iterable[Filters]
) -> set[str]:
    """Return the different values of a column in the newest runs that pass any of `some`."""
    prefer_indexes(connection)
    keys = newest_keys(connection, tables, some, None, NEWEST)
    rows = bulk.fetch(connection, tables.run, [(run,) for _, run in keys], columns=(column,))
    return {value for (value,) in rows if value}


def _visible(
    connection: Connection, tables: Tables, tenants: Sequence[str] | None
) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a viewer may see a run, by the names of tenants where those are few."""
    column = tables.run.c.tenant
    if tenants is None or "" in tenants:
        return tenancy.visible(column, tenants)
    names = tenancy.names(connection, tables, tenants, _NAMES_MAX)
    if names is None:
        return tenancy.visible(column, tenants)
    # Spelled out, or the engine cannot know that the partial index holds these tenants.
    return [column.in_(names), column != sa.literal_column("''")]


def _counts(
    connection: Connection, table: sa.Table, some: Sequence[Sequence[sa.ColumnElement[bool]]]
) -> Sequence[int]:
    """Return how many runs there are of each kind, in one statement, counted one more than `COUNT_MAX`."""
    limited = (
        sa.select(sa.literal(1)).select_from(table).where(*where).limit(COUNT_MAX + 1).subquery()
        for where in some
    )
    numbers = (sa.select(sa.func.count()).select_from(one).scalar_subquery() for one in limited)
    return [int(number) for number in connection.execute(sa.select(*numbers)).one()]


def _count(number: int) -> Count:
    return Count(number=min(number, COUNT_MAX), capped=number > COUNT_MAX)


def parts(connection: Connection, tables: Tables) -> list[list[sa.ColumnElement[bool]]]:
    """Return the conditions that part the rollups: journal by journal their rows lie side by side."""
    query = sa.select(tables.journal.c.journal_id).limit(_JOURNALS_MAX + 1)
    journals = list(connection.execute(query).scalars())
    if len(journals) > _JOURNALS_MAX:
        return [[]]
    return [[tables.rollup.c.journal_id == one] for one in journals]


def _kind_of(state: str) -> int:
    if state == RunState.SUCCEEDED:
        return 0
    return 1 if state in FAILED_STATES else 2
