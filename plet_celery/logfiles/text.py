"""The text of `run.log`: one fact is one record, and no text from a task starts a line of its own.

Owns the format (docs/log-files.md):

    [2026-01-02T03:04:05.678901Z] [INFO] [shop.load#2] first line {"row": 4}
        |2| second line of the same record
    — 1 203 lines dropped by the rate limit —

Lines are separated by LF only. Every other control character, every character that some reader
takes for a line end, and bidi controls are written as `\\x1b` or `\\u2028`.
"""

from __future__ import annotations

import calendar
import functools
import re
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

CONTINUED: Final = "    |"
"""Starts each further line of a record; records start with `[`, notes with an em dash."""
NOTE: Final = "— "

_LATEST: Final = 253_402_300_799  # 9999-12-31T23:59:59Z
_LEVELS: Final[Mapping[int, str]] = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_LEVEL_NUMBERS: Final[Mapping[str, int]] = {name: number for number, name in _LEVELS.items()}

# C0 but TAB and LF, DEL, C1, line and paragraph separators, bidi controls, BOM, lone surrogates.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
# A backslash is doubled only where it, or the escape behind it, would otherwise be misread.
_UNSAFE = re.compile(rf"[{_CONTROL}]|\\(?=[\\xu{_CONTROL}])")
_UNSAFE_NAME = re.compile(rf"[{_CONTROL}\t\n \[\]<>#\\]")
_UNSAFE_JSON = re.compile(rf"[{_CONTROL}\t\n]")
_ESCAPE = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
_DOUBLED = re.compile(r"\\\\|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}")
_COMPONENT = re.compile(r"(?:<([^<>]*)>)?([^<>#\[\] ]*)(?:#([0-9]{1,9}))?(?: ([0-9]{1,9})/([0-9]{1,9}))?")
_OTHER_LEVEL = re.compile(r"L[0-9]{1,3}")
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{6})Z")
_CONTINUED_LINE = re.compile(r"    \|[0-9]+\| ?")


class Parsed(NamedTuple):
    """What one record says, read back from its text."""

    at: float
    """Seconds since the epoch; 0 for a note, which has no time of its own."""
    level: int
    logger: str
    stream: str
    stage: int
    part: tuple[int, int] | None
    text: str
    context: dict[str, Any]


class Clock:
    """Formats wall times; keeps the text of the last second, since lines come in runs."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def at(self, wall: float) -> tuple[str, int]:
        """Return `2026-01-02T03:04:05.678901Z` and its whole microseconds, for seconds since the epoch.

        Times outside the years 1970 to 9999 are moved to the nearest end.
        """
        micros = round(wall * 1e6) if 0 <= wall <= _LATEST else micros_of(wall)
        second, rest = divmod(micros, 1_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{rest:06d}Z", micros


def micros_of(wall: float) -> int:
    """Return whole microseconds since the epoch, within the years 1970 to 9999."""
    if not 0 <= wall <= _LATEST:
        return 0 if not wall > 0 else _LATEST * 1_000_000
    return round(wall * 1e6)


def parse_stamp(text: str) -> int:
    """Return the microseconds that `Clock.at` wrote; 0 for anything else."""
    found = _STAMP.fullmatch(text)
    if found is None:
        return 0
    year, month, day, hour, minute, second, micros = map(int, found.groups())
    return calendar.timegm((year, month, day, hour, minute, second)) * 1_000_000 + micros


def level_name(level: int) -> str:
    """Return logging's name of a level, or `L15` for a number without one."""
    return _LEVELS.get(level) or f"L{level}"


def level_number(name: str) -> int:
    """Return the number of a level as `level_name` wrote it; 0 when it is no level."""
    number = _LEVEL_NUMBERS.get(name)
    if number is None:
        number = int(name[1:]) if _OTHER_LEVEL.fullmatch(name) else 0
    return number


def component(stream: str, logger: str, stage: int = 0, part: tuple[int, int] | None = None) -> str:
    """Return the third bracket: logger, `<stream>` unless it is `log`, `#stage`, `k/n` of a split line."""
    text = _UNSAFE_NAME.sub(_escaped, logger)
    if stream != "log":
        text = f"<{_UNSAFE_NAME.sub(_escaped, stream)}>{text}"
    if stage:
        text += f"#{stage}"
    return f"{text} {part[0]}/{part[1]}" if part else text


def head(level: int, component: str) -> str:
    """Return the second and the third bracket of a record."""
    return f"[{level_name(level)}] [{component}]"


def escape(text: str) -> str:
    """Return `text` without anything that moves a terminal or ends a line, LF and TAB excepted."""
    if text.isprintable() and "\\" not in text:
        return text
    return _UNSAFE.sub(_escaped, text)


