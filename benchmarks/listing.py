"""How long the newest 50 runs take by each offered filter, and how that grows with the number of runs.

    python benchmarks/listing.py [--runs 20000,200000] [--rounds 9] [--engine sqlite …]

Two stores of each engine are filled by `fill.py`; for each filter their rounds alternate. What is measured is
the query and its records, as pages and commands get them. Servers are those of `PLET_TEST_POSTGRES_URL` and
`PLET_TEST_MYSQL_URL`; one that is missing is left out. `--url A --url B` measures two stores that are filled
already, the smaller one first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import ENGINES, new_database

from benchmarks.believable import TASKS, WORKERS
from benchmarks.fill import fill
from plet_celery.store import Store, open_store, queries

PAGE: Final = 50
DAY: Final = 86_400.0
_SERVERS: Final = {"postgresql": "PLET_TEST_POSTGRES_URL", "mariadb": "PLET_TEST_MYSQL_URL"}


def filters(now: float) -> dict[str, dict[str, Any]]:
    """Return the filters that are measured, by how they are shown."""
    mine = {"tenants": ("customer03",)}
    return {
        "none": {},
        "tenth page": {"after": "10"},
        "running": {"states": ("running",)},
        "failed": {"states": queries.FAILED_STATES},
        "not succeeded": {"without": ("succeeded",)},
        "task": {"task": TASKS[7]},
        "task, lost": {"task": TASKS[0], "states": ("lost",)},
        "tasks": {"task": "shop.mail.*"},
        "worker": {"worker": WORKERS[5]},
        "worker, failed": {"worker": WORKERS[5], "states": ("failed",)},
        "queue": {"queue": "imports"},
        "queue, worker": {"queue": "imports", "worker": WORKERS[5]},
        "metadata": {"meta": {"customer": "c077"}},
        "a day": {"since": now - 9 * DAY, "until": now - 8 * DAY},
        "id": {"search": "7f"},
        "name": {"search": "shop.mail"},
        "viewer": mine,
        "viewer, failed": mine | {"states": ("failed",)},
        "viewer, task": mine | {"task": TASKS[7]},
        "viewer, worker": mine | {"worker": WORKERS[5]},
        "viewer, a day": mine | {"since": now - 9 * DAY, "until": now - 8 * DAY},
    }


def questions(store: Store, now: float) -> dict[str, Callable[[], Any]]:
    """Return what is asked of a store, by name: lists, and the rest of the first page."""
    found: dict[str, Callable[[], Any]] = {}
    for name, wanted in filters(now).items():
        if "after" in wanted:
            after = None
            for _ in range(int(wanted["after"])):
                after = queries.list_runs(store, limit=PAGE, after=after).next
            wanted = {"after": after}
        found[name] = partial(queries.list_runs, store, limit=PAGE, **wanted)
    found["figures"] = partial(queries.glance, store, now=now)
    found["figures, viewer"] = partial(queries.glance, store, now=now, tenants=("customer03",))
    found["ends of a day"] = partial(queries.ends_over_time, store, since=now - DAY, until=now, step=3600)
    found["workers"] = partial(queries.list_workers, store)
    return found


def measure(stores: Sequence[Store], now: float, rounds: int) -> None:
    """Print the medians of both stores, and their ratio."""
    small, large = (questions(store, now) for store in stores)
    for name in small:
        times: tuple[list[float], list[float]] = ([], [])
        small[name](), large[name]()
        for _ in range(rounds):
            for ask, took in zip((small[name], large[name]), times, strict=True):
                began = time.perf_counter()
                ask()
                took.append(time.perf_counter() - began)
        one, other = map(statistics.median, times)
        print(f"  {name:<18} {1000 * one:8.2f} ms {1000 * other:8.2f} ms   large ÷ small {other / one:5.2f}")


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", default="20000,200000", help="two sizes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--url", action="append", default=[], help="a filled store; give two")
    given = parser.parse_args()
    now = time.time()
    sizes = [int(size) for size in given.runs.split(",")]
    if given.url:
        stores = [open_store(url, read_only=True) for url in given.url]
        measure(stores, min(store_now(store) for store in stores), given.rounds)
        return
    for engine in given.engine or ("sqlite", "postgresql"):
        if engine in _SERVERS and not os.environ.get(_SERVERS[engine]):
            print(f"{engine}: left out, set {_SERVERS[engine]}")
            continue
        print(f"{engine}: newest {PAGE} of {' and '.join(f'{size:,}' for size in sizes)} runs")
        with ExitStack() as stack:
            stores = [open_store(stack.enter_context(new_database(engine))) for _ in sizes]
            for store, size in zip(stores, sizes, strict=True):
                stack.callback(store.close)
                store.ensure_schema()
                fill(store, size, now=now)
            measure(stores, now, given.rounds)


def store_now(store: Store) -> float:
    """Return when a store was filled."""
    return queries.as_of(store) or time.time()


if __name__ == "__main__":
    main()
