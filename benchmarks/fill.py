"""Fill an empty store with believable runs, by the drivers' bulk paths.

    python benchmarks/fill.py [URL] [--runs 1000000] [--seed 1]

Without a URL: 100,000 runs into a SQLite file that is deleted then. Rows are made in batches, in the order
of their keys; secondary indexes are dropped before and made after. The documents are the store's own
structs, folded by its own functions, so that every query can read them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.believable import (
    CUSTOMERS,
    HOSTS,
    JOURNALS,
    STAGES,
    TASKS,
    WORKERS,
    Facts,
    World,
    attempt_states,
    contribution,
    journal_of,
)
from plet_celery.events import WORKER_STARTED, Event
from plet_celery.store import IngestLimits, Store, bulk, merge, open_store, settle
from plet_celery.store.ingest import attempt_row
from plet_celery.store.merge import AttemptState, Start
from plet_celery.store.rollups import Delta
from plet_celery.store.settle import RunDoc
from plet_celery.store.stages import Begun, Ended, StageFacts

BATCH: Final = 20_000
TENANTS_MAX: Final = 1000
_TABLES: Final = ("run", "attempt", "run_metadata", "stage", "rollup", "rollup_bin")
_RETENTION: Final = settle.Retention()

Rows = dict[str, list[tuple[Any, ...]]]


def fill(store: Store, count: int, *, seed: int = 1, now: float, say: bool = False) -> None:
    """Put `count` runs, all older than `now`, into a store without runs; end with its statistics."""
    world, began, done = World(count, seed=seed, now=now), time.perf_counter(), 0
    _enrol(store, world)
    with _without_indexes(store):
        for some in _batched(world.in_order_of_ids()):
            with store.writing() as connection:
                for name, rows in _rows_of(world, some).items():
                    bulk.insert(connection, getattr(store.tables, name), rows)
            done += len(some)
            if say and done % (10 * BATCH) == 0:
                print(f"{done:>12,} runs after {time.perf_counter() - began:,.0f} s", flush=True)
        for some in _batched(world.in_order_of_time()):
            _roll_up(store, some)
    analyse(store)
    took = time.perf_counter() - began
    if say:
        print(
            f"{count:>12,} runs in {took:,.0f} s: {count / took:,.0f} runs/s, indexes and statistics included"
        )


def analyse(store: Store) -> None:
    """Gather the engine's statistics."""
    tables = [getattr(store.tables, name) for name in (*_TABLES, "task")]
    engine = store.url.get_backend_name()
    if engine == "postgresql":
        # What autovacuum does soon after: without it nothing is read from an index alone.
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"VACUUM ANALYZE {', '.join(table.fullname for table in tables)}")
        return
    names = "" if engine == "sqlite" else f" TABLE {', '.join(table.name for table in tables)}"
    with store.writing() as connection:
        connection.exec_driver_sql(f"ANALYZE{names}").close()


def _enrol(store: Store, world: World) -> None:
    """Make journals, workers and names of tasks."""
    for number, (host, journal) in enumerate(zip(HOSTS, JOURNALS, strict=True)):
        # For ever: nobody touches these leases, and a fill is looked at for hours.
        lease = store.take_lease(
            journal, host=host, machine=f"m{number}", boot="b", pid=900, now=world.now, stale_after=1e12
        )
        mine = WORKERS[4 * number : 4 * number + 4]
        told = [
            _started(name, host, f"{journal[-2:]}{place:030x}", world.now) for place, name in enumerate(mine)
        ]
        positions = {event.writer: (1, 300) for event in told}
        store.ingest(lease, told, positions, limits=IngestLimits(), now=world.now)
    with store.writing() as connection:
        bulk.insert(connection, store.tables.task, [(name,) for name in sorted(TASKS)])
        connection.execute(store.tables.journal.update().values(as_of=world.now, change_seq=world.count))


def _started(worker: str, host: str, writer: str, now: float) -> Event:
    data: dict[str, Any] = {"worker": worker, "host": host, "pid": 3000, "pool": "prefork", "concurrency": 8}
    data |= {"app": "shop", "versions": {"plet": "0.1.0", "celery": "5.7.0", "python": "3.11.7"}}
    return Event(
        kind=WORKER_STARTED,
        run=None,
        attempt=None,
        wall=now - 86_400.0,
        mono=1.0,
        data=data,
        writer=writer,
        segment=1,
        offset=0,
    )


@contextmanager
def _without_indexes(store: Store) -> Iterator[None]:
    """Drop the secondary indexes of what is filled; make them anew at the end."""
    indexes = [index for name in _TABLES for index in sorted(getattr(store.tables, name).indexes, key=str)]
    with store.writing() as connection:
        for index in indexes:
            connection.execute(sa.schema.DropIndex(index))
    yield
    for index in indexes:
        with store.writing() as connection:
            connection.execute(sa.schema.CreateIndex(index))


