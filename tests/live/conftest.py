"""Real workers as subprocesses over a real Valkey; what they record is read from the store."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
from ending import kill_shipper
from waiting import wait_until

from plet_celery.store import Store, open_store, queries

APPS = Path(__file__).parent / "apps"
END_STATES = {
    "succeeded", "failed", "timed_out", "cancelled", "expired", "ignored", "rejected", "interrupted", "lost",
}  # fmt: skip


class Live:
    """A folder with its own plet home, and the workers started in it."""

    def __init__(self, folder: Path, valkey: Any, **env: str) -> None:
        """Make one over `valkey`, unless `env` names another LIVE_BROKER or LIVE_BACKEND."""
        self.folder = folder
        self.home = folder / "home"
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "LIVE_BROKER": valkey.broker_url,
            "LIVE_BACKEND": valkey.result_url,
            "LIVE_FOLDER": str(folder),
            "PLET_HOME": str(self.home),
            "PLET_SHIPPER_LINGER": "0.5",
            "PLET_LOST_GRACE": "15",
            **env,
        }
        self.apps: list[Any] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str, app: str = "liveapp", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it consumes."""
        number = len(self.processes)
        output = (self.folder / f"worker{number}.log").open("wb")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                app,
                "worker",
                "-l",
                "info",
                "-n",
                f"w{number}@test",
                *options,
            ],
            env={**self.env, **env},
            cwd=self.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        self.processes.append(process)
        wait_until(lambda: b" ready." in self.output(number), 40, what=lambda: self.output(number).decode())
        return process

    def output(self, number: int = 0) -> bytes:
        return (self.folder / f"worker{number}.log").read_bytes()

    def stop(self, process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> int:
        process.send_signal(how)
        return process.wait(60)

    def app(self, name: str = "liveapp") -> Any:
        """Import the app in the test's process, as a producer does."""
        os.environ.update(
            {key: value for key, value in self.env.items() if key.startswith(("LIVE_", "PLET_"))}
        )
        sys.path.insert(0, str(APPS))
        for made in APPS.glob("*.py"):  # one may import another, which has read the settings before
            sys.modules.pop(made.stem, None)
        module = importlib.import_module(name)
        self.apps.append(module.app)
        return module

    def go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    @functools.cached_property
    def _store(self) -> Store:
        return open_store(f"sqlite:///{self.home / 'plet.db'}", read_only=True)

    def store(self) -> Store:
        return self._store

    def is_readable(self) -> bool:
        """Whether the shipper has made the store's tables."""
        from plet_celery.errors import PletError

        try:
            queries.as_of(self.store())
        except PletError:
            return False
        return True

    def run(self, run_id: str) -> Any:
        """The run as the store has it now, or None."""
        from plet_celery.errors import PletError

        if not (self.home / "plet.db").exists():
            return None
        try:
            return queries.get_run(self.store(), run_id)
        except PletError:
            return None

    def wait_state(self, run_id: str, *states: str, timeout: float = 30.0) -> Any:
        """Wait until the run is in one of `states` (any end by default), and return it."""
        wanted = set(states) or END_STATES

        def there() -> bool:
            run = self.run(run_id)
            return run is not None and run.state in wanted

        wait_until(
            there, timeout, what=lambda: f"{run_id}: {self.run(run_id)}\n{self.output().decode()[-3000:]}"
        )
        return self.run(run_id)

    def written(self) -> list[bytes]:
        """What the files of the home hold; a shipper that leaves may remove some meanwhile."""
        found = []
        for path in self.home.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                found += [path.read_bytes()] if path.is_file() else []
        return found

    def close(self) -> None:
        self._store.close()
        for app in self.apps:
            let_go(app)
        kombu.pools.reset()  # apps with one broker share them
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for journal in self.home.glob("journal/*"):
            kill_shipper(journal)


def let_go(app: Any) -> None:
    """Close the connections of an app to its result backend: each test imports its app anew."""
    client = getattr(app.backend, "client", None)
    if client is not None and hasattr(client, "connection_pool"):
        client.connection_pool.disconnect()


@pytest.fixture
def make_live(tmp_path: Path, valkey: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Live]]:
    """Make a folder with its own home over an emptied broker."""
    made: list[Live] = []
    before = dict(os.environ)

    def make(**env: str) -> Live:
        valkey.flush()
        folder = tmp_path / f"live{len(made)}"
        folder.mkdir()
        made.append(Live(folder, valkey, **env))
        return made[-1]

    yield make
    for live in made:
        live.close()
    for key in set(os.environ) - set(before):
        del os.environ[key]
    os.environ.update(before)
    if str(APPS) in sys.path:
        sys.path.remove(str(APPS))
