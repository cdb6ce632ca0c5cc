"""When something is due: by crontab text or clock time in a zone, by an interval. Pure, without a clock.

A zone's clock jumps twice a year. A time that the jump leaves out is due as long after midnight as on any
other day; one that comes twice is due the first time. Of a crontab for every hour (`*/15 * * * *`) the times
that are left out are no times, and those that come twice are due twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from celery.schedules import crontab

_HOURS: Final = 24
_DAYS_MAX: Final = 366 * 8 + 2
"""How far a time is looked for: the 29th of February may be eight years away."""


@dataclass(frozen=True)
class Calendar:
    """The times of a crontab in a zone."""

    text: str
    zone: str

    def next(self, after: float) -> float | None:
        """Return the first time later than `after` (seconds since the epoch)."""
        return next(self._onwards(after), None)

    def previous(self, at: float) -> float | None:
        """Return the last time that is not later than `at`."""
        day = _local(at, self.zone).date() + timedelta(days=1)
        for _ in range(_DAYS_MAX):
            found = [one for one in times_on(self.text, self.zone, day) if one <= at]
            if found:
                return found[-1]
            if day == date.min:
                return None
            day -= timedelta(days=1)
        return None

    def between(self, after: float, until: float, *, limit: int) -> list[float]:
        """Return the times later than `after` and not later than `until`, oldest first, at most `limit`."""
        found: list[float] = []
        for one in self._onwards(after):
            if one > until or len(found) >= limit:
                break
            found.append(one)
        return found

    def _onwards(self, after: float) -> Iterator[float]:
        day = _local(after, self.zone).date() - timedelta(days=1)
        last = after
        for _ in range(_DAYS_MAX):
            for one in times_on(self.text, self.zone, day):
                if one > last:
                    last = one
                    yield one
            day += timedelta(days=1)


@functools.lru_cache(maxsize=4096)
def times_on(text: str, zone: str, day: date) -> tuple[float, ...]:
    """Return the times of a crontab that a zone's calendar day has, in order; seconds since the epoch."""
    read = _read(text)
    if not _is_among(read, day):
        return ()
    place = _zone(zone)
    is_hourly = len(read.hour) == _HOURS
    found = set()
    for hour in read.hour:
        for minute in read.minute:
            wall = datetime.combine(day, time(hour, minute), tzinfo=place)
            is_there = _exists(wall)
            if is_there or not is_hourly:
                found.add(wall.timestamp())
            if is_hourly and is_there:
                found.add(wall.replace(fold=1).timestamp())
    return tuple(sorted(found))


def clock(at: float, zone: str) -> datetime:
    """Return what a zone's clock shows at a time."""
    return _local(at, zone)


def _exists(wall: datetime) -> bool:
    return wall.astimezone(UTC).astimezone(wall.tzinfo).replace(tzinfo=None) == wall.replace(tzinfo=None)


def _is_among(read: Any, day: date) -> bool:
    # As Celery has it: a day has to fit every field, also where both days of week and month are given.
    return (
        day.month in read.month_of_year
        and day.day in read.day_of_month
        and day.isoweekday() % 7 in read.day_of_week
    )


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> Any:
    return crontab.from_string(text)


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name or "UTC")


def _local(at: float, zone: str) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(_zone(zone))
