"""The log viewer: which window of a run's log is shown, and all that stands around it.

Everything in a `LogView` is a plain string or number, or HTML built here (names that end in `_html`), so
that its template decides nothing. Addresses are relative to the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from plet_celery.logfiles.notes import count as spaced
from plet_celery.logsources.following import BEGINNING
from plet_celery.logsources.parts import NOTES, Where
from plet_celery.logsources.window import Hits, Source, Window
from plet_celery.logsources.windows import LogWindows
from plet_celery.terminal.look import ENDS
from plet_celery.web.logs.bar import (
    Choice,
    Search,
    Toggle,
    arguments_of,
    attempts_of,
    hidden_of,
    levels_of,
    search_of,
    stages_of,
    streams_of,
    toggles_of,
)
from plet_celery.web.logs.query import (
    END,
    FIRST_ERROR,
    LogQuery,
)
from plet_celery.web.logs.rows import RowMaker, rows_html

SEARCH_SECONDS: Final = 1.0
FOLLOW_MAX: Final = 1000
_GOOD_ENDS: Final = frozenset({"succeeded", "ignored", "expired"})


@dataclass(frozen=True, kw_only=True)
class LogView:
    """What the template shows. An address that leads nowhere is empty."""

    rows_html: str
    count: int
    """Rows shown."""
    said: str
    """Which lines these are: `lines 41 001–42 000 of 48 112`."""
    attempt: int
    attempts: list[Choice]
    """More than one, else empty."""
    current: str
    """Leads to the line that is looked at, within the page: `#a2L123`."""
    current_line: str
    """Its number."""
    earlier: str
    later: str
    start: str
    end: str
    first_error: str
    next_error: str
    search: Search
    levels: list[Choice]
    stages: list[Choice]
    streams: list[Choice]
    toggles: list[Toggle]
    is_filtered: bool
    clear: str
    """The same place without filters."""
    hidden: list[tuple[str, str]]
    """Fields that a form of filters and search has to keep."""
    source: Source
    source_note: str
    """Where the lines come from, unless it is this host's files."""
    empty: str
    """Why there is no line; empty when there are some."""
    notes: list[str]
    """What in the address could not be used."""
    raw: str
    """Download of the whole log of the attempt."""
    tab: str
    """The same, to be shown as text."""
    filtered: str
    """Download of what passes the filter."""
    is_open: bool
    """The run has not ended: more may come."""
    total: int
    """Number of the attempt's last line."""
    position: str
    """What comes behind it can be followed; empty where the window does not reach the end."""
    is_at_end: bool
    """The last of these lines are what was asked for; a script scrolls there."""
    classes: str
    """How the lines look: `plet-log-times`, `plet-log-wrap`, and how wide their numbers are."""


def default_place(state: str) -> str:
    """Return where a log is looked at first: at its `end` while the run goes on, `error`, or `start`."""
    if state not in ENDS:
        return "end"
    return "start" if state in _GOOD_ENDS else "error"


def settled(query: LogQuery, windows: LogWindows) -> LogQuery:
    """Return the query with its attempt, and with the line that an error lies at."""
    named = next((one[0] for one in (query.hit, query.at, query.error) if one and one[0]), None)
    attempt = named or query.attempt or windows.newest
    if attempt not in windows.attempts and windows.attempts:
        note = f"there is no attempt {attempt}; the newest is shown"
        query = replace(query, at=None, hit=None, notes=(*query.notes, note))
        attempt = windows.newest
    if query.error is not None:
        line = windows.next_error(attempt, query.error[1])
        if line is not None:
            return replace(query, attempt=attempt, error=None, at=(attempt, line))
        note = f"no line tells of an error{f' behind line {query.error[1]}' if query.error[1] else ''}"
        return replace(query, attempt=attempt, error=None, to=END, notes=(*query.notes, note))
    return replace(query, attempt=attempt)


def line_of(windows: LogWindows, query: LogQuery, state: str) -> Where | None:
    """Return the line that is looked at: the one asked for, else the first error of a run that failed."""
    if query.is_placed or default_place(state) != "error":
        return query.hit or query.at
    attempt = query.attempt or 0
    line = windows.next_error(attempt, 0)
    return None if line is None else (attempt, line)


