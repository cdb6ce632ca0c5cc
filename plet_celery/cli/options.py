"""Kinds of option values: spans of time, log levels, key=value pairs, counts of lines."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime
from typing import Any, Final

import click

ALL: Final = -1
"""All lines: None would make click ask for the default."""

# ParamType takes a type argument since click 8.4; Celery allows older ones.
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}


class Since(click.ParamType):  # type: ignore[type-arg]
    """A point in time: `5m`, `2h`, `1d12h` before now, or ISO 8601. Gives seconds since the epoch."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the point in time."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        if text and not _SPAN.sub("", text).strip():
            return max(0.0, time.time() - sum(float(n) * _UNITS[unit] for n, unit in _SPAN.findall(text)))
        try:
            # A time without a zone is this machine's, as a reader of its clock means it.
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no time; give 30s, 5m, 2h, 7d, or 2026-11-21T14:00+00:00", param, ctx)


class Age(click.ParamType):  # type: ignore[type-arg]
    """A length of time: `30d`, `12h`, `2w`; a bare number is days. Gives seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        if text.replace(".", "", 1).isdecimal():
            text += "d"
        if not text or _SPAN.sub("", text).strip():
            self.fail(f"{text!r} is no length of time; give 30d, 12h, 2w, or a number of days", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))


class Number(click.FloatRange):
    """A number within a range; `nan` lies in none, which click does not notice."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number; give one such as 10", param, ctx)
        return found


class Length(click.ParamType):  # type: ignore[type-arg]
    """A length of time with its unit: `30m`, `2h`, `1d12h`. Gives seconds."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        if not text or _SPAN.sub("", text).strip():
            self.fail(f"{text!r} is no length of time; give 30m, 2h, 1d12h", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))


class Level(click.ParamType):  # type: ignore[type-arg]
    """A log level by name or number. Gives logging's number."""

    name = "level"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        text = str(value).strip().upper()
        number = _LEVELS.get(text) or _count(text)
        if number is None:
            self.fail(f"{value!r} is no log level; give DEBUG, INFO, WARNING, ERROR or CRITICAL", param, ctx)
        return number


class Pair(click.ParamType):  # type: ignore[type-arg]
    """`key=value`."""

    name = "k=v"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is no key=value", param, ctx)
        return key, text


class Lines(click.ParamType):  # type: ignore[type-arg]
    """A count of lines, or `all`, which gives -1."""

    name = "n|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the count."""
        text = str(value).strip().lower()
        number = ALL if text in ("all", str(ALL)) else _count(text)
        if number is None:
            self.fail(f"{value!r} is no number of lines; give 200, or all", param, ctx)
        return number


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None
