"""Workers that are restarted and killed under load: every run ends in a state that is true."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from living import Team
from waiting import wait_until

from plet_celery.store import queries

MakeTeam = Callable[..., Team]
VISIBILITY = 5
"""Seconds after which Redis gives a message to somebody else."""


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["acks_early", "acks_late"])
def test_no_run_is_lost_by_rolling_restarts_under_load(make_team: MakeTeam, late: bool) -> None:
    """As a deployment does it: one of two workers at a time, by TERM, and one restart by HUP."""
    team = make_team(LIFE_LATE="1" if late else "")
    workers = [team.start("-c", "2", wait=False) for _ in range(2)]
    ids: list[str] = []
    over = threading.Event()

    def produce() -> None:
        while not over.wait(0.1):
            ids.extend(team.submit("life.nap", 0.02, count=3))

    producer = threading.Thread(target=produce)
    producer.start()
    for number, worker in enumerate(list(workers)):
        team.await_ready(worker)
        wait_until(lambda: "succeeded in" in team.output(worker), 60)  # noqa: B023
        assert team.stop(worker) == 0
        workers[number] = team.start("-c", "2", wait=False)
    team.await_ready(workers[0])
    workers[0].send_signal(signal.SIGHUP)
    team.await_ready(workers[0], times=2)
    over.set()
    producer.join()

    team.await_states(ids, succeeded=len(ids))

    assert len(team.shippers()) == 1
    assert "lost_attempts" not in team.told()


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["acks_early", "acks_late"])
def test_a_killed_worker_loses_what_it_ran_and_nothing_else(make_team: MakeTeam, late: bool) -> None:
    """What was acknowledged is lost; what was not is run again when the broker gives it back."""
    team = make_team(LIFE_LATE="1" if late else "", LIFE_VISIBILITY=str(VISIBILITY))
    worker = team.start("-c", "2")
    held = team.submit("life.wait", "held", count=2)
    rest = team.submit("life.ok", count=60)
    wait_until(lambda: (team.folder / "held.started").exists(), 60)
    team.await_states(held, running=2)

    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    team.await_states(held, lost=2)
    (team.folder / "held.go").touch()
    # A worker takes back at its start what nobody acknowledged in time, and then every 100 s.
    started = (team.folder / "held.started").stat().st_mtime
    wait_until(lambda: time.time() - started > VISIBILITY + 1, what="the visibility timeout is over")
    again = team.start("-c", "2")

    if late:
        team.await_states(held + rest, succeeded=62)
        assert attempts(team, held) == {"lost": 2, "succeeded": 2}
    else:
        # Of the rest, the dead worker had taken a few from the broker that it never began.
        wait_until(lambda: team.states(rest)["succeeded"] >= 56 and team.states(rest)["running"] == 0, 60)
        assert team.states(held) == {"lost": 2}
        assert not team.states(rest)["lost"]
    assert team.stop(again) == 0


def attempts(team: Team, ids: list[str]) -> Counter[str]:
    """The states of all attempts of these runs."""
    with team.store() as store:
        return Counter(one.state for run in ids for one in queries.attempts(store, run))


def test_a_worker_killed_by_its_terminal_closing_leaves_no_run_open(make_team: MakeTeam) -> None:
    """The whole group gets SIGKILL at once; the shipper has its own session and tells of it."""
    team = make_team(PLET_SHIPPER_LINGER="1")
    worker = team.start("-c", "1")
    held = team.submit("life.wait", "held")
    team.await_states(held, running=1)

    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()

    team.await_states(held, lost=1)
    wait_until(lambda: not team.shippers(), 60, what="the shipper leaves")
