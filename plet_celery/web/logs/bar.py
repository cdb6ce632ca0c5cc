"""What stands around the lines of a log: filters, attempts, switches, and how far a search has come.

Addresses are relative to the page; one that leads nowhere is empty.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import Final

from plet_celery.logfiles.notes import count as spaced
from plet_celery.logsources.parts import Where
from plet_celery.logsources.window import Hits
from plet_celery.logsources.windows import LogWindows
from plet_celery.terminal.text import shorten
from plet_celery.web.logs.ansi import visible
from plet_celery.web.logs.query import STREAMS, LogQuery, level_value

STAGES_MAX: Final = 200
_NAME_MAX: Final = 60
_LEVELS: Final = ("info", "warning", "error")


@dataclass(frozen=True)
class Choice:
    """One option of a filter, or one of the attempts."""

    value: str
    label: str
    is_chosen: bool
    href: str = ""


@dataclass(frozen=True)
class Toggle:
    """A switch of how the lines look."""

    name: str
    """Of its argument: `ts`, `wrap`, `plain`."""
    label: str
    is_on: bool
    href: str
    """The same view with this switched."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the search for `log_q` has found."""

    text: str = ""
    said: str = ""
    """`3 of 17`, `at least 100 hits`, `no hit`."""
    previous: str = ""
    next: str = ""
    on: str = ""
    """Searches on where the time was over."""
    clear: str = ""


def attempts_of(windows: LogWindows, query: LogQuery) -> list[Choice]:
    """Return the attempts to look at, unless there is only one."""
    if len(windows.attempts) < 2:
        return []
    return [
        Choice(
            str(one), f"attempt {one}", one == query.attempt, query.placed(attempt=one, text="", after=None)
        )
        for one in windows.attempts
    ]


def search_of(hits: Hits | None, query: LogQuery) -> Search:
    """Return how far a search has come, and where its neighbours are."""
    if hits is None:
        return Search()
    places, at_least = hits.places, "" if hits.reached is None else "at least "
    hit = query.hit or (0, 0)
    index = bisect.bisect_left(places, hit)
    is_at = index < len(places) and places[index] == hit
    said = f"{at_least}{spaced(hits.count)} hit{'' if hits.count == 1 else 's'}" if hits.count else "no hit"
    if is_at:
        said = f"{spaced(index + 1)} of {at_least}{spaced(hits.count)}"
    behind = index + 1 if is_at else index
    on = ""
    if hits.reached is not None:
        on = query.placed(after=hits.reached)
        if not hits.count:
            said = "no hit yet"
    return Search(
        text=query.text,
        said=said,
        previous=_to_hit(query, places[index - 1]) if index > 0 else "",
        next=_to_hit(query, places[behind]) if behind < len(places) else "",
        on=on,
        clear=query.href(text="", hit=None, after=None, at=query.at or query.hit),
    )


def _to_hit(query: LogQuery, where: Where) -> str:
    return query.placed(where, hit=where, attempt=None)


def levels_of(query: LogQuery) -> list[Choice]:
    """Return the lowest levels to choose from, and the chosen one."""
    chosen = "" if query.level is None else level_value(query.level)
    values = [*_LEVELS, *([chosen] if chosen not in ("", *_LEVELS) else [])]
    return [
        Choice("", "all levels", not chosen),
        *(Choice(one, f"{one} and above", one == chosen) for one in values),
    ]


def stages_of(windows: LogWindows, query: LogQuery) -> list[Choice]:
    """Return the stages of the attempt to choose from, inner ones indented; those of one name once."""
    found: dict[str, Choice] = {}
    for _, name, depth in windows.stages(query.attempt or 0):
        if name and name not in found and len(found) < STAGES_MAX:
            label = "\u00a0\u00a0" * min(depth, 6) + shorten(visible(name), _NAME_MAX)
            found[name] = Choice(name, label, name == query.stage)
    if query.stage is not None and query.stage not in found:
        found[query.stage] = Choice(query.stage, shorten(visible(query.stage), _NAME_MAX), True)
    if not found:
        return []
    return [Choice("", "all stages", query.stage is None), *found.values()]


def streams_of(query: LogQuery) -> list[Choice]:
    """Return the streams to choose from; several may be chosen."""
    chosen = ",".join(query.streams)
    found = [Choice("", "all streams", not chosen), *(Choice(one, one, one == chosen) for one in STREAMS)]
    return [*found, Choice(chosen, chosen.replace(",", ", "), True)] if len(query.streams) > 1 else found


def toggles_of(query: LogQuery) -> list[Toggle]:
    """Return the switches of how the lines look."""
    return [
        Toggle("ts", "times", query.times, query.href(times=not query.times)),
        Toggle("wrap", "wrap", query.wrap, query.href(wrap=not query.wrap)),
        Toggle("plain", "colours", not query.plain, query.href(plain=not query.plain)),
    ]


def hidden_of(query: LogQuery) -> list[tuple[str, str]]:
    """Return what a form keeps: a new search or filter has its attempt and its look, not its place."""
    bare = replace(
        query,
        first=None,
        to=None,
        at=None,
        error=None,
        hit=None,
        after=None,
        text="",
        level=None,
        stage=None,
        streams=(),
    )
    return bare.pairs()


def arguments_of(query: LogQuery, *, raw: bool) -> str:
    """Return the arguments of a download: all of the attempt, or what passes the filter."""
    only = LogQuery(attempt=query.attempt, keep=query.keep)
    if raw:
        return only.href() + "&log_raw=1"
    return only.href(level=query.level, stage=query.stage, streams=query.streams)
