"""Ending what a test leaves running."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock


def kill_shipper(journal: Path) -> None:
    """Kill the shipper of a journal, and what it has started.

    Asked to end, it would wait for its writers as long as it may: the test's own process is one, and killed
    workers have runs whose loss it would wait to tell.
    """

    def is_gone() -> bool:
        beat = presence.read_beat(journal)
        if not ShipLock.held_elsewhere(journal):
            return True
        if beat is not None and beat.role == "shipper" and presence.is_visible(beat.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                shipper = psutil.Process(beat.process.pid)
                for process in (*shipper.children(recursive=True), shipper):
                    process.kill()
        return False

    wait_until(is_gone, 30, what=f"the shipper of {journal} is gone")
