"""One attempt's log as it can be read: a host's files, their copy in the mirror, or what the store kept.

All three answer the same questions, by the numbers that lines have in their attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from plet_celery.logfiles import Line, RunLog
from plet_celery.logsources.source import as_log_line
from plet_celery.store.records import LogLine

ERROR: Final = 40
"""From this level on a line tells of an error."""
NOTES: Final = ("plet", "gap")
"""Streams of lines that are not the task's: they have the number of the line before them."""
MAX_BYTES: Final = 8 << 20
"""Text of one answer; a window that would hold more has fewer lines."""

Where = tuple[int, int]
"""(ordinal of the attempt, number of the line)."""


@dataclass(frozen=True)
class Wanted:
    """Which lines of an attempt are wanted; what is not given does not filter."""

    level: int | None = None
    """Lowest level, as a number of `logging`."""
    stages: frozenset[int] | None = None
    """Numbers of innermost stages."""
    streams: tuple[str, ...] = ()

    def takes(self, line: LogLine) -> bool:
        """Tell whether a line is wanted; a gap is one of 30, as notes of gaps in files are."""
        level = 30 if line.stream == "gap" else line.level
        return (
            (self.level is None or level >= self.level)
            and (self.stages is None or line.stage in self.stages)
            and (not self.streams or line.stream in self.streams)
        )


@dataclass(frozen=True)
class Needle:
    """What is searched for, in any case of ASCII letters."""

    text: str
    start: int
    """Only from this line on."""
    limit: int
    """Most places returned; further hits are counted."""
    seconds: float


@dataclass(frozen=True)
class PartHits:
    """What a search has found in one attempt."""

    lines: list[int]
    """Numbers of the first hits' lines."""
    count: int
    reached: int | None = None
    """Line up to where was searched before the time was over; None: all of it."""


class Part(Protocol):
    """One attempt's log in one place.

    Raises (every method):
        LogNotFound, HomeError, OSError: what was there is gone, or cannot be read.
    """

    def line_count(self) -> int:
        """Return the number of the last line."""

    def after(self, first: int, count: int, wanted: Wanted) -> list[LogLine]:
        """Return `count` lines from number `first` on, with the notes behind each of them."""

    def before(self, line: int, count: int, wanted: Wanted) -> list[LogLine]:
        """Return the last `count` lines and notes that lie before a line."""

    def last(self, count: int, wanted: Wanted) -> list[LogLine]:
        """Return the last `count` lines and notes."""

    def search(self, needle: Needle, wanted: Wanted) -> PartHits:
        """Find the lines whose text holds the needle."""

    def text(self, at: int, length: int) -> bytes | None:
        """Return bytes of the records as they are written; None where they do not lie together."""


class FilePart:
    """An attempt in a run's log folder.

    Args:
        local: number of the attempt there: a host counts those that it has seen to start.
        number: its ordinal in the run.
    """

    def __init__(self, log: RunLog, local: int, number: int) -> None:
        self._log = log
        self._local = local
        self._number = number

    def line_count(self) -> int:
        return self._log.line_count(self._here)

    def after(self, first: int, count: int, wanted: Wanted) -> list[LogLine]:
        return self._told(
            self._log.range(
                first,
                count,
                raw=True,
                max_bytes=MAX_BYTES,
                **self._wants(wanted),
            )
        )

    def before(self, line: int, count: int, wanted: Wanted) -> list[LogLine]:
        return self._told(
            self._log.before(
                line,
                count,
                raw=True,
                max_bytes=MAX_BYTES,
                **self._wants(wanted),
            )
        )

    def last(self, count: int, wanted: Wanted) -> list[LogLine]:
        return self._told(
            self._log.tail(
                count,
                raw=True,
                max_bytes=MAX_BYTES,
                **self._wants(wanted),
            )
        )

    def search(self, needle: Needle, wanted: Wanted) -> PartHits:
        found = self._log.search(
            needle.text,
            start=needle.start,
            ignore_case=True,
            limit=needle.limit,
            seconds=needle.seconds,
            brief=True,
            **self._wants(wanted),
        )
        reached = None if found.complete else (found.reached or (0, 0))[1]
        # A note has the number of the line before it: one place, told once.
        places = list(dict.fromkeys(line.line for line in found.lines))
        return PartHits(places, found.count - len(found.lines) + len(places), reached)

    def text(self, at: int, length: int) -> bytes | None:
        return self._log.text(self._here, at, length)

    @cached_property
    def _here(self) -> int:
        # Without an index the beginning of a long log is not looked at, and no number is known.
        return self._local if self._log.newest_attempt() else 0

    def _wants(self, wanted: Wanted) -> dict[str, Any]:
        return {
            "attempt": self._here,
            "level": wanted.level,
            "stage": wanted.stages,
            "streams": wanted.streams,
        }

    def _told(self, lines: Iterable[Line]) -> list[LogLine]:
        found = [as_log_line(line) for line in lines]
        if self._number != self._here:
            for line in found:
                line.attempt = self._number
        return found


