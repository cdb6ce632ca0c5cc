"""Running `celery plet up` in tests: a terminal to run it in, and what it leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

# The child makes the pseudo terminal its own, as a login does, so that Ctrl-C reaches it.
_LOGIN = (
    "import fcntl, os, sys, termios;fcntl.ioctl(0, termios.TIOCSCTTY, 0);os.execvp(sys.argv[1], sys.argv[1:])"
)


def environment(**more: str) -> dict[str, str]:
    """The environment without what would point a project elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PLET_", "CELERY_", "PYTEST_"))}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", **more}


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that live in `folder`: by working directory or open file."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            places = [process.cwd(), *(file.path for file in process.open_files())]
            if any(Path(place).is_relative_to(folder) for place in places):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
        except (psutil.Error, OSError):
            continue
    return found


class Terminal:
    """A program on a pseudo terminal; a context manager that ends it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str] | None = None,
        size: tuple[int, int] = (40, 120),
    ) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOGIN, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=dict(environ or environment()),
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def read_until(self, text: str, timeout: float = 180.0) -> str:
        """Read until `text` has been shown; return all that was."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            if time.monotonic() > deadline or not self._read(0.1):
                raise AssertionError(f"{text!r} was not shown within {timeout:g} s:\n{self.seen}")
        return self.seen

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self, timeout: float = 180.0) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {timeout:g} s:\n{self.seen}")
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        if self._open:
            os.close(self.master)
        self._open = False

    def _read(self, patience: float) -> bool:
        """Take what is there; False once the other side has closed the terminal."""
        if not select.select([self.master], [], [], patience)[0]:
            return patience > 0
        try:
            chunk = os.read(self.master, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return self.process.poll() is None and patience > 0
            raise
        self.seen += chunk.decode("utf-8", "replace")
        return bool(chunk)
