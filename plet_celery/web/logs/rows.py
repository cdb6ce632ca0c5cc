"""The lines of a log as HTML: rows with a number that is a link, in blocks, groups folded.

Rows are built by functions, not by the template: a window may have ten thousand. Blocks of 200 let a
browser lay out only what is looked at. A line `::group::Title` opens a fold that ends at `::endgroup::`,
or where another begins: neither need be in the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from typing import Any, Final

import msgspec

from plet_celery.logfiles.text import safe_json
from plet_celery.logsources.parts import ERROR, NOTES, Where
from plet_celery.store.records import LogLine
from plet_celery.terminal.look import level_name
from plet_celery.terminal.text import shorten, shorten_left
from plet_celery.web.logs.ansi import line_html, visible

BLOCK: Final = 200
GROUP: Final = "::group::"
END_GROUP: Final = "::endgroup::"
_LAST: Final = 253_370_000_000
"""In the year 9998: later times are no times, and in some zones no dates."""
_SOURCE_WIDTH: Final = 22
"""Characters of the column; of a stage and a logger that are longer together, each keeps some."""
_PART_LEAST: Final = 8
_CONTEXT_MAX: Final = 2000


class Row(msgspec.Struct, gc=False):
    """One line of the log as it is shown."""

    kind: str
    """`line`, `note` (ours), `gap` (something is missing), `group`, `endgroup`, or `day`."""
    attempt: int
    line: int
    """Its own number; that of the line before it for what is not the task's."""
    level: int
    time: str
    """Time of day with milliseconds, or the date of a `day`."""
    stamp: str
    """ISO 8601, UTC."""
    source_html: str
    """Stage, logger, stream."""
    html: str
    """Text and context; the title of a group."""
    is_current: bool = False
    """The hit or the line that the address names."""
    is_behind: bool = False
    """From the store, behind the end of a copy in the mirror: the copy will tell it, too."""

    @property
    def id(self) -> str:
        """The name that links use: `a2L123`; empty where the row has no number of its own."""
        is_named = self.kind in ("line", "group", "endgroup") or (self.kind == "note" and self.is_current)
        return f"a{self.attempt}L{self.line}" if is_named else ""

    @property
    def level_word(self) -> str:
        """`DEBUG`, `INFO`, `WARN`, `ERROR` or `FATAL`; empty for a gap."""
        return "" if self.kind in ("gap", "day") else level_name(self.level)


