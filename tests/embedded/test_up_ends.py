"""What runs and waits when `celery plet up` ends has an end in the store: nothing is left open for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stacks import environment, processes_of
from waiting import wait_until

from plet_celery.errors import PletError
from plet_celery.store import open_store, queries

pytestmark = pytest.mark.slow

PROJECT = """
import time
from celery import Celery
from plet_celery import Plet, TrackedTask

app = Celery("proj")
plet = Plet(app)

@app.task(base=TrackedTask, bind=True)
def sleep(self):
    while True:
        time.sleep(0.05)

@app.task(base=TrackedTask, bind=True)
def parent(self):
    for _ in range(3):
        sleep.delay()
    sleep.apply_async(countdown=600)
    again.delay()
    sleep()

@app.task(base=TrackedTask, bind=True)
def again(self):
    raise self.retry(countdown=600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a small project `proj`."""
    (tmp_path / "proj.py").write_text(PROJECT)
    return tmp_path


@contextmanager
def under_way(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A stack with a run that runs and five that wait, all of them stored."""
    words = ("up", "--call", "proj.parent", "--concurrency", "1", "--no-web")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "celery", "-A", "proj", "plet", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: states(folder) == {"running": 1, "queued": 5}, 60, what=lambda: str(states(folder))
        )
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_until(lambda: not processes_of(folder), 60)


def states(folder: Path) -> dict[str, int]:
    """How many runs are in which state, as the store has it."""
    found: dict[str, int] = {}
    path = folder / ".plet" / "plet.db"
    if not path.exists():
        return found
    store = open_store(f"sqlite:///{path}", read_only=True)
    try:
        for run in queries.list_runs(store, limit=50).items:
            found[run.state] = found.get(run.state, 0) + 1
    except PletError:
        pass  # its tables are being made
    finally:
        store.close()
    return found


@pytest.mark.parametrize("hurries", [False, True], ids=["once", "twice"])
def test_ctrl_c_leaves_no_run_open(project: Path, hurries: bool) -> None:
    with under_way(project) as process:
        process.send_signal(signal.SIGINT)
        if hurries:
            assert process.stdout is not None
            wait_until(lambda: b"another Ctrl-C" in process.stdout.readline(), 60)  # type: ignore[union-attr]
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)

    assert states(project) == {"lost" if hurries else "interrupted": 1, "cancelled": 5}


def test_a_killed_stack_leaves_no_run_running(project: Path) -> None:
    with under_way(project) as process:
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(project), 60)

    assert states(project) == {"lost": 1, "queued": 5}
