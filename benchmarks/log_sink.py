"""Log lines per second into a run's folder (text, index, trace) beside `logging.FileHandler`.

    python benchmarks/log_sink.py [--rounds 15] [--lines 20000]

Ours is fed with events as the journal's reader gives them, 2,000 a batch with a checkpoint each; the
handler formats the same line with time, level and logger. Times are of this thread's CPU.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plet_celery import events
from plet_celery.events import Event
from plet_celery.logfiles import LogFiles, LogLimits

BATCH = 2000
WORDS = "imported row %d of the catalogue, an ordinary line of an ordinary length"


def told(kind: str, number: int, data: dict[str, Any]) -> Event:
    """Return an event of the one run."""
    return Event(
        kind=kind,
        wall=1_700_000_000 + number * 0.0001,
        mono=number * 0.0001,
        run="run",
        attempt="attempt",
        data=data,
        writer="5" * 32,
        segment=0,
        offset=number * 200,
    )


def lines(first: int, count: int) -> list[Event]:
    """Return log events."""
    facts = {"level": 20, "logger": "shop.load", "stream": "log"}
    return [
        told(events.LOG_WRITTEN, number, {**facts, "text": WORDS % number, "i": number, "o": number * 70})
        for number in range(first, first + count)
    ]


def per_second(act: Callable[[], None], count: int) -> float:
    """Return lines per second of CPU."""
    start = time.thread_time()
    act()
    return count / (time.thread_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--lines", type=int, default=20_000)
    options = parser.parse_args()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as home:
        sink = LogFiles(Path(home, "runs"), Path(home, "journal"), limits=LogLimits(1 << 40))
        start = {"task": "shop.load", "worker": "celery@here", "host": "here", "pid": 1, "trigger": "manual"}
        sink.apply([told(events.RUN_STARTED, 0, start)], {})
        handler = logging.FileHandler(Path(home, "file.log"))
        handler.setFormatter(logging.Formatter("[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"))
        logger = logging.Logger("shop.load")
        logger.addHandler(handler)
        number = 1
        for _ in range(options.rounds):
            batches = [lines(number + at, BATCH) for at in range(0, options.lines, BATCH)]
            number += options.lines

            def apply(batches: list[list[Event]] = batches) -> None:
                for batch in batches:
                    sink.apply(batch, {"5" * 32: (0, batch[-1].offset)})

            def log() -> None:
                for one in range(options.lines):
                    logger.info(WORDS, one)

            ours.append(per_second(apply, options.lines))
            theirs.append(per_second(log, options.lines))
        sink.close()
        handler.close()
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(f"LogFiles.apply      {mine:10,.0f} lines/s (best {max(ours):,.0f})")
    print(f"logging.FileHandler {peer:10,.0f} lines/s (best {max(theirs):,.0f})")
    print(f"ratio of times      {peer / mine:10.2f}")


if __name__ == "__main__":
    main()
