"""The development stack of a project: broker, worker, beat and shipper, started in order and ended together.

Knows processes and files, not the terminal: what it does is told to `say`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from celery import Celery
from celery.utils.nodenames import gethostname
from kombu.exceptions import OperationalError

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.embedded.leftover import cancel_waiting
from plet_celery.embedded.parts import GENTLE, Part, Parts, Patience, last_lines
from plet_celery.embedded.stopping import Stopping
from plet_celery.embedded.valkey import Valkey, socket_folder, start_valkey
from plet_celery.errors import ServiceFailed
from plet_celery.journal import open_journal
from plet_celery.paths import private_directory
from plet_celery.spawning import LOG_NAME

UP_FOLDER: Final = "up"
START_SECONDS: Final = 60.0
"""Only a part that hangs costs them: one that has ended is noticed at once."""
_CONNECT_SECONDS: Final = 15
_TICK = 0.05
_TELL_SECONDS: Final = 10.0
_LOCK_NAME = "lock"
_WEB_ADDRESS: Final = "127.0.0.1"
_WEB_PORTS: Final = range(5555, 5655)
# Warm, then cold, then not asked any more. A cold stop still has the last events stored.
_WORKER_PATIENCE: Final[Patience] = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 15.0))

# Celery prefers these to whatever the app's conf says, in every process that inherits them.
_BROKER_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
_RESULT_VARIABLE = "CELERY_RESULT_BACKEND"

Say = Callable[[str, str], None]
"""Called with a part's name and what became of it."""


@dataclass(frozen=True)
class Blueprint:
    """What to start, and where."""

    celery: Celery
    app: str
    """What `celery -A` takes."""
    home: Path
    journal: Path
    concurrency: int
    ship: Mapping[str, Any]
    """What a shipper of the journal needs to know."""


