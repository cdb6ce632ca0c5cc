"""Flower's own /healthcheck while every query of the store hangs and browsers go on asking for regions.

    python benchmarks/hanging.py [--seconds 20] [--browsers 6] [--engine sqlite …]

The store hangs in several ways: in SQLite every query of runs computes without an end, which also takes the
processor; on a server the table of runs is locked, and then the network swallows all that is sent. Each
browser asks for all regions of the list every second, as an open page does. Percentiles of the healthcheck,
beside those with a store that answers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from proxying import proxy_before

from benchmarks.flowering import Browser, broker, chosen_engines, filled_stores, flower_over
from benchmarks.pages import REGIONS

HOLD_SECONDS: Final = 0.1
_RUNS: Final = 2000
_EVERY: Final = 0.02
_ENDLESS: Final = """
CREATE VIEW run AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT run_kept.* FROM n, run_kept WHERE i < 0
"""

_NO_ANSWER: Final = b"<p><strong>No answer.</strong>"


@contextmanager
def stuck(url: str) -> Iterator[None]:
    """Have every query of the list wait."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        # In WAL mode readers wait for nobody.
        with sqlite3.connect(parsed.database or "") as connection:
            connection.execute("PRAGMA legacy_alter_table=ON")
            connection.execute("ALTER TABLE run RENAME TO run_kept")
            connection.execute(_ENDLESS)
        connection.close()
        yield
        return
    engine = sa.create_engine(url)
    table = "plet.run" if parsed.get_backend_name() == "postgresql" else "plet_run"
    lock = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE" if "." in table else f"LOCK TABLES {table} WRITE"
    with engine.connect() as held:
        held.exec_driver_sql(lock)
        yield
    engine.dispose()


def healthchecks(browser: Browser, seconds: float) -> list[float]:
    """Return how long each of many healthchecks took, sorted."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        assert browser.get("healthcheck")[1] == b"OK"
        took.append(time.perf_counter() - began)
        time.sleep(_EVERY)
    return sorted(took)


@contextmanager
def polling(browser: Browser, count: int) -> Iterator[tuple[Any, Any]]:
    """Have browsers ask for regions; yields two counts: of answers, and of those in vain."""
    # In a process of their own: what they take of this one's time would be measured.
    context = multiprocessing.get_context("spawn")
    counts, ended = (context.Value("i"), context.Value("i")), context.Event()
    process = context.Process(target=_poll, args=(browser.base, browser.pid, count, counts, ended))
    process.start()
    try:
        yield counts
    finally:
        ended.set()
        process.join(60)


def _poll(base: str, pid: int, count: int, counts: tuple[Any, Any], ended: Any) -> None:
    def ask(region: str) -> None:
        browser = Browser(base, pid)
        while not ended.is_set():
            _, body, _ = browser.get(f"plet/?region={region}")
            for value, add in zip(counts, (1, _NO_ANSWER in body), strict=True):
                with value.get_lock():
                    value.value += add
            ended.wait(1.0)
        browser.close()

    threads = [threading.Thread(target=ask, args=(region,)) for _ in range(count) for region in REGIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(browser: Browser, name: str, given: argparse.Namespace, trouble: Callable[[], Any]) -> None:
    """Print the healthcheck's percentiles, first without, then with trouble."""
    with polling(browser, given.browsers) as (answers, vain):
        while answers.value < given.browsers:
            time.sleep(0.1)
        quiet = healthchecks(browser, given.seconds / 2)
        before = (answers.value, vain.value)
        trouble()
        hanging = healthchecks(browser, given.seconds)
        told_of = f"{vain.value - before[1]} of {answers.value - before[0]}"
    for what, took in (("answers", quiet), ("hangs", hanging)):
        p50, p99, most = (1000 * took[int(share * (len(took) - 1))] for share in (0.5, 0.99, 1.0))
        mark = "" if p99 <= 1000 * HOLD_SECONDS else " !"
        told = f"   {told_of} regions told of trouble" if what == "hangs" else ""
        print(f"  {name:<26} store {what:<8} p50 {p50:6.1f}  p99 {p99:6.1f}  most {most:6.1f} ms{mark}{told}")


def main() -> None:
    """Fill, start, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--browsers", type=int, default=6)
    parser.add_argument("--engine", action="append", choices=("sqlite", "postgresql", "mariadb"))
    parser.add_argument("--runs", help="not used here")
    given = parser.parse_args()
    print(f"/healthcheck while {given.browsers} browsers ask for {len(REGIONS)} regions every second")
    for engine in chosen_engines(given.engine):
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plet-pages-")))
            valkey = stack.enter_context(broker(home))
            (url,) = filled_stores(engine, [_RUNS], time.time(), stack)
            kind = "endless" if engine == "sqlite" else "locked"
            with flower_over(url, home / kind, valkey) as browser, ExitStack() as lock:
                measure(browser, f"{engine}, {kind}", given, partial(lock.enter_context, stuck(url)))
            if engine == "sqlite":
                continue
            with proxy_before(url) as proxy, flower_over(proxy.url(url), home / "far", valkey) as browser:
                measure(browser, f"{engine}, swallowed", given, proxy.swallow)
    print(f"  hold: p99 {1000 * HOLD_SECONDS:.0f} ms (else !)")


if __name__ == "__main__":
    main()