def _batched(facts: Iterator[Facts]) -> Iterator[list[Facts]]:
    while some := list(islice(facts, BATCH)):
        yield some


def _rows_of(world: World, some: Iterable[Facts]) -> Rows:
    """Return the rows of runs and of all below them, by table, in the order of their keys."""
    rows: Rows = {name: [] for name in ("run", "attempt", "run_metadata", "stage")}
    for one in some:
        states = list(attempt_states(world, one))
        outcomes = [merge.outcome_of(state) for _, state in states]
        journal = journal_of(one)
        views = [
            settle.view_of(attempt, journal, state, outcome)
            for (attempt, state), outcome in zip(states, outcomes, strict=True)
        ]
        first, last = (outcomes[0], outcomes[-1]) if outcomes else (None, None)
        place = (journal, one.number, one.attempts + 1)
        doc = _doc_of(world, one)
        row = settle.make_row(one.id, doc, views, first, last, dropped=0, retention=_RETENTION, place=place)
        rows["run"].append(tuple(row))
        for view, (_, state) in zip(views, states, strict=True):
            rows["attempt"].append(attempt_row(one.id, view, state))
        rows["run_metadata"] += _metadata_rows(one, row.created_at)
        if states and one.dice & 0xF0 == 0x10:
            rows["stage"] += _stage_rows(one, *states[-1])
    for table in ("attempt", "run_metadata", "stage"):
        rows[table].sort()
    return rows


def _doc_of(world: World, one: Facts) -> RunDoc:
    if one.attempts:
        return RunDoc()
    facts: dict[str, Any] = {
        "task": one.task,
        "queue": one.queue,
        "tenant": one.tenant,
        "trigger": "api",
        "args": [one.number],
    }
    if one.kin is not None:
        facts |= {"canvas": world.id_of(one.kin.head), "group": one.kin.group}
    return RunDoc(
        queued=Start((one.created, f"{one.worker:08x}", 1, 0), facts), queued_by=f"{one.worker:032x}"
    )


def _metadata_rows(one: Facts, created: float) -> Iterator[tuple[Any, ...]]:
    if one.dice % 3:
        return
    stamp = f'[{created},"{one.worker:08x}",1,{one.number}]'
    for key, value in (
        ("customer", f"c{one.dice // 3 % CUSTOMERS:03d}"),
        ("source", "web" if one.dice & 8 else "ftp"),
    ):
        yield (one.id, key, value, created, f'[{stamp},"{value}"]')


def _stage_rows(one: Facts, attempt: str, state: AttemptState) -> Iterator[tuple[Any, ...]]:
    assert state.start is not None
    at, took = state.start.stamp[0], one.runtime / len(STAGES)
    shown = state.running or state.failed
    stopped = STAGES.index(shown.name) if shown is not None else len(STAGES)
    for number, name in enumerate(STAGES[: stopped + 1], 1):
        began = (at + (number - 1) * took, f"{one.worker:08x}", 1, one.number * 600 + number)
        ended = (began[0] + took, *began[1:])
        facts = StageFacts(began=began[0], begun=Begun(began, name, None, "rows"), total=(began, 400.0))
        if number <= stopped:
            facts.done, facts.ended = (ended, 400.0), Ended(ended, "succeeded", name, took, None, None)
        elif state.failed is not None:
            error = state.ends[0].data.get("error")
            facts.done, facts.ended = (ended, 120.0), Ended(ended, "failed", name, took, None, error)
        else:
            facts.done = (ended, float(one.dice % 400))
        yield (one.id, attempt, number, facts.state, msgspec.json.encode(facts).decode())


def _roll_up(store: Store, some: Sequence[Facts]) -> None:
    with store.writing() as connection:
        deltas = {one: Delta(connection, store.tables, one, TENANTS_MAX) for one in JOURNALS}
        for facts in some:
            deltas[journal_of(facts)].replace(None, contribution(facts))
        for delta in deltas.values():
            delta.write()


def main() -> None:
    """Fill the store that is named, or one that is thrown away."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="an empty database")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plet-fill-") as folder:
        store = open_store(given.url or f"sqlite:///{folder}/plet.db")
        if store.url.get_backend_name() == "sqlite":
            sa.event.listen(store.engine, "connect", _hurry)
        store.ensure_schema()
        with store.reading() as connection:
            if connection.execute(sa.select(store.tables.run.c.id).limit(1)).first() is not None:
                parser.error(f"{store.shown_url} has runs already; name an empty database")
        fill(store, given.runs, seed=given.seed, now=time.time(), say=True)
        store.close()


def _hurry(connection: Any, record: Any) -> None:
    # A fill that is cut off is begun anew: each page is written once, without a journal. Indexes are sorted
    # in pieces as large as the cache.
    for pragma in ("journal_mode=OFF", "locking_mode=EXCLUSIVE", "synchronous=OFF", "cache_size=-1048576"):
        connection.execute(f"PRAGMA {pragma}").fetchone()


if __name__ == "__main__":
    main()
