"""How the store itself is: its clock, its size, what it could not take, how long runs take at most.

Not what runs did (that is `queries.py`). Each answer is bounded: no scan of all runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from plet_celery import events
from plet_celery.store import merge
from plet_celery.store.engine import reading, store_clock
from plet_celery.store.histogram import value_of
from plet_celery.store.store import Store
from plet_celery.store.troubles import translated

COUNT_MAX: Final = 1000
"""Where counting stops: readers show "1 000+"."""
_TRIES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How fast the store answers, and what its clock says."""

    latency: float
    """Seconds of the fastest of three round trips."""
    ahead: float
    """Seconds by which this host's clock is ahead of the store's; right to half of `latency`."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """An event that the store refused, kept with the reason."""

    writer: str
    segment: int
    offset: int
    journal_id: str
    at: float
    buried_at: float
    kind: str
    run_id: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """The refused events: how many (counting stops at 1,000), and the newest."""

    count: int
    newest: list[DeadLetter]


def answer(store: Store) -> Answer:
    """Ask the store for its time, whatever its tables are.

    Raises:
        StoreUnavailable: it does not answer.
    """
    best: tuple[float, float] | None = None
    with translated(store.url), reading(store.engine) as connection:
        query = sa.select(store_clock(connection.dialect.name))
        for _ in range(_TRIES):
            wall, begun = time.time(), time.perf_counter()
            theirs = float(connection.execute(query).scalar_one())
            latency = time.perf_counter() - begun
            if best is None or latency < best[0]:
                best = (latency, wall + latency / 2 - theirs)
    assert best is not None
    return Answer(latency=best[0], ahead=best[1])


def size_bytes(store: Store) -> int:
    """Return the bytes that the tables and their indexes take; on SQLite the file with its WAL."""
    names = [table.name for table in store.tables.metadata.sorted_tables]
    dialect = store.url.get_backend_name()
    if dialect == "sqlite":
        file = Path(store.url.database or "")
        found = (Path(f"{file}{suffix}") for suffix in ("", "-wal"))
        return sum(one.stat().st_size for one in found if one.exists())
    if dialect == "postgresql":
        text = (
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'plet' AND c.relkind = 'r'"
        )
        query = sa.text(text)
    else:
        query = sa.text(
            "SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables "
            "WHERE table_schema = database() AND table_name IN :names"
        ).bindparams(sa.bindparam("names", names, expanding=True))
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def dead_letters(store: Store, *, newest: int = 3) -> DeadLetters:
    """Return how many events were refused, and the `newest` of them."""
    table = store.tables.dead_letter
    names = ("writer", "segment", "offset", "journal_id", "at", "buried_at", "kind", "run_id", "reason")
    with store.reading() as connection:
        some = sa.select(table.c.writer).limit(COUNT_MAX).subquery()
        count = connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        query = sa.select(*(table.c[name] for name in names)).order_by(table.c.buried_at.desc())
        found = [DeadLetter(**row._mapping) for row in connection.execute(query.limit(newest))]
    return DeadLetters(count=count, newest=found)


def dropped(store: Store, *, since: float) -> dict[str, int]:
    """Return how many events writers had to drop, by reason, as they told it outside of a run.

    Args:
        since: wall time, seconds since the epoch; the newest 1,000 reports after it are read.
    """
    table = store.tables.event
    query = sa.select(table.c.data).where(
        table.c.run_id == "",
        table.c.attempt_id == "",
        table.c.at >= since,
        table.c.kind == events.EVENTS_DROPPED,
    )
    counts: dict[str, int] = {}
    with store.reading() as connection:
        for row in connection.execute(query.order_by(table.c.at.desc()).limit(COUNT_MAX)):
            reasons = msgspec.json.decode(row.data).get("reasons")
            for reason, count in (reasons if isinstance(reasons, dict) else {}).items():
                counts[reason] = counts.get(reason, 0) + (merge.integer(count) or 0)
    return counts


def longest_runtimes(store: Store) -> dict[str, float]:
    """Return the longest run of each task on record in seconds, within 2 %."""
    table = store.tables.rollup_bin
    query = sa.select(table.c.task, sa.func.max(table.c.bin)).where(
        table.c.measure == "runtime", table.c.count > 0
    )
    with store.reading() as connection:
        found = connection.execute(query.group_by(table.c.task)).all()
    return {task: value_of(place) for task, place in found}
