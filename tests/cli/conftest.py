"""A project on disk with a store, its commands run in-process, as a subprocess, or in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from recorded_runs import Story

from plet_celery import Plet
from plet_celery.cli import plet

_APP = """
from celery import Celery
from plet_celery import Plet

# Nothing listens there: a reading command must not ask the broker.
app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
plet = Plet(app)

@app.task
def load(): ...
"""


class Project:
    """A folder with `shop.py`, its `.plet`, and the store in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / ".plet"
        self.url = f"sqlite:///{self.home / 'plet.db'}"
        (folder / "shop.py").write_text(_APP)
        self._story: Story | None = None
        self._app: Celery[Any] | None = None
        self.ids: dict[str, str] = {}

    @property
    def story(self) -> Story:
        """What was recorded; the first use makes the store."""
        if self._story is None:
            self.home.mkdir(mode=0o700, exist_ok=True)
            self._story = Story(self.url, home=self.home)
        return self._story

    @property
    def app(self) -> Celery[Any]:
        """The project's app in this process."""
        if self._app is None:
            self._app = Celery("shop", set_as_current=False, broker="redis://127.0.0.1:1/0")
            self._app.conf.plet_home = str(self.home)
            Plet(self._app)
        return self._app

    def invoke(self, *args: str, **options: Any) -> Result:
        """Run a command in this process."""
        context = CLIContext(app=self.app, no_color=False, workdir=None)
        return CliRunner().invoke(plet, list(args), obj=context, catch_exceptions=False, **options)

    def on_terminal(
        self, *args: str, columns: int = 80, rows: int = 40, no_color: bool = False
    ) -> tuple[int, str]:
        """Run a command in this process, its stdout a terminal; return exit code and what was sent to it."""
        main, other = _open_terminal(columns, rows)
        sent: list[bytes] = []
        reader = threading.Thread(target=_drain, args=(main, sent))
        reader.start()
        context = CLIContext(app=self.app, no_color=no_color, workdir=None)
        try:
            with open(other, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdout", stream)
                patch.setenv("TERM", "xterm-256color")
                for name in ("NO_COLOR", "COLUMNS", "LINES"):
                    patch.delenv(name, raising=False)
                code = plet.main(list(args), obj=context, standalone_mode=False) or 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            reader.join()
            os.close(main)
        return code, b"".join(sent).decode()

    def command(self, *args: str, app: str | None = "shop") -> list[str]:
        """Return the command line of `celery -A shop plet …`."""
        named = ["-A", app] if app else []
        return [sys.executable, "-m", "celery", *named, "plet", *args]

    def run(self, *args: str, app: str | None = "shop", **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as a process of its own, its output in pipes."""
        return subprocess.run(
            self.command(*args, app=app),
            cwd=self.folder,
            env=self.environment(options.pop("env", {})),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            **options,
        )

    def run_shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in the project's folder."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment({}),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """Return an environment without what would change the output."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PLET_", "CELERY_"))}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            kept.pop(name, None)
        return kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | more

    def forget_logs(self) -> None:
        """Make this a host without the run's log files: they are neither here nor written."""
        shutil.rmtree(self.home / "runs")
        self.story.write_logs = False

    def close(self) -> None:
        """Let go of the store."""
        if self._story is not None:
            self._story.close()


def _open_terminal(columns: int, rows: int) -> tuple[int, int]:
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return main, other


def _drain(descriptor: int, into: list[bytes]) -> None:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        if not data:
            return
        into.append(data)


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(
        self, command: list[str], *, cwd: Path, env: dict[str, str], columns: int, rows: int
    ) -> None:
        self._main, other = _open_terminal(columns, rows)
        self.output = b""
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)

    def read_until(self, condition: Callable[[bytes], bool], timeout: float = 120.0) -> bytes:
        """Read what is written until it fits."""
        deadline = time.monotonic() + timeout
        while not condition(self.output):
            assert time.monotonic() < deadline, f"not seen in: {self.output[-2000:]!r}"
            if not self._read(0.2) and self.process.poll() is not None:
                assert condition(self.output), f"the end came first: {self.output[-2000:]!r}"
        return self.output

    def wait(self, timeout: float = 120.0) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running: {self.output[-2000:]!r}"
            self._read(0.2)
        while self._read(0.0):
            pass
        return self.process.wait()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End the command, if it still runs, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._main)

    def _read(self, timeout: float) -> bool:
        # Not select(), which knows no descriptor beyond 1023.
        asked = select.poll()
        asked.register(self._main, select.POLLIN)
        if not asked.poll(timeout * 1000):
            return False
        try:
            data = os.read(self._main, 65536)
        except OSError:  # the other side is closed
            return False
        self.output += data
        return bool(data)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project: the store is made by the first use of `project.story`."""
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def terminal(project: Project) -> Iterator[Callable[..., Terminal]]:
    """Start `celery -A shop plet …` in a terminal of so many columns and rows."""
    opened: list[Terminal] = []

    def start(*args: str, columns: int = 80, rows: int = 24, **env: str) -> Terminal:
        one = Terminal(
            project.command(*args),
            cwd=project.folder,
            env=project.environment(env),
            columns=columns,
            rows=rows,
        )
        opened.append(one)
        return one

    yield start
    for one in opened:
        one.close()
