"""Believable recorded runs for tests of readers: events as tasks write them, brought into a real store.

story = Story(url)
run = story.run("shop.import", started=now - 12)
run.stage("parse", total=668, done=412, unit="files")
run.log("poison.py: invalid syntax", level=30)
run.fail("SyntaxError", "invalid syntax")
story.ship()
"""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any

from plet_celery import events
from plet_celery.events import Event
from plet_celery.logfiles import LogFiles, LogLimits
from plet_celery.store import IngestLimits, open_store

WORKER = "celery@atlas"
HOST = "atlas"


class Story:
    """One journal of one host: runs are told, then shipped in the order of their times."""

    def __init__(self, url: str, *, home: Path | None = None) -> None:
        """Open the store, making its tables; with `home`, log files are written there too."""
        self.store = open_store(url)
        self.store.ensure_schema()
        self._lease = self.store.take_lease(
            uuid.uuid4().hex, host=HOST, machine="m", boot="b", pid=1, now=1.0
        )
        self._writer = uuid.uuid4().hex
        self._offset = itertools.count(0, 200)
        self._waiting: list[tuple[float, str, str, str | None, str | None, dict[str, Any]]] = []
        self._logs: LogFiles | None = None
        self.write_logs = True
        self._unwritten: list[tuple[list[Event], dict[str, tuple[int, int]]]] = []
        if home is not None:
            (home / "journal").mkdir(parents=True, exist_ok=True)
            self._logs = LogFiles(home / "runs", home / "journal", limits=LogLimits())

    def add(self, kind: str, at: float, run: str | None, attempt: str | None, **data: Any) -> None:
        """Tell one event; None values are left out."""
        told = {k: v for k, v in data.items() if v is not None}
        self._waiting.append((at, self._writer, kind, run, attempt, told))

    def worker(self, name: str, at: float, **facts: Any) -> None:
        """Start a worker, which writes as itself."""
        told = {"worker": name, "host": HOST, "pid": 4700, "pool": "prefork", "concurrency": 8, "app": "shop"}
        self._waiting.append((at, uuid.uuid4().hex, events.WORKER_STARTED, None, None, told | facts))

    def run(self, task: str, **facts: Any) -> RunStory:
        """Start a run; see `RunStory`."""
        return RunStory(self, task, **facts)

    def ship(self, *, files_later: bool = False) -> None:
        """Bring everything told so far into the store, and into the log files."""
        told = sorted(self._waiting, key=lambda one: one[0])
        self._waiting.clear()
        batch = [
            Event(
                kind=kind,
                wall=at,
                mono=at,
                run=run,
                attempt=attempt,
                data=data,
                writer=writer,
                segment=1,
                offset=next(self._offset),
            )
            for at, writer, kind, run, attempt, data in told
        ]
        if not batch:
            return
        for start in range(0, len(batch), 2000):
            part = batch[start : start + 2000]
            positions = {one.writer: (1, one.offset + 200) for one in part}
            self.store.ingest(self._lease, part, positions, limits=IngestLimits(), now=part[-1].wall)
            self._unwritten.append((part, positions))
        if not files_later:
            self.write_files()

    def write_files(self) -> None:
        """Bring into the log files what only the store has got so far."""
        if self._logs is not None and self.write_logs:
            for part, positions in self._unwritten:
                self._logs.apply(part, positions)
        self._unwritten.clear()

    def close(self) -> None:
        """Let go of the store and of the log files."""
        self.store.close()
        if self._logs is not None:
            self._logs.close()


