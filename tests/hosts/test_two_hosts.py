"""Two hosts on one PostgreSQL: real workers, two journals, two shippers, and a network that breaks."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ending import kill_shipper
from proxying import Proxy, proxy_before
from waiting import wait_until

from plet_celery import presence
from plet_celery.errors import PletError
from plet_celery.store import Store, open_store, queries

APPS = Path(__file__).parent / "apps"


class Machine:
    """A host: its name, its home, its identity, its own way to the database."""

    def __init__(
        self, folder: Path, name: str, queue: str, proxy: Proxy, url: str, env: dict[str, str]
    ) -> None:
        self.name, self.queue, self.proxy = name, queue, proxy
        self.folder = folder
        self.home = folder / f"home-{name}"
        self.env = env | {
            "PLET_HOME": str(self.home),
            "PLET_MACHINE_ID": f"machine of {name}",
            "PLET_DATABASE_URL": proxy.url(url),
            "PLET_HOST_BEAT": "0.5",
            "PLET_LEASE_STALE": "10",
            "PLET_HOST_LOST_AFTER": "20",
            "PLET_SHIPPER_LINGER": "600",
        }
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker of its queue and wait until it consumes."""
        output = self.folder / f"{self.name}-{len(self.workers)}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "hostsapp", "worker", "-l", "info"),
            *("-Q", self.queue, "-n", f"w@{self.name}", "-c", "2"),
        ]
        with output.open("wb") as file:
            process = subprocess.Popen(
                as_host(self.name, command),
                env=self.env,
                cwd=self.folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers.append(process)
        wait_until(lambda: b" ready." in output.read_bytes(), 60, what=lambda: output.read_text()[-3000:])
        return process

    @property
    def journal(self) -> Path:
        (found,) = (self.home / "journal").iterdir()
        return found

    def shipper(self) -> presence.Beat | None:
        """The beat of its shipper, if one runs."""
        beat = presence.read_beat(self.journal) if (self.home / "journal").exists() else None
        return beat if beat is not None and presence.is_visible(beat.process) else None

    def told(self) -> str:
        return (self.journal / "shipper.log").read_text()

    def crash(self) -> None:
        """Power off: worker and shipper are gone without a word."""
        beat = self.shipper()
        for process in self.workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if beat is not None:
            os.kill(beat.process.pid, signal.SIGKILL)

    def close(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for journal in self.home.glob("journal/*"):
            kill_shipper(journal)


def as_host(name: str, command: list[str]) -> list[str]:
    """Give a process a host name of its own, where the kernel lets us."""
    if os.getuid() != 0 or not Path("/usr/bin/unshare").exists():
        return command
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]


class Two:
    """Both hosts, the app as a producer sees it, and the store."""

    def __init__(self, folder: Path, a: Machine, b: Machine, app: Any, store: Store) -> None:
        self.folder, self.a, self.b, self.app, self.store = folder, a, b, app, store

    def say(self, word: str) -> None:
        (self.folder / word).touch()

    def run(self, run_id: str) -> Any:
        try:
            return queries.get_run(self.store, run_id)
        except PletError:
            return None

    def state(self, run_id: str) -> str:
        run = self.run(run_id)
        return run.state if run is not None else "unknown"

    def wait_state(self, run_id: str, state: str) -> Any:
        wait_until(
            lambda: self.state(run_id) == state,
            90,
            what=lambda: f"{self.run(run_id)}\n{self.a.told()[-1500:]}\n{self.b.told()[-1500:]}",
        )
        return self.run(run_id)

    def status(self, machine: Machine) -> Any:
        return {one.journal: one for one in queries.list_hosts(self.store)}[journal_id(machine)]

    def celery_plet(self, *words: str) -> str:
        """What a command shows to somebody on host a."""
        command = [sys.executable, "-m", "celery", "-A", "hostsapp", "plet", *words]
        done = subprocess.run(
            command, env=self.a.env | {"COLUMNS": "160"}, cwd=self.folder, capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


def journal_id(machine: Machine) -> str:
    from plet_celery.journal import open_journal

    return open_journal(machine.journal).journal_id


@pytest.fixture
def two(tmp_path: Path, valkey: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    valkey.flush()
    store = open_store(postgres_url)
    store.ensure_schema()
    common = {
        "HOSTS_BROKER": valkey.broker_url,
        "HOSTS_BACKEND": valkey.result_url,
        "HOSTS_FOLDER": str(tmp_path),
    }
    env = {**os.environ, **common, "PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for name, value in (common | {"PLET_HOME": str(tmp_path / "producer"), "PLET_SHIPPER": "off"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(APPS))
    sys.modules.pop("hostsapp", None)
    with proxy_before(postgres_url) as to_a, proxy_before(postgres_url) as to_b:
        a = Machine(tmp_path, "atlas", "a", to_a, postgres_url, env)
        b = Machine(tmp_path, "borea", "b", to_b, postgres_url, env)
        try:
            a.start()
            b.start()
            yield Two(tmp_path, a, b, importlib.import_module("hostsapp"), store)
        finally:
            a.close()
            b.close()
            store.close()
            sys.modules.pop("hostsapp", None)


@pytest.mark.slow
def test_a_canvas_over_two_hosts_and_one_that_is_cut_off(two: Two) -> None:
    # Given a canvas whose parts run on both hosts
    root = two.app.fan.apply_async((6,), queue="a").id

    # When all of it has ended
    def ended() -> bool:
        found = queries.children(two.store, root) if two.run(root) is not None else []
        return len(found) == 7 and all(run.state == "succeeded" for run in found)

    wait_until(ended, 90, what=lambda: f"{two.a.told()}\n{two.b.told()}")

    # Then the store has one canvas, each run once, on the host that ran it
    found = queries.children(two.store, root)
    assert {run.canvas for run in found} == {root}
    assert {run.attempts for run in found} == {1}
    names = sorted((run.task.rpartition(".")[2], run.worker) for run in found)
    assert names == [("part", "w@atlas")] * 3 + [("part", "w@borea")] * 3 + [("total", "w@borea")]
    a, b = two.status(two.a), two.status(two.b)
    assert a.machine != b.machine
    assert (a.is_skewed, b.is_skewed) == (False, False)
    if os.getuid() == 0:
        assert (a.host, b.host) == ("atlas", "borea")

    wait_until(lambda: two.status(two.a).unreachable_since is None, 30)
    wait_until(lambda: two.status(two.b).unreachable_since is None, 30)

    # Given a task on a host that is then cut off from the database
    held = two.app.wait.apply_async(("go",), queue="b").id
    two.wait_state(held, "running")
    two.b.proxy.down()

    # When it is not heard of: everybody sees since when, and what is running there
    wait_until(lambda: two.status(two.b).unreachable_since is not None, 60)
    run = two.run(held)
    assert run.state in ("running", "lost")
    assert run.state == "lost" or run.unreachable_since == two.status(two.b).unreachable_since

    # Then its runs are lost after a while, written by the other host's shipper; the task itself goes on
    lost = two.wait_state(held, "lost")
    assert lost.reason is not None and "was not heard of for 20 s" in lost.reason
    (incident,) = queries.host_losses(two.store)
    assert (incident.data["by"], incident.data["attempts"]) == (journal_id(two.a), 1)
    wait_until(lambda: "host is lost" in two.a.told())
    two.say("go")
    assert two.app.app.AsyncResult(held).get(timeout=90) == "go"

    # And when the host is back, its old shipper steps down, the next one brings what happened meanwhile
    meanwhile = two.app.part.apply_async((1,), queue="b").id
    assert two.app.app.AsyncResult(meanwhile).get(timeout=90) == 1
    two.b.proxy.up()
    two.wait_state(held, "succeeded")
    two.wait_state(meanwhile, "succeeded")
    wait_until(lambda: "shipper ends: why=fenced" in two.b.told())
    kinds = sorted(event.kind for event in queries.run_events(two.store, held))
    assert kinds == ["run.lost", "run.started", "run.succeeded"]
    assert two.run(held).attempts == 1
    wait_until(lambda: two.status(two.b).unreachable_since is None, 30)
    assert two.status(two.b).lost_at is None


@pytest.mark.slow
def test_a_host_that_is_gone_for_ever(two: Two) -> None:
    # Given runs on a host that loses its power
    held = [two.app.wait.apply_async(("never",), queue="b").id for _ in range(2)]
    for run_id in held:
        two.wait_state(run_id, "running")
    two.a.proxy.down()  # nobody can mark them yet
    two.b.crash()
    wait_until(lambda: two.status(two.b).unreachable_since is not None, 60)

    # Then whoever looks is told so
    assert {two.run(run_id).unreachable_since for run_id in held} == {two.status(two.b).unreachable_since}
    two.a.env["PLET_DATABASE_URL"] = two.store.url.render_as_string(hide_password=False)
    assert two.celery_plet("runs").count("host unreachable since") == 2
    assert "is unreachable since" in two.celery_plet("show", held[0])

    # And later they are lost: one incident
    two.a.proxy.up()
    for run_id in held:
        two.wait_state(run_id, "lost")
    (incident,) = queries.host_losses(two.store)
    assert incident.data["attempts"] == 2
    assert [run.state for run in queries.list_runs(two.store).items] == ["lost", "lost"]

    # When it is switched on again, it takes its journal back, and nothing is told twice
    two.b.start()
    later = two.app.part.apply_async((1,), queue="b").id
    two.wait_state(later, "succeeded")
    assert two.status(two.b).lost_at is None
    for run_id in held:
        kinds = [event.kind for event in queries.run_events(two.store, run_id)]
        assert kinds.count("run.lost") == 1
    assert len(queries.host_losses(two.store)) == 1
