"""What a viewer may see of health: all of it; a viewer of some tenants how each check does, and no names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from plet_celery.monitor.verdict import Health
from plet_celery.store.health import HealthRow
from plet_celery.watchfacts import CheckResult, Level
from plet_celery.web.access import Viewer

_ORDER: Final = {Level.CRITICAL: 0, Level.WARNING: 1, Level.NO_DATA: 2, Level.OK: 3}
_TEXTS: Final = {
    Level.OK: "well",
    Level.WARNING: "something is not well",
    Level.CRITICAL: "something fails",
    Level.NO_DATA: "not everything is known",
}
_OF_TRACEBACKS: Final = ("stack", "no_stack")


def permitted_health(found: Health, viewer: Viewer) -> Health:
    """Return health without what the viewer may not see.

    Queues, workers, hosts and tasks have names that tell of other tenants; a stack is a traceback.
    """
    if viewer.tenants is None:
        rows = found.rows if viewer.may("tracebacks") else [_without_stacks(row) for row in found.rows]
        return replace(found, rows=rows)
    folded = list(_folded(found.rows))
    bad = [row.result.name for row in folded if row.result.level is not Level.OK]
    text = found.text
    if bad:
        text = f"{len(bad)} of {len(folded)} checks: {', '.join(bad)}"
    return replace(found, rows=folded, text=text)


def _folded(rows: Iterable[HealthRow]) -> Iterable[HealthRow]:
    by_name: dict[str, list[HealthRow]] = {}
    for row in rows:
        by_name.setdefault(row.result.name, []).append(row)
    folded = []
    for name, mine in by_name.items():
        worst = min(mine, key=lambda row: (_ORDER[row.result.level], row.since))
        level = worst.result.level
        plain = CheckResult(name=name, level=level, observation=_TEXTS[level], since=worst.result.since)
        folded.append(msgspec.structs.replace(worst, result=plain))
    return sorted(folded, key=lambda row: (_ORDER[row.result.level], row.result.name))


def _without_stacks(row: HealthRow) -> HealthRow:
    runs = row.result.values.get("runs")
    if not isinstance(runs, list):
        return row
    shown = [_without(run) if isinstance(run, Mapping) else run for run in runs]
    values = {**row.result.values, "runs": shown}
    return msgspec.structs.replace(row, result=replace(row.result, values=values))


def _without(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in _OF_TRACEBACKS}