class RunStory:
    """One run: each call tells what its task would write."""

    def __init__(
        self,
        story: Story,
        task: str,
        *,
        started: float,
        id: str | None = None,  # noqa: A002
        canvas: str | None = None,
        parent: str | None = None,
        **facts: Any,
    ) -> None:
        self.id = id or str(uuid.uuid4())
        self.task = task
        self.canvas = canvas or self.id
        self._story = story
        self._parent = parent
        self._place = {
            "worker": facts.pop("worker", WORKER),
            "host": facts.pop("host", HOST),
            "pid": facts.pop("pid", 4711),
        }
        self._facts = {"trigger": "manual", "queue": "celery"} | facts
        self._begin(started)

    def _begin(self, at: float, retries: int = 0) -> None:
        self.attempt = uuid.uuid4().hex
        self.now = self._started = at
        self._stages = 0
        self._lines = 0
        self._calls = 0
        facts: dict[str, Any] = {
            "task": self.task,
            "tracked": True,
            "pool": "prefork",
            "retries": retries,
            "redelivered": False,
            "queued_at": at - 0.3,
            "canvas": self.canvas,
            "parent": self._parent,
            "root": self.canvas,
        }
        self._tell(events.RUN_STARTED, **facts | self._place | self._facts)

    def _tell(self, kind: str, **data: Any) -> None:
        self._story.add(kind, self.now, self.id, self.attempt, **data)

    def plan(self, *names: str) -> None:
        """Declare stages; `stage` then takes their numbers in order."""
        for number, name in enumerate(names, 1):
            self._tell(events.STAGE_PLANNED, stage=number, name=name, weight=1.0)

    def stage(
        self,
        name: str,
        *,
        took: float = 1.0,
        total: float | None = None,
        done: float | None = None,
        unit: str | None = None,
        parent: int | None = None,
        message: str | None = None,
        percent: float | None = None,
        state: str = "succeeded",
        error: dict[str, Any] | None = None,
    ) -> int:
        """Tell a stage that took so long; with `done` below `total` and state running it goes on."""
        self._stages += 1
        number = self._stages
        self._tell(events.STAGE_STARTED, stage=number, name=name, total=total, unit=unit, parent=parent)
        self.now += took
        if state == "running":
            self._tell(
                events.STAGE_PROGRESSED,
                stage=number,
                done=done or 0,
                total=total,
                message=message,
                percent=percent,
            )
        else:
            end = events.STAGE_SUCCEEDED if state == "succeeded" else events.STAGE_FAILED
            finished = total if done is None else done
            self._tell(
                end,
                stage=number,
                done=finished or 0,
                total=total,
                message=message,
                elapsed=took,
                percent=percent,
                error=error,
            )
        return number

    def log(
        self,
        text: str,
        *,
        level: int = 20,
        stage: int | None = None,
        stream: str = "log",
        logger: str = "shop.tasks",
        after: float = 0.001,
        **more: Any,
    ) -> None:
        """Tell one line, `after` seconds behind what was told before it."""
        self._lines += 1
        self.now += after
        self._tell(
            events.LOG_WRITTEN,
            level=level,
            logger=logger,
            stream=stream,
            text=text,
            i=self._lines,
            o=self._lines * 100,
            stage=stage,
            **more,
        )

    def measure(self, **values: float) -> None:
        """Record a point of time series."""
        self._calls += 1
        self._tell(events.MEASURE_RECORDED, values=values, i=self._calls)

    def metadata(self, **values: Any) -> None:
        """Set metadata."""
        for key, value in values.items():
            self._calls += 1
            self._tell(events.METADATA_SET, key=key, value=value, i=self._calls)

    def succeed(self, result: Any = None) -> None:
        """End well."""
        self._end(events.RUN_SUCCEEDED, result=result, percent=100.0)

    def fail(self, kind: str = "ValueError", message: str = "no such row", *, traceback: str = "") -> None:
        """End with an error."""
        self._end(events.RUN_FAILED, error=error(kind, message, traceback))

    def retry(self, *, after: float = 2.0, retries: int = 1, begins: bool = True) -> None:
        """End this attempt, and begin the next one; with `begins` false it is waited for."""
        self._end(
            events.RUN_RETRIED,
            error=error("OSError", "flaky read", ""),
            retries=retries - 1,
            max_retries=max(3, retries),
        )
        if begins:
            self._begin(self.now + after, retries=retries)

    def end(self, kind: str, **data: Any) -> None:
        """End in another way."""
        self._end(kind, **data)

    def _end(self, kind: str, **data: Any) -> None:
        self._tell(
            kind,
            **({"by": "child", "task": self.task} | self._place),
            started=self._started,
            runtime=self.now - self._started,
            **data,
        )


def error(kind: str, message: str, traceback: str = "") -> dict[str, Any]:
    """Return an error as events carry it."""
    return {
        "type": kind,
        "module": "builtins",
        "message": message,
        "traceback": traceback
        or f'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 41\n{kind}: {message}',
        "frames": [
            {"file": "/usr/lib/python3.11/ast.py", "line": 50, "function": "parse", "own": False},
            {"file": "/srv/shop/tasks.py", "line": 41, "function": "parse_batch", "own": True},
        ],
    }
