"""What a run costs in the store and the journal, and what a shipper costs: the figures of docs/sizing.md.

    python benchmarks/sizing.py [--runs 2000] [--url postgresql+psycopg://…/empty] [--url mariadb+pymysql://…/empty]

For each database (SQLite, and the empty ones that are named) two kinds of run are recorded through Celery's
own tracer and stored by a real shipper: one without content, and one with 5 stages of 20 steps and 100 log
lines. Sizes are differences between two fills, so that empty tables do not count.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import sqlalchemy as sa
from celery import Celery
from celery.app.trace import build_tracer

from plet_celery import Plet, TrackedTask, current_run, stage
from plet_celery.election import ShipLock
from plet_celery.journal_keeping import segments
from plet_celery.spawning import spawn_shipper
from plet_celery.store import Store, condition, open_store
from plet_celery.supervision import end_shipper

PATIENCE: Final = 600.0
_CONNECTIONS: Final = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database()",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = database()",
}


def nothing() -> None:
    """A run without content."""


def busy() -> None:
    """5 stages of 20 steps, 100 log lines."""
    log = logging.getLogger("sizing")
    for number in range(5):
        with stage(f"stage {number}", total=20, unit="rows") as one:
            for row in range(20):
                one.advance()
                log.info("row %d of stage %d was loaded from the mirror", row, number)
    current_run().metadata["rows"] = 100


@dataclass
class Cost:
    """What one fill cost."""

    rows: dict[str, int]
    store_bytes: int
    journal_bytes: int
    log_bytes: int
    cpu: float


class Bench:
    """One database, one app, one shipper."""

    def __init__(self, folder: Path, url: str) -> None:
        self.app = Celery("sizing", set_as_current=False, backend="disabled://")
        self.app.conf.update(plet_home=str(folder), plet_min_free_bytes=0, plet_min_free_percent=0.0)
        if url:
            self.app.conf.plet_database_url = url
        self.plet = Plet(self.app)
        self.home = folder
        self.tasks = {"no-op": self._tracer("noop", nothing), "busy": self._tracer("busy", busy)}
        self.store: Store = open_store(self.plet.database_url)
        self.plet._open()
        self.store.ensure_schema()
        self.process = spawn_shipper(self.plet.shipper_config())
        self.shipper = psutil.Process(self.process.pid)
        # Before it serves, a flush would do its work here.
        while not ShipLock.held_elsewhere(self.plet.journal):
            assert self.process.poll() is None, "the shipper has ended"
            time.sleep(0.05)
        self.ship()

    def ship(self) -> None:
        """Wait until all that was recorded is stored."""
        assert self.plet.flush(PATIENCE), "the shipper did not catch up"

    def fill(self, kind: str, runs: int) -> Cost:
        """Record so many runs, ship them, and return what grew."""
        before, cpu = self._state(), self._cpu()
        self.tasks[kind](runs)
        self.ship()
        after, used = self._state(), self._cpu() - cpu
        rows = {name: after.rows[name] - before.rows[name] for name in after.rows}
        return Cost(
            rows={name: count for name, count in rows.items() if count},
            store_bytes=after.store_bytes - before.store_bytes,
            journal_bytes=after.journal_bytes - before.journal_bytes,
            log_bytes=after.log_bytes - before.log_bytes,
            cpu=used,
        )

    @contextmanager
    def watching(self) -> Iterator[list[int]]:
        """Collect the shipper's resident size, a sample every 50 ms."""
        seen: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.05):
                seen.append(self.shipper.memory_info().rss)

        thread = threading.Thread(target=look)
        thread.start()
        yield seen
        over.set()
        thread.join()

    def connections(self) -> str:
        """How many connections the shipper has, as the server counts them."""
        query = _CONNECTIONS.get(self.store.url.get_backend_name())
        if query is None:
            return "–"
        with self.store.engine.connect() as connection:
            return str(connection.execute(sa.text(query)).scalar_one() - 1)

    def close(self) -> None:
        """End the shipper."""
        self.store.close()
        end_shipper(self.plet.journal, timeout=60)
        self.process.wait(60)

    def _cpu(self) -> float:
        times = self.shipper.cpu_times()
        return times.user + times.system

    def _state(self) -> Cost:
        tables = self.store.tables.metadata.sorted_tables
        if self.store.url.get_backend_name() == "sqlite":
            # Outside of SQLAlchemy, which begins a transaction that a checkpoint cannot be in.
            with closing(sqlite3.connect(self.home / "plet.db", timeout=60)) as file:
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self.store.engine.connect() as connection:
            if self.store.url.get_backend_name() in ("mysql", "mariadb"):
                for table in tables:
                    connection.exec_driver_sql(f"ANALYZE TABLE {table.name}").all()
            rows = {
                table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in tables
            }
        logs = sum(file.stat().st_size for file in self.plet.home.glob("runs/**/*") if file.is_file())
        journal = sum(segment.size for segment in segments(self.plet.journal))
        return Cost(rows, condition.size_bytes(self.store), journal, logs, 0.0)

    def _tracer(self, name: str, body: Callable[[], None]) -> Callable[[int], None]:
        decorate: Any = self.app.task(name=f"shop.{name}", base=TrackedTask)
        task = self.app.tasks[decorate(body).name]
        trace = build_tracer(task.name, task, app=self.app)
        request = {"hostname": "bench@host", "delivery_info": {"routing_key": "celery"}, "is_eager": False}

        def run(count: int) -> None:
            for _ in range(count):
                task_id = str(uuid.uuid4())
                trace(task_id, [], {}, {**request, "id": task_id, "root_id": task_id})

        return run


def measure(bench: Bench, name: str, runs: int) -> None:
    """Print the lines of one database."""
    idle = bench.shipper.memory_info().rss
    cpu, began = bench._cpu(), time.monotonic()
    while time.monotonic() - began < 5:
        time.sleep(0.5)
    resting = (bench._cpu() - cpu) / (time.monotonic() - began)
    seen: list[int] = []
    for kind, count in (("no-op", runs), ("busy", max(100, runs // 10))):
        bench.fill(kind, count)
        with bench.watching() as samples:
            cost = bench.fill(kind, count)
        seen += samples
        parts = ", ".join(f"{table} {number / count:.2g}" for table, number in sorted(cost.rows.items()))
        sizes = [size / count / 1000 for size in (cost.store_bytes, cost.journal_bytes, cost.log_bytes)]
        figures = [sum(cost.rows.values()) / count, *sizes]
        shown = " | ".join(f"{figure:.1f}" for figure in figures)
        print(f"| {name} | {kind} | {shown} | {cost.cpu / count * 1000:.2f} | {parts} |", flush=True)
    print(
        f"  shipper on {name}: {idle / 1e6:.0f} MB at rest, {max(seen) / 1e6:.0f} MB at most, "
        f"{100 * resting:.1f} % of a core at rest, connections {bench.connections()}"
    )


def main() -> None:
    """Measure one database here, or each of several in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--url", action="append", default=[], help="an empty database; may be repeated")
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if not chosen.alone:
        print("| store | run | rows | KB in store | in journal | of logs | CPU s/1,000 | rows by table |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for url in ["", *chosen.url]:
            own = [sys.executable, __file__, "--alone", "--runs", str(chosen.runs), "--url", url]
            subprocess.run(own, check=True)
        return
    url = chosen.url[0]
    with tempfile.TemporaryDirectory(prefix="plet-sizing-") as folder:
        bench = Bench(Path(folder) / "home", url)
        try:
            measure(bench, sa.make_url(url).get_backend_name() if url else "sqlite", chosen.runs)
        finally:
            bench.close()


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    main()
