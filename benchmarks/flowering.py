"""A real Flower over a filled store, fed with task events of its own, and a browser that asks it.

For the benchmarks of the pages. Flower is started as users start it; its broker is a Valkey of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from celery import Celery
from flowers import running_flower
from services import new_database

from benchmarks.believable import TASKS, WORKERS
from benchmarks.fill import fill
from plet_celery.embedded.valkey import running_valkey
from plet_celery.store import open_store

APP: Final = """
from celery import Celery
from plet_celery import Plet

app = Celery("shop", broker={broker!r}, backend="cache+memory://")
app.conf.plet_database_url = {url!r}
{more}
plet = Plet(app)
"""
FLOWER_TASKS: Final = 10_000
_COLUMNS: Final = ("name", "uuid", "state", "received", "runtime", "worker")
_AT_ONCE: Final = 500
_SERVERS: Final = {"postgresql": "PLET_TEST_POSTGRES_URL", "mariadb": "PLET_TEST_MYSQL_URL"}


class Browser:
    """Asks one Flower over one connection, as a browser's tab does."""

    def __init__(self, base: str, pid: int) -> None:
        self.base = base
        self.pid = pid
        parts = urlsplit(base)
        self._base = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._process = psutil.Process(pid)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes, Any]:
        """Return status, body and headers of a page below Flower's prefix."""
        return self._ask("GET", path, None, {"Accept-Encoding": "gzip"} | dict(headers or {}))

    def newest(self, length: int = 50) -> dict[str, Any]:
        """Return what Flower's own page of tasks asks for: the newest ones, as its browser asks."""
        given: dict[str, Any] = {"draw": 1, "start": 0, "length": length, "search[value]": ""}
        given |= {"search[regex]": "false", "order[0][column]": 3, "order[0][dir]": "desc"}
        for number, name in enumerate(_COLUMNS):
            column = f"columns[{number}]"
            given |= {f"{column}[data]": name, f"{column}[name]": "", f"{column}[search][value]": ""}
            given |= {f"{column}[searchable]": "true", f"{column}[orderable]": "true"}
            given |= {f"{column}[search][regex]": "false"}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "gzip"}
        status, body, _ = self._ask("POST", "tasks/datatable", urlencode(given), headers)
        assert status == 200, (status, body[:300])
        found: dict[str, Any] = json.loads(body)
        return found

    def cpu(self) -> float:
        """Return the CPU seconds that Flower's process has taken so far."""
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _ask(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Any]:
        self._connection.request(method, self._base + path, body, dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers


@contextmanager
def flower_over(url: str, folder: Path, broker: str, *, more: str = "") -> Iterator[Browser]:
    """Start Flower for an app whose store is at `url`; `more` goes into its module."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.py").write_text(APP.format(broker=broker, url=url, more=more))
    with running_flower(folder) as flower:
        browser = Browser(flower.base, flower.process.pid)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Start a broker of our own."""
    with running_valkey(folder) as server:
        yield server.broker_url


def feed(url: str, browsers: Sequence[Browser], count: int = FLOWER_TASKS) -> None:
    """Send the events of `count` tasks by a broker until every Flower knows of them all."""
    app = Celery("feeder", broker=url, set_as_current=False)
    began = time.time() - count
    with app.connection() as connection, app.events.Dispatcher(connection, hostname=WORKERS[0]) as told:
        # A subscriber that is not there yet gets nothing.
        _until(lambda: _all_know(told, browsers), 60, "Flower hears of no event")
        for number in range(count):
            _tell(told, f"shop-{uuid.uuid4()}", number, began + number)
            if number % _AT_ONCE == _AT_ONCE - 1:
                _until(partial(_all_have, browsers, number + 1), 60, "events are lost")


def _all_know(told: Any, browsers: Sequence[Browser]) -> bool:
    _tell(told, "the-first", 0, time.time())
    return all(browser.newest(1)["recordsTotal"] for browser in browsers)


def _all_have(browsers: Sequence[Browser], count: int) -> bool:
    return all(one.newest(1)["recordsTotal"] >= count for one in browsers)


def _tell(told: Any, task_id: str, number: int, at: float) -> None:
    facts = {
        "name": TASKS[number % len(TASKS)],
        "args": repr((number, "catalogue.csv")),
        "kwargs": repr({"supplier": f"c{number % 200:03d}"}),
        "root_id": task_id,
        "parent_id": None,
        "retries": 0,
        "eta": None,
        "expires": None,
    }
    told.send("task-received", uuid=task_id, timestamp=at, **facts)
    told.send("task-started", uuid=task_id, timestamp=at + 0.01)
    ended = {"timestamp": at + 0.5, "runtime": 0.49, "result": repr({"rows": number})}
    told.send("task-succeeded", uuid=task_id, **ended)


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def filled_stores(engine: str, sizes: Sequence[int], now: float, stack: ExitStack) -> list[str]:
    """Return the URLs of new stores with so many runs each; they go with `stack`."""
    urls = []
    for size in sizes:
        url = stack.enter_context(new_database(engine))
        store = open_store(url)
        store.ensure_schema()
        fill(store, size, now=now)
        store.close()
        urls.append(url)
    return urls


def chosen_engines(wanted: Sequence[str] | None) -> Iterator[str]:
    """Yield the engines to measure: those that are named, else SQLite, and PostgreSQL if it is there."""
    for engine in wanted or ("sqlite", "postgresql"):
        if engine in _SERVERS and not os.environ.get(_SERVERS[engine]):
            print(f"{engine}: left out, set {_SERVERS[engine]}")
            continue
        yield engine


def rounds_of(
    sides: Mapping[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] = lambda: None
) -> dict[str, float]:
    """Return the median of each side's seconds; sides take turns, after a round that is not measured.

    Args:
        before: is done before each round.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for act in sides.values():
        act()
    for _ in range(rounds):
        before()
        for name, act in sides.items():
            began = time.perf_counter()
            act()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}
