"""How fast a batch goes into the store, against the same rows by the raw driver in the same run.

    python benchmarks/ingest.py [--rounds 9] [--runs 10000] [--batch 2000] [--engine sqlite …]

Both sides write the rows of no-op runs (two events each) into empty tables with the same indexes, and
commit each batch durably. The driver goes its fastest way: executemany (sqlite3), COPY (psycopg),
executemany, which PyMySQL makes a text of many rows. Rounds alternate; medians are printed. Servers are
those of `PLET_TEST_POSTGRES_URL` and `PLET_TEST_MYSQL_URL`; one that is missing is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import ENGINES, new_database

from plet_celery.events import RUN_STARTED, RUN_SUCCEEDED, Event
from plet_celery.store import IngestLimits, Store, open_store

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


def emptied(store: Store) -> Store:
    """Return the store without rows, as if its tables were new."""
    with store.writing() as connection:
        for table in store.tables.metadata.sorted_tables:
            if not table.name.endswith("info"):
                connection.execute(table.delete())
    if store.url.get_backend_name() == "postgresql":
        names = ", ".join(f"plet.{table}" for table in TABLES)
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.connection.driver_connection.execute(f"VACUUM {names}")  # type: ignore[union-attr]
    return store


TABLES = ("run", "attempt", "rollup", "rollup_bin")
"""What an ingest of plain runs writes much of."""


def ingest(store: Store, batches: Sequence[bytes]) -> float:
    """Return the seconds that the store takes for the batches, given as they lie in a journal: JSON."""
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
    return took


def stored_rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that an ingest left, by table, in the order of their keys."""
    found = {}
    with store.reading() as connection:
        for name in TABLES:
            table: sa.Table = getattr(store.tables, name)
            rows = connection.execute(sa.select(table).order_by(*table.primary_key))
            found[name] = [tuple(row) for row in rows]
    return found


def raw(store: Store, rows: dict[str, list[tuple[Any, ...]]], batches: int) -> float:
    """Return the seconds that the driver takes for the same rows, in as many transactions."""
    engine = store.url.get_backend_name()
    pooled = store.engine.raw_connection()
    connection: Any = pooled.driver_connection
    prefix = {"sqlite": "", "postgresql": "plet."}.get(engine, "plet_")
    began = time.perf_counter()
    for batch in range(batches):
        cursor = connection.cursor()
        if engine == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
        for table, found in rows.items():
            size = -(-len(found) // batches)
            part = found[batch * size : (batch + 1) * size]
            if not part:
                continue
            if engine == "postgresql":
                with cursor.copy(f"COPY {prefix}{table} FROM STDIN") as copy:
                    for row in part:
                        copy.write_row(row)
            else:
                mark = "?" if engine == "sqlite" else "%s"
                marks = ", ".join([mark] * len(part[0]))
                cursor.executemany(f"INSERT INTO {prefix}{table} VALUES ({marks})", part)
        cursor.execute("COMMIT")
    took = time.perf_counter() - began
    pooled.close()
    return took


def measured(engine: str, encoded: Sequence[bytes], rounds: int) -> tuple[float, float]:
    """Return the median seconds of the store and of the driver."""
    ours, theirs = [], []
    with new_database(engine) as url:
        store = open_store(url)
        store.ensure_schema()
        ingest(store, encoded)
        rows = stored_rows(store)
        for _ in range(rounds):
            ours.append(ingest(emptied(store), encoded))
            theirs.append(raw(emptied(store), rows, len(encoded)))
        store.close()
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=2000, help="events")
    parser.add_argument("--engine", action="append", choices=ENGINES)
    given = parser.parse_args()
    events = noop_runs(given.runs)
    encoded = [
        msgspec.json.encode(events[at : at + given.batch]) for at in range(0, len(events), given.batch)
    ]
    print(f"events {len(events):,} in batches of {given.batch:,}; median of {given.rounds} rounds")
    urls = {"postgresql": "PLET_TEST_POSTGRES_URL", "mariadb": "PLET_TEST_MYSQL_URL"}
    for engine in given.engine or ENGINES:
        if engine in urls and not os.environ.get(urls[engine]):
            print(f"{engine:<11} left out: set {urls[engine]}")
            continue
        ours, theirs = measured(engine, encoded, given.rounds)
        per_event = [
            f"{len(events) / took:>9,.0f}/s {1e6 * took / len(events):6.1f} µs" for took in (ours, theirs)
        ]
        print(
            f"{engine:<11} store {per_event[0]}   driver {per_event[1]}   store ÷ driver {theirs / ours:.2f}"
        )


if __name__ == "__main__":
    main()
