"""Whether a shipper serves this host's journal, as whoever publishes needs to know.

A publisher writes `run.queued` only where somebody will read it: nothing grows on a web host without a
worker. It starts no process, unless `plet_producer_ships` asks for a shipper.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from plet_celery import holder, presence
from plet_celery.election import ShipLock
from plet_celery.errors import PletError
from plet_celery.journal_segments import plet_version
from plet_celery.spawning import Spawner

log = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 2.0


class Service:
    """What this process knows of the shipper of a journal; looked at every two seconds at most.

    Args:
        journal: where the journal is, or would be.
        config: what `plet.shipper_config()` returns.
        may_spawn: whether this process is one that may spawn a shipper.
        make_journal: makes the journal ready; False where that failed.
    """

    def __init__(
        self,
        journal: Callable[[], Path],
        config: Callable[[], Mapping[str, Any]],
        *,
        may_spawn: Callable[[], bool],
        make_journal: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._config = config
        self._may_spawn = may_spawn
        self._make_journal = make_journal
        self._spawner: Spawner | None = None
        # Never waited for: a child that is forked while it is held must not hang.
        self._spawning = threading.Lock()
        self._pid = -1
        self._looked = float("-inf")
        self._served = False
        self._told = False

    def is_served(self) -> bool:
        """Tell whether somebody reads what this process would write."""
        now = time.monotonic()
        if now - self._looked >= LOOK_INTERVAL:
            # Each of several threads that find the answer too old looks for itself, the first time above all.
            if self._is_held():
                self._served, self._looked = True, now
            elif not self._may_spawn():
                self._served, self._looked = False, now
            elif self._spawning.acquire(blocking=False):
                try:
                    self._served = self._spawn(now)
                    self._looked = now
                finally:
                    self._spawning.release()
        return self._served

    def _is_held(self) -> bool:
        try:
            return ShipLock.held_elsewhere(self._journal())
        except (OSError, PletError) as error:
            # Another user's home, or a file in its place: no reason to fail, and whoever only publishes
            # has no use for it. The run is recorded by its worker, from its start on.
            if not self._told:
                self._told = True
                log.info("what this process publishes is recorded from its start on: %s", error)
            return False

    def _spawn(self, now: float) -> bool:
        """Have a shipper started unless one is on its way; tell whether one is."""
        if not self._make_journal():
            return False
        spawner = self._own_spawner()
        config = self._config()
        action = holder.decide(
            held=False,
            starting=spawner.is_running(now),
            frozen=False,
            visible=False,
            beat=presence.read_beat(self._journal()),
            key=presence.shipper_key(plet_version(), str(config["fingerprint"])),
            wall=time.time(),
        )
        if action is holder.Action.SPAWN:
            spawner.spawn(config, now=now)
        return spawner.is_running(now)

    def _own_spawner(self) -> Spawner:
        # What the parent of a fork has spawned is no child of ours.
        if self._spawner is None or self._pid != os.getpid():
            if self._spawner is not None:
                self._spawner.let_go()
            self._spawner, self._pid = Spawner(), os.getpid()
            # The shipper outlives us; without this, an interpreter that shows ResourceWarning complains.
            atexit.register(self._spawner.let_go)
        return self._spawner
