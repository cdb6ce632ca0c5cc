"""One line of a run's log as readers get it, and what to ask for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from plet_celery.logfiles import index
from plet_celery.logfiles.index import STREAM_CODES, STREAMS, Entry


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record: a line of the task, or a note of ours (stream `plet`)."""

    attempt: int
    """Number of the attempt; 0 where the index is damaged and it is not known."""
    line: int
    """Number in the attempt; a note has that of the line before it. 0: first note, or not known."""
    at: float
    """Wall time, seconds since the epoch."""
    level: int
    """Number as in `logging`."""
    logger: str | None
    stream: str
    """`log`, `stdout`, `stderr`, `warning`, `task`; `plet` for a note."""
    stage: int | None
    """Number of the innermost stage."""
    text: str
    """May hold LF; other control characters are shown as `\\x1b` unless asked for raw."""
    context: dict[str, Any] | None = None
    part: tuple[int, int] | None = None
    """(k, n): the k-th of n parts of a very long line."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which lines are wanted; what is not given does not filter."""

    attempt: int | None = None
    level: int | None = None
    """Lowest level."""
    stages: frozenset[int] | None = None
    """Numbers of innermost stages; notes of other stages and of none are left out, too."""
    streams: Collection[str] = ()
    since: float | None = None
    """Earliest wall time."""

    @property
    def takes_all(self) -> bool:
        """Nothing is filtered."""
        return (
            self.attempt is None
            and self.level is None
            and self.stages is None
            and not self.streams
            and self.since is None
        )

    def takes(self, entry: Entry) -> bool:
        """Tell whether a record is wanted."""
        return (
            (self.attempt is None or entry.attempt == self.attempt)
            and (self.level is None or entry.level >= self.level)
            and (self.stages is None or entry.stage in self.stages)
            and (self.since is None or entry.at >= self.since)
            and (
                not self.streams
                or (STREAMS[entry.stream] if entry.stream < len(STREAMS) else "") in self.streams
            )
        )

    def sieve(self) -> tuple[int, bytes] | None:
        """Return (byte of an entry, table of wanted values) that rules most entries out cheaply."""
        if self.level is not None:
            return index.LEVEL_AT, bytes(value >= self.level for value in range(256))
        if self.streams:
            codes = {STREAM_CODES.get(name, index.OTHER_STREAM) for name in self.streams}
            return index.STREAM_AT, bytes(value in codes for value in range(256))
        if self.stages is not None:
            low = {stage & 255 for stage in self.stages}
            return index.STAGE_AT, bytes(value in low for value in range(256))
        return None


def stages_of(stage: int | Collection[int] | None) -> frozenset[int] | None:
    """Return what a reader asked for as `Filter.stages`: one stage, several or any."""
    return stage if stage is None else frozenset([stage] if isinstance(stage, int) else stage)
