"""What a pass of the monitor costs, and how that grows with the number of runs; how soon somebody is told.

    python benchmarks/passes.py [--runs 100000,1000000] [--rounds 9] [--engine sqlite …] [--no-latency]

Two stores of each engine are filled by `fill.py`, with 200 tasks of two promises each and 1,000 running runs;
their passes alternate. A pass is measured as it is done: lease, checks, promises, rules, alerts, deliveries;
its time is the wall clock's, its core's that of the process. Nothing listens where the broker would be, so
what waits for an answer over the network is no part of the core's time. Servers are those of
`PLET_TEST_POSTGRES_URL` and `PLET_TEST_MYSQL_URL`; one that is missing is left out. `--url A --url B`
measures two stores that are filled already, the smaller one first; it writes into them.

Then a worker with a beat, a shipper and a broker of their own: from the moment at which a promise is broken
to the moment at which the alert fires, with beat, with a jammed queue, and without beat.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import ENGINES, new_database
from waiting import wait_until

from benchmarks.believable import TASKS
from benchmarks.fill import analyse, fill
from plet_celery import paths
from plet_celery.embedded.valkey import Valkey, running_valkey
from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.passes import Ended, Outcome
from plet_celery.monitor.running import pass_once
from plet_celery.objectives import P95, Declared, Freshness, MaxRuntime, Objective, SuccessRate
from plet_celery.settings import fingerprint, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store, alerting, open_store
from plet_celery.store.settle import OPEN
from plet_celery.supervision import end_shipper

RUNNING: Final = 1000
FILLING: Final = 125
"""Passes after which no promise is new any more: each counts six hours of the past, and there are 720."""
TASK_COUNT: Final = 200
_SERVERS: Final = {"postgresql": "PLET_TEST_POSTGRES_URL", "mariadb": "PLET_TEST_MYSQL_URL"}
_PATIENCE: Final = 120.0


def promises() -> list[Declared]:
    """Return two promises of each of 200 tasks: those that have runs, and others that wait for some."""
    names = [*TASKS, *(f"shop.rare.task{number:03}" for number in range(TASK_COUNT))][:TASK_COUNT]
    kinds: list[Objective] = [MaxRuntime(600), SuccessRate(0.9, window=86_400), P95(60, window=86_400)]
    found = []
    for number, name in enumerate(names):
        found.append(Declared(name, kinds[number % len(kinds)]))
        found.append(Declared(name, Freshness(every="0 * * * *", zone="UTC")))
    return found


def let_run(store: Store, now: float) -> None:
    """Have the newest 1,000 ended runs be running since a minute ago, and no others be open."""
    run, attempt = store.tables.run, store.tables.attempt
    begun = {"state": "running", "started_at": now - 60, "ended_at": None}
    ended = {"state": "succeeded", "started_at": now - 60, "ended_at": now - 60}
    with store.writing() as connection:
        open_ones = list(connection.execute(sa.select(run.c.id).where(run.c.state.in_(OPEN))).scalars())
        newest = sa.select(run.c.id).where(run.c.state == "succeeded").order_by(run.c.created_at.desc())
        chosen = list(connection.execute(newest.limit(RUNNING)).scalars())
        for ids, facts in ((open_ones, ended), (chosen, begun)):
            for start in range(0, len(ids), 200):
                some = ids[start : start + 200]
                connection.execute(run.update().where(run.c.id.in_(some)).values(**facts, runtime=None))
                connection.execute(attempt.update().where(attempt.c.run_id.in_(some)).values(**facts))
    analyse(store)


def config_of(store: Store, folder: Path) -> MonitorConfig:
    """Return what a pass over a store needs; there is no broker."""
    chosen = load_settings({"plet_check_timeout": 5.0}, {})
    document = {
        "settings": json.loads(settings_to_json(chosen)),
        "home": str(folder),
        "journal": str(paths.journal_directory(folder)),
        "database_url": store.url.render_as_string(hide_password=False),
        "fingerprint": fingerprint(chosen),
        "celery": {"main": "shop", "conf": {"broker_url": "redis://127.0.0.1:1/0"}, "queues": ["celery"]},
        "objectives": [one.to_plain() for one in promises()],
    }
    return MonitorConfig.from_document(document)


def passed(config: MonitorConfig) -> tuple[float, float, Outcome]:
    """Do a pass; return its seconds by the wall clock and of the core, and how it went."""
    began, core = time.perf_counter(), time.process_time()
    outcome = pass_once(config, kind="command", spacing=0.0)
    took = time.perf_counter() - began, time.process_time() - core
    assert outcome.ended is Ended.PASSED, outcome
    return *took, outcome


def measure(configs: Sequence[MonitorConfig], sizes: Sequence[int], rounds: int) -> None:
    """Print the medians of both stores, and their ratio."""
    # The first passes announce the promises, and count the hours that nobody has counted yet: of thirty days.
    for config in configs:
        took = [passed(config)[:2] for _ in range(FILLING)]
        for name, some in (("first pass", took[:1]), (f"first {FILLING}, each", took)):
            wall, core = (statistics.median(one) for one in zip(*some, strict=True))
            print(f"  {name:<18} wall {1000 * wall:8.1f} ms   core {1000 * core:8.1f} ms")
    walls: list[list[float]] = [[] for _ in configs]
    cores: list[list[float]] = [[] for _ in configs]
    steps: list[dict[str, list[float]]] = [{} for _ in configs]
    for _ in range(rounds):
        for number, config in enumerate(configs):
            wall, core, outcome = passed(config)
            walls[number].append(wall)
            cores[number].append(core)
            for name, seconds in outcome.doc["steps"].items():
                steps[number].setdefault(name, []).append(seconds)
    for number, size in enumerate(sizes):
        wall, core = statistics.median(walls[number]), statistics.median(cores[number])
        parts = ", ".join(
            f"{name} {1000 * statistics.median(all_):.0f}" for name, all_ in steps[number].items()
        )
        print(f"  {size:>10,} runs    wall {1000 * wall:8.1f} ms   core {1000 * core:8.1f} ms   ({parts} ms)")
    small, large = (statistics.median(some) for some in (cores[0], cores[-1]))
    print(f"  core, large ÷ small {large / small:5.2f}")


def costs(engines: Sequence[str], sizes: Sequence[int], rounds: int) -> None:
    """Fill, measure, print, for each engine."""
    for engine in engines:
        if engine in _SERVERS and not os.environ.get(_SERVERS[engine]):
            print(f"{engine}: left out, set {_SERVERS[engine]}")
            continue
        print(f"{engine}: a pass over {TASK_COUNT} tasks, {2 * TASK_COUNT} promises, {RUNNING:,} running")
        with ExitStack() as stack:
            configs = []
            for size in sizes:
                store = open_store(stack.enter_context(new_database(engine)))
                stack.callback(store.close)
                store.ensure_schema()
                fill(store, size, now=time.time())
                configs.append(prepared(store, stack))
            measure(configs, sizes, rounds)


def costs_of(urls: Sequence[str], rounds: int) -> None:
    """Measure stores that are filled already."""
    with ExitStack() as stack:
        stores = [open_store(url) for url in urls]
        for store in stores:
            stack.callback(store.close)
        sizes = [counted(store) for store in stores]
        measure([prepared(store, stack) for store in stores], sizes, rounds)


def prepared(store: Store, stack: ExitStack) -> MonitorConfig:
    """Return what a pass over a filled store needs."""
    let_run(store, time.time())
    return config_of(store, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plet-bench-"))))


def counted(store: Store) -> int:
    """Return how many runs there are."""
    with store.reading() as connection:
        query = sa.select(sa.func.count()).select_from(store.tables.run)
        return int(connection.execute(query).scalar_one())


class Stand:
    """A worker over a broker of its own, with promises that a task breaks when it is told to."""

    def __init__(self, folder: Path, valkey: Valkey, interval: float) -> None:
        apps = Path(__file__).parents[1] / "tests" / "live" / "apps"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "PYTHONPATH": str(apps),
            "LIVE_BROKER": valkey.broker_url,
            "LIVE_BACKEND": valkey.result_url,
            "LIVE_FOLDER": str(folder),
            "LIVE_INTERVAL": str(interval),
            "PLET_HOME": str(folder / "home"),
            "PLET_SHIPPER_LINGER": "1",
        }
        self.store = open_store(f"sqlite:///{folder / 'home' / 'plet.db'}", read_only=True)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `celery -A monitorapp …`."""
        output = (self.folder / f"{words[0]}.log").open("wb")
        program = [sys.executable, "-P", "-m", "celery", "-A", "monitorapp", *words]
        process = subprocess.Popen(
            program, env=self.env, cwd=self.folder, stdout=output, stderr=output, start_new_session=True
        )
        output.close()
        self.processes.append(process)
        return process

    def call(self) -> None:
        """Publish the task that breaks its promise half a second after its start."""
        words = [sys.executable, "-P", "-m", "celery", "-A", "monitorapp"]
        words += ["call", "monitorapp.held", "--args", '["one"]']
        subprocess.run(words, env=self.env, cwd=self.folder, check=True, capture_output=True)

    def fired_after(self) -> float | None:
        """Return the seconds from the broken promise to the alert, once it fires."""
        try:
            found = [one for one in alerting.open_alerts(self.store) if one.rule.startswith("objective:")]
        except Exception:
            return None
        times = [one.fired_at - one.doc.since for one in found if one.fired_at and one.doc.since]
        return times[0] if times else None

    def has_passed(self, caller: str) -> bool:
        """Tell whether the last pass was done for `caller`."""
        from plet_celery.store import watching

        try:
            return watching.last_pass(self.store).doc.get("caller") == caller
        except Exception:
            return False

    def close(self) -> None:
        """End everything."""
        self.store.close()
        (self.folder / "one.go").touch()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for journal in (self.folder / "home").glob("journal/*"):
            end_shipper(journal, timeout=30)


