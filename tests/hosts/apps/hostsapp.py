"""The app of the two hosts: tasks that end at once, that wait for a word, and a canvas over both queues."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task, chord

from plet_celery import Plet

app = Celery(
    "hostsapp",
    broker=os.environ["HOSTS_BROKER"],
    backend=os.environ["HOSTS_BACKEND"],
    broker_connection_retry_on_startup=True,
)
app.conf.worker_prefetch_multiplier = 1
plet = Plet(app)


@app.task
def part(number: int) -> int:
    return number


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def wait(word: str) -> str:
    """Run until somebody says the word."""
    said = Path(os.environ["HOSTS_FOLDER"]) / word
    while not said.exists():
        time.sleep(0.02)
    return word


@app.task(bind=True)
def fan(self: Task[..., Any], parts: int) -> str:
    """Begin a canvas: its parts run on both hosts in turn, its end on the other one."""
    header = [part.s(number).set(queue="ab"[number % 2]) for number in range(parts)]
    return str(chord(header)(total.s().set(queue="b")).id)
