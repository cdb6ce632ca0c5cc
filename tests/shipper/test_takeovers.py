"""A frozen shipper: another one takes over, the frozen one wakes up, and nothing is there twice."""

from __future__ import annotations

import functools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, end, ended, faults, is_served_by, shipping, told, writing
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.spawning import spawn_shipper
from plet_celery.supervision import Watch


def freeze(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def look_until(watch: Watch, condition: Callable[[], bool]) -> None:
    """Look as often as a worker's timer, only faster."""

    def looked() -> bool:
        watch.look()
        return condition()

    wait_until(looked, timeout=30, every=0.2)


def test_a_worker_ends_a_frozen_shipper_and_spawns_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = document(tmp_path / "home", lease_stale=2.0)
    watch = Watch(lambda: config)
    with shipping(config) as frozen, writing(config, 1, runs=60, lines=20, pause=0.002) as writer:
        watch.start()
        freeze(frozen)

        look_until(watch, lambda: frozen.poll() is not None)
        look_until(watch, watch._is_coming)

        # Its exit code is known to whoever reaps it, and that may be the watch.
        assert frozen.returncode in (-signal.SIGKILL, 0)
        assert f"pid={frozen.pid} ended=True" in caplog.text
        writer.wait()
        assert presence.await_drain(Path(config["journal"]), timeout=60, coming=lambda: True)
        assert faults(config, Said.in_files(writer.notes)) == []
        process = watch._spawner._process
        assert process is not None
        end(process)


def test_a_shipper_that_only_waits_is_not_taken_for_a_frozen_one(tmp_path: Path) -> None:
    config = document(tmp_path / "home", lease_stale=10.0)
    watch = Watch(lambda: config)
    with shipping(config) as shipper:
        watch.start()
        until = time.monotonic() + 15

        look_until(watch, lambda: time.monotonic() > until)

        assert shipper.poll() is None
        assert not watch._is_coming()


def taken_over(config: dict[str, Any], frozen: subprocess.Popen[bytes]) -> Any:
    """A shipper that replaces the lock of a frozen one."""
    beat = presence.read_beat(Path(config["journal"]))
    return shipping(config, take_over=beat, seize=True)


def test_a_shipper_that_lost_its_lock_ends_when_it_wakes_up(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as frozen:
        freeze(frozen)
        with taken_over(config, frozen) as second:
            assert is_served_by(config, second)

            frozen.send_signal(signal.SIGCONT)

            assert ended(frozen) == 0
            assert second.poll() is None
            assert "shipper ends: why=fenced" in told(config)


def test_a_holder_that_has_beaten_since_keeps_its_lock(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as awake:
        beat = presence.read_beat(Path(config["journal"]))
        wait_until(lambda: presence.read_beat(Path(config["journal"])) != beat)

        late = spawn_shipper(config, take_over=beat, seize=True)

        assert ended(late) == 0
        assert is_served_by(config, awake)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_and_lines_are_there_once_after_many_takeovers(tmp_path: Path) -> None:
    """Each frozen shipper wakes up while the next one works, at random points of a batch."""
    config = document(tmp_path / "home", gather=0.02, batch_max_records=300)
    chance = random.Random(20262)
    journal = Path(config["journal"])
    with writing(config, 1, runs=400, lines=40, pause=0.001) as writer:
        frozen: list[subprocess.Popen[bytes]] = []
        try:
            current = spawn_shipper(config)
            for _ in range(12):
                wait_until(functools.partial(is_served_by, config, current), 30, every=0.005)
                pause(chance.uniform(0.0, 0.8))
                freeze(current)
                frozen.append(current)
                current = spawn_shipper(config, take_over=presence.read_beat(journal), seize=True)
                wait_until(functools.partial(is_served_by, config, current), 30, every=0.005)
                pause(chance.uniform(0.0, 0.4))
                frozen[-1].send_signal(signal.SIGCONT)
            writer.wait()
            assert presence.await_drain(journal, timeout=60)
            assert [ended(process) for process in frozen] == [0] * 12
        finally:
            for process in [*frozen, current]:
                end(process)

    said = Said.in_files(writer.notes)
    print(f"\ntakeovers=12 events={said.events}")
    assert faults(config, said) == []


def pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, every=0.002)


def test_the_lock_of_a_dead_holder_is_simply_taken(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as shipper:
        beat = presence.read_beat(Path(config["journal"]))
        inode = (Path(config["journal"]) / "ship.lock").stat().st_ino
        end(shipper)

        with shipping(config, take_over=beat, seize=True):
            assert ShipLock.held_elsewhere(Path(config["journal"]))
            assert (Path(config["journal"]) / "ship.lock").stat().st_ino == inode
