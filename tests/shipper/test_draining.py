"""Draining from inside another process: `plet.flush()`."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, faults, shipping, writing
from waiting import wait_until

from plet_celery import events, presence
from plet_celery.election import ShipLock
from plet_celery.journal import Writer, WriterLimits
from plet_celery.shipper import drain
from plet_celery.store import open_store, queries

LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return document(tmp_path / "home")


def written(config: dict[str, Any], seed: int = 1, runs: int = 5) -> Said:
    with writing(config, seed, runs=runs, lines=20) as writer:
        writer.wait()
        return Said.in_files(writer.notes)


def state(config: dict[str, Any], run: str) -> str:
    store = open_store(config["database_url"], read_only=True)
    try:
        return queries.get_run(store, run).state
    finally:
        store.close()


def has_left(config: dict[str, Any]) -> bool:
    store = open_store(config["database_url"], read_only=True)
    try:
        (host,) = queries.list_hosts(store)
        return host.left_at is not None
    finally:
        store.close()


def test_without_a_shipper_the_caller_ships(config: dict[str, Any]) -> None:
    said = written(config)

    assert drain(config, timeout=60)

    assert faults(config, said) == []
    assert not ShipLock.held_elsewhere(Path(config["journal"]))


def test_draining_again_finds_nothing_and_changes_nothing(config: dict[str, Any]) -> None:
    said = written(config)

    assert [drain(config, timeout=60) for _ in range(3)] == [True] * 3

    assert faults(config, said) == []


def test_the_events_of_the_calling_process_are_shipped_while_it_lives(config: dict[str, Any]) -> None:
    writer = Writer(Path(config["journal"]), role="eager", limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "run-1", "a1", {"task": "t", "trigger": "manual"})

    assert drain(config, timeout=60)

    store = open_store(config["database_url"], read_only=True)
    assert queries.get_run(store, "run-1").state == "running"
    store.close()
    writer.close()


@pytest.mark.parametrize("role", ["eager", "child"])
def test_what_a_killed_process_ran_is_lost(config: dict[str, Any], role: str) -> None:
    with writing(config, 1, hold=True, role=role) as writer:
        run = writer.held()["run"]

    assert drain(config, timeout=60)

    assert (state(config, run), has_left(config)) == ("lost", True)


def test_what_a_killed_child_ran_is_left_to_its_worker(tmp_path: Path) -> None:
    config = document(tmp_path / "home", lost_grace=600.0)
    parent = Writer(Path(config["journal"]), role="worker", limits=LIMITS)
    assert parent.append(events.WORKER_STARTED, None, None, {"worker": "w"})
    with writing(config, 1, hold=True, parent=parent.id) as writer:
        run = writer.held()["run"]

    assert drain(config, timeout=60)

    assert (state(config, run), has_left(config)) == ("running", False)
    parent.close()


def test_where_others_run_something_the_caller_does_not_leave(config: dict[str, Any]) -> None:
    with writing(config, 1, hold=True) as writer:
        run = writer.held()["run"]

        assert drain(config, timeout=60)

        assert (state(config, run), has_left(config)) == ("running", False)


def test_the_caller_leaves_unless_it_runs_something_itself(config: dict[str, Any]) -> None:
    writer = Writer(Path(config["journal"]), role="eager", limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "run-1", "a1", {"task": "t", "trigger": "manual"})
    assert drain(config, timeout=60)
    assert not has_left(config)

    assert writer.append(events.RUN_SUCCEEDED, "run-1", "a1", {"by": "child", "runtime": 0.1})
    assert drain(config, timeout=60)

    assert (state(config, "run-1"), has_left(config)) == ("succeeded", True)
    writer.close()


def test_a_running_shipper_is_asked_and_waited_for(config: dict[str, Any]) -> None:
    with shipping(config) as shipper:
        said = written(config)

        assert drain(config, timeout=60)

        assert faults(config, said) == []
        assert shipper.poll() is None


def test_a_journal_that_does_not_exist_is_drained(tmp_path: Path, config: dict[str, Any]) -> None:
    assert drain(config | {"journal": str(tmp_path / "nowhere")}, timeout=1)


def test_a_store_that_is_down_makes_it_fail_in_time(config: dict[str, Any]) -> None:
    said = written(config)
    (Path(config["home"]) / "plet.db").mkdir()
    started = time.monotonic()

    assert not drain(config, timeout=1.0)

    assert time.monotonic() - started < 60
    assert not ShipLock.held_elsewhere(Path(config["journal"]))
    (Path(config["home"]) / "plet.db").rmdir()
    assert drain(config, timeout=60)
    assert faults(config, said) == []


def test_a_running_shipper_whose_store_is_down_makes_it_fail_in_time(config: dict[str, Any]) -> None:
    (Path(config["home"]) / "plet.db").mkdir()
    with shipping(config):
        written(config)

        assert not drain(config, timeout=1.0)

        assert presence.drain_requests(Path(config["journal"])) == {}


def test_when_the_shipper_dies_the_waiting_caller_ships_itself(config: dict[str, Any]) -> None:
    database = Path(config["home"]) / "plet.db"
    assert drain(config, timeout=60)
    with sqlite3.connect(database, timeout=60, isolation_level=None) as blocker, shipping(config) as shipper:
        blocker.execute("BEGIN EXCLUSIVE")
        said = written(config)
        done: list[bool] = []
        waiting = threading.Thread(target=lambda: done.append(drain(config, timeout=60)))
        waiting.start()
        wait_until(lambda: presence.drain_requests(Path(config["journal"])))

        shipper.kill()
        blocker.execute("ROLLBACK")
        waiting.join()

        assert done == [True]
    blocker.close()
    assert faults(config, said) == []


def test_two_callers_at_once_both_get_what_they_asked_for(config: dict[str, Any]) -> None:
    said = written(config, runs=30)
    done: list[bool] = []
    callers = [threading.Thread(target=lambda: done.append(drain(config, timeout=60))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert done == [True] * 3
    assert faults(config, said) == []


def test_a_process_that_was_killed_while_draining_leaves_work_that_can_go_on(config: dict[str, Any]) -> None:
    said = written(config, runs=100)
    script = (
        "import json, sys; from plet_celery.shipper import drain; drain(json.loads(sys.stdin.read()), 60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, env={**os.environ}
    ) as draining:
        assert draining.stdin is not None
        draining.stdin.write(json.dumps(config).encode())
        draining.stdin.close()
        wait_until(lambda: list((Path(config["home"]) / "runs").glob("*/*/run.log")), every=0.002)
        draining.kill()

    assert drain(config, timeout=60)
    assert faults(config, said) == []


def test_what_writers_had_to_drop_is_data(config: dict[str, Any]) -> None:
    writer = Writer(Path(config["journal"]), role="child", limits=LIMITS)
    assert writer.append(events.RUN_STARTED, "run-1", "a1", {"task": "t", "trigger": "manual"})
    writer.drop("rate_limit", 7)
    writer.drop("error", 2)
    assert writer.append(events.RUN_SUCCEEDED, "run-1", "a1", {"by": "child", "runtime": 0.1})

    assert drain(config, timeout=60)

    with sqlite3.connect(Path(config["home"]) / "plet.db") as database:
        rows = database.execute("select data from event where kind = 'events.dropped'").fetchall()
    database.close()
    assert len(rows) == 1
    assert '"rate_limit":7' in rows[0][0]
    assert '"count":9' in rows[0][0]
    writer.close()


def test_log_files_that_a_power_cut_shortened_are_made_again(config: dict[str, Any]) -> None:
    said = written(config)
    assert drain(config, timeout=60)
    for log in (Path(config["home"]) / "runs").glob("*/*/run.log"):
        log.write_bytes(log.read_bytes()[:100])

    assert drain(config, timeout=60)

    assert faults(config, said) == []
