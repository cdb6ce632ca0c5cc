"""How fast a batch goes into the store, against the same rows by raw `sqlite3` in the same run.

    python benchmarks/ingest.py [--rounds 9] [--runs 10000]

Both sides write the rows of no-op runs (two events each, batches of 2,000 events) into a new SQLite file
with the same tables and indexes, and commit each batch durably. Rounds alternate; medians are printed.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from plet_celery.events import RUN_STARTED, RUN_SUCCEEDED, Event
from plet_celery.store import IngestLimits, Store, open_store

BATCH = 2000
T0 = 1_790_000_000.0
JOURNAL = "a" * 32


def noop_runs(count: int) -> list[Event]:
    """Return two events a run, as a prefork child writes them for a no-op task."""
    found: list[Event] = []
    for index in range(count):
        run, attempt, wall = str(uuid.uuid4()), uuid.uuid4().hex[:16], T0 + index * 0.002
        writer = f"{index % 4:032x}"
        started = {
            "task": "shop.tasks.noop",
            "tracked": False,
            "worker": "celery@atlas",
            "host": "atlas",
            "pid": 4000 + index % 4,
            "pool": "prefork",
            "retries": 0,
            "redelivered": False,
            "queue": "celery",
            "queued_at": wall - 0.01,
            "trigger": "manual",
            "canvas": run,
            "root": run,
            "args": [],
            "kwargs": {},
        }
        ended = {
            "by": "child",
            "task": "shop.tasks.noop",
            "queue": "celery",
            "worker": "celery@atlas",
            "host": "atlas",
            "pid": 4000 + index % 4,
            "started": wall,
            "queued_at": wall - 0.01,
            "runtime": 0.0001 + (index % 97) * 1e-5,
            "usage": {"cpu_user": 0.0001, "cpu_system": 0.0, "rss_max_bytes": 60_000_000},
        }
        for at, kind, data in ((wall, RUN_STARTED, started), (wall + 0.001, RUN_SUCCEEDED, ended)):
            found.append(
                Event(
                    kind=kind,
                    wall=at,
                    mono=at - T0,
                    run=run,
                    attempt=attempt,
                    data=data,
                    writer=writer,
                    segment=1,
                    offset=len(found) * 600,
                    number=len(found),
                )
            )
    return found


def ingest(folder: Path, batches: Sequence[bytes]) -> float:
    """Return the seconds that the store takes for the batches, given as they lie in a journal: JSON."""
    store = new_store(folder)
    lease = store.take_lease(JOURNAL, host="atlas", machine="m", boot="b", pid=1, now=T0)
    limits = IngestLimits()
    took = 0.0
    for encoded in batches:
        # A shipper has decoded a batch a moment ago; that is the reader's time, not the store's.
        batch = msgspec.json.decode(encoded, type=list[Event])
        positions = {event.writer: (1, event.offset + 600) for event in batch}
        began = time.perf_counter()
        store.ingest(lease, batch, positions, limits=limits, now=T0 + 1e6)
        took += time.perf_counter() - began
    store.close()
    return took


def raw(folder: Path, rows: dict[str, list[tuple[Any, ...]]], batches: int) -> float:
    """Return the seconds that `sqlite3.executemany` takes for the same rows."""
    new_store(folder).close()
    connection = sqlite3.connect(folder / "plet.db", isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-32768")
    began = time.perf_counter()
    for batch in range(batches):
        connection.execute("BEGIN IMMEDIATE")
        for table, found in rows.items():
            size = -(-len(found) // batches)
            part = found[batch * size : (batch + 1) * size]
            if part:
                marks = ", ".join("?" * len(part[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", part)
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took


def new_store(folder: Path) -> Store:
    """Return a new store with its tables."""
    for file in folder.glob("plet.db*"):
        file.unlink()
    store = open_store(f"sqlite:///{folder / 'plet.db'}")
    store.ensure_schema()
    return store


def stored_rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that an ingest left, by table."""
    connection = sqlite3.connect(folder / "plet.db")
    tables = ("run", "attempt", "rollup", "rollup_bin")
    found = {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in tables[:2]
    }
    found |= {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables[2:]}
    connection.close()
    return found


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args()
    events = noop_runs(given.runs)
    encoded = [msgspec.json.encode(events[at : at + BATCH]) for at in range(0, len(events), BATCH)]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="plet-bench-") as name:
        folder = Path(name)
        ingest(folder, encoded)
        rows = stored_rows(folder)
        for _ in range(given.rounds):
            ours.append(ingest(folder, encoded))
            theirs.append(raw(folder, rows, len(encoded)))
    store, driver = statistics.median(ours), statistics.median(theirs)
    print(f"events {len(events):,} in batches of {BATCH:,}; median of {given.rounds} rounds")
    print(f"store          {len(events) / store:>10,.0f} events/s  {1e6 * store / len(events):6.1f} µs/event")
    print(
        f"raw sqlite3    {len(events) / driver:>10,.0f} events/s  {1e6 * driver / len(events):6.1f} µs/event"
    )
    print(f"store ÷ driver {driver / store:>10.2f}")


if __name__ == "__main__":
    main()
