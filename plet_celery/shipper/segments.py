"""The life of a segment after it was written: synced, passed by every sink, kept for a while, removed.

Nothing here changes what a writer wrote. A damaged segment is moved to `quarantine/` instead of being
removed; that folder is bounded, and what leaves it is counted in the log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plet_celery.journal_keeping import (
    Segment,
    is_written,
    list_journal,
    open_segment,
    quarantine_segment,
    retire_segment,
)

log = logging.getLogger(__name__)

# The kernel writes log files back within this time; before it, they are only as safe as the segments.
_WRITEBACK_SECONDS: Final = 60.0
# Before the name of a damaged segment: not a name that whoever lists segments could take for one.
_MARK: Final = "damaged."

Position = tuple[int, int]
FinalSegments = Callable[[], Mapping[str, Segment]]
"""Returns the segments, by file name, that are known not to change any more."""


class Syncer:
    """Brings to the disk what writers wrote, through descriptors of our own."""

    def __init__(self, directory: Path, final: FinalSegments = dict) -> None:
        self._directory = directory
        self._final = final
        self._synced: dict[tuple[str, int], int] = {}
        self._refused: set[tuple[str, int]] = set()

    @property
    def failures(self) -> int:
        """Segments that the disk refused; what it holds of them is unknown, whatever a later sync says."""
        return len(self._refused)

    def sync(self) -> None:
        """Sync each segment that has grown since, and the folder when there are new ones."""
        found = list_journal(self._directory, self._final()).segments
        known = {(segment.writer, segment.number) for segment in found}
        is_new = not known <= self._synced.keys()
        for segment in found:
            key = (segment.writer, segment.number)
            if self._synced.get(key) != segment.size and key not in self._refused:
                self._sync_file(key, segment)
        if is_new:
            _sync(os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for key in self._synced.keys() - known:
            del self._synced[key]
        self._refused &= known

    def _sync_file(self, key: tuple[str, int], segment: Segment) -> None:
        try:
            _sync(open_segment(segment))
        except FileNotFoundError:
            return
        except OSError as error:
            # A second fsync may report success although pages were dropped: it is never asked again.
            self._refused.add(key)
            log.error("disk refused a segment: path=%s error=%s", segment.path, error)
        self._synced[key] = segment.size


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What has to be known before a segment may go."""

    checkpoints: Sequence[Mapping[str, Position]]
    """Of every sink."""
    settled: Collection[str]
    """Writers that are gone and have no open attempt."""
    newest: Mapping[str, int]
    """Each writer's newest segment number."""


def is_passed(segment: Segment, facts: Passed) -> bool:
    """Tell whether nobody needs a segment any more, its age aside.

    The newest segment of a writer is needed until the writer is gone and settled.
    """
    is_newest = segment.number >= facts.newest.get(segment.writer, -1)
    if is_newest and segment.writer not in facts.settled:
        return False
    for checkpoint in facts.checkpoints:
        number, offset = checkpoint.get(segment.writer, (-1, 0))
        if number < segment.number or (number == segment.number and offset < segment.size):
            return False
    return True


class Keeper:
    """Removes segments whose time has come, and moves damaged ones aside."""

    def __init__(
        self,
        directory: Path,
        *,
        keep: float,
        fence: Callable[[], bool],
        final: FinalSegments = dict,
    ) -> None:
        self._directory = directory
        self._final = final
        self._keep = keep
        self._fence = fence

    def retire(
        self, *, checkpoints: Sequence[Mapping[str, Position]], settled: Collection[str], wall: float
    ) -> list[str]:
        """Remove what every sink has passed and is old enough; return the writers that have no file left.

        Args:
            checkpoints: of every sink, as they were before this call.
            settled: writers that are gone and have no open attempt.
            wall: the time by the clock that gives files their times.
        """
        found = list_journal(self._directory, self._final()).segments
        marked = self._marked()
        newest: dict[str, int] = {}
        for segment in found:
            newest[segment.writer] = max(segment.number, newest.get(segment.writer, -1))
        facts = Passed(checkpoints=checkpoints, settled=settled, newest=newest)
        ripe = [
            segment
            for segment in found
            if (wall - segment.modified >= self._keep or _mark_name(segment.writer, segment.number) in marked)
            and is_passed(segment, facts)
            and not is_written(segment, newest=False)
        ]
        if ripe and self._keep < _WRITEBACK_SECONDS:
            os.sync()
        removed = {(segment.writer, segment.number) for segment in ripe if self._remove(segment)}
        left = {segment.writer for segment in found if (segment.writer, segment.number) not in removed}
        known = newest.keys() | {writer for checkpoint in checkpoints for writer in checkpoint}
        return sorted((known - left) & set(settled))

    def _marked(self) -> set[str]:
        return {entry.name for entry in os.scandir(self._directory) if entry.name.startswith(_MARK)}

    def _remove(self, segment: Segment) -> bool:
        # A shipper that was frozen here for an hour must not touch what another one keeps.
        if not self._fence():
            return False
        mark = self._mark(segment)
        if mark.exists():
            self._quarantine(segment)
        else:
            retire_segment(segment)
        mark.unlink(missing_ok=True)
        return True

    def _quarantine(self, segment: Segment) -> None:
        dropped = quarantine_segment(self._directory, segment)
        log.warning("segment is damaged, moved to quarantine: name=%s dropped=%d", segment.path.name, dropped)

    def _mark(self, segment: Segment) -> Path:
        return self._directory / _mark_name(segment.writer, segment.number)


def mark_damaged(directory: Path, writer: str, number: int) -> None:
    """Remember, beyond a crash of ours, that a segment goes to quarantine."""
    (directory / _mark_name(writer, number)).touch(mode=0o600)


def _mark_name(writer: str, number: int) -> str:
    return f"{_MARK}{writer}.{number:08d}"


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
