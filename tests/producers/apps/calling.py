"""The app that the callers of these tests publish to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from plet_celery import Plet, TrackedTask

app = Celery("calling", broker=os.environ["CALLING_BROKER"], backend=os.environ.get("CALLING_BACKEND"))
app.conf.task_ignore_result = not os.environ.get("CALLING_BACKEND")
app.conf.beat_schedule = {"tick": {"task": "calling.add", "schedule": 0.5, "args": (1, 2)}}
app.conf.beat_schedule_filename = os.environ.get("CALLING_SCHEDULE", "celerybeat-schedule")
plet = Plet(app)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(base=TrackedTask, bind=True, stages=("load",))
def load(self: Any, rows: int) -> int:
    with self.stage("load", total=rows, unit="rows") as stage:
        stage.set(rows // 2)
        while not (Path(os.environ["CALLING_FOLDER"]) / "go").exists():
            time.sleep(0.05)
            stage.set(rows // 2)
        stage.set(rows)
    return rows
