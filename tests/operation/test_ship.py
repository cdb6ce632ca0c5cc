"""`celery plet ship`: a shipper that somebody else looks after."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, end, ended, faults, serving, shipping, writing
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.errors import PletError
from plet_celery.store import open_store, queries

SECRET = "canary-5f1d-secret"


class Shipping:
    """`celery plet ship` as a process, what it says in a file."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process = process
        self._said = said

    @property
    def said(self) -> str:
        return self._said.read_text()

    def says(self, text: str, timeout: float = 120.0) -> None:
        wait_until(
            lambda: text in self.said or self.process.poll() is not None, timeout, what=lambda: self.said
        )
        assert text in self.said, self.said

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return ended(self.process, 120)


def state_of(config: dict[str, Any], run: str) -> str:
    store = open_store(config["database_url"], read_only=True)
    try:
        return queries.get_run(store, run).state
    except PletError:
        return ""
    finally:
        store.close()


@contextlib.contextmanager
def ship(folder: Path, *options: str, **env: str) -> Iterator[Shipping]:
    """Run `celery plet ship` with nothing but variables to tell it what to ship."""
    said = folder / f"said-{len(list(folder.glob('said-*')))}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PLET_", "CELERY_", "NOTIFY_"))}
    given = {
        "PLET_HOME": str(folder / "home"),
        "PLET_MIN_FREE_BYTES": "0",
        "PLET_MIN_FREE_PERCENT": "0",
        "PLET_SHIPPER": "external",
    }
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "plet", "ship", *options],
            cwd=folder,
            env=kept | given | env,
            stdout=output,
            stderr=output,
        )
    try:
        yield Shipping(process, said)
    finally:
        end(process)


def test_it_makes_the_journal_ships_it_and_ends_with_nothing_left(tmp_path: Path) -> None:
    with ship(tmp_path) as shipper:
        shipper.says("shipper serves")
        config = document(tmp_path / "home")
        with writing(config, 1, runs=3, lines=5) as writer:
            writer.wait()

        assert shipper.stop() == 0

        assert faults(config, Said.in_files(writer.notes)) == []
        assert "nothing is left" in shipper.said
        assert not (Path(config["journal"]) / "shipper.log").exists()


def test_it_ships_for_an_app_whose_tasks_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\nfrom plet_celery import Plet\n"
        "app = Celery('shop', broker='memory://', include=['broken'])\nplet = Plet(app)\n"
    )
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such supplier')\n")
    with ship(tmp_path, APP="shop") as shipper:
        shipper.says("shipper serves")

        assert shipper.stop() == 0
    assert "RuntimeError: no such supplier" in shipper.said
    assert "what they promise is not known here" in shipper.said


def test_it_stays_when_nobody_writes_any_more(tmp_path: Path) -> None:
    with ship(tmp_path, PLET_SHIPPER_LINGER="0") as shipper:
        shipper.says("shipper serves")
        config = document(tmp_path / "home")
        with writing(config, 1, runs=1, lines=1) as writer:
            writer.wait()
        journal = Path(config["journal"])
        assert presence.await_drain(journal, timeout=30, leave=True)
        after = presence.read_beat(journal)
        assert after is not None

        # A spawned one leaves at its next look, a second later.
        wait_until(lambda: (now := serving(config)) is not None and now.mono > after.mono + 3, 30)

        assert shipper.process.poll() is None
        assert shipper.stop() == 0


