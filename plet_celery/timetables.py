"""When an app's own periodic tasks are due, as plain values that travel to a monitor without that app.

Only what `beat_schedule` has: a scheduler that keeps its schedule in a database knows more, and when the sun
sets (`solar`) nobody needs to be told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab, schedule

ENTRIES_MAX: Final = 100
_OURS: Final = "plet."
_FIELDS: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def timetable_of(app: Celery) -> list[dict[str, Any]]:
    """Return the app's periodic tasks, at most 100, without our own.

    Each is `{"name", "task", "every": seconds}` or `{"name", "task", "crontab": text, "zone": name}`.
    """
    found = app.conf.get("beat_schedule")
    entries = found.items() if isinstance(found, Mapping) else ()
    zone = _zone(app)
    table = []
    for name, entry in entries:
        task, when = _field(entry, "task"), _field(entry, "schedule")
        due = _due(when, zone) if isinstance(task, str) and not task.startswith(_OURS) else None
        if due is not None:
            table.append({"name": str(name), "task": task} | due)
    return table[:ENTRIES_MAX]


def _field(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)


def _due(when: Any, zone: str | None) -> dict[str, Any] | None:
    if isinstance(when, crontab):
        return {"crontab": _text(when), "zone": zone} if zone is not None else None
    # Of what is neither number nor timedelta only Celery's own class is an interval.
    if type(when) is schedule:
        when = getattr(when, "run_every", None)
    if isinstance(when, timedelta):
        when = when.total_seconds()
    if isinstance(when, int | float) and not isinstance(when, bool) and 0 < when < math.inf:
        return {"every": float(when)}
    return None


def _text(when: crontab) -> str:
    fields = (getattr(when, f"_orig_{name}") for name in _FIELDS)
    return " ".join(_joined(field) for field in fields)


def _joined(field: Any) -> str:
    text = field if isinstance(field, str | int) else ",".join(map(str, sorted(field)))
    return "".join(str(text).split())


def _zone(app: Any) -> str | None:
    name = str(app.conf.timezone or ("UTC" if app.conf.enable_utc else ""))
    try:
        return ZoneInfo(name).key
    except (ValueError, OSError, LookupError):
        return None
