"""A process that writes runs into a journal and tells which events were acknowledged.

`python streaming.py '{"journal": …, "notes": …, "seed": 1, "runs": 3, "lines": 10}'`, see `Options`. One line
of JSON goes into the file `notes` for each acknowledged event.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plet_celery import events, journal_delivery
from plet_celery.journal import Writer, WriterLimits, open_journal

LIMITS = WriterLimits(
    segment_max_bytes=64 << 10, min_free_bytes=0, min_free_percent=0.0, reserve_bytes=0, durability="none"
)


@dataclass(frozen=True)
class Options:
    """What to write."""

    journal: str
    notes: str
    seed: int
    runs: int = 0
    lines: int = 10
    pause: float = 0.0
    """Seconds between two events."""
    stop: str = ""
    """Begin no further run once this file exists."""
    hold: bool = False
    """Begin one more run, say so, wait until stdin is closed, end without a word."""
    role: str = "child"
    parent: str | None = None
    settings: str = ""


class Stream:
    """Appends events and notes each one that the journal took."""

    def __init__(self, options: Options) -> None:
        journal = Path(options.journal)
        open_journal(journal)
        self.writer = Writer(
            journal,
            role=options.role,
            limits=LIMITS,
            parent=options.parent,
            settings_fingerprint=options.settings,
        )
        self._notes = os.open(options.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pause = options.pause

    def append(self, kind: str, run: str, attempt: str, **data: Any) -> None:
        if self.writer.append(kind, run, attempt, data):
            note = {"kind": kind, "run": run, "attempt": attempt, "i": data.get("i")}
            os.write(self._notes, json.dumps(note).encode() + b"\n")
        if self._pause:
            time.sleep(self._pause)

    def begin(self, run: str, attempt: str) -> None:
        """Start a run."""
        self.append(
            events.RUN_STARTED,
            run,
            attempt,
            task="stream.run",
            tracked=True,
            worker="w@h",
            host="h",
            pid=os.getpid(),
            pool="prefork",
            retries=0,
            redelivered=False,
            trigger="manual",
        )

    def line(self, run: str, attempt: str, number: int, offset: int) -> int:
        """Write one log line; return the offset behind it."""
        text = f"line {number} of {run}"
        level = 30 if number % 10 == 0 else 20
        self.append(
            events.LOG_WRITTEN, run, attempt, level=level, stream="task", text=text, i=number, o=offset
        )
        return offset + len(text)

    def run(self, run: str, attempt: str, lines: int) -> None:
        """Write a whole run."""
        self.begin(run, attempt)
        self.append(events.STAGE_STARTED, run, attempt, stage=1, name="load", total=lines)
        offset = 0
        for number in range(1, lines + 1):
            offset = self.line(run, attempt, number, offset)
            if number % 5 == 0:
                self.append(events.MEASURE_RECORDED, run, attempt, values={"gap": number}, i=number // 5)
        self.append(events.STAGE_SUCCEEDED, run, attempt, stage=1, done=lines, elapsed=0.1)
        self.append(events.RUN_SUCCEEDED, run, attempt, by="child", runtime=0.1, percent=100.0)


def main(options: Options) -> None:
    # What waits in the queue for a slow disk is acknowledged and dies with us: the oracle counts on files.
    journal_delivery.SLOW_IN_A_ROW = sys.maxsize  # type: ignore[attr-defined]
    stream = Stream(options)
    chance = random.Random(options.seed)
    for _ in range(options.runs):
        if options.stop and Path(options.stop).exists():
            break
        stream.run(_uuid(chance), _uuid(chance), options.lines)
    if options.hold:
        run, attempt = _uuid(chance), _uuid(chance)
        stream.begin(run, attempt)
        stream.line(run, attempt, 1, 0)
        print(json.dumps({"run": run, "writer": stream.writer.id}), flush=True)
        sys.stdin.read()
        os._exit(1)
    stream.writer.close()


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


if __name__ == "__main__":
    main(Options(**json.loads(sys.argv[1])))