class Stack:
    """The running parts of a blueprint; a context manager that ends them all."""

    def __init__(self, blueprint: Blueprint, stopping: Stopping, say: Say) -> None:
        self._blueprint = blueprint
        self._stopping = stopping
        self._say = say
        self._folder = blueprint.home / UP_FOLDER
        self._node = f"plet-up-{os.getpid()}@{gethostname()}"
        self._socket_folder, self._temporary = self._folder, list[Path]()
        self._former: dict[str, str | None] = {}
        self._lock: int | None = None
        self._own_broker_since: float | None = None

    def __enter__(self) -> Self:
        """Take the folder; start nothing yet.

        Raises:
            HomeError: it cannot be used.
            ServiceFailed: another stack of this project is up.
        """
        private_directory(self._blueprint.home)
        private_directory(self._folder)
        self._lock = _take_lock(self._folder / _LOCK_NAME)
        for path in self._folder.iterdir():
            if path.name != _LOCK_NAME:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._socket_folder, self._temporary = socket_folder(self._folder)
        self._parts = Parts(self._folder, journal=self._blueprint.journal, remove=self._temporary)
        self._parts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.begin()
        try:
            self._say("stop", "all of it; another Ctrl-C ends it at once")
        except OSError:
            pass  # nobody reads this any more
        self._parts.stop("worker", "beat", in_a_hurry=self._stopping.in_a_hurry)
        self._cancel_waiting()
        self._parts.close(in_a_hurry=self._stopping.in_a_hurry, at_once=self._stopping.at_once)
        (self._socket_folder / "valkey.sock").unlink(missing_ok=True)
        for name, value in self._former.items():
            _set_variable(name, value)
        if self._lock is not None:
            os.close(self._lock)

    def _cancel_waiting(self) -> None:
        """Tell of the runs that go with our own broker; anybody else's keeps its messages."""
        if self._own_broker_since is None or self._stopping.at_once():
            return
        seconds = 0.0 if self._stopping.in_a_hurry() else _TELL_SECONDS
        count = cancel_waiting(self._blueprint.ship, since=self._own_broker_since, timeout=seconds)
        if count:
            try:
                self._say("broker", f"takes {count} waiting run{'s' if count > 1 else ''} with it: cancelled")
            except OSError:
                pass  # nobody reads this any more

    def start_broker(self) -> None:
        """Start a Valkey, unless the app has a broker; point all processes, this one too, at it.

        Raises:
            ServiceFailed: it did not start, or the app's own broker does not answer.
        """
        conf = self._blueprint.celery.conf
        if conf.broker_read_url or conf.broker_write_url:
            self._check_own_broker()
            return
        self._own_broker_since = time.time()
        with self._stopping.shield():
            part, server = start_valkey(self._parts, self._socket_folder)
        self._await(part, server.is_ready)
        self._use(server)
        self._say("broker", f"valkey on {server.path}, process {part.process.pid}")

    def start_workers(self) -> None:
        """Start worker and beat, and wait until both work and the journal is shipped.

        Raises:
            ServiceFailed: one of them did not get there; says which, and its last lines.
            HomeError, JournalError: the journal's folder cannot be used.
        """
        # A worker that finds no journal looks for a shipper two seconds later only.
        open_journal(self._blueprint.journal)
        count = self._blueprint.concurrency
        options = ["-n", self._node, "-c", str(count), "--without-mingle", "--without-gossip"]
        worker = self._start("worker", *options, patience=_WORKER_PATIENCE)
        schedule = self._folder / "beat-schedule"
        beat = self._start("beat", "-s", str(schedule))
        self._await(worker, self._worker_answers)
        self._say("worker", f"{count} at a time for {self._blueprint.app}, process {worker.process.pid}")
        self._await(beat, lambda: not self._keeps_schedule_file() or any(self._folder.glob("beat-schedule*")))
        self._say("beat", f"process {beat.process.pid}")
        self._await_shipper()

    def start_web(self) -> None:
        """Start Flower with plet's pages on this machine's own address, at the first free port from 5555 on.

        Raises:
            ServiceFailed: it did not start, or no port is free; says its last lines.
        """
        for port in free_ports(_WEB_ADDRESS, _WEB_PORTS):
            if self._starts_flower(port):
                return

    def _starts_flower(self, port: int) -> bool:
        """Start it there; return whether it could: somebody may take the port while it starts."""
        part = self._start_program("flower", f"--address={_WEB_ADDRESS}", f"--port={port}")
        try:
            self._await(part, lambda: _visited(part.log) is not None)
        except ServiceFailed:
            if part.is_alive() or _is_free(_WEB_ADDRESS, port):
                raise
            self._parts.stop(part.name)
            return False
        self._say("web", f"{_visited(part.log)}plet/")
        return True

    def check(self) -> None:
        """Look whether all goes on; loops that wait call this.

        Raises:
            ServiceFailed: a part has ended; says which, and its last lines.
            Stopped: somebody wants the stack to end.
        """
        self._stopping.check()
        if part := self._parts.first_ended():
            raise ServiceFailed(
                _obituary(part.name, f"ended with exit code {part.process.returncode}", part.log)
            )

    def _start(self, name: str, *words: str, patience: Patience = GENTLE) -> Part:
        return self._start_program(name, *words, "-l", "INFO", patience=patience)

    def _start_program(self, name: str, *words: str, patience: Patience = GENTLE) -> Part:
        # -P: the working directory may hold a celery.py of the project.
        program = [sys.executable, "-P", "-m", "celery", "-A", self._blueprint.app]
        with self._stopping.shield():
            return self._parts.start(
                name,
                [*program, name, *words],
                environ={"PYTHONUNBUFFERED": "1"},
                patience=patience,
            )

    def _await(self, part: Part, ready: Callable[[], bool]) -> None:
        if not self._wait_until(ready):
            raise ServiceFailed(_obituary(part.name, f"did not start within {START_SECONDS:g} s", part.log))

    def _await_shipper(self) -> None:
        """Wait for what the worker spawns; this stack is no use where nothing is stored."""
        journal = self._blueprint.journal
        if not self._wait_until(lambda: _is_served(journal)):
            reason = f"did not start within {START_SECONDS:g} s"
            raise ServiceFailed(_obituary("shipper", reason, journal / LOG_NAME))
        self._say("shipper", f"of {journal}")

    def _wait_until(self, ready: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(_TICK)
        return True

    def _worker_answers(self) -> bool:
        control = self._blueprint.celery.control
        with self._blueprint.celery.connection_for_write() as connection:
            if not connection.supports_exchange_type("fanout"):
                return True  # no remote control on this broker: that it runs must do
            try:
                return bool(control.ping([self._node], timeout=0.5, connection=connection))
            except connection.connection_errors:
                return False

    def _keeps_schedule_file(self) -> bool:
        return str(self._blueprint.celery.conf.beat_scheduler).endswith(":PersistentScheduler")

    def _check_own_broker(self) -> None:
        with self._blueprint.celery.connection_for_write() as connection:
            url = connection.as_uri()
            if connection.transport_cls == "memory":
                raise ServiceFailed(
                    f"broker {url} lives in one process only; leave broker_url unset: up brings its own"
                )
            refusals: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
            try:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=_CONNECT_SECONDS)
            except refusals as error:
                raise ServiceFailed(
                    f"broker {url} does not answer ({error}); "
                    "start it, or leave broker_url unset: up brings its own"
                ) from error
        self._say("broker", f"{url}, as the app has it")

    def _use(self, server: Valkey) -> None:
        for name in _BROKER_VARIABLES:
            self._set(name, server.broker_url)
        backend = self._blueprint.celery.conf.result_backend
        if not backend:
            self._set(_RESULT_VARIABLE, server.result_url)

    def _set(self, name: str, value: str) -> None:
        self._former.setdefault(name, os.environ.get(name))
        os.environ[name] = value


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _take_lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ServiceFailed(
            f"this project is up already ({path} is locked); end that one, or set PLET_HOME to another folder"
        ) from None
    return lock


def free_ports(address: str, ports: range) -> Iterator[int]:
    """Yield the ports that nobody listens on, each looked at when it is its turn.

    Raises:
        ServiceFailed: there is none, or none any more.
    """
    for port in ports:
        if _is_free(address, port):
            yield port
    raise ServiceFailed(
        f"web: every port from {ports[0]} to {ports[-1]} is taken; end what listens there, or use --no-web"
    )


def _visited(log: Path) -> str | None:
    """Return the address that Flower names in its output, ending in a slash, once it does."""
    for line in last_lines(log, 200):
        if found := re.search(r"Visit me at (https?://\S+)", line):
            return found[1].rstrip("/") + "/"
    return None


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: a port whose last connections are only just over is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _is_served(journal: Path) -> bool:
    beat = presence.read_beat(journal)
    return ShipLock.held_elsewhere(journal) and beat is not None and beat.state == "serving"


def _obituary(name: str, what: str, log: Path) -> str:
    return "\n".join([f"{name} {what}; the last lines of {log}:", *last_lines(log)])