def test_it_waits_for_its_turn_and_says_who_serves(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as first, ship(tmp_path) as second:
        second.says(f"served_by_pid={first.pid}")
        assert second.said.count("waits for its turn") == 1

        first.send_signal(signal.SIGTERM)
        assert ended(first) == 0

        second.says("shipper serves")


def test_while_it_waits_a_signal_ends_it(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as first, ship(tmp_path) as second:
        second.says("waits for its turn")

        assert second.stop() == 0

        assert first.poll() is None


def test_replace_asks_who_serves_to_drain_and_end(tmp_path: Path) -> None:
    config = document(tmp_path / "home", drain_timeout=1.0)
    with shipping(config) as first, ship(tmp_path, "--replace") as second:
        assert ended(first, 120) == 0

        second.says("shipper serves")


def test_a_frozen_holder_is_ended(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with shipping(config) as first:
        first.send_signal(signal.SIGSTOP)

        with ship(tmp_path, PLET_LEASE_STALE="1") as second:
            second.says("shipper serves")

            assert "who serves is frozen" in second.said
            assert ended(first) == -signal.SIGKILL


def test_it_does_not_step_down_for_other_settings_and_says_so_once(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with ship(tmp_path) as shipper:
        shipper.says("shipper serves")
        with writing(config, 1, hold=True, role="worker", settings="other") as worker:
            run = worker.held()["run"]

            shipper.says("this shipper stays")
            wait_until(lambda: state_of(config, run) == "running")
            assert presence.await_drain(Path(config["journal"]), timeout=30)

            assert shipper.process.poll() is None
            assert shipper.said.count("this shipper stays") == 1


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with ship(tmp_path, PLET_DRAIN_TIMEOUT="600") as shipper, writing(config, 1, hold=True) as writer:
        writer.held()
        shipper.says("shipper serves")
        shipper.process.send_signal(signal.SIGTERM)
        wait_until(lambda: (beat := serving(config)) is not None and beat.state == "draining")

        assert shipper.stop() == 128 + signal.SIGTERM

        assert "asked twice" in shipper.said
        assert not ShipLock.held_elsewhere(Path(config["journal"]))


def test_its_exit_code_says_that_events_are_left(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with writing(config, 1, runs=1, lines=1) as writer:
        writer.wait()
    nowhere = f"postgresql+psycopg://plet:{SECRET}@127.0.0.1:1/plet"
    with ship(tmp_path, PLET_DATABASE_URL=nowhere, PLET_DRAIN_TIMEOUT="0.5") as shipper:
        shipper.says("sink failed: sink=store")

        assert shipper.stop() == 1

        assert "events are left in the journal" in shipper.said
        assert SECRET not in shipper.said


def test_until_drained_it_ends_with_the_journal_stored_and_losses_told(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with writing(config, 1, hold=True) as writer:
        run = writer.held()["run"]
        writer.process.kill()
        writer.process.wait()

    with ship(tmp_path, "--until-drained") as shipper:
        assert ended(shipper.process, 120) == 0, shipper.said

    assert state_of(config, run) == "lost"


def test_until_drained_it_does_not_wait_for_a_living_writer_to_end(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with writing(config, 1, hold=True) as writer:
        run = writer.held()["run"]

        with ship(tmp_path, "--until-drained") as shipper:
            assert ended(shipper.process, 120) == 0, shipper.said

        assert state_of(config, run) == "running"


def test_until_drained_it_asks_who_serves(tmp_path: Path) -> None:
    config = document(tmp_path / "home", gather=60.0)
    with shipping(config) as first, writing(config, 1, hold=True) as writer:
        run = writer.held()["run"]

        with ship(tmp_path, "--until-drained") as asking:
            assert ended(asking.process, 120) == 0, asking.said

        assert state_of(config, run) == "running"
        assert first.poll() is None


def test_until_drained_it_gives_up_after_the_timeout(tmp_path: Path) -> None:
    config = document(tmp_path / "home")
    with writing(config, 1, runs=1, lines=1) as writer:
        writer.wait()
    nowhere = "postgresql+psycopg://plet@127.0.0.1:1/plet"

    with ship(tmp_path, "--until-drained", "--timeout", "1", PLET_DATABASE_URL=nowhere) as shipper:
        assert ended(shipper.process, 120) == 1

        assert "events are left in the journal" in shipper.said


def test_without_a_project_or_a_home_it_says_what_to_name(tmp_path: Path) -> None:
    with ship(tmp_path, PLET_HOME="") as shipper:
        assert ended(shipper.process, 120) == 2

        assert "celery -A proj plet ship" in shipper.said
        assert "PLET_HOME" in shipper.said


def test_its_arguments_and_environment_hold_no_secret(tmp_path: Path) -> None:
    with ship(
        tmp_path,
        PLET_DATABASE_URL=f"postgresql+psycopg://plet:{SECRET}@127.0.0.1:1/plet",
        PLET_REDACT_VALUES_SECRET=f'["{SECRET}"]',
        SHOP_TOKEN=SECRET,
    ) as shipper:
        shipper.says("shipper serves")

        process = Path(f"/proc/{shipper.process.pid}")
        assert SECRET.encode() not in (process / "environ").read_bytes()
        assert SECRET.encode() not in (process / "cmdline").read_bytes()
        assert (process / "fd" / "0").readlink() == Path("/dev/null")
        assert b"plet_celery.shipper" in (process / "cmdline").read_bytes()
        assert SECRET not in shipper.said


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Any]:
    """What systemd offers as `NOTIFY_SOCKET`: a real datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def test_it_tells_a_service_manager_how_it_is(tmp_path: Path, manager: Any) -> None:
    with ship(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="30000000") as shipper:
        first = manager.recv(4096).decode()
        assert first.splitlines()[0] == "READY=1"
        assert first.splitlines()[1].startswith("STATUS=serving ")
        assert manager.recv(4096).decode() == "WATCHDOG=1"

        shipper.process.send_signal(signal.SIGTERM)

        told: list[str] = []
        while not told or not told[-1].startswith("STOPPING=1"):
            told.append(manager.recv(4096).decode())
        assert ended(shipper.process) == 0
