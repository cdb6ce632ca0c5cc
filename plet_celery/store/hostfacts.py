"""What each journal's shipper told of its host with its last beat: room on the disk, failures, holes."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from plet_celery.store import merge
from plet_celery.store.store import Store


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a beat that checks ask for; an older shipper does not tell them."""

    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_floor_bytes: int | None = None
    """Below this, recording there sheds."""
    missing_segments: int = 0
    """Since that shipper started; so the next three."""
    damaged_bytes: int = 0
    refused_segments: int = 0
    unsupported: int = 0
    log_failures: int = 0
    """How often the log files' sink failed in a row."""
    log_error: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The counters that are not zero."""
        names = ("missing_segments", "damaged_bytes", "refused_segments", "unsupported", "log_failures")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def by_journal(store: Store, *, limit: int = 1000) -> dict[str, HostFacts]:
    """Return what each journal's host told last, by journal id."""
    table = store.tables.journal
    query = sa.select(table.c.journal_id, table.c.beat).order_by(table.c.touched_at.desc()).limit(limit)
    with store.reading() as connection:
        return {row.journal_id: _facts(row.beat) for row in connection.execute(query)}


def _facts(beat: str | None) -> HostFacts:
    told = msgspec.json.decode(beat) if beat is not None else {}
    told = told if isinstance(told, dict) else {}
    return HostFacts(
        disk_free_bytes=merge.integer(told.get("disk_free_bytes")),
        disk_total_bytes=merge.integer(told.get("disk_total_bytes")),
        disk_floor_bytes=merge.integer(told.get("disk_floor_bytes")),
        missing_segments=merge.integer(told.get("missing_segments")) or 0,
        damaged_bytes=merge.integer(told.get("damaged_bytes")) or 0,
        refused_segments=merge.integer(told.get("refused_segments")) or 0,
        unsupported=merge.integer(told.get("unsupported")) or 0,
        log_failures=merge.integer(told.get("log_failures")) or 0,
        log_error=merge.text(told.get("log_error"), 200) or "",
    )