def read_window(windows: LogWindows, query: LogQuery, state: str, line: Where | None) -> Window:
    """Return the window that a settled query asks for, or the one that suits a run of this state.

    Args:
        line: what `line_of` has found.
    """
    attempt, count, wanted = query.attempt or 0, query.count, query.wanted
    if line is not None:
        return windows.around(attempt, line[1], count, wanted)
    if query.to == END:
        return windows.last(count, attempt, wanted)
    if query.to is not None:
        return windows.before(attempt, query.to + 1, count, wanted)
    if query.first is not None:
        return windows.window(attempt, query.first, count, wanted)
    if default_place(state) == "start":
        return windows.window(attempt, 0, count, wanted)
    return windows.last(count, attempt, wanted)


@dataclass(frozen=True)
class _Look:
    """One look into a log: what was asked for and found, and where from there the rest lies."""

    windows: LogWindows
    query: LogQuery
    """With its attempt, and with the hit that a search has led to."""
    hits: Hits | None
    line: Where | None
    """The line that is looked at."""
    window: Window

    @property
    def is_open(self) -> bool:
        """The run has not ended."""
        return self.windows.run.state not in ENDS

    @property
    def is_at_end(self) -> bool:
        """The last of these lines are what was asked for."""
        asked = self.query.to is not None or (self.is_open and not self.query.is_placed)
        return self.line is None and asked

    @property
    def position(self) -> str:
        """What comes behind it can be followed; empty where the window does not reach the end."""
        is_last = self.window.is_end and self.window.attempt == self.windows.newest
        if not is_last:
            return ""
        return self.window.position or (BEGINNING if self.is_open else "")

    @property
    def earlier(self) -> str:
        """Leads to the lines before these; before the first one lies the end of the attempt before."""
        if not self.window.is_start:
            return self.query.placed(to=self.window.first - 1)
        before = [one for one in self.windows.attempts if one < self.window.attempt]
        return self.query.placed(attempt=before[-1], to=END) if before else ""

    @property
    def later(self) -> str:
        """Leads to the lines behind these, in the end to the next attempt."""
        if not self.window.is_end:
            return self.query.placed(first=self.window.last + 1)
        behind = [one for one in self.windows.attempts if one > self.window.attempt]
        return self.query.placed(attempt=behind[0], first=1) if behind else ""


def _look(windows: LogWindows, query: LogQuery, seconds: float) -> _Look:
    """Search, and read the window that this leads to."""
    query, hits = settled(query, windows), None
    if query.text:
        hits = windows.search(query.text, query.wanted, start=query.after, seconds=seconds)
        if hits.places and not query.is_placed:
            query = replace(query, hit=hits.places[0], attempt=hits.places[0][0])
    state = windows.run.state
    line = line_of(windows, query, state)
    return _Look(windows, query, hits, line, read_window(windows, query, state, line))


def view(
    windows: LogWindows,
    query: LogQuery,
    *,
    zone: tzinfo = UTC,
    download: str = "log",
    seconds: float = SEARCH_SECONDS,
) -> LogView:
    """Return what the viewer shows of a run's log.

    Args:
        zone: of the times shown.
        download: address of the download, without arguments.
        seconds: most time for a search.
    """
    look = _look(windows, query, seconds)
    window, query, line = look.window, look.query, look.line
    maker = RowMaker(
        windows.stage_name,
        zone=zone,
        needle=query.text,
        plain=query.plain,
        current=line,
        copied=window.copied,
    )
    return LogView(
        rows_html=rows_html(maker.rows(window.lines)),
        count=len(window.lines),
        said=_said(window, query),
        attempt=window.attempt,
        attempts=attempts_of(windows, query),
        current=_address(query, line),
        current_line=spaced(line[1]) if line and line[1] else "",
        earlier=look.earlier,
        later=look.later,
        start="" if window.is_start else query.placed(first=1),
        end="" if window.is_end else query.placed(to=END),
        first_error=query.placed(error=FIRST_ERROR),
        next_error=query.placed(error=(window.attempt, max(window.last, 1))) if not window.is_end else "",
        search=search_of(look.hits, query),
        levels=levels_of(query),
        stages=stages_of(windows, query),
        streams=streams_of(query),
        toggles=toggles_of(query),
        is_filtered=query.is_filtered,
        clear=query.href(level=None, stage=None, streams=()),
        hidden=hidden_of(query),
        source=window.source,
        source_note=_source_note(window.source, zone),
        empty="" if window.lines else _why_empty(window, query),
        notes=list(query.notes),
        raw=f"{download}{arguments_of(query, raw=True)}",
        tab=f"{download}{arguments_of(query, raw=True)}&log_tab=1",
        filtered=f"{download}{arguments_of(query, raw=False)}",
        is_open=look.is_open,
        total=window.total,
        position=look.position,
        is_at_end=look.is_at_end,
        classes=_classes(window, query),
    )


