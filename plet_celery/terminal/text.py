"""Words for a terminal: text that cannot act on it, spans of time, points in time.

Nothing here knows colours or widths; see `look.py` and `picture.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any

# Every C0 control but TAB, DEL, C1, lone surrogates, and what reorders or breaks lines in a terminal:
# the bidi controls, the old shaping controls, LINE and PARAGRAPH SEPARATOR.
_CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]"
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def printable(text: object) -> str:
    r"""Return `text` as one line that a terminal only prints: controls as `\x1b`, `\u202e`, LF as `\n`."""
    return _CONTROL.sub(_escape, text if type(text) is str else str(text))


def printable_lines(text: str) -> list[str]:
    """Return the lines of `text`, each as `printable`; only LF (or CR LF) ends a line."""
    return [printable(line) for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")]


def escape_json(encoded: str) -> str:
    r"""Return JSON with what `printable` escapes as `\uXXXX`: the same value, safe on a terminal."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)


def error_line(error: Mapping[str, Any] | None) -> str:
    """Return an error, `{"type": …, "message": …}`, in a line: `ValueError: no such supplier`."""
    if not error:
        return ""
    kind, message = str(error.get("type") or "Error"), str(error.get("message") or "")
    first = message.strip().split("\n", 1)[0]
    return printable(f"{kind}: {first}" if first else kind)


def counted(number: int, noun: str) -> str:
    """Return `1 segment`, `1,200 segments`, `2 canvases`."""
    many = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


def shorten(text: str, width: int) -> str:
    """Return `text` cut to `width` characters, the end marked."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def shorten_left(text: str, width: int) -> str:
    """Return `text` cut to `width` characters, keeping the end: what tells dotted names apart."""
    return text if len(text) <= width else "…" + text[len(text) - max(0, width - 1) :]


def span(seconds: float | None, *, whole: bool = False) -> str:
    """Return a duration for a sentence: `310 ms`, `9.8 s`, `3 m 12 s`, `1 h 02 m 09 s`, `2 d 03 h`.

    Args:
        whole: no tenths, for a number that grows while one looks.
    """
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if whole and seconds < _MINUTE:
        return f"{int(seconds)} s"
    if round(seconds, 3) < 1:
        return f"{round(seconds * 1000)} ms"
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    total = round(seconds)
    days, hours, minutes = total // _DAY, total // _HOUR % 24, total // _MINUTE % 60
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} m {total % 60:02} s"
    return f"{minutes} m {total % 60:02} s"


def short_span(seconds: float | None) -> str:
    """Return a duration for a narrow column: `0.3s`, `41s`, `3m12s`, `1h02m`, `2d03h`."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if round(seconds, 1) < 10:
        return f"{seconds:.1f}s"
    total = round(seconds)
    if total < _MINUTE:
        return f"{total}s"
    if total < _HOUR:
        return f"{total // _MINUTE}m{total % _MINUTE:02}s"
    if total < _DAY:
        return f"{total // _HOUR}h{total // _MINUTE % 60:02}m"
    return f"{total // _DAY}d{total // _HOUR % 24:02}h"


def about(seconds: float) -> str:
    """Return a length of time in the words of a promise: `40 s`, `4 min`, `3 h 10 min`, `2 d 3 h`."""
    total = max(0, int(seconds))
    days, hours, minutes = total // _DAY, total // _HOUR % 24, total // _MINUTE % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")] if total >= _MINUTE else [(total, "s")]
    parts = parts[next((at for at, (number, _) in enumerate(parts) if number), 0) :]
    # Two units say enough, and a zero says nothing.
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number) or "0 s"


def left_or_late(seconds: float) -> str:
    """Return how far off a promised time is: `4 min left`, or behind it `late by 3 min`."""
    return f"{about(seconds)} left" if seconds >= 0 else f"late by {about(-seconds)}"


def size(count: float) -> str:
    """Return bytes for people: `812 B`, `3.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


@dataclass(frozen=True)
class Clock:
    """Turns points in time into words."""

    now: float
    """Seconds since the epoch that "ago" counts from."""
    zone: tzinfo | None = None
    """Zone of absolute times; None is the machine's own."""

    def ago(self, at: float | None) -> str:
        """Return `12s ago`, `3m ago`, `1h ago`, `5d ago`, `in 4s`; empty for None."""
        if at is None:
            return ""
        distance = self.now - at
        size = _one_unit(abs(distance))
        if not size:
            return "now"
        return f"{size} ago" if distance > 0 else f"in {size}"

    def time(self, at: float) -> str:
        """Return the time of day, with the date if it is another day: `14:02:11`, `2026-11-21 14:02:11`."""
        return _time_of(self._local(at), self.day(self.now))

    def day(self, at: float) -> date:
        """Return the day in this zone."""
        return self._local(at).date()

    def time_and_zone(self, at: float, *, today: date) -> str:
        """Return `14:02:11 UTC`, with the date if it is another day than `today`."""
        local = self._local(at)
        return f"{_time_of(local, today)} {self._zone_name(local)}"

    def full(self, at: float) -> str:
        """Return date, time and zone: `2026-11-21 14:02:11 UTC`."""
        local = self._local(at)
        return f"{local:%Y-%m-%d %H:%M:%S} {self._zone_name(local)}"

    def both(self, at: float | None) -> str:
        """Return `3m ago · 14:02:11 UTC`; empty for None."""
        if at is None:
            return ""
        return f"{self.ago(at)} · {self.time_and_zone(at, today=self.day(self.now))}"

    def stamp(self, at: float) -> str:
        """Return date and time with milliseconds: `2026-11-21 14:02:11.123`."""
        return self._local(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    def at(self, now: float) -> Clock:
        """Return the same clock at another moment."""
        return Clock(now, self.zone)

    def _local(self, at: float) -> datetime:
        try:
            return datetime.fromtimestamp(at, UTC).astimezone(self.zone)
        except (OverflowError, OSError, ValueError):
            # A damaged record must not break a listing; the epoch is visibly wrong.
            return datetime.fromtimestamp(0, UTC)

    @staticmethod
    def _zone_name(local: datetime) -> str:
        return printable(local.tzname() or "")


def _time_of(local: datetime, today: date) -> str:
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x0A:
        return "\\n"
    if code == 0x0D:
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _one_unit(seconds: float) -> str:
    if seconds < 1:
        return ""
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{name}"
    return f"{int(seconds)}s"
