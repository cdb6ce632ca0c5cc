"""P7, health: a verdict, then what every check found, the worst first, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plet_celery.monitor import verdict
from plet_celery.monitor.checks import NAMES
from plet_celery.monitor.checks.upkeep import MONITOR
from plet_celery.monitor.verdict import Word
from plet_celery.store.health import HealthRow
from plet_celery.watchfacts import Level
from plet_celery.web.handler import PletHandler, Region
from plet_celery.web.healthrows import permitted_health
from plet_celery.web.runs import refresh_seconds

ROWS_SHOWN: Final = 300
_LABELS: Final = {
    "store": "Store",
    "broker": "Broker",
    "queue": "Queue",
    "workers": "Workers",
    "beat": "Beat",
    "results": "Result backend",
    "shipper": "Shipper",
    "stuck": "Stuck runs",
    "disk": "Disk",
    "clock": "Clock",
    "retention": "Retention",
    "monitor": "Monitor",
    "channel": "Channel",
}
_SIGNS: Final = {Level.OK: "✔", Level.WARNING: "▲", Level.CRITICAL: "✖", Level.NO_DATA: "?"}
_WORDS: Final = {
    Level.OK: "ok",
    Level.WARNING: "warning",
    Level.CRITICAL: "critical",
    Level.NO_DATA: "no data",
}
_LEVEL_OF: Final = {
    Word.OK: Level.OK,
    Word.WARNING: Level.WARNING,
    Word.NO_DATA: Level.NO_DATA,
    Word.CRITICAL: Level.CRITICAL,
    Word.LATE: Level.CRITICAL,
    Word.UNKNOWN: Level.NO_DATA,
}
_TITLES: Final = {
    Word.OK: "All is well",
    Word.WARNING: "Something is not well",
    Word.NO_DATA: "Not everything is known",
    Word.CRITICAL: "Something fails",
    Word.LATE: "The monitor is silent",
    Word.UNKNOWN: "Nothing is known yet",
}


@dataclass(frozen=True)
class Row:
    """One answer as it is shown."""

    label: str
    row: HealthRow
    sign: str
    word: str
    runs: list[Mapping[str, Any]]
    """Runs that it names, with what their processes do."""
    is_monitor: bool
    level: str
    """As it is drawn: of what is no longer known, no data."""

    @property
    def is_ok(self) -> bool:
        """Whether there is nothing to say beyond what was seen."""
        return self.row.result.level is Level.OK


class HealthPage(PletHandler):
    """`/plet/health`."""

    right = "runs"

    async def get(self) -> None:
        """Show the page, or one region of it."""
        regions: dict[str, Region] = {"health": self._health, "footer": self.footer}
        if self.words("region"):
            await self.send_region(regions)
            return
        self.show(
            "health.html",
            regions=await self.regions(regions),
            refresh=refresh_seconds(self.words("refresh")),
        )

    head = get

    def _health(self) -> str:
        found = verdict.read_health(self.store, self.places.settings)
        found = permitted_health(found, self.viewer)
        level = _LEVEL_OF[found.word]
        is_late = found.word is Word.LATE
        rows = [shown(row, is_late=is_late) for row in found.rows[:ROWS_SHOWN]]
        return self.part(
            "health_checks.html",
            title=_TITLES[found.word],
            text=_told(found),
            sign=_SIGNS[level],
            level=level.value,
            word=found.word.value,
            passed_at=found.passed.passed_at if found.passed is not None else None,
            is_new=found.word is Word.UNKNOWN,
            rows=rows,
            more=len(found.rows) - len(rows),
            interval=self.places.settings.monitor_interval,
            checks=len(NAMES),
        )


def _told(found: verdict.Health) -> str:
    """Return which checks are not well: what they say stands below."""
    if found.word in (Word.OK, Word.LATE, Word.UNKNOWN):
        return "What stands below is as it was then." if found.word is Word.LATE else ""
    bad = list(dict.fromkeys(_LABELS.get(row.result.name, row.result.name) for row in found.bad))
    number = len({row.result.name for row in found.rows})
    return f"{len(bad)} of {number} checks: {', '.join(bad)}"


def shown(row: HealthRow, *, is_late: bool = False) -> Row:
    """Return a row with its words and signs.

    Args:
        is_late: the last pass is so old that what it found need not be so any more.
    """
    one = row.result
    runs = one.values.get("runs")
    was = is_late and one.name != MONITOR
    return Row(
        label=_LABELS.get(one.name, one.name),
        row=row,
        sign=_SIGNS[one.level],
        word=f"was {_WORDS[one.level]}" if was else _WORDS[one.level],
        runs=[run for run in runs if isinstance(run, Mapping)] if isinstance(runs, list) else [],
        is_monitor=one.name == MONITOR and one.level is Level.OK,
        level=Level.NO_DATA.value if was else one.level.value,
    )
