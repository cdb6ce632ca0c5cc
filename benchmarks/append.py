"""One append to a journal, beside one line through `logging.FileHandler`.

    python benchmarks/append.py [--rounds 11] [--calls 20000] [--folder /dev/shm]

Both write a record of the same fields to the same folder, round by round in turn. A journal record is
acknowledged when it is in the file, and so is a line of the handler, which flushes each.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from plet_celery.journal import Writer, WriterLimits, open_journal
from plet_celery.journal_reader import Reader

RUN, ATTEMPT = "8f1c22ab-5a5e-4d0c-9f38-2f1f0f0f0f0f", "0123456789abcdef"
TEXT = "downloaded 120 of 1000 files from the supplier"


def microseconds(act: Callable[[], object], calls: int) -> float:
    """Return the microseconds of one call."""
    start = time.perf_counter()
    for _ in range(calls):
        act()
    return (time.perf_counter() - start) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(Path(folder), options.rounds, options.calls)


def compare(folder: Path, rounds: int, calls: int) -> None:
    """Print the medians of all contestants, and the speed of reading the journal back."""
    directory = open_journal(folder / "journal").directory
    writer = Writer(directory, role="child", limits=WriterLimits(min_free_bytes=0, min_free_percent=0))
    durable = Writer(directory, role="child", limits=WriterLimits(durability="terminal"))
    log = logging.Logger("benchmark")
    handler = logging.FileHandler(folder / "plain.log")
    handler.setFormatter(
        logging.Formatter("[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s {%(process)d}")
    )
    log.addHandler(handler)
    raw = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    record = b"x" * 250

    contestants: dict[str, Callable[[], object]] = {
        "journal, log.written": lambda: writer.append(
            "log.written",
            RUN,
            ATTEMPT,
            {"level": 20, "logger": "shop", "stream": "log", "text": TEXT, "i": 1, "o": 0},
        ),
        "journal, stage.progressed": lambda: writer.append(
            "stage.progressed", RUN, ATTEMPT, {"stage": 1, "done": 120, "total": 1000, "percent": 12.0}
        ),
        "logging.FileHandler": lambda: log.info(
            "downloaded %d of %d files from the %s", 120, 1000, "supplier"
        ),
        "bare os.write of 250 bytes": lambda: os.write(raw, record),
    }
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, act in contestants.items():
            samples[name].append(microseconds(act, calls))
    handler_median = statistics.median(samples["logging.FileHandler"])
    for name, values in samples.items():
        median = statistics.median(values)
        print(f"{name:28} {median:7.2f} µs   {median / handler_median:5.2f} × FileHandler")
    synced = [
        microseconds(lambda: durable.append("run.succeeded", RUN, ATTEMPT, {}), 50) for _ in range(rounds)
    ]
    print(f"{'journal, end, synced':28} {statistics.median(synced):7.2f} µs   (plet_durability = 'terminal')")
    writer.close()
    durable.close()
    os.close(raw)
    read_back(directory)


def read_back(directory: Path) -> None:
    """Print how fast a reader decodes the journal."""
    reader, events, start = Reader(directory), 0, time.perf_counter()
    more = True
    while more:
        batch = reader.read()
        events, more = events + len(batch.events), batch.more
    print(f"{'read':28} {events / (time.perf_counter() - start):7,.0f} records/s")


if __name__ == "__main__":
    main()
