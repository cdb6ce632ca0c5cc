"""Child processes that end with us, whatever ends us.

A part runs in a session of its own (the terminal's Ctrl-C does not reach it) and writes into a
file. Three nets end it: `stop`, in order; then a look for further members of the family (a
lingering shipper, a task's own subprocess); and a watcher, a process that does the same when this
one dies without a word.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from plet_celery.embedded.family import Family

_TICK = 0.05
_LEFTOVER_PATIENCE = 12.0  # a shipper drains for plet_drain_timeout, 10 s by default

Patience = tuple[tuple[signal.Signals, float], ...]
"""What to send one after the other, and how many seconds to wait after each; then SIGKILL."""

GENTLE: Final[Patience] = ((signal.SIGTERM, 5.0),)


@dataclass(frozen=True)
class Part:
    """One child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    """Where its output goes."""
    patience: Patience

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def last_lines(self) -> list[str]:
        return last_lines(self.log)


class Parts:
    """The parts of one stack; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, *, journal: Path | None = None, remove: Sequence[Path] = ()) -> None:
        """Prepare, start nothing.

        Args:
            folder: existing folder for the output files.
            journal: a shipper of it that is younger than this process is ended, too.
            remove: folders to delete at the end, also by the watcher.
        """
        self._folder = folder
        self._remove = [str(path) for path in remove]
        # psutil's start times are a second off the wall clock, but agree among themselves.
        born = psutil.Process().create_time()
        self._family = Family(secrets.token_hex(16), journal=journal, since=born)
        self._parts: dict[str, Part] = {}
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        family = self._family
        words = [family.token, str(family.journal or ""), str(family.since), *self._remove]
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", "plet_celery.embedded.watcher", *words],
            stdin=subprocess.PIPE,
            cwd=self._folder,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(
        self,
        *,
        in_a_hurry: Callable[[], bool] = lambda: False,
        at_once: Callable[[], bool] = lambda: False,
    ) -> None:
        """End whatever is left, in the end the watcher.

        Args:
            in_a_hurry: turns true when only the shipper may still tell what has become of the others.
            at_once: turns true when nothing may.
        """
        self.stop(*self._parts, in_a_hurry=in_a_hurry)
        self._family.end(patience=_LEFTOVER_PATIENCE, in_a_hurry=in_a_hurry, at_once=at_once)
        for path in self._remove:
            shutil.rmtree(path, ignore_errors=True)
        self._dismiss_watcher()

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environ: Mapping[str, str] | None = None,
        patience: Patience = GENTLE,
    ) -> Part:
        """Start a part; its output goes to `<folder>/<name>.log`.

        Raises:
            OSError: the program cannot be run.
        """
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {}), **self._family.marks()},
                start_new_session=True,
            )
        part = self._parts[name] = Part(name, process, log, patience)
        self._family.adopt(process.pid)
        self._tell_watcher(f"{process.pid}\n")
        return part

    def first_ended(self) -> Part | None:
        """Return a part that should run and does not."""
        return next((part for part in self._parts.values() if not part.is_alive()), None)

    def stop(self, *names: str, in_a_hurry: Callable[[], bool] = lambda: False) -> None:
        """End these parts together, each by its patience; at once when `in_a_hurry` turns true."""
        stopping = [self._parts[name] for name in names if name in self._parts]
        started = time.monotonic()
        sent: dict[str, int] = {}
        while living := [part for part in stopping if part.is_alive()]:
            for part in living:
                _next_signal(part, sent, time.monotonic() - started, in_a_hurry())
            time.sleep(_TICK)
        for part in stopping:
            self._parts.pop(part.name, None)

    def _tell_watcher(self, text: str) -> None:
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        try:
            self._watcher.stdin.write(text.encode())
            self._watcher.stdin.flush()
        except BrokenPipeError:
            pass  # somebody ended it: one net less

    def _dismiss_watcher(self) -> None:
        self._tell_watcher(".")
        if self._watcher is not None:
            self._watcher.communicate()


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the end of a part's output; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []


def _next_signal(part: Part, sent: dict[str, int], elapsed: float, in_a_hurry: bool) -> None:
    """Send the signal that is due after `elapsed` seconds of waiting, once."""
    due = 0
    for _, seconds in part.patience:
        if elapsed < seconds:
            break
        elapsed -= seconds
        due += 1
    if in_a_hurry or due == len(part.patience):
        # The whole session: a pool child without its parent would run its task on.
        os.killpg(part.process.pid, signal.SIGKILL)
    elif sent.get(part.name) != due:
        sent[part.name] = due
        part.process.send_signal(part.patience[due][0])
