"""Runs told to hosts line by line, for the tests of what readers see."""

from __future__ import annotations

import time
import uuid
from typing import Any

from removing import Host

from plet_celery import events
from plet_celery.events import Event


class Story:
    """One run told to hosts, line by line."""

    def __init__(self, run: str | None = None) -> None:
        self.run = run or str(uuid.uuid4())
        self.now = time.time() - 100
        self.attempt = ""
        self.line = 0

    def event(self, host: Host, kind: str, **data: Any) -> Event:
        self.now = round(self.now + 0.001, 6)
        return host.event(kind, self.now, self.run, self.attempt, **data)

    def start(self, host: Host, **data: Any) -> Event:
        self.now += 1.0
        self.attempt, self.line = uuid.uuid4().hex, 0
        facts = {"task": "shop.load", "worker": f"celery@{host.home.name}", "pid": 7, "trigger": "api"}
        return self.event(host, events.RUN_STARTED, **facts | data)

    def log(self, host: Host, words: str, *, level: int = 20, **data: Any) -> Event:
        self.line += 1
        facts = {"level": level, "logger": "shop", "stream": "log", "i": self.line, "o": self.line * 50}
        return self.event(host, events.LOG_WRITTEN, text=words, **facts | data)

    def end(self, host: Host, kind: str = events.RUN_SUCCEEDED) -> Event:
        error = {"type": "ValueError", "message": "bad row"} if kind == events.RUN_FAILED else None
        return self.event(host, kind, by="child", runtime=1.0, error=error)
