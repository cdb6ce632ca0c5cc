"""docs/production.md: its units are verified, its manifests parsed, and the commands of both are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery
from services import missing
from waiting import wait_until

from plet_celery import presence
from plet_celery.store import open_store, queries

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "production.md").read_text()
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {name: text for _, name, text in BLOCK.findall(PAGE)}

APP = """
from celery import Celery
from plet_celery import Plet
app = Celery("shop")
plet = Plet(app)

@app.task
def load():
    print("loaded")
"""


def unit(name: str) -> dict[str, list[str]]:
    """The values of a unit by key; a key may come more than once."""
    found: dict[str, list[str]] = {}
    for line in BLOCKS[name].splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(BLOCKS["deployment.yaml"]))


class Shop:
    """A project in a folder, and the processes that the page's commands start there."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PLET_", "CELERY_"))}
        # `celery` of the page is the one beside this interpreter.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = kept | env | {"PATH": path, "PLET_MIN_FREE_BYTES": "0", "PLET_MIN_FREE_PERCENT": "0"}
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, argv: list[str]) -> None:
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, argv: list[str], ready: str) -> subprocess.Popen[bytes]:
        said = self.folder / f"said-{len(self.running)}"
        with said.open("wb") as output:
            process = subprocess.Popen(
                argv, cwd=self.folder, env=self.env, stdout=output, stderr=output, start_new_session=True
            )
        self.running.append(process)
        wait_until(
            lambda: ready in said.read_text() or process.poll() is not None, 60, what=lambda: said.read_text()
        )
        assert process.poll() is None, said.read_text()
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def publish(self) -> None:
        """Call the task, as somebody else's program does."""
        with Celery("caller", set_as_current=False, broker=self.env["CELERY_BROKER_URL"]) as caller:
            caller.send_task("shop.load")

    def ended(self, url: str) -> list[Any]:
        store = open_store(url, read_only=True)
        try:
            return [run for run in queries.list_runs(store).items if run.state == "succeeded"]
        finally:
            store.close()


@pytest.fixture
def shop(tmp_path: Path, valkey: Any, postgres_url: str) -> Iterator[Shop]:
    valkey.flush()
    home = tmp_path / "plet"
    env = {
        "PLET_HOME": str(home),
        "PLET_SHIPPER": "external",
        "PLET_DATABASE_URL": postgres_url,
        "CELERY_BROKER_URL": valkey.broker_url,
    }
    # What the page's environment file sets, and nothing else.
    assert set(env) == {line.partition("=")[0] for line in BLOCKS["env"].splitlines()}
    with ExitStack() as stack:
        made = Shop(tmp_path, env)
        stack.callback(made.close)
        yield made


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze", "apt install systemd")
    celery = Path(sys.executable).parent / "celery"
    for name in ("plet-worker.service", "plet-ship.service"):
        # Only what this machine has not: the program, the user.
        text = (
            BLOCKS[name]
            .replace("/srv/shop/.venv/bin/celery", str(celery))
            .replace("User=shop", "User=daemon")
        )
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(tmp_path.glob("*.service")))],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system"},
    )  # fmt: skip

    complaints = [line for line in done.stderr.splitlines() if "plet-" in line]
    assert done.returncode == 0, done.stderr
    assert complaints == []


def test_a_unit_that_is_wrong_would_be_told(tmp_path: Path) -> None:
    """The check before can fail."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze", "apt install systemd")
    wrong = BLOCKS["plet-ship.service"].replace("WatchdogSec=30", "WatchDogSeconds=30")
    (tmp_path / "plet-ship.service").write_text(wrong)

    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "plet-ship.service")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert "WatchDogSeconds" in done.stderr


def test_the_units_commands_record_a_run_and_stop_in_order(shop: Shop, postgres_url: str) -> None:
    worker, shipper = unit("plet-worker.service"), unit("plet-ship.service")
    own = {"/srv/shop/.venv/bin/celery": "celery"}

    def command(text: str) -> list[str]:
        return [own.get(one, one) for one in shlex.split(text)]

    assert "plet-ship.service" in worker["After"][0]
    assert worker["KillMode"] == shipper["KillMode"] == ["mixed"]
    serving = shop.start(command(shipper["ExecStart"][0]), "shipper serves")
    shop.run(command(worker["ExecStartPre"][0]))
    working = shop.start(command(worker["ExecStart"][0]), " ready.")

    shop.publish()
    wait_until(lambda: shop.ended(postgres_url), 60)

    (beat,) = [presence.read_beat(folder) for folder in (shop.folder / "plet" / "journal").iterdir()]
    assert beat is not None
    assert beat.process.pid == serving.pid
    # The reverse of the start: the worker first, its last events stored.
    assert shop.stop(working) == 0
    assert serving.poll() is None
    assert shop.stop(serving) == 0
    assert "nothing is left" in (shop.folder / "said-0").read_text()
    assert "stays" not in (shop.folder / "said-0").read_text()


def test_the_pods_commands_record_a_run_and_drain(shop: Shop, postgres_url: str) -> None:
    deployment, job = manifests()
    pod = deployment["spec"]["template"]["spec"]
    (sidecar,), (worker,) = pod["initContainers"], pod["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["volumeMounts"] == worker["volumeMounts"]
    assert sidecar["env"] == worker["env"]
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["terminationGracePeriodSeconds"] > 30
    mounted = Path(worker["volumeMounts"][0]["mountPath"])
    assert Path(next(one["value"] for one in worker["env"] if one["name"] == "PLET_HOME")).parent == mounted
    (migrate,) = job["spec"]["template"]["spec"]["containers"]

    shop.run(migrate["command"])
    serving = shop.start(sidecar["command"], "shipper serves")
    working = shop.start(worker["command"], " ready.")
    shop.publish()
    wait_until(lambda: shop.ended(postgres_url), 60)

    # A native sidecar gets its TERM after the worker has ended.
    assert shop.stop(working) == 0
    assert shop.stop(serving) == 0
    (drain,) = re.findall(r"`(celery -A shop plet ship --until-drained[^`]*)`", PAGE)
    shop.run(shlex.split(drain))
