"""Checks of shipper, disk and beat with real processes: frozen, full, ended; and well again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from services import missing
from shipping import end
from waiting import wait_until
from worlds import asked, kept, plain_app, world_of

from plet_celery import presence
from plet_celery.celeryfacts import celery_facts
from plet_celery.errors import PletError
from plet_celery.monitor.checks import run_check
from plet_celery.monitor.world import app_of
from plet_celery.store import Store, open_store, queries
from plet_celery.watchfacts import CheckResult, Level


@contextmanager
def shipping(folder: Path, home: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `celery plet ship`, and end it."""
    kept_ones = {key: value for key, value in os.environ.items() if not key.startswith(("PLET_", "CELERY_"))}
    given = {
        "PLET_HOME": str(home), "PLET_SHIPPER": "external", "PLET_HOST_BEAT": "0.3", "PLET_LEASE_STALE": "2",
    }  # fmt: skip
    with (folder / "ship.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "plet", "ship"],
            cwd=folder,
            env=kept_ones | given | environ,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        end(process)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of a given size and returns its path."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        point = tmp_path / f"disk{len(mounted)}"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "plet-test", str(point)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            missing("tmpfs", "run the tests as root, where mounting is allowed")
        mounted.append(point)
        return point

    yield mount
    for point in mounted:
        subprocess.run(["umount", "-l", str(point)], check=False)


def until(store: Store, name: str, level: Level, folder: Path) -> CheckResult:
    """Ask until a check has one answer, of this level."""
    seen: list[CheckResult] = []

    def there() -> bool:
        try:
            seen[:] = asked(world_of(store), name, now=time.time()).values()
        except PletError:
            return False
        return [one.level for one in seen] == [level]

    wait_until(there, 90, every=0.2, what=lambda: f"{seen}\n{(folder / 'ship.log').read_text()[-3000:]}")
    return seen[0]


def test_a_frozen_shipper_is_critical_and_well_when_it_thaws(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = open_store(f"sqlite:///{home / 'plet.db'}", read_only=True)
    with shipping(tmp_path, home) as process:
        wait_until((home / "plet.db").exists, 60)
        until(store, "shipper", Level.OK, tmp_path)

        process.send_signal(signal.SIGSTOP)
        frozen = until(store, "shipper", Level.CRITICAL, tmp_path)
        process.send_signal(signal.SIGCONT)

        assert frozen.observation.startswith("not heard of for ")
        assert frozen.advice.endswith("Run celery plet doctor there")
        until(store, "shipper", Level.OK, tmp_path)
    store.close()


def test_a_host_whose_clock_is_wrong_is_told(tmp_path: Path) -> None:
    home, ahead = tmp_path / "home", tmp_path / "ahead"
    ahead.mkdir()
    (ahead / "sitecustomize.py").write_text(
        "import time\nright = time.time\ntime.time = lambda: right() + 300.0\n"
    )
    store = open_store(f"sqlite:///{home / 'plet.db'}", read_only=True)
    with shipping(tmp_path, home):
        wait_until((home / "plet.db").exists, 60)
        until(store, "clock", Level.OK, tmp_path)
    with shipping(tmp_path, home, PYTHONPATH=str(ahead)):
        wrong = until(store, "clock", Level.WARNING, tmp_path)
    with shipping(tmp_path, home):
        until(store, "clock", Level.OK, tmp_path)
    store.close()

    assert wrong.observation.endswith("ahead of the store's clock"), wrong.observation


def test_a_disk_that_fills_is_told_though_the_journal_takes_no_beat(
    tmp_path: Path, disk: Callable[[str], Path]
) -> None:
    """The store lies elsewhere; what is left of the disk is less than any event but an end may take."""
    place = disk("64m")
    database = tmp_path / "plet.db"
    made = open_store(f"sqlite:///{database}")
    made.ensure_schema()
    made.close()
    store = open_store(f"sqlite:///{database}", read_only=True)
    limits = {
        "PLET_MIN_FREE_BYTES": str(16 << 20),
        "PLET_DATABASE_URL": f"sqlite:///{database}",
        "PLET_LEASE_STALE": "30",
    }
    with shipping(tmp_path, place / "home", **limits):
        until(store, "disk", Level.OK, tmp_path)

        (place / "ballast").write_bytes(b"x" * (30 << 20))
        until(store, "disk", Level.WARNING, tmp_path)
        with (place / "ballast").open("ab") as ballast:
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            ballast.write(b"x" * (free - (1 << 20)))
        full = until(store, "disk", Level.CRITICAL, tmp_path)

        assert full.affected == "logs and progress of every run there"
        assert full.values["free_bytes"] < 4 << 20
        # Its lease is as young as ever: the host is not taken for a dead one.
        (host,) = queries.list_hosts(store)
        assert host.unreachable_since is None

        # And with no block left at all a worker sees that it lives.
        descriptor = os.open(place / "ballast", os.O_WRONLY | os.O_APPEND)
        with contextlib.suppress(OSError):
            while os.write(descriptor, b"x" * 4096):
                pass
        os.close(descriptor)
        (journal,) = (place / "home" / "journal").iterdir()
        for _ in range(2):
            before = presence.read_beat(journal)
            wait_until(lambda: presence.read_beat(journal) not in (before, None), 30)  # noqa: B023
        (place / "ballast").unlink()
        until(store, "disk", Level.OK, tmp_path)
    store.close()


def test_a_beat_that_ends_is_critical_and_well_again(make_live: Callable[..., Any]) -> None:
    """Known by its own answer to a ping; its node is no worker."""
    live = make_live()
    facts = json.loads(json.dumps(celery_facts(live.app("healthapp").app)))
    facts["conf"]["beat_enable_remote_control"] = True
    made = open_store(f"sqlite:///{live.folder / 'plet.db'}")
    made.ensure_schema()
    rows: list[Any] = []

    def ask(name: str = "beat", later: float = 0.0) -> CheckResult:
        now = time.time() + later
        world = world_of(made, plain_app(), before=rows)
        world = type(world)(**{**vars(world), "facts": facts, "app": app_of(facts)})
        found = run_check(world, name, now=now, seconds=20)
        if name == "beat":
            rows[:] = kept(found, at=now)
        return found[0]

    def start() -> subprocess.Popen[bytes]:
        with (live.folder / "beat.log").open("ab") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "healthapp",
                    "beat",
                    "-s",
                    str(live.folder / "schedule"),
                ],
                env={**live.env, "HEALTH_BEAT": "1"},
                cwd=live.folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        live.processes.append(process)
        return process

    said = live.folder / "beat.log"
    process = start()
    wait_until(lambda: ask().values["answering"], 60, every=0.3, what=said.read_text)
    alive, workers = ask(), ask("workers")
    process.terminate()
    process.wait(60)
    gone = wait_until(lambda: (one := ask(later=200)).level is Level.CRITICAL and one, 60, every=0.3)
    start()
    wait_until(lambda: ask().values["answering"], 60, every=0.3, what=said.read_text)

    assert alive.level is Level.OK
    assert workers.observation == "none answers"
    assert gone
    assert gone.since is not None
    assert gone.observation.startswith("last tick ")
    made.close()
