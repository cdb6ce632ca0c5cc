"""What the store keeps of its own upkeep: removals that are due and events that came to nothing."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa

from plet_celery import events
from plet_celery.store import clockwatch, merge
from plet_celery.store.removal import now_of
from plet_celery.store.store import Store

COUNT_MAX: Final = 1000
"""Where counting stops."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How removal goes."""

    last_at: float | None
    """When somebody last tried to remove what has expired, by the store's clock; None: never."""
    jumped_at: float | None
    """Since when nothing is removed because the store's clock jumped."""
    overdue_since: float | None
    """When the first run expired that is still there and not being removed; None: there is none."""
    overdue: int
    """How many there are, counted up to `COUNT_MAX`."""
    waiting_since: float | None
    """When the oldest removal was marked that a journal's shipper has not acknowledged yet."""
    now: float
    """The store's clock."""


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """What came to nothing on its way from one journal."""

    dropped: dict[str, int]
    """Events that writers dropped outside of a run, by reason."""
    dropped_at: float | None
    """When that was last told."""
    refused: int
    """Events that the store refused, counted up to `COUNT_MAX`."""
    refused_at: float | None
    """When it last refused one."""
    reason: str
    """Why."""


def retention(store: Store) -> Retention:
    """Return how removal goes."""
    run, mark, part = store.tables.run, store.tables.removal, store.tables.removal_part
    with store.reading() as connection:
        now = now_of(connection)
        unmarked = ~sa.select(mark.c.digest).where(mark.c.run_id == run.c.id).exists()
        some = sa.select(run.c.expires_at).where(run.c.expires_at < now, unmarked)
        some_expired = some.order_by(run.c.expires_at).limit(COUNT_MAX).subquery()
        count, first = connection.execute(
            sa.select(sa.func.count(), sa.func.min(some_expired.c.expires_at))
        ).one()
        waiting = connection.execute(sa.select(sa.func.min(part.c.marked_at))).scalar()
    seen, jumped = clockwatch.last_look(store)
    return Retention(
        last_at=seen,
        jumped_at=jumped,
        overdue_since=first,
        overdue=int(count),
        waiting_since=waiting,
        now=now,
    )


def losses_by_journal(store: Store, *, since: float) -> dict[str, Losses]:
    """Return what was dropped or refused, by journal id; journals that lost nothing are not named.

    Args:
        since: seconds since the epoch: older reports, and older refusals, are not counted.
    """
    event, letter = store.tables.event, store.tables.dead_letter
    told = (
        sa.select(event.c.journal_id, event.c.at, event.c.data)
        .where(
            event.c.run_id == "",
            event.c.attempt_id == "",
            event.c.at >= since,
            event.c.kind == events.EVENTS_DROPPED,
        )
        .order_by(event.c.at.desc())
        .limit(COUNT_MAX)
    )
    buried = (
        sa.select(letter.c.journal_id, letter.c.buried_at, letter.c.reason)
        .where(letter.c.buried_at >= since)
        .order_by(letter.c.buried_at.desc())
        .limit(COUNT_MAX)
    )
    found: dict[str, dict[str, Any]] = {}
    with store.reading() as connection:
        for row in connection.execute(told):
            one = found.setdefault(row.journal_id, {})
            one.setdefault("dropped_at", row.at)
            counts = one.setdefault("dropped", {})
            reasons = msgspec.json.decode(row.data).get("reasons")
            for reason, count in (reasons if isinstance(reasons, dict) else {}).items():
                counts[reason] = counts.get(reason, 0) + (merge.integer(count) or 0)
        for row in connection.execute(buried):
            one = found.setdefault(row.journal_id, {})
            one.setdefault("refused_at", row.buried_at)
            one.setdefault("reason", row.reason)
            one["refused"] = one.get("refused", 0) + 1
    return {
        journal: Losses(
            dropped=one.get("dropped", {}),
            dropped_at=one.get("dropped_at"),
            refused=one.get("refused", 0),
            refused_at=one.get("refused_at"),
            reason=str(one.get("reason", ""))[:200],
        )
        for journal, one in found.items()
    }