class RowMaker:
    """Turns lines into rows.

    Args:
        stage_name: names a stage of an attempt.
        zone: of the times shown.
        needle: text that is marked in the lines.
        plain: without colours.
        current: the line that the address names.
        copied: last line of the copy in the mirror, if the lines are from one.
    """

    def __init__(
        self,
        stage_name: Callable[[int, int | None], str],
        *,
        zone: tzinfo = UTC,
        needle: str = "",
        plain: bool = False,
        current: Where | None = None,
        copied: int | None = None,
    ) -> None:
        self._stage_name = stage_name
        self._zone = zone
        self._needle = needle
        self._folded = needle.lower()
        self._plain = plain
        self._current = current
        self._copied = copied
        self._is_note_named = False
        self._sources: dict[tuple[int, str, str | None, int | None], str] = {}
        self._second = -1
        self._texts = ("", "", "")

    def rows(self, lines: Iterable[LogLine]) -> list[Row]:
        """Return a row for each line, with a row of the date before the first one of another day."""
        found: list[Row] = []
        day = ""
        for line in lines:
            row = self._row(line)
            if row.stamp:
                today = self._texts[2]
                if day and today != day:
                    found.append(Row("day", row.attempt, row.line, 0, today, row.stamp, "", ""))
                day = today
            found.append(row)
        return found

    def _row(self, line: LogLine) -> Row:
        time, stamp = self._time(line.at)
        where = (line.attempt, line.line)
        kind, html = self._text(line)
        row = Row(kind, *where, line.level, time, stamp, self._source(line), html)
        if where == self._current and (kind not in ("note", "gap") or self._is_only_word(line)):
            row.is_current = True
        if self._copied is not None and (line.line > self._copied):
            row.is_behind = True
        return row

    def _is_only_word(self, line: LogLine) -> bool:
        """Tell whether a note is the first one that tells of an error where no line was written at all."""
        if line.line or line.level < ERROR or self._is_note_named:
            return False
        self._is_note_named = True
        return True

    def _text(self, line: LogLine) -> tuple[str, str]:
        text = line.text
        if line.stream in NOTES:
            kind = "gap" if line.stream == "gap" or text.startswith("— ") else "note"
            return kind, self._html(text) + _context_html(line.context)
        if text.startswith("::"):
            if text.startswith(GROUP):
                return "group", self._html(text[len(GROUP) :])
            if text.startswith(END_GROUP):
                return "endgroup", ""
        html = self._html(text)
        return "line", html + _context_html(line.context) if line.context else html

    def _html(self, text: str) -> str:
        needle = self._needle if self._needle and self._folded in text.lower() else ""
        return line_html(text, needle=needle, plain=self._plain)

    def _source(self, line: LogLine) -> str:
        key = (line.attempt, line.stream, line.logger, line.stage)
        found = self._sources.get(key)
        if found is None:
            found = self._sources[key] = self._source_html(line)
        return found

    def _source_html(self, line: LogLine) -> str:
        stage = visible(self._stage_name(line.attempt, line.stage))
        is_note = line.stream in NOTES
        named = (
            "" if is_note else visible(line.logger if line.stream == "log" and line.logger else line.stream)
        )
        words = " › ".join(one for one in (stage, named) if one)
        if len(words) <= _SOURCE_WIDTH:
            return f'<span class="plet-log-source">{escape(words)}</span>'
        left = _SOURCE_WIDTH - 3
        stage = shorten(stage, max(_PART_LEAST, left - len(named)) if named else _SOURCE_WIDTH)
        named = shorten_left(named, max(_PART_LEAST, left - len(stage)) if stage else _SOURCE_WIDTH)
        short = " › ".join(one for one in (stage, named) if one)
        return f'<span class="plet-log-source" title="{escape(words)}">{escape(short)}</span>'

    def _time(self, at: float) -> tuple[str, str]:
        """Return time of day and ISO stamp; both empty where the time is not known."""
        if not 0 < at < _LAST:
            return "", ""
        second, millis = divmod(int(at * 1000), 1000)
        if second != self._second:
            moment = datetime.fromtimestamp(second, UTC)
            local = moment.astimezone(self._zone)
            self._texts = f"{local:%H:%M:%S}", f"{moment:%Y-%m-%dT%H:%M:%S}", f"{local:%Y-%m-%d}"
            self._second = second
        return f"{self._texts[0]}.{millis:03}", f"{self._texts[1]}.{millis:03}Z"


def rows_html(rows: Sequence[Row]) -> str:
    """Return rows as HTML, in blocks and folds."""
    blocks = _Blocks()
    for row in rows:
        if row.kind == "group":
            blocks.open(row)
        elif row.kind == "endgroup" and blocks.is_open:
            blocks.add(_row_html(row), row)
            blocks.close()
        else:
            blocks.add(_row_html(row), row)
    blocks.close(is_ended=False)
    return "".join(blocks.html)


