"""Real workers that keep a shipper alive: prefork (watched from the timer) and solo (from a thread)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from shipping import document, serving
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.embedded.valkey import Valkey
from plet_celery.errors import PletError
from plet_celery.store import open_store, queries
from plet_celery.supervision import end_shipper

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings; a test may say after how many seconds a shipper counts as frozen."""
    stale = getattr(request, "param", 30.0)
    made = document(tmp_path / "home", shipper_linger=600.0, drain_timeout=20.0, lease_stale=stale)
    yield made
    assert end_shipper(Path(made["journal"]), timeout=40)


@pytest.fixture
def start(config: dict[str, Any], valkey: Valkey, tmp_path: Path) -> Iterator[Start]:
    """Start a worker and wait until it is ready."""
    valkey.flush()
    (tmp_path / "config.json").write_text(json.dumps(config))
    started: list[subprocess.Popen[bytes]] = []
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "WATCHED_CONFIG": str(tmp_path / "config.json"),
        "WATCHED_BROKER": valkey.broker_url,
        "WATCHED_BACKEND": valkey.result_url,
        "PYTHONWARNINGS": "ignore",
    }

    def worker(*options: str) -> subprocess.Popen[bytes]:
        log = tmp_path / f"worker{len(started)}.log"
        argv = [sys.executable, "-m", "celery", "-A", "watchedapp", "worker", "-l", "info"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*argv, "-n", f"w{len(started)}@test", *options],
                env=environ,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        wait_until(lambda: b" ready." in log.read_bytes(), 60, what=f"{log} says ready")
        return process

    yield worker
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def publish(valkey: Valkey, count: int) -> list[str]:
    app = Celery("watchedapp", broker=valkey.broker_url, backend=valkey.result_url, set_as_current=False)
    ids = [app.send_task("watched.run", (number,)).id for number in range(count)]
    app.close()
    return ids


def missing(config: dict[str, Any], ids: list[str]) -> list[str]:
    """The runs that the store does not have as succeeded."""
    store = open_store(config["database_url"], read_only=True)
    left = []
    try:
        for run in ids:
            try:
                if queries.get_run(store, run).state != "succeeded":
                    left.append(run)
            except PletError:
                left.append(run)
    finally:
        store.close()
    return left


def served(config: dict[str, Any]) -> presence.Beat:
    beat = wait_until(lambda: serving(config), 30, what="a shipper serves")
    assert beat is not None
    return beat


POOLS = [("-P", "prefork", "-c", "2"), ("-P", "solo"), ("-P", "threads", "-c", "2")]


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool[1])
def test_a_stopping_worker_leaves_nothing_in_the_journal_and_no_process(
    config: dict[str, Any], start: Start, valkey: Valkey, pool: tuple[str, ...], tmp_path: Path
) -> None:
    worker = start(*pool)
    ids = publish(valkey, 20)
    served(config)
    # Not by the store: the last of them are to be in the journal alone.
    log = tmp_path / "worker0.log"
    wait_until(lambda: log.read_bytes().count(b" succeeded in ") == len(ids), 30, what="all have run")

    worker.terminate()
    assert worker.wait(60) == 0

    assert missing(config, ids) == []
    assert (tmp_path / f"stopped-{worker.pid}").exists()
    # The worker said goodbye, so the shipper does not linger for its ten minutes.
    wait_until(lambda: not ShipLock.held_elsewhere(Path(config["journal"])), 15, what="the shipper is gone")


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool[1])
def test_a_killed_shipper_is_replaced_and_reaped(
    config: dict[str, Any], start: Start, valkey: Valkey, pool: tuple[str, ...]
) -> None:
    worker = start(*pool)
    first = served(config).process

    os.kill(first.pid, signal.SIGKILL)

    wait_until(lambda: served(config).process != first, 20)
    assert not psutil.pid_exists(first.pid)
    ids = publish(valkey, 5)
    wait_until(lambda: not missing(config, ids), 30)
    assert worker.poll() is None


@pytest.mark.parametrize("config", [4.0], indirect=True)
def test_a_worker_notices_a_frozen_shipper(config: dict[str, Any], start: Start, valkey: Valkey) -> None:
    start("-P", "prefork", "-c", "1")
    first = served(config).process

    os.kill(first.pid, signal.SIGSTOP)

    wait_until(lambda: served(config).process != first, 30)
    assert not presence.is_visible(first)


def test_two_workers_share_a_shipper_and_one_may_go(
    config: dict[str, Any], start: Start, valkey: Valkey
) -> None:
    one, other = start("-P", "prefork", "-c", "1"), start("-P", "prefork", "-c", "1")
    shipper = served(config).process
    ids = publish(valkey, 10)
    wait_until(lambda: not missing(config, ids), 30)

    for worker in (one, other):
        assert served(config).process == shipper
        worker.terminate()
        assert worker.wait(60) == 0

    wait_until(lambda: not ShipLock.held_elsewhere(Path(config["journal"])), 15, what="the shipper is gone")


def test_a_cold_shutdown_drains_too(
    config: dict[str, Any], start: Start, valkey: Valkey, tmp_path: Path
) -> None:
    worker = start("-P", "prefork", "-c", "2")
    ids = publish(valkey, 10)
    served(config)
    wait_until(lambda: not missing(config, ids), 30)

    worker.send_signal(signal.SIGQUIT)
    worker.wait(60)

    assert (tmp_path / f"stopped-{worker.pid}").exists()


def test_no_task_process_holds_the_lock_or_runs_our_thread(
    config: dict[str, Any], start: Start, valkey: Valkey
) -> None:
    """Children replaced later are forked from a main process that watches already."""
    worker = start("-P", "prefork", "-c", "2", "--max-tasks-per-child", "1")
    served(config)
    ids = publish(valkey, 6)
    wait_until(lambda: not missing(config, ids), 30)

    main = psutil.Process(worker.pid)
    # Celery 5.7 itself runs without threads in a prefork worker on Redis; so do we.
    assert main.num_threads() == 1
    assert not [child.pid for child in main.children() if holds_the_lock(child)]


def holds_the_lock(child: psutil.Process) -> bool:
    try:
        if "plet_celery.shipper" in child.cmdline():
            return False
        return any(file.path.endswith("ship.lock") for file in child.open_files())
    except psutil.NoSuchProcess:
        return False
