"""`LogFiles`: the sink that writes run log folders, batch by batch, exactly once.

A batch is: undo record → data → new state (which holds the positions). Killed anywhere, the next
start cuts the files named in the undo record back, and the caller sends the batch again.
Nothing is synced: after a power cut, files longer than the checkpoint are cut, shorter ones are
made again from `trace.jsonl` and the journal's kept segments.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from plet_celery.errors import HomeError
from plet_celery.events import Event
from plet_celery.logfiles import state
from plet_celery.logfiles.existing import Existing
from plet_celery.logfiles.folders import remove_folder
from plet_celery.logfiles.growing import Files, Shrunk, Unusable
from plet_celery.logfiles.limits import LogLimits
from plet_celery.logfiles.recording import Recorder
from plet_celery.logfiles.recovery import Found, cut_back, examine
from plet_celery.logfiles.state import Run, State, Undo
from plet_celery.paths import private_directory

log = logging.getLogger(__name__)

_UNCERTAIN_SECONDS: Final = 5.0
"""A run that started this long after a start without a trusted state cannot be a repetition."""
# What odd values in an event raise; a full disk, a link in the way and an interrupt are not among them.
_POISON: Final = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class LogFiles:
    """Writes the log folders below `root`; one instance per journal, in its shipper.

    Args:
        root: the folder of all run logs (`paths.runs_directory`).
        state_directory: the journal's directory, where the checkpoint is kept.

    Raises:
        HomeError: one of the two is not a private folder of this user.
    """

    def __init__(self, root: Path, state_directory: Path, *, limits: LogLimits | None = None) -> None:
        self._root = private_directory(root)
        self._directory = state.open_directory(private_directory(state_directory))
        self._path = state_directory
        self._limits = limits or LogLimits()
        self._files = Files(root, self._write_undo)
        self._refused: set[str] = set()
        self.skipped = 0
        """Events that could not be written because of what they hold."""
        self._clean = False
        self._touched: set[str] = set()
        self._recover()

    def positions(self) -> dict[str, tuple[int, int]]:
        """Return how far the journal is in the files: writer → (segment, offset behind the last event)."""
        return dict(self._state.positions)

    def apply(self, events: Sequence[Event], positions: Mapping[str, tuple[int, int]]) -> None:
        """Write a batch and take over its positions, all or nothing.

        Args:
            events: in journal order; those before the checkpoint must not come again.
            positions: the writers that moved, after these events.

        Raises:
            OSError: the disk is full or broken. Nothing of the batch counts; send it again later.
            HomeError: another process keeps cutting or removing the files.

        A link or another owner's file in the place of a run's folder or file is refused: logged
        once, and that run has no log files. The others go on.
        """
        self._batch(lambda: self._take(events), positions, tries=2 + len({event.run for event in events}))

    def forget(self, writers: Collection[str]) -> None:
        """Drop the positions of writers whose segments are gone; saved with the next batch."""
        for writer in writers:
            self._state.positions.pop(writer, None)

    def damaged_runs(self) -> set[str]:
        """Return the runs whose files are shorter than the checkpoint says (after a power cut)."""
        return set(self._state.damaged)

    def rebuild(self, run_id: str, events: Iterable[Event]) -> None:
        """Make a run's log again from its trace and from what the kept segments hold of it.

        Args:
            events: the run's events in journal order, up to this sink's positions. A run that is
                not rebuilt is mended from its trace alone when its next event comes; what is
                then missing is marked by a note.
        """
        given = list(events)
        self._batch(lambda: self._mend(run_id, given), {}, tries=2)

    def remove(self, folder: str) -> bool:
        """Remove a run's folder (relative to the root), as retention asks; False when it is not there.

        What the checkpoint remembers of the run goes, too.

        Raises:
            HomeError: the path leads through a link or to something that no run has made.
        """
        if not self._clean:
            self._recover()
        if self._recorder.runs.forget_digest(folder[-10:]):
            self._files.close()
            # No batch is under way, so the undo record is that of an earlier one: it stays invalid.
            state.save(self._directory, state.STATE_FILE, self._state)
        return remove_folder(self._root, folder)

    def take_touched(self) -> set[str]:
        """Return the folders (relative to the root) that have changed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def folder(self, run_id: str) -> str | None:
        """Return the folder (relative to the root) of a run that may still say something."""
        run = self._recorder.runs.known(run_id)
        return run.folder if run else None

    def close(self) -> None:
        """Close all files; every applied batch is already complete."""
        self._files.close()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    # One batch

    def _take(self, events: Sequence[Event]) -> None:
        take = self._recorder.take
        for event in events:
            try:
                take(event)
            except _POISON as error:
                self._skip(event, error)

    def _skip(self, event: Event, error: Exception) -> None:
        """Leave out an event that cannot be written; it must not stop those behind it."""
        self.skipped += 1
        if self.skipped == 1:
            log.error(
                "event left out of the log files: kind=%s position=%s",
                event.kind,
                event.position,
                exc_info=error,
            )

    def _mend(self, run_id: str, given: list[Event]) -> None:
        run = self._recorder.runs.known(run_id)
        if run is not None and run.folder is not None:
            self._recorder.mend(run, given)

    def _batch(
        self, work: Callable[[], None], positions: Mapping[str, tuple[int, int]], *, tries: int
    ) -> None:
        damaged: set[str] = set()
        for _ in range(tries):
            if not self._clean:
                self._recover()
                self._mark_damaged(damaged)
            self._clean = False  # until the end: an exception from anywhere leaves a half-done batch
            self._recorder.begin()
            try:
                work()
                self._files.flush()
            except Shrunk as error:
                damaged.add(error.folder)
                continue
            except Unusable:
                self._refuse()
                continue
            self._state.positions.update(positions)
            self._commit()
            return
        raise HomeError(
            f"log folders below {str(self._root)!r} change while they are written; who else does?"
        )

    def _commit(self) -> None:
        self._state.sequence += 1
        state.save(self._directory, state.STATE_FILE, self._state)
        self._touched |= self._files.folders()
        self._files.done()
        self._remove()
        self._clean = True

    def _remove(self) -> None:
        # After the checkpoint: killed here, the next start finds the names in the state.
        for folder, name in self._state.removals:
            self._files.remove(folder, name)
        self._state.removals.clear()

    def _write_undo(self, files: list[tuple[str, str, int]]) -> None:
        state.save(self._directory, state.UNDO_FILE, Undo(self._state.sequence, files))

    # Recovery

    def _recover(self) -> None:
        """Go back to the last checkpoint."""
        self._files.close()
        boot, found = state.boot_id(), state.load_state(self._path)
        uncertain = found is None or found.boot != boot
        found = found or State()
        if uncertain:
            found.boot, found.uncertain_until = boot, time.time() + _UNCERTAIN_SECONDS
        self._state = found
        existing = Existing(self._root, found)
        self._recorder = Recorder(found, self._files, self._limits, existing, self._refused)
        undo = state.load_undo(self._path)
        if undo is not None and undo.sequence == found.sequence:
            for folder, name, size in undo.files:
                cut_back(self._root, folder, name, size)
        self._remove()
        self._examine(uncertain)
        self._clean = True

    def _examine(self, uncertain: bool) -> None:
        """Cut what is longer than the checkpoint, note what is shorter, forget what was removed."""
        damaged = set()
        for run in self._folders():
            found = examine(self._root, run, thorough=uncertain)
            if found is Found.GONE and not uncertain and not run.is_open:
                self._recorder.runs.forget(run)  # retention has removed it
            elif found is not Found.WHOLE:
                damaged.add(run.folder or "")
        self._mark_damaged(damaged)

    def _folders(self) -> list[Run]:
        runs = [*self._state.runs.values(), *self._state.ended.values()]
        return [run for run in runs if run.folder is not None]

    def _mark_damaged(self, folders: set[str]) -> None:
        for run in self._folders():
            if run.folder in folders and run.id not in self._state.damaged:
                log.warning(
                    "log files are shorter than their checkpoint: run=%s folder=%s", run.id, run.folder
                )
                self._state.damaged.append(run.id)

    def _refuse(self) -> None:
        """Leave out the folders in whose place something strange lies; the other runs go on."""
        for folder, reason in self._files.unusable().items():
            if folder not in self._refused:
                log.error("log folder refused, its run has no log files: folder=%s reason=%s", folder, reason)
                self._refused.add(folder)
