"""Counts and durations per five minutes: what an attempt adds, and how a correction takes it back.

Sums are whole microseconds, so that the order of additions does not show. Only a journal's own shipper
writes its rows; readers add journals up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk, merge
from plet_celery.store.histogram import bin_of
from plet_celery.store.load import select_in
from plet_celery.store.merge import AttemptState, Contribution, End
from plet_celery.store.schema import QUEUE_MAX, TASK_MAX, Tables

BUCKET_SECONDS: Final = 300
OTHER: Final = "other"
"""Tenant under which those above the cap are counted."""

Series = tuple[int, str, str, str, str]


def contribution(state: AttemptState, end: End | None, tenant: str) -> Contribution | None:
    """Return what an attempt with this end adds; nothing while it runs.

    Args:
        tenant: the attempt's own, or `other`.
    """
    if end is None:
        return None
    ended = end.stamp[0]
    measured = merge.runtime(state, end)
    queued = merge.number(merge.fact(state, "queued_at", end))
    waited = (
        max(0.0, merge.started_at(state, end) - queued)
        if queued is not None and measured is not None
        else None
    )
    return Contribution(
        int(ended // BUCKET_SECONDS) * BUCKET_SECONDS,
        merge.text(merge.fact(state, "task", end), TASK_MAX) or "",
        merge.text(merge.fact(state, "queue", end), QUEUE_MAX) or "",
        tenant,
        end.state.value,
        round(measured[0] * 1e6) if measured is not None else None,
        round(waited * 1e6) if waited is not None else None,
    )


class Delta:
    """Changes of one journal's rollups, gathered over a batch."""

    def __init__(self, journal: str) -> None:
        self._journal = journal
        self._sums: dict[Series, list[int]] = {}
        self._bins: dict[tuple[Series, str, int], int] = {}
        self._takes = False

    def replace(self, old: Contribution | None, new: Contribution | None) -> None:
        """Take away what an attempt had added, add what it adds now."""
        if old == new:
            return
        if old is not None:
            self._takes = True
            self._add(old, -1)
        if new is not None:
            self._add(new, 1)

    def write(self, connection: Connection, tables: Tables) -> None:
        """Add the changes to the stored rows; rows that reach zero are deleted."""
        sums = [
            (self._journal, *series, *counts) for series, counts in sorted(self._sums.items()) if any(counts)
        ]
        bins = [
            (self._journal, *series, measure, number, count)
            for (series, measure, number), count in sorted(self._bins.items())
            if count
        ]
        bulk.add(connection, tables.rollup, sums)
        bulk.add(connection, tables.rollup_bin, bins)
        if self._takes:
            buckets = sorted({series[0] for series in self._sums})
            for table in (tables.rollup, tables.rollup_bin):
                mine = sa.and_(table.c.journal_id == self._journal, table.c.bucket.in_(buckets))
                connection.execute(table.delete().where(mine, table.c.count == 0))

    def _add(self, one: Contribution, sign: int) -> None:
        series = (one.bucket, one.task, one.queue, one.tenant, one.state)
        sums = self._sums.setdefault(series, [0, 0, 0, 0, 0])
        sums[0] += sign
        for at, measure, duration in ((1, "runtime", one.runtime_us), (3, "waited", one.waited_us)):
            if duration is not None:
                sums[at] += sign
                sums[at + 1] += sign * duration
                place = (series, measure, bin_of(duration / 1e6))
                self._bins[place] = self._bins.get(place, 0) + sign


def known_tenants(
    connection: Connection, tables: Tables, journal: str, tenants: Iterable[str], limit: int
) -> set[str]:
    """Return which tenants have rollups of their own; new ones get them below `limit`."""
    table = tables.rollup_tenant
    wanted = sorted(set(tenants))
    mine = table.c.journal_id == journal
    known = {row.tenant for row in select_in(connection, table, table.c.tenant, wanted, mine)}
    missing = [tenant for tenant in wanted if tenant not in known]
    if missing:
        count = connection.execute(sa.select(sa.func.count()).select_from(table).where(mine)).scalar_one()
        taken: Sequence[str] = missing[: max(0, limit - count)]
        bulk.insert(connection, table, [(journal, tenant) for tenant in taken])
        known.update(taken)
    return known
