"""Spawn the shipper of a journal as a process of its own, and reap it.

The child gets its document on a pipe, never by argument or environment; a short list of
environment variables; its own session; `/` as working directory; `shipper.log` as output.
It takes the lock itself: the parent never holds it.
"""

from __future__ import annotations

import json
import logging
import os
import site
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from plet_celery import presence

log = logging.getLogger(__name__)

LOG_NAME: Final = "shipper.log"
_BACKOFF_MAX: Final = 60.0
_WRITE_SECONDS: Final = 5.0
_WRITE_RETRY: Final = 0.005
# What an interpreter and a database driver need, and the mark by which `celery plet up` finds its
# family; everything else, secrets above all, stays out.
_ENVIRONMENT: Final = frozenset(
    {
        "PATH",
        "PLET_UP_TOKEN",
        "PLET_MACHINE_ID",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "PYTHONHOME",
        "PYTHONPYCACHEPREFIX",
        "PYTHONDONTWRITEBYTECODE",
    }
)
_ENVIRONMENT_PREFIXES: Final = ("LC_", "PG")


def spawn_shipper(
    config: Mapping[str, Any], *, take_over: presence.Beat | None = None, seize: bool = False
) -> subprocess.Popen[bytes]:
    """Start `python -m plet_celery.shipper` for a journal; it exits 0 at once if another one serves.

    Args:
        config: what `plet.shipper_config()` returns.
        take_over: the beat of the frozen holder.
        seize: replace the lock file if `take_over` is still the newest beat.

    Raises:
        OSError: the process or its log file cannot be made.
    """
    document = dict(config)
    if seize:
        document["take_over"] = {"beat": msgspec.to_builtins(take_over)}
    with _open_log(Path(config["journal"])) as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "plet_celery.shipper"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=shipper_environment(),
            start_new_session=True,
        )
    assert process.stdin is not None
    with process.stdin as pipe:
        if not hand_over(pipe, json.dumps(document).encode()):
            log.debug("shipper did not read its document: pid=%d", process.pid)
    return process


def hand_over(pipe: IO[bytes], document: bytes) -> bool:
    """Write a document to a child; False if it ended, or is too slow to be waited for.

    A child that is frozen before it reads would block who spawned it: a worker's event loop, a web request.
    """
    rest, deadline = memoryview(document), time.monotonic() + _WRITE_SECONDS
    os.set_blocking(pipe.fileno(), False)
    while rest:
        try:
            rest = rest[os.write(pipe.fileno(), rest) :]
        except BlockingIOError:
            # Not `select`: a process may have more files open than that can name.
            if time.monotonic() >= deadline:
                return False
            time.sleep(_WRITE_RETRY)
        except BrokenPipeError:
            return False
    return True


class Spawner:
    """At most one shipper at a time, reaped when it ends, spawned ever more rarely while it fails."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._journal: Path | None = None
        self._failures = 0
        self._not_before = float("-inf")

    def is_running(self, now: float) -> bool:
        """Tell whether our shipper has not ended; reaps it when it has."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        if code == 0:
            self._failures = 0
        else:
            self._note_failure(code, now)
        return False

    def spawn(
        self,
        config: Mapping[str, Any],
        *,
        now: float,
        take_over: presence.Beat | None = None,
        seize: bool = False,
    ) -> None:
        """Spawn one, unless one of ours runs or the last ones failed a moment ago."""
        if now < self._not_before or (self.is_running(now) and not seize):
            return
        self.let_go()
        self._journal = Path(config["journal"])
        try:
            self._process = spawn_shipper(config, take_over=take_over, seize=seize)
        except OSError as error:
            self._note_failure(error, now)

    def let_go(self) -> None:
        """Forget our shipper without ending it: it outlives this process."""
        if self._process is not None and self._process.poll() is None:
            # Popen warns about a child that is still running when it is collected; ours is meant to.
            self._process.returncode = 0
        self._process = None

    def _note_failure(self, cause: object, now: float) -> None:
        self._failures += 1
        wait = min(_BACKOFF_MAX, 2.0**self._failures)
        self._not_before = now + wait
        # One line per incident; the count rides in the next one.
        if self._failures in (1, 5) or self._failures % 60 == 0:
            log.warning(
                "shipper failed: journal=%s failures=%d cause=%s retry_in=%.0fs last_line=%r",
                self._journal,
                self._failures,
                cause,
                wait,
                _last_line(self._journal),
            )


def _open_log(journal: Path) -> Any:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(journal / LOG_NAME, flags, 0o600), "ab")


def shipper_environment(*more: str) -> dict[str, str]:
    """Return what of this process's environment a shipper gets.

    Args:
        more: names of further variables.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name in more or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    # The child starts in /, so relative entries are resolved here; a source tree that was only
    # found through the working directory is named too.
    paths = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own = str(Path(__file__).resolve().parent.parent)
    if own not in paths and own not in site.getsitepackages():
        paths.append(own)
    if paths:
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept


def _last_line(journal: Path | None) -> str:
    if journal is None:
        return ""
    try:
        with (journal / LOG_NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2048))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
