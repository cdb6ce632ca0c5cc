"""The app of the health tests: tasks that hang in several ways, and a worker that can be made deaf."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from celery.worker.control import control_command

from plet_celery import Plet, TrackedTask

app = Celery("healthapp", broker=os.environ["LIVE_BROKER"], backend=os.environ["LIVE_BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)
if os.environ.get("HEALTH_BEAT"):
    app.conf.beat_enable_remote_control = True
plet = Plet(app)

FOLDER = Path(os.environ["LIVE_FOLDER"])


@control_command()
def deafen(state: Any) -> dict[str, str]:
    """Stop taking messages, and say nothing of it: `active_queues` names the queue as before."""
    state.consumer.call_soon(state.consumer.task_consumer.channel.basic_cancel, _tag(state))
    return {"ok": "deaf"}


def _tag(state: Any) -> str:
    tag: str = next(iter(state.consumer.task_consumer._active_tags.values()))
    return tag


if os.environ.get("HEALTH_TAKES_SIGNAL") == "process":

    @worker_process_init.connect(weak=False)
    def take_signal(**kwargs: Any) -> None:
        """Have a handler of our own in every child."""
        signal.signal(signal.SIGUSR2, _mine)


def _mine(number: int, frame: Any) -> None:
    (FOLDER / "handled").touch()


def _wait(name: str) -> None:
    while not (FOLDER / f"{name}.go").exists():
        time.sleep(0.01)


@app.task
def quick() -> str:
    return "fine"


@app.task(base=TrackedTask, bind=True)
def hang(self: TrackedTask, name: str) -> str:
    """Say one line, then nothing."""
    with self.stage("waiting"):
        self.log("info", "from now on I am silent")
        (FOLDER / f"{name}.began").touch()
        wait_in_vain(name)
    return "done"


def wait_in_vain(name: str) -> None:
    _wait(name)


@app.task(plet_stuck_after=3600)
def quiet(name: str) -> None:
    """Be silent for good reason."""
    (FOLDER / f"{name}.began").touch()
    _wait(name)


@app.task(base=TrackedTask, bind=True)
def talk(self: TrackedTask, name: str) -> None:
    """Go on talking."""
    while not (FOLDER / f"{name}.go").exists():
        self.log("info", "still here")
        (FOLDER / f"{name}.began").touch()
        time.sleep(0.05)


@app.task(base=TrackedTask, bind=True)
def hang_with_signal(self: TrackedTask, name: str, how: str) -> str:
    """Take SIGUSR2 in the body, or give it back to the system, then hang."""
    if how == "take":
        signal.signal(signal.SIGUSR2, _mine)
    elif how == "default":
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    elif how == "close":
        os.closerange(3, 256)
    (FOLDER / f"{name}.began").touch()
    _wait(name)
    return "done"
