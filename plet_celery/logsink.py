"""Where batches of events go: the log folders of the runs; the checkpoint lies beside the journal."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plet_celery.errors import StaleWrite
from plet_celery.events import Event
from plet_celery.journal_reader import Batch, Reader
from plet_celery.logfiles.erased import Erased
from plet_celery.sinks import Positions

if TYPE_CHECKING:
    from plet_celery.logfiles import LogFiles, LogLimits

log = logging.getLogger(__name__)

LOGS_LOCK_NAME: Final = "logs.lock"
REBUILD_MAX_EVENTS: Final = 200_000


class LogFileSink:
    """Into the folders of the runs; the checkpoint lies beside the journal.

    Files have no transaction that could refuse a shipper which was frozen in the middle of a batch and
    wakes up after another one took its place. So each batch holds `logs.lock`, and asks for the fence
    under it: whoever has lost the ship lock never begins a batch, and whoever is frozen in one holds
    the lock until it wakes (and ends the batch well) or dies. Until then the newer shipper's log files
    wait; its store does not.

    Raises:
        StaleWrite: another shipper has the ship lock; the caller steps down.
        OSError: try again later.
    """

    name = "logs"

    def __init__(
        self, root: Path, state_directory: Path, *, limits: LogLimits, fence: Callable[[], bool]
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            fence: False once another shipper has the ship lock.
        """
        self._root = root
        self._state_directory = state_directory
        self._limits = limits
        self._fence = fence
        self._files: LogFiles | None = None
        # Retention removes folders from a thread of its own, between two batches.
        self._turn = threading.Lock()
        self._erased = Erased(state_directory)
        self.on_touched: Callable[[Collection[str]], None] = lambda folders: None
        """Told after each batch which folders have changed."""

    def positions(self) -> Positions:
        """Recover from a crash if there was one, and return the checkpoint."""
        with self._alone():
            return self._opened().positions()

    def apply(self, batch: Batch, now: float) -> None:
        """Append a batch to the files, all of it or nothing; what was erased does not come back."""
        with self._alone():
            files = self._opened()
            files.apply(self._erased.without(batch.events), batch.positions)
            touched = files.take_touched()
        self.on_touched(touched)

    def remove(self, folder: str, *, for_good: bool) -> bool:
        """Remove a run's log folder, and what the checkpoint holds of the run; from any thread.

        Args:
            folder: relative to the root.
            for_good: refuse what the journal still tells of the run.

        Raises:
            HomeError: it holds, or leads through, what no run has made: nothing there is touched.
        """
        with self._alone():
            if for_good:
                self._erased.add(folder)
            return self._opened().remove(folder)

    def forget(self, writers: Sequence[str]) -> None:
        """Drop these writers from the checkpoint."""
        with self._alone():
            self._opened().forget(writers)

    def sever(self) -> None:
        """A disk that hangs cannot be left."""

    def close(self) -> None:
        """Close the files; what was begun and not finished is undone at the next opening."""
        with self._turn:
            files, self._files = self._files, None
            if files is not None:
                files.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turn, self._locked():
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._state_directory / LOGS_LOCK_NAME, flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    error.errno,
                    "an earlier shipper is frozen in a batch of the log files; end it or let it run",
                ) from None
            if not self._fence():
                raise StaleWrite("the lock file was replaced")
            yield
        finally:
            os.close(descriptor)

    def _opened(self) -> LogFiles:
        if self._files is None:
            from plet_celery.logfiles import LogFiles

            files = LogFiles(self._root, self._state_directory, limits=self._limits)
            try:
                rebuild_damaged(files, self._state_directory)
            except BaseException:
                files.close()
                raise
            self._files = files
        return self._files


def rebuild_damaged(files: LogFiles, journal: Path) -> None:
    """Make the logs again that a power cut shortened, from the segments that are kept for it.

    What is past `REBUILD_MAX_EVENTS` is mended from its trace alone when its next event comes.
    """
    damaged = files.damaged_runs()
    if not damaged:
        return
    found: dict[str, list[Event]] = {run: [] for run in damaged}
    passed, count = files.positions(), 0
    reader = Reader(journal)
    more = True
    while more and count < REBUILD_MAX_EVENTS:
        batch = reader.read()
        more = batch.more
        for event in batch.events:
            if event.run in found and (event.segment, event.offset) < passed.get(event.writer, (0, 0)):
                found[event.run].append(event)
                count += 1
    for run, events in found.items():
        files.rebuild(run, events)
    log.warning("log files rebuilt from the journal: runs=%d events=%d", len(found), count)
