"""What the last pass found, read back: the same for the page, the probes and `celery plet health`.

How old a pass is, nobody but the reader can tell: so the answer of the check `monitor` is made anew here, and
a pass that is late is the worst that can be said, for then nothing else is known to be as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from plet_celery.monitor.checks import NAMES
from plet_celery.monitor.checks.upkeep import MONITOR, decide_monitor
from plet_celery.settings import Settings
from plet_celery.store import Store
from plet_celery.store.health import HealthRow, list_health
from plet_celery.store.records import iso
from plet_celery.store.watching import LastPass, last_pass
from plet_celery.watchfacts import Level

_ORDER: Final = {Level.CRITICAL: 0, Level.WARNING: 1, Level.NO_DATA: 2, Level.OK: 3}
_PLACES: Final = {name: place for place, name in enumerate(NAMES)}
_SHOWN: Final = 3


class Word(StrEnum):
    """One word for all of it; what a probe says."""

    OK = "ok"
    WARNING = "warning"
    NO_DATA = "no_data"
    """Nothing is known to be wrong, and not everything is known."""
    CRITICAL = "critical"
    LATE = "late"
    """The last pass is too old: what it found need not be so any more."""
    UNKNOWN = "unknown"
    """There was no pass yet, or the store cannot tell."""

    @property
    def is_good(self) -> bool:
        """Whether a probe answers 200."""
        return self in (Word.OK, Word.WARNING, Word.NO_DATA)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is known of the health of a project."""

    word: Word
    text: str
    """The verdict in a sentence."""
    rows: Sequence[HealthRow]
    """The worst first; the answer about the monitor itself is as of now."""
    passed: LastPass | None
    """None where one check was asked now."""

    @property
    def bad(self) -> list[HealthRow]:
        """The rows that are not ok."""
        return [row for row in self.rows if row.result.level is not Level.OK]


def read_health(store: Store, settings: Settings) -> Health:
    """Return what the last pass found.

    Raises:
        StoreUnavailable: the store cannot tell.
        SchemaError: it has no tables yet, or those of another version.
    """
    return judge(list_health(store), last_pass(store), settings)


def judge(rows: Iterable[HealthRow], passed: LastPass, settings: Settings) -> Health:
    """Return the verdict over what was kept and when.

    Args:
        rows: as `list_health` returns them.
    """
    fresh = decide_monitor(passed, interval=settings.monitor_interval, is_on=settings.monitor)
    since = fresh.since if fresh.since is not None else passed.passed_at
    kept = [row for row in rows if row.result.name != MONITOR]
    known = [row for row in rows if row.result.name == MONITOR and row.result.level is fresh.level]
    if fresh.since is None and known:
        since = known[0].since
    mine = HealthRow(result=fresh, since=since if since is not None else passed.now, checked_at=passed.now)
    found = sorted([*kept, mine], key=_place)
    word = _word(kept, fresh.level, passed)
    return Health(word=word, text=_text(word, found, fresh.observation), rows=found, passed=passed)


def _place(row: HealthRow) -> tuple[int, int, str, str]:
    name = row.result.name
    return (_ORDER[row.result.level], _PLACES.get(name, len(_PLACES)), name, row.result.subject)


def of_check(rows: Sequence[HealthRow], *, now: float) -> Health:
    """Return the verdict over what a check has just found."""
    found = sorted(rows, key=_place)
    worst = min((row.result.level for row in found), key=_ORDER.__getitem__, default=Level.NO_DATA)
    told = "; ".join(said(row) for row in found[:_SHOWN]) or "no answer"
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Health(word=Word(worst.value), text=told + more, rows=found, passed=None)


def _word(rows: Sequence[HealthRow], monitor: Level, passed: LastPass) -> Word:
    if passed.passed_at is None or (monitor is Level.NO_DATA and not rows):
        return Word.UNKNOWN
    if monitor is Level.CRITICAL:
        return Word.LATE
    worst = min([monitor, *(row.result.level for row in rows)], key=_ORDER.__getitem__)
    return Word(worst.value)


def _text(word: Word, rows: Sequence[HealthRow], monitor: str) -> str:
    if word is Word.UNKNOWN:
        return monitor
    if word is Word.LATE:
        return f"{monitor}: what it found need not be so any more"
    names = {row.result.name for row in rows}
    bad = [row for row in rows if row.result.level is not Level.OK]
    if not bad:
        return f"all {len(names)} checks are well"
    failing = len({row.result.name for row in bad})
    told = "; ".join(said(row) for row in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{failing} of {len(names)} checks: {told}{more}"


def said(row: HealthRow) -> str:
    """Return what a row says in a line: `queue slow: 12 wait, nobody consumes it`."""
    one = row.result
    return f"{one.name}{f' {one.subject}' if one.subject else ''}: {one.observation}"


def row_json(row: HealthRow, *, with_values: bool = True) -> dict[str, Any]:
    """Return a row as JSON has it: the shape is in docs/json.md."""
    one = row.result
    found: dict[str, Any] = {
        "check": one.name,
        "subject": one.subject,
        "level": one.level.value,
        "observation": one.observation,
        "expectation": one.expectation,
        "affected": one.affected,
        "advice": one.advice,
        "since": iso(row.since),
        "checked_at": iso(row.checked_at),
    }
    return found | ({"values": dict(one.values)} if with_values else {})


def health_json(found: Health, *, with_values: bool = True) -> dict[str, Any]:
    """Return all of it as JSON: the same for `celery plet health --json` and `/plet/healthz`."""
    passed = found.passed
    return {
        "verdict": found.word.value,
        "text": found.text,
        "last_pass": iso(passed.passed_at) if passed is not None and passed.passed_at is not None else None,
        "checks": [row_json(row, with_values=with_values) for row in found.rows],
    }
