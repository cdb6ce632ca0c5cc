"""The newest answer of every check: one row a check and subject, with since when its level holds.

The level of a row is what the pass saw that kept it; how old that is, the reader has to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk
from plet_celery.store.columns import WORD_MAX, fit
from plet_celery.store.store import Store
from plet_celery.store.watchtables import SUBJECT_MAX
from plet_celery.watchfacts import CheckResult, Level

ROWS_MAX: Final = 2000
"""More rows than this are neither kept nor read: the worst stay."""
_ORDER: Final = {Level.CRITICAL: 0, Level.NO_DATA: 1, Level.WARNING: 2, Level.OK: 3}


class HealthRow(msgspec.Struct, frozen=True, kw_only=True):
    """A check's answer as it was kept."""

    result: CheckResult
    since: float
    """Since when the level holds: by the check's own evidence, else the pass that first saw it."""
    checked_at: float
    """When the pass that kept it looked."""


class _Doc(msgspec.Struct, omit_defaults=True):
    observation: str
    expectation: str = ""
    affected: str = ""
    advice: str = ""
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    own_since: float | None = None


_decode: Final = msgspec.json.Decoder(_Doc).decode


def keep(
    store: Store,
    results: Iterable[CheckResult],
    *,
    now: float,
    fence: Callable[[Connection], object] = lambda connection: None,
) -> None:
    """Keep what a pass found: its rows replace those of the pass before, in one transaction.

    A level that has not changed keeps its `since`. A subject that was not found again is gone, and so are
    checks that this pass did not ask.

    Args:
        now: when the pass looked, seconds since the epoch.
        fence: called first, in the same transaction; it raises where somebody else passes now.

    Raises:
        StoreUnavailable: nothing was kept.
    """
    table = store.tables.watching.health
    with store.writing() as connection:
        fence(connection)
        stored = {(row.name, row.subject): row for row in connection.execute(sa.select(table))}
        found: dict[tuple[str, str], tuple[Any, ...]] = {}
        for one in sorted(results, key=lambda one: _ORDER[one.level])[:ROWS_MAX]:
            place = (fit(one.name, WORD_MAX), fit(one.subject, SUBJECT_MAX))
            if place not in found:
                found[place] = _row(place, one, stored.get(place), now)
        gone = [place for place in stored if place not in found]
        if gone:
            bulk.delete(connection, table, gone)
        new = [row for place, row in found.items() if place not in stored]
        if new:
            bulk.insert(connection, table, new)
        old = [row for place, row in found.items() if place in stored]
        if old:
            bulk.update(connection, table, old)


def list_health(store: Store) -> list[HealthRow]:
    """Return what the last pass kept, the worst first; empty where there was none yet.

    Raises:
        StoreUnavailable: the store cannot tell.
    """
    table = store.tables.watching.health
    with store.reading() as connection:
        rows = [_read(row) for row in connection.execute(sa.select(table).limit(ROWS_MAX))]
    return sorted(rows, key=lambda row: (_ORDER[row.result.level], row.result.name, row.result.subject))


def _row(place: tuple[str, str], one: CheckResult, before: Any, now: float) -> tuple[Any, ...]:
    held = before is not None and before.level == one.level.value
    since = one.since if one.since is not None else before.since if held else now
    doc = _Doc(
        one.observation, one.expectation, one.affected, one.advice, dict(one.values), own_since=one.since
    )
    return (*place, one.level.value, since, now, msgspec.json.encode(doc).decode())


def _read(row: Any) -> HealthRow:
    doc = _decode(row.doc)
    return HealthRow(
        result=CheckResult(
            name=row.name,
            subject=row.subject,
            level=_level(row.level),
            observation=doc.observation,
            expectation=doc.expectation,
            affected=doc.affected,
            advice=doc.advice,
            since=doc.own_since,
            values=doc.values,
        ),
        since=row.since,
        checked_at=row.checked_at,
    )


def _level(text: str) -> Level:
    try:
        return Level(text)
    except ValueError:  # a newer version's word: certainly not known to be good
        return Level.NO_DATA
