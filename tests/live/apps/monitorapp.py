"""The app of the monitor's live tests: promises that a test breaks, and whom is told of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from plet_celery import MaxRuntime, Plet, TrackedTask, alert_fired

FOLDER = Path(os.environ["LIVE_FOLDER"])

app = Celery(
    "monitorapp",
    broker=os.environ["LIVE_BROKER"],
    backend=os.environ["LIVE_BACKEND"],
    broker_connection_retry_on_startup=True,
)
app.conf.update(
    worker_prefetch_multiplier=1,
    plet_monitor_interval=float(os.environ.get("LIVE_INTERVAL", "1")),
    plet_monitor=os.environ.get("LIVE_MONITOR", "1") == "1",
    plet_monitor_queue=os.environ.get("LIVE_MONITOR_QUEUE"),
    plet_check_timeout=float(os.environ.get("LIVE_CHECK_TIMEOUT", "2")),
    # A test's own alert is to be the only one.
    plet_rules={"check": "off", "monitor_silent": "off", "queue_depth": "off"},
    plet_channels={"call": {"kind": "call", "function": "monitorapp:tell"}},
)
if hook := os.environ.get("LIVE_WEBHOOK"):
    app.conf.plet_channels["hook"] = {
        "kind": "webhook",
        "allow_private": True,
        "allow_http": True,
        "timeout": float(os.environ.get("LIVE_WEBHOOK_TIMEOUT", "10")),
    }
    app.conf.plet_channel_secret_urls = [f"hook={hook}"]
    app.conf.plet_channel_secret_keys = ["hook=0123456789abcdef"]
plet = Plet(app)


def note(name: str, text: str) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(f"{text}\n")


def tell(message: Any) -> None:
    """The channel `call`."""
    note("called", f"{message.kind} {message.id}")


@alert_fired.connect(weak=False)
def on_fired(sender: Any, message: Any, **kwargs: Any) -> None:
    note("signalled", f"{message.kind} {sender.main}")


def wait_for_file(name: str) -> None:
    while not (FOLDER / name).exists():
        time.sleep(0.01)


@app.task(base=TrackedTask, bind=True, shared=False, objectives=[MaxRuntime(0.5, severity="critical")])
def held(self: Any, name: str) -> str:
    """Run until the test lets it go: longer than promised."""
    wait_for_file(f"{name}.go")
    return name


@app.task(shared=False)
def free() -> str:
    return "fine"
