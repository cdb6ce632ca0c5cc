"""The first page of runs by each offered filter, HTTP and rendering included, beside Flower's own list.

    python benchmarks/pages.py [--runs 20000,200000] [--rounds 9] [--engine sqlite …] [--tenants customer03]

Two stores of each engine are filled by `fill.py`; over each runs a real Flower that knows of 10,000 tasks
by their events. For each filter both Flowers are asked in turn: after ten runs have changed in the store;
again at once, as who looks after somebody else; and what Flower's own page of tasks asks for, its newest 50.
Then each region alone: what it costs where nothing has changed (304), by the clock and in CPU of Flower's
process. `--url A --url B` measures two stores that are filled already, the smaller one first; `--tenants`
measures a viewer who sees those alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.believable import TASKS, WORKERS
from benchmarks.flowering import (
    Browser,
    broker,
    chosen_engines,
    feed,
    filled_stores,
    flower_over,
    rounds_of,
)
from plet_celery.store import Store, open_store, queries

DAY: Final = 86_400.0
HOLD_FLOWER: Final = 0.2
HOLD_SIZES: Final = 1.5
REGIONS: Final = ("glance", "runs", "tasks", "footer")
_TIMES: Final = 20
_CHANGED: Final = 5

_NO_ANSWER: Final = b"<p><strong>No answer.</strong>"


def filters(now: float) -> dict[str, dict[str, str]]:
    """Return what the form and the tabs of the page ask for, by how it is shown."""
    bad = ",".join(queries.FAILED_STATES)
    return {
        "none": {},
        "running": {"state": "running,retrying"},
        "queued": {"state": "queued"},
        "failed": {"state": bad},
        "succeeded": {"state": "succeeded"},
        "task": {"task": TASKS[7]},
        "task, lost": {"task": TASKS[0], "state": "lost"},
        "tasks": {"task": "shop.mail.*"},
        "worker": {"worker": WORKERS[5]},
        "worker, failed": {"worker": WORKERS[5], "state": "failed"},
        "queue": {"queue": "imports"},
        "queue, worker": {"queue": "imports", "worker": WORKERS[5]},
        "metadata": {"q": "meta.customer:c077"},
        "a day": {"from": str(int(now - 9 * DAY)), "to": str(int(now - 8 * DAY))},
        "id": {"q": "7f"},
        "name": {"q": "shop.mail"},
        "tenant": {"tenant": "customer03"},
    }


def asked_by(browser: Browser, arguments: dict[str, str]) -> Callable[[], Any]:
    """Return what loads the list with these arguments."""
    path = "plet/?" + urlencode(arguments)

    def ask() -> None:
        status, body, _ = browser.get(path)
        assert status == 200 and _NO_ANSWER not in body, (status, path, body[:500])

    return ask


def change(*stores: Store) -> None:
    """Have stores look as if a batch had just been shipped, of some of the newest runs and some that run."""
    for store in stores:
        journal, run = store.tables.journal, store.tables.run
        with store.writing() as connection:
            connection.execute(journal.update().values(change_seq=journal.c.change_seq + 1))
            newest = sa.select(run.c.id).order_by(run.c.created_at.desc()).limit(_CHANGED)
            ids = [*connection.scalars(newest), *connection.scalars(newest.where(run.c.state == "running"))]
            changed = run.update().where(run.c.id.in_(ids)).values(version=run.c.version + 1)
            connection.execute(changed)


def measure(browsers: Sequence[Browser], stores: Sequence[Store], now: float, rounds: int) -> None:
    """Print the medians of both Flowers for each filter, and their ratios."""
    print(f"  {'first page':<15} {'small':>8} {'large':>8} ÷ small   again    ÷ Flower's newest 50 (again)")
    for name, arguments in filters(now).items():
        sides: dict[str, Callable[[], Any]] = {}
        for number, browser in enumerate(browsers):
            sides[f"page {number}"] = asked_by(browser, arguments)
            sides[f"again {number}"] = sides[f"page {number}"]
            sides[f"flower {number}"] = partial(browser.newest, 50)
        took = rounds_of(sides, rounds, before=lambda: change(*stores))
        small, large, own, again = (took[one] for one in ("page 0", "page 1", "flower 1", "again 1"))
        marks = ("" if large / small <= HOLD_SIZES else " !") + ("" if large / own <= HOLD_FLOWER else " *")
        print(
            f"  {name:<15} {1000 * small:5.1f} ms {1000 * large:5.1f} ms {large / small:7.2f}"
            f" {1000 * again:5.1f} ms   {large / own:.2f} ({again / own:.2f}) of {1000 * own:.1f} ms{marks}",
            flush=True,
        )
    print(f"  hold: ÷ small {HOLD_SIZES} (else !), ÷ Flower {HOLD_FLOWER} (else *)")
    print(
        f"  CPU of Flower: first page {_cpu(browsers[1], stores[1], {}):.1f} ms, {_newest_cpu(browsers[1])}"
    )


def _cpu(browser: Browser, store: Store, arguments: dict[str, str]) -> float:
    ask, used = asked_by(browser, arguments), 0.0
    for _ in range(_TIMES):
        change(store)
        began = browser.cpu()
        ask()
        used += browser.cpu() - began
    return 1000 * used / _TIMES


def _newest_cpu(browser: Browser) -> str:
    began = browser.cpu()
    for _ in range(_TIMES):
        browser.newest(50)
    return f"its newest 50 {1000 * (browser.cpu() - began) / _TIMES:.1f} ms"


def unchanged(browser: Browser, rounds: int) -> None:
    """Print what each region costs whole, and where it has not changed."""
    print(f"  {'region':<16} {'whole':>9} {'304':>9} {'CPU of a 304':>14} {'bytes':>9}")
    for name in REGIONS:
        path = f"plet/?region={name}"
        _, body, headers = browser.get(path)
        known = {"If-None-Match": headers["Etag"]}
        seen: list[int] = []

        def again(path: str = path, known: dict[str, str] = known, seen: list[int] = seen) -> None:
            seen.append(browser.get(path, known)[0])

        took = rounds_of({"whole": partial(browser.get, path), "same": again}, max(rounds, 9))
        began = browser.cpu()
        for _ in range(_TIMES):
            again()
        cpu = (browser.cpu() - began) / _TIMES
        told = "" if set(seen) == {304} else f"   {seen.count(304)} of {len(seen)} were 304"
        print(
            f"  {name:<16} {1000 * took['whole']:6.1f} ms {1000 * took['same']:6.1f} ms"
            f" {1000 * cpu:11.1f} ms {len(body):>9,}{told}",
            flush=True,
        )


def main() -> None:
    """Fill, start, feed, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", default="20000,200000", help="two sizes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--engine", action="append", choices=("sqlite", "postgresql", "mariadb"))
    parser.add_argument("--url", action="append", default=[], help="a filled store; give two")
    parser.add_argument("--tenants", help="what the viewer sees, separated by commas; all by default")
    given = parser.parse_args()
    sizes = [int(size) for size in given.runs.split(",")]
    if given.url:
        run(given.url, given)
        return
    for engine in chosen_engines(given.engine):
        print(f"{engine}: {' and '.join(f'{size:,}' for size in sizes)} runs")
        with ExitStack() as stack:
            run(filled_stores(engine, sizes, time.time(), stack), given)


def run(urls: Sequence[str], given: argparse.Namespace) -> None:
    """Start a Flower over each store, and measure."""
    more = ""
    if given.tenants:
        more = f"app.conf.plet_tenants_for = lambda user: {given.tenants.split(',')!r}"
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plet-pages-")))
        valkey = stack.enter_context(broker(home))
        browsers = [
            stack.enter_context(flower_over(url, home / f"shop{number}", valkey, more=more))
            for number, url in enumerate(urls)
        ]
        feed(valkey, browsers)
        stores = [open_store(url) for url in urls]
        for store in stores:
            stack.callback(store.close)
        now = min(queries.as_of(store) or time.time() for store in stores)
        measure(browsers, stores, now, given.rounds)
        unchanged(browsers[-1], given.rounds)


if __name__ == "__main__":
    main()
