"""Counts and durations per five minutes: what an attempt adds, and how a correction takes it back.

Sums are whole microseconds, so that the order of additions does not show. Only a journal's own shipper
writes its rows; readers add journals up.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.events import RunState
from plet_celery.store import bulk, merge
from plet_celery.store.columns import QUEUE_MAX, TASK_MAX, TENANT_MAX
from plet_celery.store.histogram import bin_of
from plet_celery.store.merge import Contribution, Outcome
from plet_celery.store.schema import Tables

BUCKET_SECONDS: Final = 300
_LONGEST: Final = 1e9
"""Seconds, 31 years: what claims to be longer must not make the sums overflow."""
OTHER: Final = "other"
"""Tenant under which those above the cap are counted."""

Series = tuple[int, str, str, str, str]


class _Sum:
    """Changes of one series."""

    __slots__ = ("counts", "runtime", "waited")

    def __init__(self) -> None:
        self.counts = [0, 0, 0, 0, 0]
        """count, then count and sum of runtime, count and sum of waited."""
        self.runtime: dict[int, int] = {}
        self.waited: dict[int, int] = {}

    def add(self, one: Contribution, sign: int) -> None:
        counts, times = self.counts, sign * one.weight
        counts[0] += times
        if one.runtime_us is not None:
            counts[1] += times
            counts[2] += times * one.runtime_us
            place = bin_of(one.runtime_us / 1e6)
            self.runtime[place] = self.runtime.get(place, 0) + times
        if one.waited_us is not None:
            counts[3] += times
            counts[4] += times * one.waited_us
            place = bin_of(one.waited_us / 1e6)
            self.waited[place] = self.waited.get(place, 0) + times


class Delta:
    """Changes of one journal's rollups, gathered over a batch."""

    def __init__(self, connection: Connection, tables: Tables, journal: str, tenants_max: int) -> None:
        self._connection = connection
        self._tables = tables
        self._journal = journal
        self._tenants_max = tenants_max
        self._tenants: set[str] | None = None
        self._new_tenants: list[str] = []
        self._sums: dict[Series, _Sum] = {}
        self._takes = False

    def contribution(self, outcome: Outcome) -> Contribution | None:
        """Return what an attempt adds; nothing while it runs."""
        end, facts, runtime = outcome.end, outcome.facts, outcome.runtime
        if end is None:
            return None
        startable = merge.startable_at(facts) if runtime is not None else None
        return self.made(
            end.stamp[0],
            merge.text(facts.get("task"), TASK_MAX) or "",
            merge.text(facts.get("queue"), QUEUE_MAX),
            merge.text(facts.get("tenant"), TENANT_MAX) or "",
            # A task that replaced itself has not ended: its run goes on, and is running meanwhile.
            RunState.RUNNING.value if end.data.get("replaced") is True else end.state,
            runtime,
            outcome.started_at - startable if startable is not None else None,
            merge.weight_of(end.data),
        )

    def made(
        self,
        ended: float,
        task: str,
        queue: str | None,
        tenant: str,
        state: str,
        runtime: float | None,
        waited: float | None,
        weight: int = 1,
    ) -> Contribution:
        """Return a contribution of these facts; a tenant above the cap counts as `other`."""
        return Contribution(
            int(ended // BUCKET_SECONDS) * BUCKET_SECONDS,
            task,
            queue or "",
            self._tenant(tenant),
            state,
            _microseconds(runtime) if runtime is not None else None,
            _microseconds(waited) if waited is not None else None,
            weight,
        )

    def replace(self, old: Contribution | None, new: Contribution | None) -> None:
        """Take away what an attempt had added, add what it adds now."""
        if old is not None:
            if old == new:
                return
            self._takes = True
            self._sum(old).add(old, -1)
        if new is not None:
            self._sum(new).add(new, 1)

    def write(self) -> None:
        """Add the changes to the stored rows; rows that reach zero are deleted."""
        tables, connection = self._tables, self._connection
        sums, bins = [], []
        for series in sorted(self._sums):
            found, key = self._sums[series], (self._journal, *series)
            if any(found.counts):
                sums.append((*key, *found.counts))
            for measure, places in (("runtime", found.runtime), ("waited", found.waited)):
                bins += [(*key, measure, place, count) for place, count in sorted(places.items()) if count]
        bulk.add(connection, tables.rollup, sums)
        bulk.add(connection, tables.rollup_bin, bins)
        bulk.insert(connection, tables.rollup_tenant, [(self._journal, one) for one in self._new_tenants])
        if self._takes:
            buckets = sorted({series[0] for series in self._sums})
            for table in (tables.rollup, tables.rollup_bin):
                mine = sa.and_(table.c.journal_id == self._journal, table.c.bucket.in_(buckets))
                connection.execute(table.delete().where(mine, table.c.count == 0))

    def _sum(self, one: Contribution) -> _Sum:
        series = (one.bucket, one.task, one.queue, one.tenant, one.state)
        found = self._sums.get(series)
        if found is None:
            found = self._sums[series] = _Sum()
        return found

    def _tenant(self, tenant: str) -> str:
        """Return the tenant under which one is counted: the first ones have rows of their own."""
        if self._tenants is None:
            table = self._tables.rollup_tenant
            query = sa.select(table.c.tenant).where(table.c.journal_id == self._journal)
            self._tenants = set(self._connection.execute(query).scalars())
        if tenant not in self._tenants:
            if len(self._tenants) >= self._tenants_max:
                return OTHER
            self._tenants.add(tenant)
            self._new_tenants.append(tenant)
        return tenant


def _microseconds(seconds: float) -> int:
    return round(min(max(0.0, seconds), _LONGEST) * 1e6)