def follow_answer(
    windows: LogWindows, query: LogQuery, position: str, *, now: float, zone: tzinfo = UTC
) -> dict[str, Any]:
    """Return what has come since a position, as the script asks for it; a JSON object.

    `html`: rows as in the viewer; `lines`: how many; `position`: for the next time; `more`: ask again at
    once; `state`: of the run; `open`: more may come; `attempt`, `total`: the newest, and its last line.
    """
    found = windows.follow(position, limit=FOLLOW_MAX, wanted=query.wanted)
    maker = RowMaker(windows.stage_name, zone=zone, needle=query.text, plain=query.plain)
    rows = maker.rows(found.lines)
    state, newest = windows.run.state, windows.newest
    return {
        "html": rows_html(rows),
        "lines": len(found.lines),
        "position": found.position,
        "more": found.more,
        "state": state,
        "open": state not in ENDS or windows.awaits_last_words(now),
        "attempt": newest,
        "total": windows.line_count(newest) if newest else 0,
    }


def _address(query: LogQuery, line: Where | None) -> str:
    # Not the fragment alone: Flower's script takes a link to it for a tab of its own, and fails.
    if line is None:
        return ""
    return query.placed(line, hit=line) if query.text else query.placed(line, at=line)


def _classes(window: Window, query: LogQuery) -> str:
    digits = min(max(len(str(window.total)), 3), 10)
    looks = (("plet-log-times", query.times), ("plet-log-wrap", query.wrap))
    return " ".join([f"plet-log-digits-{digits}", *(name for name, is_on in looks if is_on)])


def _said(window: Window, query: LogQuery) -> str:
    if not window.first:
        return f"none of {_lines(window.total)}" if window.total else ""
    text = f"lines {spaced(window.first)}–{spaced(window.last)} of {spaced(window.total)}"
    if window.first == window.last:
        text = f"line {spaced(window.first)} of {spaced(window.total)}"
    if not query.is_filtered:
        return text
    shown = sum(line.stream not in NOTES for line in window.lines)
    return f"{_lines(shown)} that pass{'es' if shown == 1 else ''} the filter, {text}"


def _lines(count: int) -> str:
    return f"{spaced(count)} line{'' if count == 1 else 's'}"


def _source_note(source: Source, zone: tzinfo) -> str:
    if source.kind == "mirror":
        when = ""
        if source.as_of is not None:
            moment = datetime.fromtimestamp(source.as_of, UTC).astimezone(zone)
            when = f", as of {moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}"
        return f"Read from the mirror{when}: the files are on another host."
    if source.kind == "store":
        return "The log files are on another host, or gone: this is what the store kept, beginning and end."
    return ""


def _why_empty(window: Window, query: LogQuery) -> str:
    if window.source.kind == "none" and window.source.why == "gone":
        return "The log is gone: its files are pruned or on another host, and the store kept no text of it."
    if not window.total and not query.is_filtered:
        return "Nothing has been logged or printed yet."
    if query.is_filtered:
        return "No line here passes the filter."
    return "There is no line here."
