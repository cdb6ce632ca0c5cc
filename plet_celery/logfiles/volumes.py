"""Appends records to a run's files and keeps each attempt within its size.

The first half of `run_max_log_bytes` of an attempt goes to `run.log`. Then records go to tail parts
(`tail_<attempt>_<n>.log` with an index each), an eighth of the limit long; of those the newest four
are kept. When the attempt ends, a note counts what is missing and the parts are appended to `run.log`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from plet_celery.logfiles import index, text
from plet_celery.logfiles.growing import Files, Growing
from plet_celery.logfiles.limits import LogLimits
from plet_celery.logfiles.notes import capped
from plet_celery.logfiles.state import Attempt, Run, Volume

PARTS_KEPT: Final = 4
LOG: Final = "run.log"
INDEX: Final = "run.idx"
TRACE: Final = "trace.jsonl"
_COPY: Final = 1 << 20
_NUMBER_MAX: Final = (1 << 32) - 1
_SHORT_MAX: Final = (1 << 16) - 1


class Mark(NamedTuple):
    """What the index says of a record besides its place."""

    micros: int
    level: int
    stage: int
    stream: int
    flags: int


def part_names(attempt: int, number: int) -> tuple[str, str]:
    """Return the names of a tail part's text and index."""
    return f"tail_{attempt}_{number}.log", f"tail_{attempt}_{number}.idx"


