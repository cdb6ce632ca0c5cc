"""Ship what lies in the journal now, from inside another process: `plet.flush()`, scripts, tests.

Where a shipper serves the journal, it is asked and waited for. Where none does, this process takes
the lock and runs the same loops in the calling thread, up to the end of what was written before. Then
it tells the losses of processes that are gone, as a shipper would.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.errors import StoreError
from plet_celery.journal import Writer
from plet_celery.journal_place import open_journal
from plet_celery.journal_segments import plet_version
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.crew import Crew, make_crew
from plet_celery.shipper.losses import Losses, tell_losses
from plet_celery.shipper.roster import Roster
from plet_celery.shipper.verdict import recent_turns

log = logging.getLogger(__name__)

_RETRY: Final = 0.05


def drain_now(document: Mapping[str, Any], timeout: float) -> bool:
    """See `plet_celery.shipper.drain`."""
    deadline = time.monotonic() + timeout
    directory = Path(document["journal"])
    if not directory.is_dir():
        return True
    while True:
        lock = ShipLock(directory)
        if lock.acquire():
            try:
                return _drain_here(ShipperConfig.from_document(document), lock, deadline)
            finally:
                lock.close()
        # Whoever served may end while we wait: then it is our turn.
        if presence.await_drain(directory, timeout=deadline - time.monotonic()):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_RETRY)


def _drain_here(config: ShipperConfig, lock: ShipLock, deadline: float) -> bool:
    crew = make_crew(config, open_journal(config.journal), lock.still_mine)
    roster = Roster(config.journal, lambda: None)
    roster.look(time.monotonic())
    try:
        if not _catch_up(config, crew, deadline):
            return False
        try:
            _settle(config, crew, roster, deadline)
            _say_goodbye(crew)
        except (StoreError, OSError) as error:
            log.warning("the host will seem unreachable: %s", error)
        return True
    finally:
        for loop in crew.loops:
            loop.sink.close()


def _catch_up(config: ShipperConfig, crew: Crew, deadline: float) -> bool:
    """Store what lies there now; False when time is up, or another process has taken over."""
    started = time.monotonic()
    due = dict.fromkeys(crew.loops, started)
    while behind := [loop for loop in crew.loops if loop.caught_up < started]:
        if time.monotonic() >= deadline or any(loop.fenced for loop in crew.loops):
            return False
        _beat(config)
        for loop in behind:
            if due[loop] <= time.monotonic():
                due[loop] = loop.turn() + time.monotonic()
        pause = min(due[loop] for loop in behind) - time.monotonic()
        # A sink that caught up says when it would look again; only one that failed is waited for.
        if pause > 0 and any(loop.caught_up < started for loop in behind):
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
    return True


def _settle(config: ShipperConfig, crew: Crew, roster: Roster, deadline: float) -> None:
    """Tell the losses of writers that are gone: no shipper may come here for days."""
    losers = roster.look(time.monotonic(), crew.store.positions.keys()).losers()
    if not losers or not _catch_up(config, crew, deadline):
        return
    writer = Writer(
        config.journal, role="shipper", settings_fingerprint=config.fingerprint, limits=config.writer_limits()
    )
    try:
        tell_losses(
            Losses(config.settings.lost_grace),
            losers,
            crew.store.positions,
            sink=crew.store_sink,
            append=writer.append,
            host=socket.gethostname(),
            now=time.monotonic(),
        )
        has_told = writer.id is not None
    finally:
        writer.close()
    if has_told:
        _catch_up(config, crew, deadline)


def _say_goodbye(crew: Crew) -> None:
    """Nobody serves from here on, which is no sign of trouble where no run is open."""
    if not crew.store_sink.writers_with_open_attempts():
        crew.store_sink.leave()


def _beat(config: ShipperConfig) -> None:
    """Show that this process lives: it is never killed for being slow, but its lock may be replaced."""
    mono, wall = time.monotonic(), time.time()
    beat = presence.Beat(
        process=presence.this_process(),
        role="drain",
        mono=mono,
        wall=wall,
        plet=plet_version(),
        fingerprint=config.fingerprint,
        state="draining",
        # Whoever serves next still has to know how often the journal changed hands.
        turns=recent_turns(presence.read_beat(config.journal), wall),
    )
    presence.write_beat(config.journal, beat)
