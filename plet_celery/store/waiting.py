"""Runs that wait in a queue, as the store knows them: how many, and the oldest that could have begun."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from plet_celery.store.engine import prefer_indexes
from plet_celery.store.settle import RunDoc
from plet_celery.store.store import Store

COUNT_MAX: Final = 1000
"""So many of the oldest waiting runs are looked at."""

_doc_of: Final = msgspec.json.Decoder(RunDoc).decode


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The waiting runs of one queue; those that must not begin yet (their ETA lies ahead) are left out."""

    queue: str
    runs: int
    """How many, among the oldest `COUNT_MAX` of all queues."""
    oldest_at: float
    """When the oldest of them was published, or its ETA came: seconds since the epoch."""
    oldest_run: str
    oldest_task: str


def waiting_by_queue(store: Store, *, now: float) -> dict[str, Waiting]:
    """Return what waits, by queue; of runs that were never heard of again, the store cannot know it.

    Args:
        now: seconds since the epoch, by the clocks of those who publish.
    """
    table = store.tables.run
    query = (
        sa.select(table.c.id, table.c.task, table.c.queue, table.c.queued_at, table.c.created_at, table.c.doc)
        .where(table.c.state == "queued", table.c.queue.is_not(None))
        .order_by(table.c.created_at)
        .limit(COUNT_MAX)
    )
    with store.reading() as connection:
        prefer_indexes(connection)
        rows = connection.execute(query).all()
    found: dict[str, Waiting] = {}
    for row in rows:
        due = _due(row)
        if due > now:
            continue
        known = found.get(row.queue)
        one = Waiting(
            queue=row.queue,
            runs=(known.runs if known is not None else 0) + 1,
            oldest_at=due,
            oldest_run=row.id,
            oldest_task=row.task,
        )
        if known is not None and known.oldest_at <= due:
            one = msgspec.structs.replace(known, runs=one.runs)
        found[row.queue] = one
    return found


def _due(row: Any) -> float:
    """Return since when a run could have begun."""
    queued = float(row.queued_at if row.queued_at is not None else row.created_at)
    doc = _doc_of(row.doc) if row.doc is not None else RunDoc()
    eta = doc.queued.data.get("eta") if doc.queued is not None else None
    if not isinstance(eta, str):
        return queued
    try:
        found = datetime.fromisoformat(eta)
    except ValueError:
        return queued
    return max(queued, (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