@contextmanager
def standing(interval: float) -> Iterator[Stand]:
    """Yield a stand; all of it ends with it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plet-bench-")))
        valkey = stack.enter_context(running_valkey(folder))
        stand = Stand(folder, valkey, interval)
        try:
            yield stand
        finally:
            stand.close()


def latency(name: str, interval: float, *, slots: int, beat: bool, limit: float) -> None:
    """Print how long after its time a broken promise is a firing alert."""
    with standing(interval) as stand:
        stand.start("worker", "-l", "info", "-c", str(slots), "--without-mingle", "--without-gossip")
        if beat:
            stand.start("beat", "-l", "info", "-s", "schedule")
        wait_until(lambda: stand.has_passed("beat" if beat else "shipper"), _PATIENCE, what=name)
        stand.call()
        took = wait_until(stand.fired_after, _PATIENCE + 3 * interval, what=name)
        assert took is not None
        print(f"  {name:<22} {took:6.1f} s   (at most {limit:g} s wanted)")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", default="20000,200000", help="two sizes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between passes, for latencies")
    parser.add_argument("--url", action="append", default=[], help="a filled store; give two")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--no-latency", action="store_true")
    given = parser.parse_args()
    # The channel `log` would tell of each run that is late.
    logging.disable()
    if given.url:
        costs_of(given.url, given.rounds)
    elif not given.no_costs:
        sizes = [int(size) for size in given.runs.split(",")]
        costs(given.engine or ["sqlite", "postgresql"], sizes, given.rounds)
    if not given.no_latency:
        every = given.interval
        print(f"from a broken promise to its alert, a pass every {every:g} s:")
        latency("beat", every, slots=2, beat=True, limit=every + 5)
        latency("a jammed queue", every, slots=1, beat=True, limit=2 * every + 10)
        latency("no beat", every, slots=2, beat=False, limit=2 * every + 10)


if __name__ == "__main__":
    main()
