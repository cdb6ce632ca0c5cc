"""A reader that does not wait for ever: slow queries, locked tables and busy connections end in an error."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from storing import url_of
from waiting import wait_until

from plet_celery.errors import StoreError, StoreUnavailable
from plet_celery.store import Store, open_store, patience, queries

# Beyond what a small query takes, unless the machine has much else to do.
SECONDS = 1.0
WAIT_SECONDS = 60
# None of them ends within an hour.
SLOW = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
    "mysql": "SELECT count(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b WHERE a.seq + b.seq < 0",
}


@pytest.fixture
def url(database_url: str) -> str:
    """A store with its tables, once for each engine."""
    store = open_store(database_url)
    store.ensure_schema()
    store.close()
    return database_url


@pytest.fixture
def opened() -> Iterator[Callable[..., Store]]:
    """Open stores; close them then."""
    made: list[Store] = []

    def open_one(url: str, **given: float) -> Store:
        made.append(open_store(url, **given))  # type: ignore[arg-type]
        return made[-1]

    yield open_one
    for store in made:
        store.close()


class Clock:
    """Stands in for the `time` that reads look at; it goes on only as a test says."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(patience, "time", made)
    return made


def is_served(store: Store) -> bool:
    """Whether a small read was answered within its time."""
    with suppress(StoreUnavailable):
        return queries.list_runs(store).items == []
    return False


def test_a_slow_query_ends(url: str, opened: Callable[..., Store]) -> None:
    store = opened(url, read_only=True, query_seconds=SECONDS, connections=1)

    with (
        pytest.raises(StoreUnavailable, match=f"a query took longer than {SECONDS:g} s"),
        store.reading() as connection,
    ):
        connection.exec_driver_sql(SLOW[store.url.get_backend_name()]).all()

    # Its connection serves the next reader.
    wait_until(lambda: is_served(store))


def test_a_read_of_many_statements_ends(url: str, opened: Callable[..., Store], clock: Clock) -> None:
    store = opened(url, read_only=True, query_seconds=WAIT_SECONDS)
    count = 0

    with pytest.raises(StoreUnavailable, match="took longer"), store.reading() as connection:
        while True:
            connection.execute(sa.select(store.tables.run.c.id).limit(1)).all()
            count += 1
            clock.now += 0.4 * WAIT_SECONDS

    assert count == 3
    assert queries.list_runs(store).items == []


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the table of runs, so that nobody can read it."""
    name = store.url.get_backend_name()
    if name == "sqlite":
        holder = sqlite3.connect(str(store.url.database), isolation_level=None)
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("DELETE FROM run")
        yield
        holder.close()
        return
    with store.engine.connect() as connection:
        table = store.tables.run.fullname
        if name == "postgresql":
            connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        else:
            connection.exec_driver_sql(f"LOCK TABLES {table} WRITE")
        yield
        connection.invalidate()


def test_a_locked_table_ends_the_wait(url: str, opened: Callable[..., Store]) -> None:
    store = opened(url, read_only=True, query_seconds=SECONDS)

    with (
        locked(opened(url)),
        pytest.raises(StoreUnavailable, match=f"a query took longer than {SECONDS:g} s"),
    ):
        queries.list_runs(store)

    wait_until(lambda: is_served(store))


def test_so_many_read_at_a_time(url: str, opened: Callable[..., Store]) -> None:
    store = opened(url, read_only=True, query_seconds=WAIT_SECONDS, connections=3)
    together, answers = threading.Barrier(3), []

    def read() -> None:
        with store.reading():
            together.wait(WAIT_SECONDS)
            answers.append(True)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert answers == [True] * 3


def test_one_more_waits_no_longer_than_a_query(url: str, opened: Callable[..., Store]) -> None:
    store = opened(url, read_only=True, query_seconds=SECONDS, connections=1)

    with store.reading(), pytest.raises(StoreUnavailable, match="no connection became free"):
        queries.list_runs(store)


def test_each_read_has_its_own_time(url: str, opened: Callable[..., Store], clock: Clock) -> None:
    store = opened(url, read_only=True, query_seconds=WAIT_SECONDS, connections=1)

    for _ in range(3):
        assert queries.list_runs(store).items == []
        clock.now += 0.7 * WAIT_SECONDS


def test_writers_have_no_such_limit(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="read_only=True"):
        open_store(url_of(tmp_path / "plet.db"), query_seconds=5.0)
