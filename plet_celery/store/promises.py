"""How promises do: state, compliance and error budget, for pages and commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.objectives import DAY, Declared, Objective, as_seconds, to_plain
from plet_celery.store import tallies
from plet_celery.store.promiserows import Promise, promises
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.store.tallies import Tally


class ObjectiveStatus(msgspec.Struct, kw_only=True):
    """A promise as readers see it."""

    id: str
    task: str
    kind: str
    scope: str
    severity: str
    name: str
    objective: dict[str, Any]
    """As it was declared, `{"kind": …}`."""
    limit: str
    """What is promised, in words."""
    source: str
    """`task`: the task itself; else the pattern in `plet_objectives`."""
    app: str
    state: str
    """`kept`, `broken`, `no_data` (nothing can be said), or `new` (no pass has judged it)."""
    since: float | None
    value: str
    """What was seen last, in words."""
    window: float
    """Seconds back over which the following is counted."""
    target: float
    """Share that is to keep it, 0..1."""
    good: int
    bad: int
    compliance: float | None
    """Share that kept it, 0..1; None: nothing was counted."""
    budget_left: float | None
    """Share of the error budget that is left: 1 is all of it, 0 none, below that it is overdrawn."""
    first_seen_at: float
    seen_at: float


def declared_objectives(store: Store) -> list[Declared]:
    """Return the promises that are made, by task, as `outlook` takes them."""
    with store.reading() as connection:
        return [
            Declared(one.task, one.objective, one.memory.source, one.memory.app)
            for one in promises(connection, store.tables)
        ]


def list_objectives(
    store: Store, *, now: float, tenants: Sequence[str] | None = None
) -> list[ObjectiveStatus]:
    """Return the promises that are made, by task, with state, compliance and error budget.

    Args:
        now: seconds since the epoch; windows end there.
        tenants: a viewer of some tenants gets none: a promise counts the runs of all.
    """
    if tenants is not None:
        return []
    with store.reading() as connection:
        found = promises(connection, store.tables)
        counted = counts(connection, store.tables, found, now=now)
    return [_status(one, counted[one.id], now) for one in found]


def counts(
    connection: Connection, tables: Tables, found: Sequence[Promise], *, now: float
) -> dict[str, Tally]:
    """Return how many kept each promise within its window and how many did not."""
    by_window: dict[float, list[Promise]] = {}
    for one in found:
        by_window.setdefault(window_of(one.objective), []).append(one)
    sums: dict[str, Tally] = {}
    for window, some in by_window.items():
        ids = {one.id for one in some}
        counted = tallies.summed(connection, tables, ids, since=now - window, until=now + 2 * tallies.HOUR)
        dues = _dues_within(connection, tables, ids, now - window, now)
        for one in some:
            memory = one.memory
            if memory.good is not None and memory.bad is not None:
                sums[one.id] = Tally(memory.good, memory.bad)
            elif one.objective.kind in _DUE_KINDS:
                sums[one.id] = _due_tally(one, dues.get(one.id, {}), window, now)
            else:
                sums[one.id] = counted.get(one.id, tallies.NOTHING)
    return sums


def window_of(objective: Objective) -> float:
    """Return over which seconds compliance is told."""
    return as_seconds(getattr(objective, "window", 30 * DAY))


def budget_left(tally: Tally, target: float) -> float | None:
    """Return the share of the error budget that is left; None where nothing was counted."""
    if not tally.total:
        return None
    allowed = (1.0 - target) * tally.total
    if allowed <= 0:
        return 0.0 if tally.bad else 1.0
    return 1.0 - tally.bad / allowed


_DUE_KINDS: Final = frozenset({"start_by", "finish_by", "freshness"})


def _dues_within(
    connection: Connection, tables: Tables, ids: Collection[str], since: float, until: float
) -> dict[str, dict[str, int]]:
    table = tables.watching.due
    query = sa.select(table.c.objective_id, table.c.state, sa.func.count())
    where = (table.c.due_at >= since, table.c.due_at <= until)
    found: dict[str, dict[str, int]] = {}
    for one, state, times in connection.execute(
        query.where(*where).group_by(table.c.objective_id, table.c.state)
    ):
        if one in ids:
            found.setdefault(one, {})[state] = int(times)
    return found


def _due_tally(one: Promise, dues: Mapping[str, int], window: float, now: float) -> Tally:
    bad = dues.get("late", 0) + dues.get("missed", 0)
    every = getattr(one.objective, "every", None)
    if every is None or isinstance(every, str):
        return Tally(dues.get("met", 0), bad)
    # Of an interval only the times that passed without a success have a row.
    watched = min(window, max(0.0, now - one.begun_at))
    return Tally(max(0, int(watched // as_seconds(every)) - bad), bad)


def _status(one: Promise, tally: Tally, now: float) -> ObjectiveStatus:
    objective, memory = one.objective, one.memory
    target = float(getattr(objective, "target", 1.0))
    return ObjectiveStatus(
        id=one.id,
        task=one.task,
        kind=objective.kind,
        scope=objective.scope,
        severity=objective.severity,
        name=objective.name,
        objective=to_plain(objective),
        limit=memory.limit,
        source=memory.source,
        app=memory.app,
        state=one.state,
        since=one.since,
        value=memory.value,
        window=window_of(objective),
        target=target,
        good=tally.good,
        bad=tally.bad,
        compliance=tally.good / tally.total if tally.total else None,
        budget_left=budget_left(tally, target),
        first_seen_at=one.first_seen_at,
        seen_at=one.seen_at,
    )
