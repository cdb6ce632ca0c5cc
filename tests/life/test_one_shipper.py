"""Several workers of one app on one host share one shipper, however they come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from living import Team
from waiting import wait_until

from plet_celery.embedded.valkey import Valkey, running_valkey

MakeTeam = Callable[..., Team]


@pytest.mark.slow
def test_workers_started_at_one_instant_share_one_shipper_over_restarts(make_team: MakeTeam) -> None:
    team = make_team()
    workers = [team.start("-c", "1", wait=False) for _ in range(3)]
    for worker in workers:
        team.await_ready(worker)
    first = team.served()
    team.await_states(team.submit("life.ok", count=30), succeeded=30)
    # Each has its own session; none of them is the shipper's, so no signal to a group reaches it.
    assert len({os.getsid(pid) for pid in [first.process.pid, *(one.pid for one in workers)]}) == 4

    for number, worker in enumerate(workers):
        assert team.stop(worker) == 0
        workers[number] = team.start("-c", "1", name=f"again{number}")
        assert [one.pid for one in team.shippers()] == [first.process.pid]

    os.kill(first.process.pid, signal.SIGKILL)
    second = team.served(but=first)
    team.await_states(team.submit("life.ok", count=30), succeeded=30)
    assert [one.pid for one in team.shippers()] == [second.process.pid]
    assert team.told().count("shipper serves") == 2
    # Whoever had spawned it has reaped it.
    wait_until(lambda: not psutil.pid_exists(first.process.pid), 30)


@pytest.mark.slow
def test_a_shipper_is_replaced_while_the_worker_waits_for_its_broker(
    make_team: MakeTeam, valkey: Valkey
) -> None:
    """Also before the worker has had a broker at all; with one, no thread of ours is left."""
    with tempfile.TemporaryDirectory(prefix="plet-") as folder:
        with running_valkey(Path(folder)) as own:
            broker = {"LIFE_BROKER": own.broker_url, "LIFE_BACKEND": own.result_url}
            team = make_team(**broker)
            connected = team.start("-c", "1")
            first = team.served()
            wait_until(lambda: psutil.Process(connected.pid).num_threads() == 1, 30)
        wait_until(lambda: "Trying again" in team.output(connected), 60)
        late = team.start("-c", "1", wait=False, PLET_HOME=str(team.folder / "late"))
        journal = team.folder / "late" / "journal" / str(os.getuid())
        second = team.served(at=journal)

        os.kill(first.process.pid, signal.SIGKILL)
        os.kill(second.process.pid, signal.SIGKILL)

        team.served(but=first)
        team.served(but=second, at=journal)
        with running_valkey(Path(folder)):
            for worker, times in ((connected, 2), (late, 1)):
                wait_until(lambda: team.output(worker).count("Connected to") == times, 90)  # noqa: B023
                wait_until(lambda: psutil.Process(worker.pid).num_threads() == 1, 30)  # noqa: B023
            assert [team.stop(connected), team.stop(late)] == [0, 0]


@pytest.mark.slow
def test_celery_multi_and_detached_workers_share_one_shipper(make_team: MakeTeam) -> None:
    team = make_team()
    pids = team.folder / "pids"
    pids.mkdir()
    places = [f"--pidfile={pids}/%n.pid", f"--logfile={pids}/%n.log"]
    options = ["-A", "lifeapp", "-c", "1", "-l", "info", *places]

    def celery(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "celery", *arguments],
            env=team.env, cwd=team.folder, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=240,
        )  # fmt: skip

    def ready(name: str, times: int) -> bool:
        log = pids / f"{name}.log"
        return log.exists() and log.read_text().count(" ready.") >= times

    try:
        celery("multi", "start", "one", "two", *options)
        celery("-A", "lifeapp", "worker", "-D", "-c", "1", "-l", "info", "-n", "three@test",
               f"--pidfile={pids}/three.pid", f"--logfile={pids}/three.log")  # fmt: skip
        for name in ("one", "two", "three"):
            wait_until(lambda: ready(name, 1), 60, what=f"{name} is ready")  # noqa: B023
        first = team.served()
        team.await_states(team.submit("life.ok", count=20), succeeded=20)
        celery("multi", "restart", "one", *options)
        wait_until(lambda: ready("one", 2), 60, what="one is ready again")
        team.await_states(team.submit("life.ok", count=20), succeeded=20)
        assert team.beat() is not None
        assert [one.pid for one in team.shippers()] == [first.process.pid]
        celery("multi", "stopwait", "one", "two", "three", *places)
        # All have said goodbye: the shipper does not linger for its ten minutes.
        wait_until(lambda: not team.shippers(), 30, what="the shipper is gone")
    finally:
        for file in pids.glob("*.pid"):
            team.kill_daemon(int(file.read_text()))
