"""Runs that wait in a queue, as the store knows them: how many, and the oldest that could have begun."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from plet_celery.store.engine import prefer_indexes, tie_breaker
from plet_celery.store.settle import RunDoc
from plet_celery.store.store import Store

COUNT_MAX: Final = 1000
"""So many of the oldest waiting runs are counted."""
PAGES_MAX: Final = 10
"""So many times that are looked at: those that must not begin yet lie between them."""

_doc_of: Final = msgspec.json.Decoder(RunDoc).decode


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The waiting runs of one queue; those that must not begin yet (their ETA lies ahead) are left out."""

    queue: str
    runs: int
    """How many, among those of all queues that are looked at."""
    oldest_at: float
    """When the oldest of them was published, or its ETA came: seconds since the epoch."""
    oldest_run: str
    oldest_task: str


class Queued(NamedTuple):
    """What waits, by queue."""

    by_queue: dict[str, Waiting]
    is_whole: bool
    """False: more that must not begin yet lie before it than are looked at, so others may wait, too."""


def waiting_by_queue(store: Store, *, now: float) -> Queued:
    """Return what waits, by queue; of runs that were never heard of again, the store cannot know it.

    Args:
        now: seconds since the epoch, by the clocks of those who publish.
    """
    found: dict[str, Waiting] = {}
    behind: tuple[float, str] | None = None
    for _ in range(PAGES_MAX):
        rows = _oldest(store, behind)
        for row in rows:
            _count(found, row, now)
        if len(rows) < COUNT_MAX or sum(one.runs for one in found.values()) >= COUNT_MAX:
            return Queued(found, True)
        behind = (rows[-1].created_at, rows[-1].run_id)
    return Queued(found, False)


def _oldest(store: Store, behind: tuple[float, str] | None) -> Sequence[Any]:
    table = store.tables.run
    at, name = table.c.created_at, table.c.id
    columns = (name.label("run_id"), table.c.task, table.c.queue, table.c.queued_at, at, table.c.doc)
    where = [table.c.state == "queued", table.c.queue.is_not(None)]
    if behind is not None:
        where += [at >= behind[0], sa.or_(at > behind[0], name > behind[1])]
    with store.reading() as connection:
        prefer_indexes(connection)
        order = (at, tie_breaker(name, connection.dialect.name))
        query = sa.select(*columns).where(*where).order_by(*order).limit(COUNT_MAX)
        return connection.execute(query).all()


def _count(found: dict[str, Waiting], row: Any, now: float) -> None:
    due = _due(row)
    if due > now:
        return
    known = found.get(row.queue)
    one = Waiting(
        queue=row.queue,
        runs=(known.runs if known is not None else 0) + 1,
        oldest_at=due,
        oldest_run=row.run_id,
        oldest_task=row.task,
    )
    if known is not None and known.oldest_at <= due:
        one = msgspec.structs.replace(known, runs=one.runs)
    found[row.queue] = one


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
