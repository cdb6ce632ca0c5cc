"""The app of the worker life tests: short, long and large tasks; settings from environment or conf.json."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery

from plet_celery import Plet, journal, journal_delivery

app = Celery("lifeapp", broker=os.environ["LIFE_BROKER"], backend=os.environ["LIFE_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": int(os.environ.get("LIFE_VISIBILITY", "3600"))},
    task_acks_late=bool(os.environ.get("LIFE_LATE")),
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=60.0,
)
FOLDER = Path(os.environ["LIFE_FOLDER"])
if (FOLDER / "conf.json").exists():
    app.conf.update(json.loads((FOLDER / "conf.json").read_text()))
if prefix := os.environ.get("LIFE_PREFIX"):
    app.conf.broker_transport_options = {"global_keyprefix": prefix}
    app.conf.result_backend_transport_options = {"global_keyprefix": prefix}
plet = Plet(app)

kept: list[bytes] = []

if pause := float(os.environ.get("LIFE_SLOW_DISK", "0")):

    def write_slowly(descriptor: int, record: Any) -> int:
        """What a disk does that takes its time."""
        time.sleep(pause)
        return os.write(descriptor, record)

    journal._write = journal_delivery._write = write_slowly


@app.task(name="life.ok")
def ok(number: int = 0) -> int:
    """Say which process ran it."""
    return os.getpid()


@app.task(name="life.say")
def say(text: str) -> None:
    """Write a line, and so a log folder."""
    print(text)


@app.task(name="life.count")
def count(lines: int) -> None:
    """Write many lines at once."""
    for number in range(lines):
        print(f"line {number}")


@app.task(name="life.nap")
def nap(seconds: float) -> int:
    """Take some time."""
    time.sleep(seconds)
    return os.getpid()


@app.task(name="life.grow")
def grow(mebibytes: int) -> int:
    """Keep memory, as a leaking library does."""
    kept.append(os.urandom(1) * (mebibytes << 20))
    return os.getpid()


@app.task(name="life.wait")
def wait(name: str) -> None:
    """Run until the test lets go."""
    (FOLDER / f"{name}.started").touch()
    while not (FOLDER / f"{name}.go").exists():
        time.sleep(0.02)


@app.task(name="life.die")
def die() -> None:
    """Lose the child in the middle of a run."""
    os.kill(os.getpid(), signal.SIGKILL)
