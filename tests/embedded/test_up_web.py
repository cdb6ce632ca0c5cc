"""`celery plet up` starts Flower with the pages, tells where, and ends it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from stacks import Terminal, environment, processes_of

PROJECT = """
from celery import Celery
from plet_celery import Plet, TrackedTask

app = Celery("proj")
plet = Plet(app)

@app.task(base=TrackedTask)
def add(x, y=1):
    return x + y
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "proj.py").write_text(PROJECT)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "celery", "-A", "proj", "plet", "up", *words]


def fetched(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        return str(answer.read().decode())


def port_of(seen: str) -> tuple[str, int]:
    """The address of the pages that `up` has told, and its port."""
    found = re.search(r"\nweb +(http://127\.0\.0\.1:(\d+)/plet/)", seen)
    assert found is not None, seen
    return found[1], int(found[2])


def test_the_pages_show_the_called_run_and_end_with_the_rest(project: Path) -> None:
    with socket.socket() as taken:
        # The first port is somebody else's, or already was.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        is_taken_by_us = True
        try:
            taken.bind(("127.0.0.1", 5555))
            taken.listen()
        except OSError:
            is_taken_by_us = False
        with Terminal(command("--call", "proj.add", "[1]"), cwd=project) as terminal:
            seen = terminal.read_until("Ctrl-C ends it")
            address, port = port_of(seen.replace("\r", ""))
            run = re.search(r"is run ([0-9a-f-]{36})", seen)
            assert run is not None
            assert port > 5555 or not is_taken_by_us
            assert run[1] in fetched(address)
            assert "proj.add" in fetched(f"{address}runs/{run[1]}")

            terminal.type(b"\x03")
            assert terminal.wait() == 0, terminal.seen
    assert processes_of(project) == []


def test_without_the_pages_there_are_none(project: Path) -> None:
    with Terminal(command("--no-web"), cwd=project) as terminal:
        seen = terminal.read_until("Ctrl-C ends it")
        terminal.type(b"\x03")
        assert terminal.wait() == 0
    assert "\nweb " not in seen.replace("\r", "")


def test_a_flower_that_does_not_start_is_named_with_its_last_lines(project: Path) -> None:
    (project / "flowerconfig.py").write_text("raise RuntimeError('canary of the configuration')\n")

    done = subprocess.run(
        command(), cwd=project, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "flower ended with exit code 1" in said
    assert "canary of the configuration" in said
    assert processes_of(project) == []


def test_a_port_that_somebody_takes_meanwhile_is_left_to_them(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        starter = "\n".join(
            [
                "import itertools",
                "from celery.__main__ import main",
                "from plet_celery.embedded import stack",
                "found = stack.free_ports",
                f"stack.free_ports = lambda *place: itertools.chain([{port}], found(*place))",
                "main()",
            ]
        )
        words = [sys.executable, "-P", "-c", starter, "-A", "proj", "plet", "up"]
        with Terminal(words, cwd=project) as terminal:
            seen = terminal.read_until("Ctrl-C ends it")
            address, other = port_of(seen.replace("\r", ""))
            assert other != port
            assert "runs" in fetched(address)

            terminal.type(b"\x03")
            assert terminal.wait() == 0, terminal.seen
    assert processes_of(project) == []


def test_doctor_names_flowers_version(project: Path) -> None:
    from importlib.metadata import version

    done = subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "proj", "plet", "doctor"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert re.search(rf"flower\W+{re.escape(version('flower'))}", done.stdout), done.stdout
