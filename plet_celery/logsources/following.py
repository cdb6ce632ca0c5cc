"""What has come in a run's log since a position: across its folders, and what the store keeps besides.

A position is opaque to readers and may go through a URL: for each folder how far it was read, for each
attempt without a folder the last line and its time, of the newest of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logsources.folders import Folder
from plet_celery.logsources.parts import MAX_BYTES, NOTES, StorePart
from plet_celery.logsources.source import as_log_line
from plet_celery.store.records import LogLine

BEGINNING: Final = "~"
"""The position before the first line of a log: an empty one says that it cannot be followed."""

_NONE: Final = (0, 0)
_MARK: Final = re.compile("([0-9]{1,10}):([0-9]{1,18})")
_STORED: Final = re.compile("s[0-9]{1,9}")
_POSITION_MAX: Final = 8000
_MARKS_MAX: Final = 200
_TOLD: Final = "s0"
"""Stands for the attempts up to one that is too old to have a mark of its own: all of them has been told."""
_GONE: Final = (LogNotFound, HomeError, OSError)


class Followed(NamedTuple):
    """What has come since a position."""

    lines: list[LogLine]
    position: str
    more: bool
    """There was more than the limit."""


def at_end(folders: Sequence[Folder], kept: Mapping[int, StorePart]) -> str:
    """Return the position behind all that is there."""
    found = {}
    for folder in folders:
        try:
            found[folder.key] = folder.log.position()
        except _GONE:
            continue
    found |= {f"s{number}": _mark(part.lines) for number, part in kept.items() if part.lines}
    return _join(found)


def after(folders: Sequence[Folder], kept: Mapping[int, StorePart], position: str, limit: int) -> Followed:
    """Return up to about `limit` lines that came after `position`; nonsense is the beginning."""
    known = _split(position)
    marks = {name: _parse_mark(value) for name, value in known.items() if name.startswith("s")}
    told = marks.get(_TOLD, _NONE)[0]
    lines: list[LogLine] = []
    more = False
    for folder in folders:
        try:
            page = folder.log.follow(known.get(folder.key, ""), limit=limit, raw=True, max_bytes=MAX_BYTES)
        except _GONE:
            continue
        found = [as_log_line(line) for line in page.lines]
        for line in found:
            line.attempt = folder.ordinal(line.attempt)
        # An attempt that was read from the store so far has its folder now: what was told is not told again.
        behind = [line for line in found if line.attempt > told]
        lines += [line for line in behind if line.line > marks.get(f"s{line.attempt}", _NONE)[0]]
        known[folder.key] = page.position
        more = more or page.more
    for number, part in kept.items():
        if number <= told:
            continue
        last, micros = marks.get(f"s{number}", _NONE)
        new = [one for one in part.lines if one.line > last and round(one.at * 1e6) >= micros]
        lines += new[:limit]
        more = more or len(new) > limit
        if new:
            known[f"s{number}"] = _mark(new[:limit])
    return Followed(lines, _join(known) or BEGINNING, more)


def _mark(lines: Sequence[LogLine]) -> str:
    last = next((one for one in reversed(lines) if one.stream not in NOTES), lines[-1])
    return f"{last.line}:{round(last.at * 1e6)}"


def _parse_mark(text: str) -> tuple[int, int]:
    found = _MARK.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else _NONE


def _join(found: Mapping[str, str]) -> str:
    kept = dict(found)
    numbers = sorted(int(name[1:]) for name in kept if name != _TOLD and _STORED.fullmatch(name))
    for number in numbers[:-_MARKS_MAX]:
        del kept[f"s{number}"]
        kept[_TOLD] = f"{number}:0"
    return "~".join(f"{name}_{value}" for name, value in sorted(kept.items()))


def _split(position: str) -> dict[str, str]:
    return {
        name: value
        for name, _, value in (one.partition("_") for one in position[:_POSITION_MAX].split("~"))
        if name
    }
