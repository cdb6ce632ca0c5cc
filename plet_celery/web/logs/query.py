"""What of a log is asked for, as it stands in the address: which window, which lines, how they look.

| argument | what |
|---|---|
| `log_attempt` | ordinal of the attempt; the newest by default |
| `log_from` | number of the first line |
| `log_to` | number of the last line, or `end` |
| `log_at` | a line such as `a2L123`, shown amid what is around it |
| `log_error` | `first`, or a line: the first error behind it |
| `log_n` | how many lines |
| `log_level` | lowest level, by name or number |
| `log_stage` | a stage and those within it, by name or number |
| `log_stream` | `log`, `stdout`, `stderr`, `warning`, `task`; may be repeated |
| `log_q` | plain text that is searched for |
| `log_hit` | the hit that is looked at, such as `a2L123` |
| `log_after` | the search goes on behind this line |
| `log_ts`, `log_wrap`, `log_plain` | 0 or 1: times, long lines wrapped, without colours |
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

from plet_celery.logsources.parts import Where
from plet_celery.logsources.window import LogFilter
from plet_celery.terminal.text import shorten
from plet_celery.web.logs.ansi import visible

COUNT: Final = 1000
COUNT_MAX: Final = 10_000
"""Lines of a window: more would make a page that a browser takes seconds to lay out."""
END: Final = -1
"""`LogQuery.to` of the end of the log."""
FIRST_ERROR: Final[Where] = (0, 0)
STREAMS: Final = ("log", "stdout", "stderr", "warning", "task")
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_LINE_MAX: Final = 0xFFFF_FFFF
_TEXT_MAX: Final = 500
_WHERE: Final = re.compile(r"a([0-9]{1,5})L([0-9]{1,10})")
_PREFIX: Final = "log_"


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """One view of a run's log; the fields are those of the address, see the module."""

    attempt: int | None = None
    first: int | None = None
    to: int | None = None
    at: Where | None = None
    error: Where | None = None
    count: int = COUNT
    level: int | None = None
    stage: str | None = None
    streams: tuple[str, ...] = ()
    text: str = ""
    hit: Where | None = None
    after: Where | None = None
    times: bool = True
    wrap: bool = True
    plain: bool = False
    keep: tuple[tuple[str, str], ...] = ()
    """Other arguments of the page (name, value): every link keeps them."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What in the address could not be used, in words."""

    @classmethod
    def parse(cls, arguments: Mapping[str, Sequence[str]], *, keep: Iterable[str] = ()) -> LogQuery:
        """Read the arguments of an address; one that cannot be used is left out and said.

        Args:
            keep: names of other arguments that every link keeps.
        """
        reader = _Reader(arguments)
        return cls(
            attempt=reader.number("attempt", 1, 65_535),
            first=reader.number("from", 0, _LINE_MAX),
            to=END if reader.text("to") == "end" else reader.number("to", 0, _LINE_MAX),
            at=reader.where("at"),
            error=FIRST_ERROR if reader.text("error") == "first" else reader.where("error"),
            count=reader.number("n", 1, COUNT_MAX) or COUNT,
            level=reader.level(),
            stage=reader.text("stage")[:_TEXT_MAX] or None,
            streams=reader.streams(),
            text=reader.needle(),
            hit=reader.where("hit"),
            after=reader.where("after"),
            times=reader.flag("ts", True),
            wrap=reader.flag("wrap", True),
            plain=reader.flag("plain", False),
            keep=tuple((name, value) for name in keep for value in arguments.get(name, ())),
            notes=tuple(reader.notes),
        )

    @property
    def wanted(self) -> LogFilter:
        """The lines that are asked for."""
        return LogFilter(self.level, self.stage, self.streams)

    @property
    def is_filtered(self) -> bool:
        """Some lines are left out."""
        return self.wanted != LogFilter()

    @property
    def is_placed(self) -> bool:
        """A place in the log is asked for, so no default is chosen."""
        return (self.first, self.to, self.at, self.error, self.hit) != (None,) * 5

    def pairs(self) -> list[tuple[str, str]]:
        """Return the arguments, without those that have their default."""
        found: list[tuple[str, str]] = list(self.keep)
        values: dict[str, Any] = {
            "attempt": self.attempt,
            "from": self.first,
            "to": "end" if self.to == END else self.to,
            "at": where_text(self.at),
            "error": "first" if self.error == FIRST_ERROR else where_text(self.error),
            "n": None if self.count == COUNT else self.count,
            "level": None if self.level is None else level_value(self.level),
            "stage": self.stage,
            "q": self.text or None,
            "hit": where_text(self.hit),
            "after": where_text(self.after),
            "ts": None if self.times else 0,
            "wrap": None if self.wrap else 0,
            "plain": 1 if self.plain else None,
        }
        found += [(_PREFIX + name, str(value)) for name, value in values.items() if value is not None]
        return found + [(_PREFIX + "stream", stream) for stream in self.streams]

    def href(self, fragment: Where | None = None, **changes: Any) -> str:
        """Return the address of this view with some fields changed, relative to the page."""
        changed = replace(self, **changes) if changes else self
        return "?" + urlencode(changed.pairs()) + (f"#{where_text(fragment)}" if fragment else "")

    def placed(self, fragment: Where | None = None, **place: Any) -> str:
        """Return the address of another place in the same log: `first`, `to`, `at`, `error` or `hit`."""
        elsewhere: dict[str, Any] = {"first": None, "to": None, "at": None, "error": None, "hit": None}
        return self.href(fragment, **elsewhere | place)