class _Blocks:
    """Collects rows into blocks of `BLOCK`, those of a group into a fold."""

    def __init__(self) -> None:
        self.html: list[str] = []
        self._rows: list[str] = []
        self._group: Row | None = None
        self._inner: list[str] = []
        self._count = 0
        self._is_telling = False

    @property
    def is_open(self) -> bool:
        """A group is."""
        return self._group is not None

    def add(self, html: str, row: Row) -> None:
        """Add a row."""
        self._rows.append(html)
        self._count += 1
        # What is looked for must not lie in a closed fold.
        self._is_telling = self._is_telling or row.is_current or row.level >= ERROR or "<mark" in html
        if len(self._rows) == BLOCK:
            self._flush()

    def open(self, row: Row) -> None:
        """Begin a group; one that is open ends."""
        self.close()
        self._group, self._count, self._is_telling = row, 0, row.is_current

    def close(self, *, is_ended: bool = True) -> None:
        """End the group that is open, if one is."""
        self._flush()
        row, self._group = self._group, None
        if row is None:
            return
        lines = f"{self._count} line{'' if self._count == 1 else 's'}"
        self.html.append(
            f'<details class="plet-log-group"{" open" if self._is_telling else ""}'
            f"{'' if is_ended else ' data-unended'}>"
            f'<summary class="plet-log-row{_classes(row)}" id="{row.id}">{_head_html(row)}'
            f'<span class="plet-log-text"><span class="plet-log-title">{row.html or "group"}</span> '
            f'<span class="plet-log-count">{lines}</span></span></summary>{"".join(self._inner)}</details>'
        )
        self._inner = []

    def _flush(self) -> None:
        if not self._rows:
            return
        full = " plet-log-full" if len(self._rows) == BLOCK else ""
        target = self.html if self._group is None else self._inner
        target.append(f'<div class="plet-log-block{full}">{"".join(self._rows)}</div>')
        self._rows = []


def _row_html(row: Row) -> str:
    if row.kind == "day":
        return f'<div class="plet-log-row plet-log-day"><span class="plet-log-text">{row.time}</span></div>'
    if row.kind == "line" and row.stamp:
        name = f"a{row.attempt}L{row.line}"
        level = level_name(row.level)
        classes = _LEVEL_CLASSES[level]
        if row.is_current or row.is_behind:
            classes = _classes(row)
        return (
            f'<div class="plet-log-row{classes}" id="{name}">'
            f'<a class="plet-log-n" href="?log_at={name}#{name}">{row.line}</a>'
            f'<time class="plet-log-time" datetime="{row.stamp}">{row.time}</time>'
            f'<span class="plet-log-level">{level}</span>{row.source_html}'
            f'<span class="plet-log-text">{row.html}</span></div>'
        )
    name = f' id="{row.id}"' if row.id else ""
    return (
        f'<div class="plet-log-row{_classes(row)}"{name}>{_head_html(row)}'
        f'<span class="plet-log-text">{row.html}</span></div>'
    )


def _head_html(row: Row) -> str:
    number = '<span class="plet-log-n"></span>'
    if row.id and row.kind != "note":
        number = f'<a class="plet-log-n" href="?log_at={row.id}#{row.id}">{row.line}</a>'
    time = (
        f'<time class="plet-log-time" datetime="{row.stamp}">{row.time}</time>'
        if row.stamp
        else ('<span class="plet-log-time"></span>')
    )
    return f'{number}{time}<span class="plet-log-level">{row.level_word}</span>{row.source_html}'


_LEVEL_CLASSES: Final = {
    "DEBUG": " plet-log-debug",
    "INFO": "",
    "WARN": " plet-log-warn",
    "ERROR": " plet-log-error",
    "FATAL": " plet-log-error",
}


def _classes(row: Row) -> str:
    found = "" if row.kind == "gap" else _LEVEL_CLASSES[level_name(row.level)]
    if row.kind != "line":
        found += f" plet-log-{row.kind}"
    if row.is_current:
        found += " plet-log-current"
    return found + " plet-log-behind" if row.is_behind else found


def _context_html(context: dict[str, Any] | None) -> str:
    if not context:
        return ""
    words = []
    for key, value in context.items():
        shown = value if isinstance(value, str) else safe_json(value)
        words.append(f"{visible(str(key))}={visible(shown)}")
    text = " ".join(words)
    if len(text) > _CONTEXT_MAX:
        text = text[:_CONTEXT_MAX] + "…"
    return f' <span class="plet-log-context">{escape(text)}</span>'
