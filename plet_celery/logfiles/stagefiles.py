"""Derives `stage_<n>_<slug>.log` from a run's log when the stage ends.

It holds the records made while the stage was the innermost one of its attempt. A stage without a
line of its own gets no file; a further attempt is appended behind a note.
"""

from __future__ import annotations

from typing import Final

from plet_celery.logfiles import index, text
from plet_celery.logfiles.growing import Files, Growing
from plet_celery.logfiles.index import Entry
from plet_celery.logfiles.state import Attempt, Run, Stage
from plet_celery.logfiles.volumes import Volumes
from plet_celery.paths import slug

_BLOCK: Final = 2048 * index.SIZE
_TEXT_BLOCK: Final = 1 << 20


class StageFiles:
    """Writes stage files for `Recorder`; at most `most` per attempt."""

    def __init__(self, files: Files, volumes: Volumes, most: int) -> None:
        self._files = files
        self._volumes = volumes
        self._most = most

    def derive(self, run: Run, attempt: Attempt, number: int, stage: Stage) -> None:
        """Append the stage's records to its file."""
        if not stage.lines or attempt.stage_files >= self._most:
            return
        attempt.stage_files += 1
        name = f"stage_{number}_{slug(stage.name)}.log"
        target = self._files.growing(run.folder or "", name, run.stages.get(name, 0))
        if target.size:
            target.pending += text.note(f"attempt {attempt.number}")
        for volume, count, log, entries in self._volumes.sources(run, attempt, stage.volume):
            first = stage.entry if volume == stage.volume else 0
            self._copy(attempt, number, (log, entries), first, count, target)
        run.stages[name] = target.size

    def _copy(
        self,
        attempt: Attempt,
        number: int,
        source: tuple[Growing, Growing],
        first: int,
        count: int,
        target: Growing,
    ) -> None:
        log, entries = source
        at, end = first * index.SIZE, count * index.SIZE
        while at < end:
            block = self._files.read(entries, at, min(_BLOCK, end - at))
            if not block:
                return
            at += len(block)
            found = [
                one for one in index.entries(block) if one.stage == number and one.attempt == attempt.number
            ]
            for start, stop in _stretches(found):
                target.pending += self._files.read(log, start, stop - start)
                self._files.spill(target)


def _stretches(entries: list[Entry]) -> list[tuple[int, int]]:
    """Join neighbours, so that a stage that logs alone is copied in large blocks."""
    joined: list[tuple[int, int]] = []
    for entry in entries:
        if joined and joined[-1][1] == entry.offset and entry.end - joined[-1][0] <= _TEXT_BLOCK:
            joined[-1] = (joined[-1][0], entry.end)
        else:
            joined.append((entry.offset, entry.end))
    return joined
