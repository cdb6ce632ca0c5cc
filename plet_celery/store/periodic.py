"""Runs that beat started."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from plet_celery.store.engine import prefer_indexes
from plet_celery.store.store import Store

_NEWEST: Final = 2000
"""So many of the newest runs are looked at."""


def newest_of_beat(store: Store) -> float | None:
    """Return when the newest run with the trigger `beat` was published; None where none of the newest is."""
    run = store.tables.run
    newest = (
        sa.select(run.c.trigger, run.c.queued_at, run.c.created_at)
        .order_by(run.c.created_at.desc())
        .limit(_NEWEST)
        .subquery()
    )
    at = sa.func.max(sa.func.coalesce(newest.c.queued_at, newest.c.created_at))
    with store.reading() as connection:
        prefer_indexes(connection)
        found = connection.execute(sa.select(at).where(newest.c.trigger == "beat")).scalar()
    return float(found) if found is not None else None
