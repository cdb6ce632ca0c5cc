"""The app of the live tests: one task for each way a run can end, and a few that tell what they saw."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain, chord
from celery.exceptions import Ignore, Reject
from celery.worker.request import Request

from plet_celery import Plet, TrackedTask, current_run, journal_delivery, stage, track

app = Celery(
    "liveapp",
    broker=os.environ["LIVE_BROKER"],
    backend=os.environ["LIVE_BACKEND"],
    broker_connection_retry_on_startup=True,
)
app.conf.update(
    task_annotations={"liveapp.annotated": {"rate_limit": "1000/s"}},
    worker_soft_shutdown_timeout=float(os.environ.get("LIVE_SOFT", "0")),
    beat_schedule={"tick": {"task": "liveapp.ok", "schedule": 1.0}} if os.environ.get("LIVE_BEAT") else {},
    worker_prefetch_multiplier=1,
)
if prefix := os.environ.get("LIVE_PREFIX"):
    # A Redis that others use too.
    app.conf.broker_transport_options = {"global_keyprefix": prefix}
    app.conf.result_backend_transport_options = {"global_keyprefix": prefix}
if os.environ.get("LIVE_QUORUM"):
    app.conf.task_default_queue_type = "quorum"
    app.conf.broker_transport_options = {"confirm_publish": True}
if seconds := os.environ.get("LIVE_VISIBILITY"):
    app.conf.broker_transport_options = {"visibility_timeout": float(seconds), "unacked_restore_limit": 10}
if os.environ.get("LIVE_NO_QUEUE"):
    # What waits in the queue for a slow disk is acknowledged, and dies with its process.
    journal_delivery.SLOW_IN_A_ROW = sys.maxsize  # type: ignore[attr-defined]
plet = Plet(app)

FOLDER = Path(os.environ["LIVE_FOLDER"])


def wait_for_file(name: str) -> None:
    """Block until the test lets the task go on; wake often, so that limits strike."""
    while not (FOLDER / name).exists():
        time.sleep(0.01)


def mark(name: str, text: str = "") -> None:
    (FOLDER / name).write_text(text)


@app.task
def ok(*args: Any) -> str:
    return "fine"


@app.task(base=TrackedTask, bind=True, stages={"download": 1, "load": 3})
def tracked(self: TrackedTask, rows: int = 100) -> int:
    with self.stage("download", total=1) as download:
        download.advance()
    for number in self.track(range(rows), "load", unit="rows"):
        if number == 3:
            self.log("warning", "row three is odd", row=number)
    self.metadata["supplier"] = "acme"
    self.measure(gap=0.5)
    return rows


@app.task
def free_functions() -> None:
    with stage("outer"):
        for _ in track(range(5), "inner"):
            pass
    current_run().metadata["who"] = "free"


@app.task
def fail() -> None:
    raise ValueError("no such supplier")


class BrokenHooks(Task):  # type: ignore[type-arg]
    """What the hooks of a project do that were never tried."""

    def on_failure(self, *args: Any) -> None:
        raise LookupError("in on_failure")

    def on_retry(self, *args: Any) -> None:
        raise LookupError("in on_retry")


@app.task(base=BrokenHooks)
def fail_in_hook() -> None:
    raise ValueError("odd row")


@app.task(base=BrokenHooks, bind=True, max_retries=3)
def retry_in_hook(self: Task[..., Any]) -> None:
    raise self.retry(countdown=0.1)


@app.task
def cancelled_inside() -> None:
    raise asyncio.CancelledError


@app.task(bind=True, max_retries=3)
def retry_then_ok(self: Task[..., Any]) -> str:
    if self.request.retries < 1:
        raise self.retry(exc=ConnectionError("try again"), countdown=0.1)
    return "second time"


@app.task(autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 1, "countdown": 0.1})
def retry_then_fail() -> None:
    raise ConnectionError("never")


@app.task
def ignore() -> None:
    raise Ignore("not today")


@app.task(acks_late=True)
def reject() -> None:
    raise Reject("bad message", requeue=False)


@app.task(soft_time_limit=5, time_limit=60)
def soft_limit() -> None:
    wait_for_file("never")


@app.task(base=TrackedTask, bind=True, time_limit=12)
def hard_limit(self: TrackedTask) -> None:
    with self.stage("wait", total=1_000_000) as one:
        while True:
            one.advance(0.001)
            time.sleep(0.001)


@app.task
def kill_child() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def exit_child() -> None:
    sys.exit(3)


@app.task(base=TrackedTask, bind=True)
def wait(self: TrackedTask, name: str) -> str:
    with self.stage("wait"):
        mark(f"{name}.started")
        wait_for_file(f"{name}.go")
    return "waited"


@app.task(acks_late=True)
def wait_late(name: str) -> str:
    with (FOLDER / f"{name}.started").open("a") as file:
        file.write("x")
    wait_for_file(f"{name}.go")
    return "waited"


@app.task(base=TrackedTask, bind=True)
def replaced(self: TrackedTask, how: str) -> Any:
    last = fail.si() if how == "fail" else ok.si()
    return self.replace(chain(ok.si(), last, ok.si()))


@app.task
def talk() -> None:
    print("printed", "words", 7)
    print("two\nlines")
    sys.stderr.write("unfinished")
    logging.getLogger("shop").warning("logged %s", "line")
    logging.getLogger("shop").info("token=%s", "canary-in-a-log-line")
    app.log.get_default_logger()
    from celery.utils.log import get_task_logger

    get_task_logger("shop.tasks").warning("from the task logger")
    warnings.warn("old way", stacklevel=1)
    thread = threading.Thread(target=lambda: logging.getLogger("shop").warning("from a thread"))
    thread.start()
    thread.join()
    pid = os.fork()
    if pid == 0:
        with stage("in a fork"):
            logging.getLogger("shop").warning("from a fork")
        os._exit(0)
    os.waitpid(pid, 0)


@app.task
def nested(depth: int) -> None:
    if depth:
        nested.delay(depth - 1)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def collect(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def start_chord() -> None:
    chord([add.s(1, 1), add.s(2, 2)])(collect.s())


@app.task
def login(user: str, password: str, options: dict[str, Any]) -> str:
    return "ok"


class CountingRequest(Request):
    """A user's own request class: it must still be called."""

    def on_accepted(self, pid: Any, time_accepted: float) -> Any:
        mark("accepted", str(pid))
        return super().on_accepted(pid, time_accepted)


class OwnTask(Task):  # type: ignore[type-arg]
    """A user's own base class."""

    Request = CountingRequest  # type: ignore[assignment]


@app.task(base=OwnTask)
def with_own_request() -> None:
    kill_child()


@app.task
def annotated() -> None: ...


@app.task(base=TrackedTask, bind=True)
def acknowledge(self: TrackedTask, name: str) -> None:
    """Log numbered lines for ever; each that was acknowledged is told to the test by a pipe-like file."""
    run = current_run()
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = 0
    while True:
        number += 1
        data = {
            "level": 30,
            "logger": "kill",
            "stream": "task",
            "text": f"line {number}",
            "i": number,
            "o": number * 10,
        }
        if run.emit("log.written", data):
            os.write(descriptor, b"%d\n" % number)


@app.task
def chained(value: Any = None) -> str:
    return "chained"


@app.task
def link_target(value: Any = None) -> None: ...


@app.task(base=TrackedTask, bind=True)
def replace_with_group(self: TrackedTask) -> Any:
    return self.replace(chord([add.s(1, 1), add.s(2, 2)], collect.s()))


@app.task
def say(text: str, **words: str) -> None:
    logging.getLogger("shop").warning("%s", text)
