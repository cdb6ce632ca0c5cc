"""A thread for what must not hold up the beat: fsync of the writers' files, retirement of segments."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from plet_celery.settings import Settings
from plet_celery.shipper.crew import Crew
from plet_celery.shipper.loops import eased
from plet_celery.shipper.losses import Losses
from plet_celery.shipper.segments import FinalSegments, Keeper, Syncer

log = logging.getLogger(__name__)

RETIRE_INTERVAL: Final = 5.0


class Housekeeping:
    """Syncs every `plet_fsync_interval`, retires every five seconds."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        crew: Crew,
        losses: Losses,
        fence: Callable[[], bool],
        final: FinalSegments = dict,
    ) -> None:
        self.syncer = Syncer(directory, final)
        self.keeper = Keeper(directory, keep=settings.journal_keep, fence=fence, final=final)
        self._crew = crew
        self._losses = losses
        self._interval = settings.fsync_interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plet-housekeeping", daemon=True)
        self._retire_at = 0.0
        self._failures = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Sync once more and end; a disk that hangs is not waited for longer than `timeout`."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        cost = 0.0
        while not self._stop.wait(eased(self._interval, cost)):
            began = time.thread_time()
            self._turn(time.monotonic())
            cost = time.thread_time() - began
        self._contained(self.syncer.sync)

    def _turn(self, now: float) -> None:
        self._contained(self.syncer.sync)
        if now >= self._retire_at:
            self._retire_at = now + RETIRE_INTERVAL
            self._contained(self.retire)

    def retire(self) -> None:
        """Remove segments that nobody needs; have the sinks forget writers that have none left."""
        if not all(loop.is_open for loop in self._crew.loops):
            return
        checkpoints = [dict(loop.positions) for loop in self._crew.loops]
        forgotten = self.keeper.retire(
            checkpoints=checkpoints, settled=set(self._losses.settled), wall=time.time()
        )
        if forgotten:
            for loop in self._crew.loops:
                loop.forget(forgotten)
            self._losses.forget(forgotten)

    def _contained(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            self._failures += 1
            if self._failures % 100 == 1:
                log.exception("housekeeping failed: act=%s failures=%d", act.__name__, self._failures)
        else:
            self._failures = 0
