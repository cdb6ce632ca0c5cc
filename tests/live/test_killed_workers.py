"""A worker that is killed is lost as soon as its host's shipper knows; one that says goodbye is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from plet_celery.store import queries


@pytest.mark.parametrize("pool", [("-P", "prefork", "-c", "2"), ("-P", "solo")], ids=lambda pool: pool[1])
def test_a_killed_worker_is_lost(make_live: Callable[..., Any], pool: tuple[str, ...]) -> None:
    live = make_live(PLET_SHIPPER_LINGER="60")
    killed, other = live.worker(*pool), live.worker("-P", "solo")

    def states() -> dict[str, tuple[bool, bool, bool]]:
        found = queries.list_workers(live.store()) if live.is_readable() else []
        return {
            one.name: (one.is_living, one.stopped_at is not None, one.lost_at is not None) for one in found
        }

    wait_until(
        lambda: states() == {"w0@test": (True, False, False), "w1@test": (True, False, False)},
        60,
        what=lambda: str(states()),
    )

    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    wait_until(
        lambda: states() == {"w0@test": (False, False, True), "w1@test": (True, False, False)},
        60,
        what=lambda: str(states()),
    )
    # Negative control: a worker that says goodbye is no loss.
    live.stop(other)
    wait_until(lambda: states()["w1@test"] == (False, True, False), 60, what=lambda: str(states()))