def unescape(text: str) -> str:
    """Return the text that `escape` was given (a lone surrogate comes back as U+FFFD)."""
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def readable(text: str) -> str:
    """Return escaped text for people: controls stay escaped, backslashes are single again."""
    return (
        _DOUBLED.sub(lambda found: "\\" if found[0] == "\\\\" else found[0], text) if "\\" in text else text
    )


def safe_json(value: Any) -> str:
    """Return compact JSON without raw controls, and without a space before a brace."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = msgspec.json.encode(without_surrogates(value)).decode()
    if not text.isprintable():
        text = _UNSAFE_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.replace(" {", "\\u0020{")


def without_surrogates(value: Any) -> Any:
    """Return a JSON value whose strings can be encoded."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    return value


def record(stamp: str, head: str, text: str, context: Any = None) -> bytes:
    """Return one record: its first line, then its continuation lines, each ended by LF.

    Args:
        head: level and component in brackets, as `head` gives them.
    """
    body = text if text.isprintable() and "\\" not in text else _UNSAFE.sub(_escaped, text)
    first, newline, rest = body.partition("\n")
    if context:
        first = f"{first} {safe_json(context)}"
    elif first.endswith("}") and " {" in " " + first:
        first += " {}"  # else its own braces would be read as the context
    line = f"[{stamp}] {head} {first}\n"
    if newline:
        line += "".join(f"{CONTINUED}{number}| {more}\n" for number, more in enumerate(rest.split("\n"), 2))
    return line.encode()


def note(text: str) -> bytes:
    """Return a note of ours about the log itself, such as `— 12 lines dropped by the rate limit —`."""
    return f"{NOTE}{escape(text).replace(chr(10), ' ')} —\n".encode()


def starts_record(line: bytes) -> bool:
    """Tell whether this physical line begins a record or a note."""
    return line.startswith((b"[", _NOTE_BYTES))


def parse(raw: bytes, *, exact: bool = False) -> Parsed | None:
    """Return what a record says, or None when `raw` does not begin with one.

    Args:
        raw: the record's bytes; what follows its last line is ignored.
        exact: give the text as the task wrote it, with its control characters.
    """
    found = split(raw.decode("utf-8", "replace"))
    if found is None:
        return None
    stamp, level, named, body = found
    if not stamp:
        return Parsed(0.0, 20, "", "plet", 0, None, body, {})
    source = parse_component(named, exact)
    if source is None:
        return None
    words, context = parse_body(body, exact)
    stream, logger, stage, part = source
    return Parsed(parse_stamp(stamp) / 1e6, level_number(level), logger, stream, stage, part, words, context)


def split(record: str) -> tuple[str, str, str, str] | None:
    """Return stamp, level, component and the rest of a record; a note has only a rest.

    The brackets cannot be misread: a component has none of its own.
    """
    found = record.split("] ", 3)
    if len(found) == 4 and record[0] == "[" == found[1][:1] == found[2][:1]:
        return found[0][1:], found[1][1:], found[2][1:], found[3]
    return ("", "", "", record.partition("\n")[0]) if record.startswith(NOTE) else None


@functools.lru_cache(maxsize=256)
def parse_component(named: str, exact: bool) -> tuple[str, str, int, tuple[int, int] | None] | None:
    """Return stream, logger, stage and part of the third bracket."""
    found = _COMPONENT.fullmatch(named)
    if found is None:
        return None
    plain = unescape if exact else readable
    stream, logger, stage, part, parts = found.groups()
    return (
        "log" if stream is None else plain(stream),
        plain(logger),
        int(stage or 0),
        (int(part), int(parts)) if part else None,
    )


def parse_body(body: str, exact: bool) -> tuple[str, dict[str, Any]]:
    """Return text and context of a record from what stands behind its brackets."""
    if "\\" not in body and body.find("\n") == len(body) - 1 and body[-2:-1] != "}":
        return body[:-1], {}  # one line, nothing escaped, no context
    first, _, rest = body.partition("\n")
    first, context = _split_context(first)
    if rest:
        first = "\n".join([first, *_continued(rest.split("\n"))])
    return (unescape if exact else readable)(first), context


_NOTE_BYTES: Final = NOTE.encode()


def _continued(lines: list[str]) -> list[str]:
    shown = []
    for line in lines:
        found = _CONTINUED_LINE.match(line)
        if found is None:
            break
        shown.append(line[found.end() :])
    return shown


def _split_context(text: str) -> tuple[str, dict[str, Any]]:
    if not text.endswith("}"):
        return text, {}
    before, brace, after = (" " + text).rpartition(" {")
    if not brace:
        return text, {}
    try:
        context = msgspec.json.decode("{" + after)
    except msgspec.DecodeError:
        return text, {}
    return before[1:], context


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x5C:
        return "\\\\"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _unescaped(found: re.Match[str]) -> str:
    text = found[0]
    return "\\" if text == "\\\\" else chr(int(text[2:], 16))
