"""Runs that wait, and were never heard of again: a message that nobody took, a retry that never came.

A shipper says so with its own lease, as an event of the run itself: there is no attempt that it could end. It
says it with the store's clock and a position that follows from the run, so that several who find the same
say the same once. Whatever the run does later goes on from there (`settle.run_state`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery import events
from plet_celery.events import Event
from plet_celery.store import assemble, merge
from plet_celery.store.engine import store_clock, tie_breaker
from plet_celery.store.load import state_of
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunRow
from plet_celery.store.store import Store

AT_ONCE: Final = 200
STATES: Final = ("queued", "retrying")

Place = tuple[str, float, str]
"""State, creation and key of the last run of a part."""


@dataclass(frozen=True, kw_only=True)
class Forsaken:
    """A run that waits for too long."""

    run: str
    """Its full id."""
    state: str
    since: float
    """When it was last heard of, or could have begun: seconds since the epoch."""


def forsaken(
    store: Store, *, after: float, behind: Place | None = None, limit: int = AT_ONCE
) -> tuple[float, list[Forsaken], Place | None]:
    """Return runs that have waited for `after` seconds, the oldest first; an ETA ahead is waited for.

    Args:
        behind: where to go on; None: at the beginning.

    Returns:
        The store's clock; the runs; where to go on, None at the end.
    """
    state, created, run = behind or (STATES[0], 0.0, "")
    with store.reading() as connection:
        now = float(connection.execute(sa.select(store_clock(connection.dialect.name))).scalar_one())
        rows = _rows(connection, store.tables, state, (created, run), before=now - after, limit=limit)
        ended = _last_ends(connection, store.tables, [row.id for row in rows]) if state == "retrying" else {}
    found = [
        Forsaken(run=assemble.run_id_of(row), state=state, since=ended.get(row.id, _startable_at(row)))
        for row in rows
    ]
    following: Place | None = None
    if len(rows) == limit:
        following = (state, rows[-1].created_at, rows[-1].id)
    elif state != STATES[-1]:
        following = (STATES[STATES.index(state) + 1], 0.0, "")
    return now, [one for one in found if one.since < now - after], following


def _rows(
    connection: Connection,
    tables: Tables,
    state: str,
    behind: tuple[float, str],
    *,
    before: float,
    limit: int,
) -> list[RunRow]:
    table = tables.run
    created, run = behind
    later = sa.or_(table.c.created_at > created, sa.and_(table.c.created_at == created, table.c.id > run))
    mine = (table.c.state == state, table.c.created_at < before, table.c.created_at >= created, later)
    order = (table.c.created_at, tie_breaker(table.c.id, connection.dialect.name))
    query = sa.select(table).where(*mine).order_by(*order).limit(limit)
    return [RunRow(*row) for row in connection.execute(query)]


def _startable_at(row: RunRow) -> float:
    queued = assemble.doc_of(row).queued
    told = merge.startable_at(queued.data) if queued is not None else None
    eta = merge.iso_moment(queued.data.get("eta")) if queued is not None else None
    return max(row.created_at, told or 0.0, eta or 0.0)


def _last_ends(connection: Connection, tables: Tables, runs: Sequence[str]) -> dict[str, float]:
    """Return when the last attempts ended, or where that is later, for when the next ones are planned."""
    if not runs:
        return {}
    table = tables.attempt
    last = sa.select(table.c.run_id, sa.func.max(table.c.ended_at).label("at"))
    newest = last.where(table.c.run_id.in_(runs)).group_by(table.c.run_id).subquery()
    query = sa.select(table.c.run_id, table.c.ended_at, table.c.doc).join(
        newest, sa.and_(table.c.run_id == newest.c.run_id, table.c.ended_at == newest.c.at)
    )
    found: dict[str, float] = {}
    for run, at, doc in connection.execute(query):
        end = merge.effective_end(state_of(doc))
        planned = merge.moment(end.data.get("when")) if end is not None else None
        found[run] = max(found.get(run, 0.0), float(at), planned or 0.0)
    return found


def event_of(one: Forsaken, *, after: float, now: float) -> Event:
    """Return the event that says it; its position is the same whoever says it.

    Args:
        after: for how long a run may wait, in seconds, for the words.
        now: the store's clock.
    """
    digest = hashlib.sha256(f"{events.RUN_ABANDONED}:{one.run}:{one.since:.3f}".encode()).hexdigest()
    data: dict[str, Any] = {
        "by": "shipper",
        "reason": f"{one.state}, and not heard of for {after / 86_400:.3g} days",
        "since": one.since,
    }
    return Event(
        kind=events.RUN_ABANDONED,
        wall=now,
        mono=0.0,
        run=one.run,
        attempt=None,
        data=data,
        writer=digest[:32],
        segment=0,
        offset=0,
    )
