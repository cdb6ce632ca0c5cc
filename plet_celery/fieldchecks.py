"""Checks of the fields of a frozen value, such as a promise: each says what cannot be used, and the way out.

All take the value and the name of a field, and raise SettingsError.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from plet_celery.errors import SettingsError, shown

UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
TAKE_OUT: Final = "no database stores NUL or half a surrogate pair; take it out"

_SECONDS_MAX: Final = 100 * 366 * 86_400.0
_COUNT_MAX: Final = 1_000_000_000
"""Runs; more than a window ever holds, and well within what a float does."""
_FIELDS_OF_CRONTAB: Final = 5
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def refused(owner: Any, name: str, way_out: str) -> SettingsError:
    """Return the error for a field that cannot be used."""
    value = getattr(owner, name)
    return SettingsError(f"{type(owner).__name__}: {name} = {shown(value)} cannot be used; {way_out}")


def duration(owner: Any, name: str, *, least: float = 0.001, most: float = _SECONDS_MAX) -> None:
    """Have a field be a number of seconds; a timedelta becomes one."""
    value = getattr(owner, name)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    # What float() cannot hold fails here, too: to compare converts nothing, and no nan is within.
    if not _is_number(value) or not least <= value <= most:
        raise refused(owner, name, f"give seconds or a timedelta, {least:g} to {most:g} s")
    _put(owner, name, float(value))


def share(owner: Any, name: str) -> None:
    """Have a field be a number above 0 and at most 1."""
    value = getattr(owner, name)
    if not _is_number(value) or not 0 < value <= 1:
        raise refused(owner, name, "give a share above 0 and at most 1, such as 0.99")
    _put(owner, name, float(value))


def count(owner: Any, name: str) -> None:
    """Check a whole number of runs."""
    value = getattr(owner, name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _COUNT_MAX:
        raise refused(owner, name, f"give a whole number of at least 1 and at most {_COUNT_MAX}")


def text(owner: Any, name: str, most: int) -> None:
    """Check a text that is stored."""
    value = getattr(owner, name)
    if not isinstance(value, str) or len(value) > most:
        raise refused(owner, name, f"give text of at most {most} characters")
    if UNSTORABLE.search(value):
        raise refused(owner, name, TAKE_OUT)


def one_of(owner: Any, name: str, choices: tuple[str, ...]) -> None:
    """Check one of a few words."""
    if getattr(owner, name) not in choices:
        raise refused(owner, name, f"it is one of {', '.join(map(repr, choices))}")


def zone(owner: Any, name: str) -> None:
    """Check the name of a time zone; an empty one is none."""
    value = getattr(owner, name)
    if value == "":
        return
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        raise refused(owner, name, "give the name of a zone, such as 'Europe/Berlin' or 'UTC'") from None


def is_crontab(written: str) -> bool:
    """Tell whether Celery can read it, and whether it has a time in any year."""
    # Celery reads over what stands behind a day.
    if len(written.split()) != _FIELDS_OF_CRONTAB or UNSTORABLE.search(written):
        return False
    from celery.schedules import ParseException, crontab

    try:
        read: Any = crontab.from_string(written)
    except (ParseException, ValueError, KeyError):
        return False
    return any(day <= _LONGEST[month - 1] for month in read.month_of_year for day in read.day_of_month)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _put(owner: Any, name: str, value: Any) -> None:
    object.__setattr__(owner, name, value)
