"""Events as a journal would hand them to the log sink, for the tests of run log files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plet_celery import events
from plet_celery.events import Event

START = 1_700_000_000.0
WRITER = "5" * 32


class Story:
    """Tells events of one writer, in order: positions and times go up by themselves."""

    def __init__(self, writer: str = WRITER, start: float = START) -> None:
        self.writer = writer
        self.now = start
        self.offset = 0
        self.lines: dict[str, int] = {}

    def event(self, kind: str, run: str | None = "run-1", attempt: str | None = "a-1", **data: Any) -> Event:
        """Return the next event."""
        self.now = round(self.now + 0.001, 6)
        self.offset += 100
        return Event(
            kind=kind,
            wall=self.now,
            mono=self.now - START,
            run=run,
            attempt=attempt,
            data=data,
            writer=self.writer,
            segment=0,
            offset=self.offset,
        )

    def started(self, run: str = "run-1", attempt: str = "a-1", **data: Any) -> Event:
        """Return a `run.started`."""
        facts: dict[str, Any] = {
            "task": "shop.import_catalogue",
            "tracked": True,
            "worker": "celery@here",
            "host": "here",
            "pid": 41,
            "pool": "prefork",
            "retries": 0,
            "redelivered": False,
            "trigger": "manual",
            "canvas": run,
        }
        return self.event(events.RUN_STARTED, run, attempt, **{**facts, **data})

    def log(self, text: str, run: str = "run-1", attempt: str = "a-1", **data: Any) -> Event:
        """Return a `log.written`."""
        number = self.lines[attempt] = self.lines.get(attempt, 0) + 1
        facts: dict[str, Any] = {
            "level": 20,
            "logger": "shop",
            "stream": "log",
            "i": number,
            "o": number * 10,
        }
        return self.event(events.LOG_WRITTEN, run, attempt, **{**facts, "text": text, **data})

    def ended(
        self, kind: str = events.RUN_SUCCEEDED, run: str = "run-1", attempt: str | None = "a-1", **data: Any
    ) -> Event:
        """Return an end."""
        return self.event(kind, run, attempt, **{"by": "child", "runtime": 1.5, **data})

    @property
    def positions(self) -> dict[str, tuple[int, int]]:
        """The positions behind the last event."""
        return {self.writer: (0, self.offset + 100)}


def batches(told: list[Event], size: int) -> Iterable[tuple[list[Event], dict[str, tuple[int, int]]]]:
    """Cut events into batches with their positions."""
    for at in range(0, len(told), size):
        batch = told[at : at + size]
        yield batch, {event.writer: (event.segment, event.offset + 100) for event in batch}


def tree(root: Path) -> Mapping[str, bytes]:
    """Return every file below `root` with its content."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def busy_story(runs: int = 12, seed: int = 0) -> list[Event]:
    """Return a mixed history: stages, retries, late reports, caps, silent runs, odd texts."""
    import random

    chance = random.Random(seed)
    story = Story()
    told: list[Event] = []
    for number in range(runs):
        run, attempt = f"run-{number}", f"a-{number}"
        tenant = chance.choice(["", "acme/north"])
        told.append(story.started(run, attempt, tenant=tenant, pid=100 + number))
        if number % 4 == 3:  # nothing to say
            told.append(story.ended(run=run, attempt=attempt))
            continue
        for stage in (1, 2):
            told.append(story.event(events.STAGE_STARTED, run, attempt, stage=stage, name=f"part {stage}"))
            told.extend(
                story.log(chance.choice(_TEXTS) * chance.randint(1, 4), run, attempt, stage=stage)
                for _ in range(chance.randint(0, 60))
            )
            told.append(story.event(events.STAGE_PROGRESSED, run, attempt, stage=stage, done=1))
            told.append(story.event(events.STAGE_SUCCEEDED, run, attempt, stage=stage, done=1, elapsed=0.5))
        if number % 3 == 0:
            told.append(story.ended(events.RUN_RETRIED, run, attempt, reason="later", retries=0))
            again = f"b-{number}"
            told.append(story.started(run, again, tenant=tenant, retries=1, pid=100 + number))
            told.append(story.log("a second try", run, again))
            told.append(story.ended(events.RUN_FAILED, run, again, error=_ERROR))
            told.append(story.log("a thread that lived on", run, attempt))
        else:
            told.append(story.ended(run=run, attempt=attempt))
    return told


_TEXTS = [
    "a plain line",
    "two\nlines",
    "colour \x1b[31mred\x1b[0m",
    "— no note —",
    "[2026] [INFO] [x] no record",
    "",
]
_ERROR = {
    "type": "ValueError",
    "module": "builtins",
    "message": "bad row",
    "traceback": "Traceback\n  line\nValueError",
}
