"""A host with callers: scripts and servers as real processes, a broker, a shipper where one is wanted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import redis
from shipping import document, shipping
from stacks import environment, processes_of
from waiting import wait_until

from plet_celery import paths
from plet_celery.errors import PletError
from plet_celery.events import Event
from plet_celery.journal_reader import Reader
from plet_celery.store import open_store, queries

APPS = Path(__file__).parent / "apps"


class Host:
    """One machine: its plet home (nothing in it yet), its broker, and the callers started on it."""

    def __init__(self, folder: Path, valkey: Any, home: str) -> None:
        self.folder = folder
        self.home = folder / home
        self.journal = paths.journal_directory(self.home)
        self.broker = redis.Redis(unix_socket_path=unquote(urlsplit(valkey.broker_url).path))
        self.env = environment(
            PYTHONPATH=f"{APPS}{os.pathsep}{folder}",
            HOME=str(folder),  # gunicorn puts a socket there
            CALLING_BROKER=valkey.broker_url,
            CALLING_FOLDER=str(folder),
            CALLING_SCHEDULE=str(folder / "schedule"),
            PLET_HOME=str(self.home),
            PLET_SHIPPER_LINGER="1",
        )
        self._ends = ExitStack()
        # Where servers listen; the path of a test's folder is too long for a socket.
        self.socket = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="plet-"))) / "socket"

    def serve(self) -> None:
        """Have a shipper serve this host, as a worker does."""
        self._ends.enter_context(shipping(document(self.home)))

    def script(self, code: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        file = self.folder / "script.py"
        file.write_text(code)
        argv = [sys.executable, *options, str(file)]
        return subprocess.run(
            argv,
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, module: str, *options: str, **env: str) -> Iterator[Server]:
        """`python -m module …`, ended by SIGTERM and waited for; its whole group is gone afterwards."""
        output = self.folder / f"{module}-{options[2] if module == 'celery' else ''}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *options],
                cwd=self.folder,
                env={**self.env, **env},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        server = Server(process, output)
        try:
            yield server
            process.terminate()
            process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()

    def ask(self, method: str, path: str) -> Any:
        """Send a request to the server that listens at `socket`; its answer is JSON."""
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.socket))
            connection.request(method, path)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)

    def waiting_messages(self, queue: str = "celery") -> int:
        return int(self.broker.llen(queue))

    def run(self, run_id: str) -> Any:
        """The run as the store has it now, or None."""
        if not (self.home / "plet.db").exists():
            return None
        store = open_store(f"sqlite:///{self.home / 'plet.db'}", read_only=True)
        try:
            return queries.get_run(store, run_id)
        except PletError:
            return None
        finally:
            store.close()

    def queued(self, *run_ids: str) -> list[Any]:
        """Wait until the store knows these runs, and return them."""
        assert run_ids
        found = []
        for run_id in run_ids:
            found.append(wait_until(partial(self.run, run_id), 60, what=f"run {run_id} is queued"))
        return found

    def runs(self, task: str) -> list[Any]:
        """The runs of a task that the store knows, newest first."""
        if not (self.home / "plet.db").exists():
            return []
        store = open_store(f"sqlite:///{self.home / 'plet.db'}", read_only=True)
        try:
            return list(queries.list_runs(store, task=task, limit=100).items)
        except PletError:
            return []
        finally:
            store.close()

    def events(self) -> list[Event]:
        """What lies in the journal."""
        if not self.journal.exists():
            return []
        return Reader(self.journal).read(max_records=1_000_000, max_bytes=1 << 30).events

    def writers_of(self, run_ids: list[str]) -> Counter[str]:
        """Each writer of a `run.queued` of these runs, and how many it wrote."""
        wanted = set(run_ids)
        found = [event for event in self.events() if event.kind == "run.queued" and event.run in wanted]
        assert Counter(event.run for event in found) == Counter(run_ids)
        return Counter(event.writer for event in found)

    def shippers(self) -> list[str]:
        """The shippers that serve this host."""
        return shippers_of(self.folder)

    def close(self) -> None:
        self._ends.close()
        self.broker.close()


class Server:
    """A process that goes on, and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    def said(self) -> str:
        return self._output.read_text()

    def until(self, text: str, timeout: float = 60.0) -> str:
        """Wait until it has printed `text`."""
        wait_until(
            lambda: text in self.said() or self.process.poll() is not None, timeout, what=lambda: self.said()
        )
        assert text in self.said(), self.said()
        return self.said()

    def family(self) -> list[str]:
        """The command lines of all processes below it."""
        return [
            " ".join(child.cmdline()) for child in psutil.Process(self.process.pid).children(recursive=True)
        ]


def shippers_of(folder: Path) -> list[str]:
    """The shippers that serve a home below this folder."""
    return [one for one in processes_of(folder) if "plet_celery.shipper" in one]


@pytest.fixture
def make_host(tmp_path: Path, valkey: Any) -> Iterator[Callable[..., Host]]:
    """Make a host over an emptied broker: `make_host("the/folder/.plet")`."""
    made: list[Host] = []

    def make(home: str = "home") -> Host:
        valkey.flush()
        folder = tmp_path / f"host{len(made)}"
        folder.mkdir()
        made.append(Host(folder, valkey, home))
        return made[-1]

    yield make
    for host in made:
        host.close()


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """A host that no shipper serves (yet)."""
    return make_host()


@pytest.fixture
def served(make_host: Callable[..., Host]) -> Host:
    """A host that a shipper serves."""
    made = make_host()
    made.serve()
    return made