class _Reader:
    """Reads arguments, and says which could not be used."""

    def __init__(self, arguments: Mapping[str, Sequence[str]]) -> None:
        self._arguments = arguments
        self.notes: list[str] = []

    def text(self, name: str) -> str:
        return (self._arguments.get(_PREFIX + name) or [""])[-1].strip()

    def number(self, name: str, least: int, most: int) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most:
            return int(text)
        self._refuse(name, f"a number from {least} to {most}")
        return None

    def where(self, name: str) -> Where | None:
        text = self.text(name)
        if not text:
            return None
        found = _WHERE.fullmatch(text)
        if found is None:
            self._refuse(name, "a line such as a1L123")
            return None
        return int(found[1]), min(int(found[2]), _LINE_MAX)

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name)
        if text not in ("", "0", "1"):
            self._refuse(name, "0 or 1")
        return default if text not in ("0", "1") else text == "1"

    def level(self) -> int | None:
        text = self.text("level")
        if not text or text.lower() == "all":
            return None
        if re.fullmatch("[0-9]{1,3}", text):
            return min(int(text), 255)
        if text.lower() in LEVELS:
            return int(getattr(logging, text.upper()))
        self._refuse("level", f"one of {', '.join(LEVELS)}")
        return None

    def streams(self) -> tuple[str, ...]:
        given = [
            one.strip() for text in self._arguments.get(_PREFIX + "stream", ()) for one in text.split(",")
        ]
        wanted = [one for one in given if one and one != "all"]
        if any(one not in STREAMS for one in wanted):
            self._refuse("stream", f"one of {', '.join(STREAMS)}")
        return tuple(name for name in STREAMS if name in wanted)

    def needle(self) -> str:
        text = (self._arguments.get(_PREFIX + "q") or [""])[-1]
        if len(text) > _TEXT_MAX:
            self.notes.append(f"log_q is longer than {_TEXT_MAX} characters; its beginning is searched for")
        return text[:_TEXT_MAX] if text.strip() else ""

    def _refuse(self, name: str, wanted: str) -> None:
        given = shorten(visible(self.text(name)), 40)
        self.notes.append(f"log_{name} is {given!r} and should be {wanted}; it is left out")


def where_text(where: Where | None) -> str | None:
    """Return `a2L123` of line 123 of attempt 2."""
    return None if where is None else f"a{where[0]}L{where[1]}"


def level_value(level: int) -> str:
    """Return a level as an address has it."""
    name = logging.getLevelName(level).lower()
    return name if name in LEVELS else str(level)
