"""How runs ended of late, by task, and what was lost: what the rules look at.

Read from the rollups of the last hour or so, whose rows are as many as there are tasks, queues and
tenants in five minutes, however many runs there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import sqlalchemy as sa

from plet_celery import events
from plet_celery.store import glance, merge
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.filters import Filters
from plet_celery.store.hoststatus import list_hosts
from plet_celery.store.listing import list_runs, newest_keys
from plet_celery.store.records import HostStatus, Run
from plet_celery.store.rollups import BUCKET_SECONDS
from plet_celery.store.store import Store

EXAMPLES: Final = 20
"""Runs that are named of one task."""
_LOSSES_MAX: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Attempts that were lost within five minutes, of one task on one journal."""

    journal: str
    bucket: int
    """When the five minutes begin."""
    task: str
    count: int


@dataclass(frozen=True, kw_only=True)
class HostGone:
    """A host that went away without a word, as it was written when its runs were given up."""

    host: str
    journal: str
    at: float
    attempts: int
    """How many attempts were lost with it."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What was lost in a window."""

    by_task: Sequence[Loss] = ()
    """Those of a host that is gone are not among them."""
    hosts: Sequence[HostGone] = ()
    """The newest first."""
    names: dict[str, str] = field(default_factory=dict)
    """{journal: its host, for people}."""


def ends_by_task(store: Store, *, since: float) -> dict[str, dict[str, int]]:
    """Return how many attempts ended in which state, by task: `{task: {state: count}}`.

    Sampled runs count as all they stand for. A retry is none of these ends.

    Args:
        since: seconds since the epoch; the whole five minutes count in which it lies.
    """
    table = store.tables.rollup
    query = sa.select(table.c.task, table.c.state, sa.func.sum(table.c.count))
    query = query.where(table.c.bucket >= _bucket(since), table.c.state.not_in(sorted(glance.NO_ENDS)))
    found: dict[str, dict[str, int]] = {}
    with store.reading() as connection:
        prefer_indexes(connection)
        for mine in glance.parts(connection, store.tables):
            rows = connection.execute(query.where(*mine).group_by(table.c.task, table.c.state))
            for task, state, count in rows:
                states = found.setdefault(task, {})
                states[state] = states.get(state, 0) + int(count)
    return found


def losses(store: Store, *, since: float) -> Losses:
    """Return what was lost since a time: attempts by task and journal, and hosts.

    What a host took with it is its alone: in those five minutes the other losses of its journal are not
    told apart from it.
    """
    hosts = _hosts_gone(store, since - BUCKET_SECONDS)
    gone = {(one.journal, _bucket(one.at)) for one in hosts}
    table = store.tables.rollup
    columns = (table.c.journal_id, table.c.bucket, table.c.task)
    query = (
        sa.select(*columns, sa.func.sum(table.c.count).label("count"))
        .where(table.c.bucket >= _bucket(since), table.c.state == events.RunState.LOST.value)
        .group_by(*columns)
        .order_by(*columns)
    )
    found = []
    with store.reading() as connection:
        prefer_indexes(connection)
        for mine in glance.parts(connection, store.tables):
            found += [
                Loss(journal=row.journal_id, bucket=int(row.bucket), task=row.task, count=int(row[3]))
                for row in connection.execute(query.where(*mine))
                if int(row[3]) > 0 and (row.journal_id, int(row.bucket)) not in gone
            ]
    names = {one.journal: host_label(one) for one in list_hosts(store)} if found or hosts else {}
    return Losses(by_task=found, hosts=[one for one in hosts if one.at >= since], names=names)


def silent_hosts(store: Store) -> list[HostStatus]:
    """Return the hosts that should have been heard of, and those that were given up, by the store's clock."""
    found = list_hosts(store)
    return [one for one in found if one.unreachable_since is not None or one.lost_at is not None]


def host_label(host: HostStatus) -> str:
    """Return what names a journal's host for people: a host may have several journals."""
    return f"{host.host} ({host.journal[:8]})"


def examples(store: Store, task: str, states: Sequence[str]) -> list[Run]:
    """Return the newest runs of a task in some states, at most 20."""
    return list_runs(store, states=states, task=task, limit=EXAMPLES).items


def newest_runs(store: Store, tasks: Sequence[str]) -> dict[str, float]:
    """Return when the newest run of each task was created, of those that have any."""
    found = {}
    with store.reading() as connection:
        prefer_indexes(connection)
        for task in tasks:
            mine = [Filters(tasks=(asked(task, TASK_MAX),))]
            for created_at, _ in newest_keys(connection, store.tables, mine, None, 1):
                found[task] = created_at
    return found


def _hosts_gone(store: Store, since: float) -> list[HostGone]:
    table = store.tables.event
    query = (
        sa.select(table.c.at, table.c.data)
        .where(table.c.run_id == "", table.c.attempt_id == "", table.c.at >= since)
        .where(table.c.kind == events.HOST_LOST)
        .order_by(table.c.at.desc())
        .limit(_LOSSES_MAX)
    )
    found = []
    with store.reading() as connection:
        for row in connection.execute(query):
            data = msgspec.json.decode(row.data)
            facts = data if isinstance(data, dict) else {}
            found.append(
                HostGone(
                    host=merge.text(facts.get("host"), 255) or "",
                    journal=merge.text(facts.get("journal"), 32) or "",
                    at=row.at,
                    attempts=merge.integer(facts.get("attempts")) or 0,
                )
            )
    return found


def _bucket(at: float) -> int:
    return int(at // BUCKET_SECONDS) * BUCKET_SECONDS