class StorePart:
    """An attempt of which the store kept head and tail; small, so it is read as a whole.

    Args:
        read: reads the kept lines, oldest first, with a line of the stream `gap` where some are missing.
        known: number of the last line, as far as the store knows.
    """

    def __init__(self, read: Callable[[], Sequence[LogLine]], known: int) -> None:
        self._read = read
        self._known = known

    @cached_property
    def lines(self) -> list[LogLine]:
        """All that is kept, by number, with a line of the stream `gap` where some are missing."""
        return sorted(self._read(), key=lambda line: line.line)

    def line_count(self) -> int:
        return max([self._known, *(line.line for line in self.lines if line.stream not in NOTES)])

    def after(self, first: int, count: int, wanted: Wanted) -> list[LogLine]:
        return taken((line for line in self.lines if line.line >= first and wanted.takes(line)), count)

    def before(self, line: int, count: int, wanted: Wanted) -> list[LogLine]:
        found = [one for one in self.lines if one.line < line and wanted.takes(one)]
        return found[len(found) - min(count, len(found)) :]

    def last(self, count: int, wanted: Wanted) -> list[LogLine]:
        found = [line for line in self.lines if wanted.takes(line)]
        return found[len(found) - min(count, len(found)) :]

    def search(self, needle: Needle, wanted: Wanted) -> PartHits:
        text = needle.text.lower()
        found = [
            line.line
            for line in self.lines
            if line.line >= needle.start
            and line.stream != "gap"
            and wanted.takes(line)
            and text in line.text.lower()
        ]
        return PartHits(found[: needle.limit], len(found))

    def text(self, at: int, length: int) -> bytes | None:
        return None


class MirrorPart:
    """An attempt in the mirror, and behind it what has reached the store but not the copy."""

    def __init__(self, copy: FilePart, kept: StorePart) -> None:
        self._copy = copy
        self._kept = kept

    @cached_property
    def behind(self) -> StorePart:
        """What only the store has, a gap before it where neither has some."""
        last = self.copied
        later = [line for line in self._kept.lines if line.line > last and line.stream != "gap"]
        if later and later[0].line > last + 1:
            later.insert(0, _gap(later[0], last + 1))
        return StorePart(lambda: later, last)

    @property
    def copied(self) -> int:
        """Number of the last line that the copy has."""
        return self._copy.line_count()

    def line_count(self) -> int:
        return self.behind.line_count()

    def after(self, first: int, count: int, wanted: Wanted) -> list[LogLine]:
        found = self._copy.after(first, count, wanted)
        missing = count - sum(line.stream not in NOTES for line in found)
        return found + self.behind.after(first, missing, wanted) if missing > 0 else found

    def before(self, line: int, count: int, wanted: Wanted) -> list[LogLine]:
        later = self.behind.before(line, count, wanted)
        return self._copy.before(line, count - len(later), wanted) + later if len(later) < count else later

    def last(self, count: int, wanted: Wanted) -> list[LogLine]:
        later = self.behind.last(count, wanted)
        return self._copy.last(count - len(later), wanted) + later if len(later) < count else later

    def search(self, needle: Needle, wanted: Wanted) -> PartHits:
        found = self._copy.search(needle, wanted)
        if found.reached is not None:
            return found
        later = self.behind.search(needle, wanted)
        return PartHits([*found.lines, *later.lines][: needle.limit], found.count + later.count)

    def text(self, at: int, length: int) -> bytes | None:
        return None if self.behind.lines else self._copy.text(at, length)


def taken(lines: Iterable[LogLine], count: int) -> list[LogLine]:
    """Take `count` lines, with the notes before, between and behind them."""
    found: list[LogLine] = []
    numbered = 0
    for line in lines:
        is_note = line.stream in NOTES
        if not is_note and numbered >= count:
            break
        numbered += not is_note
        found.append(line)
    return found


def _gap(line: LogLine, first: int) -> LogLine:
    text = f"— {line.line - first} lines have not reached the mirror —"
    return LogLine(attempt=line.attempt, line=first, at=line.at, level=0, stream="gap", text=text)
