# mypy: disable-error-code="untyped-decorator,import-not-found"
"""Tasks that run beside each other, and tasks that report progress as fast as they can."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import Any

from celery import Task
from liveapp import FOLDER, app, mark, plet

from plet_celery import TrackedTask, current_run

__all__ = ["app", "plet"]

ROUNDS = 60


@app.task(base=TrackedTask, bind=True, stages={"first": 1, "second": 1}, time_limit=300)
def talk_beside(self: TrackedTask, name: str, other: str) -> str:
    """Say a lot, in pieces, each time giving way to `other`, which does the same."""
    mark(f"{name}.started")
    while not (FOLDER / f"{other}.started").exists():
        time.sleep(0.01)
    with self.stage("first", total=ROUNDS, unit=name) as stage:
        for number in range(ROUNDS):
            stage.message = f"{name} is at {number}"
            print(name, end=" ")
            time.sleep(0.001)
            print("prints", number)
            logging.getLogger("shop").warning("%s logs %d", name, number)
            time.sleep(0.001)
            self.log("warning", f"{name} tells {number}")
            stage.advance()
            time.sleep(0.001)
        sys.stderr.write(f"{name} ends unfinished")
    warnings.warn_explicit(f"{name} warns", UserWarning, f"{name}.py", 1)
    self.metadata["name"] = name
    for _ in self.track(range(ROUNDS), "second", unit=name):
        current_run().measure(**{name: 1.0})
        time.sleep(0.01)
    with self.stage("third", total=10, unit=name) as third:
        third.message = f"{name} waits"
        while not (FOLDER / "beside.go").exists():
            third.advance(0.001)
            time.sleep(0.01)
    return name


@app.task(base=TrackedTask, bind=True)
def hurry(self: TrackedTask, how: str, seconds: float = 2.0) -> str:
    """Report progress as fast as it goes, up to the very end; go on until the test has seen some."""
    until = time.monotonic() + seconds
    with self.stage("hurry", total=10_000_000) as stage:
        while time.monotonic() < until or not (FOLDER / "hurry.go").exists():
            stage.advance()
            stage.set(stage.done)
    with self.stage("last", total=1) as last:
        last.advance()
        if how == "fail":
            raise ValueError("at the very end")
    return how


@app.task(base=TrackedTask, bind=True)
def attend(self: TrackedTask, name: str) -> str:
    """Report progress until the test lets it go."""
    with self.stage("attend") as stage:
        while not (FOLDER / f"{name}.go").exists():
            stage.advance()
            time.sleep(0.01)
    return name


@app.task(base=TrackedTask, bind=True, ignore_result=True)
def hurry_unseen(self: TrackedTask, seconds: float = 1.5) -> None:
    until = time.monotonic() + seconds
    with self.stage("hurry", total=10_000_000) as stage:
        while time.monotonic() < until:
            stage.advance()


@app.task(bind=True, acks_late=True)
def twice(self: Task[..., Any]) -> str:
    """Go on until the same id has started a second time: that is what a short visibility timeout does."""
    with (FOLDER / "twice.started").open("a") as file:
        file.write("x")
    until = time.monotonic() + 300
    while len((FOLDER / "twice.started").read_text()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    mark(f"twice.seen.{time.monotonic_ns()}")
    while not (FOLDER / "twice.go").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return "done"
