# mypy: disable-error-code="untyped-decorator,import-not-found"
"""The tasks of the matrix: each comes to its end by itself, also where a pool ignores a limit."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from liveapp import FOLDER, app, mark, ok, plet

from plet_celery import TrackedTask

__all__ = ["app", "plet"]

# STARTED in the result backend: Celery never learned what became of it.
app.conf.task_track_started = True


def wait_for_file(name: str) -> None:
    """Block until the test lets the task go on.

    Rarely awake: under gevent a signal then finds the hub at work, as it does in a quiet worker.
    """
    while not (FOLDER / name).exists():
        time.sleep(0.1)


def snooze(seconds: float) -> None:
    """Sleep in short pieces: limits strike between them, greenlets give way."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)


@app.task(base=TrackedTask, bind=True, soft_time_limit=1)
def soft_limited(self: TrackedTask) -> str:
    with self.stage("work"):
        snooze(float(os.environ.get("LIVE_SOFT_LIMITED", "5")))
    return "the soft limit did not strike"


@app.task(base=TrackedTask, bind=True, time_limit=1)
def hard_limited(self: TrackedTask) -> str:
    with self.stage("work"):
        snooze(float(os.environ.get("LIVE_HARD_LIMITED", "5")))
    return "the hard limit did not strike"


@app.task
def kill_process() -> None:
    mark("kill.started")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def exits() -> None:
    sys.exit(3)


@app.task(bind=True, acks_late=True)
def requeue_once(self: Task[..., Any]) -> str:
    if not (FOLDER / f"{self.request.id}.seen").exists():
        mark(f"{self.request.id}.seen")
        raise Reject("not yet", requeue=True)
    return "second time"


@app.task(base=TrackedTask, bind=True)
def wait(self: TrackedTask, name: str) -> str:
    with self.stage("wait"):
        mark(f"{name}.started")
        wait_for_file(f"{name}.go")
    return "waited"


@app.task(bind=True, acks_late=True)
def wait_late(self: Task[..., Any], name: str) -> str:
    mark(f"{name}.started")
    wait_for_file(f"{name}.go")
    return "waited"


@app.task(base=TrackedTask, bind=True)
def goes_on_as(self: TrackedTask) -> Any:
    return self.replace(ok.si())
