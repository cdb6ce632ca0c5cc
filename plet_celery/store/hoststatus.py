"""Hosts as readers see them: who is heard of, who is not, and whose clock is wrong.

A host is silent when its lease was not touched for longer than it promised, by the store's clock alone:
no host's clock is asked. This is decided when somebody asks; nothing is written.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from plet_celery import events
from plet_celery.store import merge
from plet_celery.store.engine import store_clock
from plet_celery.store.prepared import Statement, prepared
from plet_celery.store.records import EventRow, HostStatus
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store

SKEW_MAX: Final = 30.0
"""Seconds by which a host's clock may differ from the store's before that is told."""


def list_hosts(store: Store, *, limit: int = 1000) -> list[HostStatus]:
    """Return one status per journal, by host and journal; of more than `limit` those heard of last."""
    table = store.tables.journal
    with store.reading() as connection:
        now = store_clock(connection.dialect.name).label("now")
        query = sa.select(table, now).order_by(table.c.touched_at.desc()).limit(limit)
        found = [_status(row) for row in connection.execute(query)]
    return sorted(found, key=lambda one: (one.host, one.journal))


def host_losses(store: Store, *, limit: int = 50) -> list[EventRow]:
    """Return the newest facts of hosts that were lost, newest first; `data` as in docs/events.md."""
    table = store.tables.event
    mine = (table.c.run_id == "", table.c.kind == events.HOST_LOST)
    query = sa.select(table).where(*mine).order_by(table.c.at.desc(), table.c.writer).limit(limit)
    with store.reading() as connection:
        return [
            EventRow(
                run_id="",
                attempt_id=None,
                kind=row.kind,
                at=row.at,
                data=msgspec.json.decode(row.data),
                position=(row.writer, row.segment, row.offset),
            )
            for row in connection.execute(query)
        ]


def silent_since(connection: Connection, tables: Tables, journals: Iterable[str]) -> dict[str, float]:
    """Return when those of `journals` were last heard of that should have been heard of since."""
    wanted = sorted(set(journals))
    if not wanted:
        return {}
    found = _silent(tables, connection.dialect, tuple(wanted)).rows(connection)
    return {journal: float(touched_at) for journal, touched_at in found}


@functools.lru_cache
def _silent(tables: Tables, dialect: Dialect, journals: tuple[str, ...]) -> Statement:
    table = tables.journal
    query = sa.select(table.c.journal_id, table.c.touched_at).where(
        table.c.journal_id.in_(journals),
        table.c.left_at.is_(None),
        store_clock(dialect.name) - table.c.touched_at >= table.c.stale_after,
    )
    return prepared(query, dialect)


def _status(row: Any) -> HostStatus:
    age = max(0.0, float(row.now) - row.touched_at)
    beat = _facts(row.beat)
    return HostStatus(
        host=row.host,
        journal=row.journal_id,
        machine=row.machine,
        boot=row.boot,
        pid=row.pid,
        plet=merge.text(beat.get("plet"), 64),
        epoch=row.epoch,
        lease_age=age,
        unreachable_since=row.touched_at if row.left_at is None and age >= row.stale_after else None,
        left_at=row.left_at,
        lost_at=row.lost_at,
        beat_at=row.beat_at,
        backlog_bytes=merge.integer(beat.get("backlog_bytes")),
        writers=merge.integer(beat.get("writers")),
        skew=row.skew,
        is_skewed=row.skew is not None and abs(row.skew) > SKEW_MAX,
        as_of=row.as_of,
        taken_at=row.taken_at,
    )


def _facts(beat: str | None) -> dict[str, Any]:
    found = msgspec.json.decode(beat) if beat is not None else {}
    return found if isinstance(found, dict) else {}
