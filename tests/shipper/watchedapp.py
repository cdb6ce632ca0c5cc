"""The app of the supervision tests: Celery with nothing but a watch over its journal."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

from plet_celery import events, supervision
from plet_celery.journal import Writer, WriterLimits

CONFIG = json.loads(Path(os.environ["WATCHED_CONFIG"]).read_text())
LIMITS = WriterLimits(min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0)

app = Celery("watchedapp", broker=os.environ["WATCHED_BROKER"], backend=os.environ["WATCHED_BACKEND"])
app.conf.worker_hijack_root_logger = True
writer = Writer(
    Path(CONFIG["journal"]), role="worker", settings_fingerprint=CONFIG["fingerprint"], limits=LIMITS
)


def last_words() -> None:
    """The last event of a worker, written while it waits for nothing else any more."""
    facts = {"worker": "w", "host": "h", "pid": os.getpid()}
    writer.append(events.WORKER_STOPPED, None, None, facts)
    Path(os.environ["WATCHED_CONFIG"]).with_name(f"stopped-{os.getpid()}").touch()


supervision.configure(app, lambda: CONFIG, before_drain=last_words)


@app.task(name="watched.run", bind=True)
def run(self, number: int) -> int:  # type: ignore[no-untyped-def]
    """Write a whole run from the task process."""
    run_id = self.request.id
    facts = {"task": self.name, "worker": "w", "host": "h", "pid": os.getpid(), "pool": "prefork"}
    writer.append(events.RUN_STARTED, run_id, f"{run_id}-1", {**facts, "retries": 0, "trigger": "manual"})
    writer.append(events.RUN_SUCCEEDED, run_id, f"{run_id}-1", {"by": "child", "runtime": 0.1})
    return number
