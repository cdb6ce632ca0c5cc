"""What an outage of the database costs tasks and log files, and how fast the store catches up.

    python benchmarks/outage.py [--down 120] [--quiet 60] [--writers 2] [--rate 20]

Processes append whole runs at a steady rate (a start, a stage, ten lines, an end) while one shipper serves
the journal. First all is well, then the database refuses connections, then it is back; once the
store has caught up, all is well again. Ratios are those of the outage to the mean of both quiet times.
Needs PostgreSQL at PLET_TEST_POSTGRES_URL.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from proxying import proxy_before
from services import new_database
from shipping import document, shipping

from plet_celery import presence
from plet_celery.store import open_store

EVENTS_PER_RUN = 14


def write(journal: str, rate: float, notes: str) -> None:
    """Append runs at `rate` a second until stdin is closed; note each second's appends and their cost."""
    from streaming import Options, Stream

    os.close(os.open(notes, os.O_CREAT | os.O_WRONLY, 0o600))
    stream = Stream(Options(journal=journal, notes=os.devnull, seed=0))
    os.set_blocking(0, False)
    begun, runs, second, cost, spent = time.monotonic(), 0, 0, 0.0, []
    with Path(notes).open("a", buffering=1) as told:
        while _is_open(0):
            due = begun + runs / rate
            time.sleep(max(0.0, due - time.monotonic()))
            before = time.monotonic()
            stream.run(_uuid(), _uuid(), 10)
            cost = time.monotonic() - before
            spent.append(cost / EVENTS_PER_RUN)
            runs += 1
            if time.monotonic() - begun >= second + 1:
                second += 1
                note = {"at": time.monotonic(), "runs": len(spent), "seconds": statistics.median(spent)}
                told.write(json.dumps(note) + "\n")
                spent = []


def _is_open(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 1) != b""
    except BlockingIOError:
        return True


def _uuid() -> str:
    digits = os.urandom(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(frozen=True)
class Spell:
    """Some time of one kind."""

    began: float
    ended: float
    log_events: int
    """Events that the log files took meanwhile."""

    @property
    def log_rate(self) -> float:
        return self.log_events / (self.ended - self.began)


@contextmanager
def writers(config: dict[str, Any], count: int, rate: float, folder: Path) -> Iterator[list[Path]]:
    """Writers as processes; yields where they note."""
    with ExitStack() as stack:
        notes = [folder / f"notes-{number}" for number in range(count)]
        found = [
            subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--write",
                    json.dumps([config["journal"], rate / count, str(file)]),
                ],
                stdin=subprocess.PIPE,
            )
            for file in notes
        ]
        for process in found:
            stack.callback(process.wait)
            assert process.stdin is not None
            stack.callback(process.stdin.close)
        yield notes


def spell(config: dict[str, Any], seconds: float) -> Spell:
    """Let some time pass, and count."""
    began, before = time.monotonic(), _taken(config, "logs")
    time.sleep(seconds)
    return Spell(began, time.monotonic(), _taken(config, "logs") - before)


def _taken(config: dict[str, Any], sink: str) -> int:
    beat = presence.read_beat(Path(config["journal"]))
    return int(beat.sinks[sink]["events"]) if beat is not None else 0


def caught_up(config: dict[str, Any], lag: int) -> float:
    """Wait until the store has as much as the log files, but for `lag` events; return the seconds."""
    began = time.monotonic()
    while _taken(config, "logs") - _taken(config, "store") > lag:
        time.sleep(0.2)
    return time.monotonic() - began


def appended(notes: list[Path], of: Spell) -> tuple[float, float]:
    """Return appends per second of all writers, and the median seconds of one append."""
    told = [json.loads(line) for file in notes for line in file.read_text().splitlines()]
    mine = [note for note in told if of.began <= note["at"] - 1 and note["at"] <= of.ended]
    seconds = statistics.median(note["seconds"] for note in mine)
    per_writer_second = statistics.mean(note["runs"] for note in mine)
    return per_writer_second * EVENTS_PER_RUN * len(notes), seconds


def measure(*, down: float, quiet: float, count: int, rate: float) -> None:
    """Run it once and print it."""
    with (
        new_database("postgresql") as url,
        proxy_before(url) as proxy,
        tempfile.TemporaryDirectory() as folder,
    ):
        store = open_store(url)
        store.ensure_schema()
        store.close()
        config = document(Path(folder) / "home", fsync_interval=0.5)
        config["database_url"] = proxy.url(url)
        with shipping(config), writers(config, count, rate, Path(folder)) as notes:
            time.sleep(5)
            before = spell(config, quiet)
            lag = max(5000, _taken(config, "logs") - _taken(config, "store"))
            proxy.down()
            outage = spell(config, down)
            behind = _taken(config, "logs") - _taken(config, "store")
            proxy.up()
            had = _taken(config, "store")
            took = caught_up(config, lag)
            stored = _taken(config, "store") - had
            after = spell(config, quiet)
            _print(before, outage, after, notes, down=down, behind=behind, took=took, stored=stored)


def _print(
    before: Spell,
    outage: Spell,
    after: Spell,
    notes: list[Path],
    *,
    down: float,
    behind: int,
    took: float,
    stored: int,
) -> None:
    rates = {
        name: appended(notes, of) for name, of in (("before", before), ("down", outage), ("after", after))
    }
    for name, of in (("before", before), ("down", outage), ("after", after)):
        rate, seconds = rates[name]
        cost, logs = f"{seconds * 1e6:6.1f} µs each", f"{of.log_rate:8,.0f} events/s"
        print(f"{name:7} appends {rate:8,.0f}/s  {cost}  log files {logs}")
    quiet = statistics.mean((rates["before"][0], rates["after"][0]))
    time_each = statistics.mean((rates["before"][1], rates["after"][1]))
    log_rate = statistics.mean((before.log_rate, after.log_rate))
    appends, each = rates["down"][0] / quiet, rates["down"][1] / time_each
    print(f"down {down:.0f} s: appends ×{appends:.2f}, time of one ×{each:.2f}", end=", ")
    print(f"log files ×{outage.log_rate / log_rate:.2f}")
    print(f"back: {behind:,} events behind, caught up after {took:.1f} s", end=", ")
    print(f"{stored / took:,.0f} events/s meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", type=float, default=120.0, help="seconds without a database")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds before and after it")
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=20.0, help="runs a second of all writers")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        journal, rate, notes = json.loads(chosen.write)
        write(journal, rate, notes)
        return
    measure(down=chosen.down, quiet=chosen.quiet, count=chosen.writers, rate=chosen.rate)


if __name__ == "__main__":
    main()
