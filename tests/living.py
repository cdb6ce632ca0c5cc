"""Workers of one host as real processes over a real Valkey: started, restarted, killed, and asked about."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from celery import Celery
from services import missing
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.embedded.valkey import Valkey
from plet_celery.errors import PletError
from plet_celery.journal_keeping import segments
from plet_celery.store import open_store, queries

APPS = Path(__file__).parent / "life" / "apps"
# Not `python -m celery`: a worker started so cannot restart itself (SIGHUP).
CELERY = str(Path(sys.executable).parent / "celery")
NOBODY = 65534


@functools.cache
def as_nobody() -> tuple[str, ...]:
    """Return what runs a command as another user, who can start this interpreter.

    Where it lies in a folder closed to others, that user may read everything, and still write nothing.
    """
    plain = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    reads = (*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    command = ["sh", "-c", 'exec "$0" -c "import celery, redis"', sys.executable]
    for prefix in (plain, reads):
        if not subprocess.run([*prefix, *command], cwd="/", capture_output=True, check=False).returncode:
            break
    else:
        missing("second user", f"make {sys.executable} and its packages readable for all")
    return prefix


class Team:
    """A folder with its own plet home over an emptied broker, and the workers started there."""

    def __init__(self, folder: Path, valkey: Valkey, **env: str) -> None:
        valkey.flush()
        self.folder = folder
        self.home = folder / "home"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(APPS),
            "LIFE_BROKER": valkey.broker_url,
            "LIFE_BACKEND": valkey.result_url,
            "LIFE_FOLDER": str(folder),
            "PLET_HOME": str(self.home),
            "PLET_SHIPPER_LINGER": "600",
            "PLET_MIN_FREE_BYTES": "0",
            "PLET_MIN_FREE_PERCENT": "0",
            **env,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self._client = Celery(
            "outside", broker=valkey.broker_url, backend=valkey.result_url, set_as_current=False
        )

    def publish_to(self, url: str, prefix: str) -> None:
        """Publish from now on into another Redis."""
        self._client.close()
        self._client = Celery("outside", broker=url, backend=url, set_as_current=False)
        self._client.conf.broker_transport_options = {"global_keyprefix": prefix}

    # Workers

    def start(
        self, *options: str, wait: bool = True, prefix: tuple[str, ...] = (), name: str = "", **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker; by default, wait until it consumes."""
        number = len(self.processes)
        # Another user may not execute the script.
        program = [sys.executable, "-m", "celery"] if prefix else [CELERY]
        command = [
            *program, "-A", "lifeapp", "worker", "-l", "info", "--without-gossip",
            "--without-mingle", "-n", f"{name or f'w{number}'}@test", *options,
        ]  # fmt: skip
        with (self.folder / f"worker{number}.log").open("wb") as output:
            process = subprocess.Popen(
                [*prefix, *command],
                env={**self.env, **env},
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        if wait:
            self.await_ready(process)
        return process

    def await_ready(self, process: subprocess.Popen[bytes], times: int = 1) -> None:
        """Wait until a worker has said so often that it is ready."""
        wait_until(
            lambda: self.output(process).count(" ready.") >= times or process.poll() is not None,
            90,
            what=lambda: self.output(process),
        )
        assert process.poll() is None, self.output(process)

    def output(self, process: subprocess.Popen[bytes]) -> str:
        """What a worker wrote."""
        number = self.processes.index(process)
        return (self.folder / f"worker{number}.log").read_text(errors="replace")

    def stop(self, process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> int:
        """End a worker and return its exit code."""
        process.send_signal(how)
        return process.wait(90)

    def submit(self, task: str, *args: Any, count: int = 1, queue: str = "celery") -> list[str]:
        """Publish from a process without plet; return the ids."""
        return [self._client.send_task(task, args, queue=queue).id for _ in range(count)]

    # The journal and who serves it

    @property
    def journal(self) -> Path:
        """Our own user's journal."""
        return self.home / "journal" / str(os.getuid())

    def beat(self) -> presence.Beat | None:
        """The beat of the living shipper, if one serves."""
        return beat_of(self.journal)

    def served(
        self, but: presence.Beat | None = None, plet: str = "", at: Path | None = None
    ) -> presence.Beat:
        """Wait until a shipper serves.

        Args:
            but: the beat of one that does not count.
            plet: the version that it has to have; any by default.
            at: a journal that is not ours.
        """

        def found() -> presence.Beat | None:
            beat = beat_of(at or self.journal)
            if beat is None or (but and beat.process == but.process) or plet not in ("", beat.plet):
                return None
            return beat

        beat = wait_until(found, 60, what=lambda: f"a shipper serves: {self.told()}")
        assert beat is not None
        return beat

    def kill_daemon(self, pid: int) -> None:
        """End a worker that is no child of ours."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.kill()
            process.wait(10)

    def told(self) -> str:
        """What the shippers of our journal said."""
        return told(self.journal)

    def shippers(self) -> list[psutil.Process]:
        """The processes that run a shipper of our journal, whether or not they hold the lock."""
        return shippers_of(self.journal)

    def writers(self) -> set[str]:
        """The writers that have a segment."""
        return {segment.writer for segment in segments(self.journal)}

    # The store

    def url(self) -> str:
        """The store's URL."""
        return self.env.get("PLET_DATABASE_URL") or f"sqlite:///{self.home / 'plet.db'}"

    @contextlib.contextmanager
    def store(self) -> Iterator[Any]:
        """The store, opened to read."""
        store = open_store(self.url(), read_only=True)
        try:
            yield store
        finally:
            store.close()

    def states(self, ids: list[str]) -> Counter[str]:
        """In which state how many of these runs are; `missing` those that the store does not know."""
        found: Counter[str] = Counter()
        with self.store() as store:
            for run in ids:
                try:
                    found[queries.get_run(store, run).state] += 1
                except PletError:
                    found["missing"] += 1
        return found

    def await_states(self, ids: list[str], timeout: float = 120.0, **wanted: int) -> None:
        """Wait until the runs are in these states, and no other."""
        wait_until(
            lambda: self.states(ids) == wanted,
            timeout,
            every=0.3,
            what=lambda: f"{wanted}, not {dict(self.states(ids))}\n{self.told()[-2000:]}",
        )

    def close(self) -> None:
        """End all processes that were started here."""
        self._client.close()
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for journal in self.folder.rglob("journal/*"):
            end_all(journal)


def beat_of(journal: Path) -> presence.Beat | None:
    """The beat of the living shipper of a journal, whoever's it is."""
    beat = presence.read_beat(journal)
    if beat is None or beat.state not in ("serving", "draining") or not ShipLock.held_elsewhere(journal):
        return None
    return beat if presence.process_of(beat.process.pid) == beat.process else None


def told(journal: Path) -> str:
    """What the shippers of a journal said, oldest first."""
    files = [journal / "shipper.log.1", journal / "shipper.log"]
    return "".join(file.read_text() for file in files if file.exists())


def shippers_of(journal: Path) -> list[psutil.Process]:
    """The running shippers that hold the lock file of a journal open."""
    lock = str(journal.resolve() / "ship.lock")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "plet_celery.shipper" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found += [process for file in process.open_files() if file.path == lock]
    return found


def end_all(journal: Path) -> None:
    """Ask the shippers of a journal to end, and wait."""
    for process in shippers_of(journal):
        process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(shippers_of(journal), timeout=90)
    assert not left, f"a shipper of {journal} is left: {left}\n{told(journal)[-3000:]}"
