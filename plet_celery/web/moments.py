"""Times, durations, numbers and states as HTML.

A fragment must not change by the clock alone, or nothing would ever be "not modified". So what depends
on the clock or on the reader's zone is a placeholder until `fill` puts the words in. A placeholder
begins with NUL and a word of this process, so that no task's text is one.
"""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeGuard

from tornado.escape import xhtml_escape

from plet_celery.store.records import iso
from plet_celery.terminal.look import look
from plet_celery.terminal.text import Clock, span
from plet_celery.terminal.text import size as size_of
from plet_celery.web.clockwords import words_of

ZONES: Final = ("utc", "server", "browser")
_TOKEN: Final = secrets.token_hex(4).encode()
_LENGTH: Final = len(_TOKEN)
_OTHERS: Final = re.compile("[^a-z_]")
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class Reader:
    """When and where somebody reads."""

    now: float
    zone: str = "utc"
    """`utc`, `server` or `browser`: the last is UTC until the page's script has run."""

    @property
    def clock(self) -> Clock:
        """The words for points in time."""
        return Clock(self.now, self.tz)

    @property
    def tz(self) -> tzinfo:
        """The zone of absolute times."""
        here = datetime.fromtimestamp(self.now, UTC).astimezone().tzinfo
        return here if self.zone == "server" and here is not None else UTC


def fill(html: str, reader: Reader) -> bytes:
    """Return a fragment, as UTF-8, with the words that depend on the clock and the zone."""
    say, now = words_of(reader.tz).say, reader.now
    # As bytes: there a single character is looked for many times as fast as in text that has "·".
    head, *pieces = html.encode().split(b"\0")
    filled, is_mark = [head], True
    for piece in pieces:
        if is_mark and piece.startswith(_TOKEN):
            filled.append(say(piece[_LENGTH:], now))
            is_mark = False
        elif is_mark:  # somebody's own
            filled += (b"\0", piece)
        else:
            filled.append(piece)
            is_mark = True
    return b"".join(filled)


def time_html(at: float | None, form: str = "both") -> str:
    """Return a point in time: `3m ago · 14:02:11 UTC`; a dash where there is none.

    Args:
        form: `both`, `ago`, `time` (of day), `hm` (without seconds), `full` (with date and zone) or `next`
            (`in 4m`, `soon` once it is due).
    """
    if not _is_number(at):
        return '<span class="plet-none">–</span>'
    return (
        f'<time datetime="{iso(at)}" data-plet="{form}" title="{_mark("full", at)}">{_mark(form, at)}</time>'
    )


def ago_html(at: float | None) -> str:
    """Return a point in time in few words: `3m ago`."""
    return time_html(at, "ago")


def now_html() -> str:
    """Return the server's own time, date and zone."""
    return f'<time class="plet-now" data-plet="now">{_mark("now", 0.0)}</time>'


def elapsed_html(since: float | None) -> str:
    """Return how long something has been going on; it grows while one looks."""
    if not _is_number(since):
        return '<span class="plet-none">–</span>'
    return f'<time class="plet-elapsed" data-plet="for" datetime="{iso(since)}">{_mark("for", since)}</time>'


def due_html(at: float | None) -> str:
    """Return how much time is left until something is due: `4 min left`, then `late by 3 min`."""
    if not _is_number(at):
        return '<span class="plet-none">–</span>'
    return (
        f'<time class="plet-left" data-plet="due" datetime="{iso(at)}" title="{_mark("full", at)}">'
        f"{_mark('due', at)}</time>"
    )


def duration(seconds: float | None) -> str:
    """Return a duration as plain text: `310 ms`, `3 m 12 s`; a dash where there is none."""
    return span(seconds) if _is_number(seconds) else "–"


def state_html(state: str) -> str:
    """Return a state of a run or stage: sign, word and colour."""
    word = xhtml_escape(visible(state.replace("_", " ")))
    return (
        f'<span class="plet-state plet-is-{state_class(state)}">'
        f'<span class="plet-sign" aria-hidden="true">{look(state).sign}</span> {word}</span>'
    )


def state_class(state: str) -> str:
    """Return a state as part of a class name; whatever a newer version writes, it is one word."""
    return _OTHERS.sub("", state)[:20] or "none"


def percent(value: float | None) -> str:
    """Return `43 %`, rounded down, so that 100 % is the end; empty where it is not known."""
    return f"{math.floor(min(100.0, max(0.0, value)))} %" if _is_number(value) else ""


def count(number: float | None) -> str:
    """Return a number with narrow spaces between thousands: `48 112`; fractions to two digits."""
    if number is None or not math.isfinite(number):
        return "–"
    text = f"{number:,.2f}".rstrip("0").rstrip(".") if number != int(number) else f"{int(number):,}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def visible(text: object) -> str:
    r"""Return text of a task with its control and bidi characters shown, as `\x1b`; not yet escaped."""
    return _CONTROL.sub(_shown, text if isinstance(text, str) else str(text))


def size(number: float | None) -> str:
    """Return a number of bytes for people: `1.4 MiB`."""
    if not _is_number(number):
        return "–"
    return size_of(max(0.0, number))


def parse_time(text: str, zone: tzinfo = UTC) -> float | None:
    """Return what a URL says of a point in time, ISO 8601 or seconds; None where it says none."""
    try:
        if re.fullmatch(r"\d{1,11}(\.\d+)?", text):
            return float(text)
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _mark(form: str, at: float) -> str:
    return f"\0{_TOKEN.decode()}{form}{at!r}\0"


def _is_number(value: float | None) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


WORDS: Final[dict[str, Any]] = {
    "time_html": time_html,
    "ago_html": ago_html,
    "elapsed_html": elapsed_html,
    "due_html": due_html,
    "now_html": now_html,
    "duration": duration,
    "state_html": state_html,
    "state_class": state_class,
    "percent": percent,
    "count": count,
    "visible": visible,
    "size": size,
}
"""What every template of ours may call."""
