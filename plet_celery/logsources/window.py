"""What is asked of a run's log and what comes back: a filter, a window of lines with its source, hits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from plet_celery.logsources.parts import NOTES, Where
from plet_celery.store.records import LogLine


@dataclass(frozen=True)
class LogFilter:
    """Which lines are asked for; what is not given does not filter."""

    level: int | None = None
    """Lowest level, as a number of `logging`."""
    stage: str | None = None
    """This stage and those within it, by name or number."""
    streams: tuple[str, ...] = ()


ALL: Final = LogFilter()


@dataclass(frozen=True)
class Source:
    """Where an attempt's lines come from."""

    kind: str
    """`file`, `mirror`, `store` (head and tail only), or `none`."""
    as_of: float | None = None
    """When the copy in the mirror was last written to."""
    why: str = ""
    """Of `none`: `silent` (it has said nothing), or `gone`."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some lines of one attempt, oldest first, with the notes between them."""

    attempt: int
    lines: list[LogLine] = field(default_factory=list)
    total: int = 0
    """Number of the attempt's last line."""
    source: Source = Source("none", why="silent")
    position: str = ""
    """Give it to `follow` for what comes behind the end of the log as it was when this was read."""

    is_start: bool = True
    """No line that is wanted lies before these."""
    is_end: bool = True
    """No line that is wanted lies behind these."""
    copied: int | None = None
    """Of a copy in the mirror: its last line; what lies behind it is from the store."""

    @property
    def first(self) -> int:
        """Number of the first line shown; 0 when there is none."""
        return next((line.line for line in self.lines if line.stream not in NOTES), 0)

    @property
    def last(self) -> int:
        """Number of the last line shown; 0 when there is none."""
        return next((line.line for line in reversed(self.lines) if line.stream not in NOTES), 0)


@dataclass(frozen=True)
class Hits:
    """What a search has found."""

    places: list[Where]
    """The first hits, oldest first."""
    count: int
    reached: Where | None = None
    """Up to where was searched before the time was over; None: all of it, so `count` is exact."""
