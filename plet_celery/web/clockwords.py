"""Words that the clock makes: said again until the clock makes others of them.

A page has hundreds, and from one second to the next nearly all of them are the same.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

from tornado.escape import xhtml_escape

from plet_celery.terminal.text import Clock, left_or_late, span

_KEPT_MAX: Final = 16_384
_MARK: Final = re.compile(b"([a-z]+)(.+)")
_UNITS: Final = (86_400.0, 3600.0, 60.0, 1.0)
_NO_TIME: Final = "–".encode()


class _Said(NamedTuple):
    since: float
    until: float
    text: bytes


class Words:
    """The words of one zone; of one event loop."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._kept: dict[bytes, _Said] = {}

    def say(self, mark: bytes, now: float) -> bytes:
        """Return the words, as UTF-8 of HTML, for a mark: a form and seconds since the epoch, `ago1.79e9`."""
        said = self._kept.get(mark)
        if said is None or not said.since <= now < said.until:
            said = self._made(mark, now)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            self._kept[mark] = said
        return said.text

    def _made(self, mark: bytes, now: float) -> _Said:
        found = _MARK.fullmatch(mark)
        try:
            text, until = self._words(found[1].decode(), float(found[2]), now) if found else ("", math.inf)
        except (ValueError, OverflowError, OSError):  # no time of any calendar
            text, until = "", math.inf
        return _Said(now, until, xhtml_escape(text).encode() or _NO_TIME)

    def _words(self, form: str, at: float, now: float) -> tuple[str, float]:
        """Return the words, and until when they hold."""
        clock, spent = Clock(now, self._zone), max(0.0, now - at)
        if form == "full":
            return clock.full(at), math.inf
        if form == "ago":
            return clock.ago(at), ago_until(at, now)
        if form == "next":
            # What is due is not in the past: it comes with the next pass.
            return (clock.ago(at), min(at, ago_until(at, now))) if now < at else ("soon", math.inf)
        if form == "both":
            return clock.both(at), min(ago_until(at, now), self._midnight(now))
        if form == "time":
            return clock.time(at), self._midnight(now)
        if form == "hm":
            return clock.time(at)[:-3], self._midnight(now)
        if form == "for":
            # Its minutes are rounded: half a second is the step, and what lies on one is of neither side.
            halves = 2 * spent
            return span(spent, whole=True), now if halves % 1 == 0 else at + math.ceil(halves) / 2
        if form == "due":
            # "Left" up to the very moment.
            until = at - math.floor(at - now) if at >= now else at + math.floor(spent) + 1
            return left_or_late(at - now), until
        return clock.full(now), math.floor(now) + 1

    def _midnight(self, now: float) -> float:
        local = datetime.fromtimestamp(now, UTC).astimezone(self._zone)
        return (local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)).timestamp()


@lru_cache(16)
def words_of(zone: tzinfo) -> Words:
    """Return the words of a zone."""
    return Words(zone)


def ago_until(at: float, now: float) -> float:
    """Return until when `3m ago` or `in 3m` is said of a moment."""
    distance = now - at
    unit = next((one for one in _UNITS if abs(distance) >= one), 0.0)
    if not unit:  # now
        return at + 1
    whole = math.floor(abs(distance) / unit) * unit
    return at + whole + unit if distance > 0 else at - whole