class Volumes:
    """Where the next record of an attempt goes.

    Args:
        removals: takes (folder, name) of files to remove after the next checkpoint.
    """

    def __init__(self, files: Files, limits: LogLimits, removals: list[tuple[str, str]]) -> None:
        self._files = files
        self._head_bytes = limits.run_max_log_bytes // 2
        self._part_bytes = max(1, limits.run_max_log_bytes // 8)
        self._limit = limits.run_max_log_bytes
        self._removals = removals
        self._main: dict[str, tuple[Growing, Growing]] = {}

    def begin(self) -> None:
        """Begin a batch."""
        self._main.clear()

    def append(self, run: Run, attempt: Attempt, raw: bytes, mark: Mark) -> None:
        """Append one record with its index entry."""
        length = len(raw)
        if not attempt.full:
            if attempt.size + length <= self._head_bytes:
                attempt.size += length
                self._append_main(run, attempt, raw, mark)
                return
            attempt.full = True
            attempt.head_line = attempt.line - (1 if mark.flags & index.NUMBERED else 0)
        self._append_part(run, attempt, raw, mark)

    def merge(self, run: Run, attempt: Attempt, micros: int) -> None:
        """Append the tail parts to `run.log` behind a note of what is missing; remove them."""
        folder = run.folder or ""
        if attempt.dropped:
            note = text.note(capped(attempt.dropped, self._limit))
            mark = Mark(micros, 30, 0, index.PLET, index.GAP)
            self._append_main(run, attempt, note, mark, line=attempt.head_line)
        for volume in attempt.volumes:
            log, entries = self._part_files(folder, attempt, volume)
            self._copy_entries(run, attempt, entries, volume, shift=run.log)
            self._copy_text(run, log, volume)
            self._remove_part(folder, attempt, volume)
        attempt.volumes = []

    def drop(self, run: Run, attempt: Attempt) -> None:
        """Forget what the files hold of an attempt; remove its tail parts."""
        for volume in attempt.volumes:
            self._remove_part(run.folder or "", attempt, volume)
        attempt.volumes, attempt.size, attempt.trace, attempt.full, attempt.stages = [], 0, 0, False, {}

    def main_files(self, run: Run) -> tuple[Growing, Growing]:
        """Return `run.log` and `run.idx` as this batch sees them."""
        found = self._main.get(run.id)
        if found is None:
            folder = run.folder or ""
            found = self._main[run.id] = (
                self._files.growing(folder, LOG, run.log),
                self._files.growing(folder, INDEX, run.entries * index.SIZE),
            )
        return found

    def sources(self, run: Run, attempt: Attempt, first: int) -> list[tuple[int, int, Growing, Growing]]:
        """Return (volume number, entries, text, index) from volume `first` on, oldest first."""
        found = []
        if first == 0:
            log, entries = self.main_files(run)
            found.append((0, run.entries, log, entries))
        for volume in attempt.volumes:
            if volume.number >= first:
                found.append(
                    (volume.number, volume.entries, *self._part_files(run.folder or "", attempt, volume))
                )
        return found

    def _append_main(
        self, run: Run, attempt: Attempt, raw: bytes, mark: Mark, *, line: int | None = None
    ) -> None:
        log, entries = self._main.get(run.id) or self.main_files(run)
        if attempt.number != run.attempts_made:
            run.mixed = True
        entries.pending += _entry(
            run.log,
            attempt.number,
            attempt.line if line is None else line,
            len(raw),
            mark,
            index.MIXED if run.mixed else 0,
        )
        log.pending += raw
        run.log += len(raw)
        run.entries += 1
        if len(log.pending) >= _COPY:
            self._files.spill(log)
            self._files.spill(entries)

    def _append_part(self, run: Run, attempt: Attempt, raw: bytes, mark: Mark) -> None:
        folder = run.folder or ""
        if not attempt.volumes or attempt.volumes[-1].log >= self._part_bytes:
            run.volumes_made += 1
            attempt.volumes.append(Volume(run.volumes_made))
            if len(attempt.volumes) > PARTS_KEPT:
                oldest = attempt.volumes.pop(0)
                attempt.dropped += oldest.lines
                self._remove_part(folder, attempt, oldest)
        volume = attempt.volumes[-1]
        log, entries = self._part_files(folder, attempt, volume)
        entries.pending += _entry(volume.log, attempt.number, attempt.line, len(raw), mark, 0)
        log.pending += raw
        volume.log += len(raw)
        volume.entries += 1
        volume.lines += 1 if mark.flags & index.NUMBERED else 0
        self._files.spill(log)

    def _part_files(self, folder: str, attempt: Attempt, volume: Volume) -> tuple[Growing, Growing]:
        log, entries = part_names(attempt.number, volume.number)
        return (
            self._files.growing(folder, log, volume.log),
            self._files.growing(folder, entries, volume.entries * index.SIZE),
        )

    def _copy_entries(
        self, run: Run, attempt: Attempt, entries: Growing, volume: Volume, *, shift: int
    ) -> None:
        _, target = self.main_files(run)
        if attempt.number != run.attempts_made:
            run.mixed = True
        mixed = index.MIXED if run.mixed else 0
        at, end = 0, volume.entries * index.SIZE
        while at < end:
            block = self._files.read(entries, at, min(_COPY, end - at))
            if not block:
                break
            for entry in index.entries(block):
                moved = entry._replace(offset=entry.offset + shift, flags=entry.flags | mixed)
                target.pending += index.pack(*moved)
            run.entries += len(block) // index.SIZE
            at += len(block)
            self._files.spill(target)

    def _copy_text(self, run: Run, log: Growing, volume: Volume) -> None:
        target, _ = self.main_files(run)
        at = 0
        while at < volume.log:
            block = self._files.read(log, at, min(_COPY, volume.log - at))
            if not block:
                break
            target.pending += block
            run.log += len(block)
            at += len(block)
            self._files.spill(target)

    def _remove_part(self, folder: str, attempt: Attempt, volume: Volume) -> None:
        for name in part_names(attempt.number, volume.number):
            if self._files.discard(folder, name):
                self._removals.append((folder, name))


def _entry(offset: int, attempt: int, line: int, length: int, mark: Mark, flags: int) -> bytes:
    return index.pack(
        offset,
        mark.micros / 1e6,
        line if line < _NUMBER_MAX else _NUMBER_MAX,
        length,
        attempt if attempt < _SHORT_MAX else _SHORT_MAX,
        mark.stage if mark.stage < _SHORT_MAX else _SHORT_MAX,
        mark.level,
        mark.stream,
        flags | mark.flags | index.VALID,
    )
