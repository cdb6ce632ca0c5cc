"""Tasks whose bodies are `async def`, or start threads, for workers of every pool."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from pydantic import BaseModel

from plet_celery import Plet, TrackedTask, stage

app = Celery(
    "bodiesapp",
    broker=os.environ["LIVE_BROKER"],
    backend=os.environ["LIVE_BACKEND"],
    broker_connection_retry_on_startup=True,
)
app.conf.update(worker_prefetch_multiplier=1)
plet = Plet(app)

FOLDER = Path(os.environ["LIVE_FOLDER"])
say = logging.getLogger("shop").warning


class Order(BaseModel):
    """An argument and a result."""

    rows: int


def mark(name: str, text: str = "") -> None:
    (FOLDER / name).write_text(text)


async def file(name: str) -> None:
    while not (FOLDER / name).exists():
        await asyncio.sleep(0.01)


@app.task
def plain() -> int:
    return os.getpid()


@app.task(base=TrackedTask, bind=True)
async def both(self: TrackedTask) -> int:
    async def child(name: str) -> None:
        with stage(name):
            await asyncio.sleep(0.01)
            say("in %s", name)

    with self.stage("outer"):
        await asyncio.gather(child("a"), child("b"))
        await asyncio.to_thread(say, "in outer")
    return os.getpid()


@app.task(
    base=TrackedTask,
    bind=True,
    shared=False,
    pydantic=True,
    autoretry_for=(ConnectionError,),
    retry_backoff=1,
)
async def flaky(self: Any, order: Order) -> Order:
    await asyncio.sleep(0)
    if self.request.retries < 1:
        raise ConnectionError("not yet")
    return Order(rows=order.rows + self.request.retries)


@app.task(base=TrackedTask, bind=True, soft_time_limit=5, time_limit=60)
async def limited(self: TrackedTask, catches: bool) -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(600))
    except SoftTimeLimitExceeded:
        if not catches:
            raise
        with self.stage("after the limit"):
            await asyncio.sleep(0.01)
    return "partial"


@app.task(base=TrackedTask)
async def cancels_itself() -> None:
    raise asyncio.CancelledError("of itself")


@app.task(base=TrackedTask)
async def waits(name: str) -> str:
    try:
        mark(f"{name}.started")
        await file(f"{name}.go")
    finally:
        await asyncio.sleep(0)
        mark(f"{name}.cleaned")
    return "waited"


@app.task(base=TrackedTask, time_limit=2)
async def hard_limit() -> None:
    await asyncio.sleep(600)


@app.task(base=TrackedTask)
async def kills_its_process() -> None:
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


_shared = ThreadPoolExecutor(1)


@app.task(base=TrackedTask, bind=True)
def threaded(self: TrackedTask, name: str, lingers: bool) -> None:
    with self.stage(name):
        thread = threading.Thread(target=say, args=(f"{name}: thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(say, [f"{name}: job"]))
        _shared.submit(say, f"{name}: shared job").result()
        asyncio.run(asyncio.to_thread(say, f"{name}: to_thread"))
    if lingers:

        def linger() -> None:
            while not (FOLDER / "linger.go").exists():
                time.sleep(0.01)
            say("late")
            mark("linger.done")

        threading.Thread(target=linger, daemon=True).start()


@app.task(base=TrackedTask)
def wakes_the_lingerer() -> None:
    mark("linger.go")
    while not (FOLDER / "linger.done").exists():
        time.sleep(0.01)
    say("mine")
