"""The check of the store: locked, away, hanging, with other tables, too large; and what is kept of checks."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from proxying import Proxy
from waiting import wait_until
from worlds import asked, kept, levels, result, world_of

from plet_celery.errors import StaleWrite
from plet_celery.monitor.checks import run_checks
from plet_celery.store import Store, health, open_store
from plet_celery.store.schema import HEAD
from plet_celery.watchfacts import Level

NOW = 1_790_000_000.0
Open = Callable[..., Store]


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Store] = []

    def open_one(url: str, **given: float) -> Store:
        made.append(open_store(url, **given))  # type: ignore[arg-type]
        return made[-1]

    yield open_one
    for store in made:
        store.close()


@pytest.fixture
def url(database_url: str, opened: Open) -> str:
    opened(database_url).ensure_schema()
    return database_url


def reader(opened: Open, url: str, seconds: float = 5.0) -> Store:
    return opened(url, read_only=True, query_seconds=seconds, connections=4)


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the row that a writer of ours asks for; on SQLite the whole file."""
    engine = sa.create_engine(url)
    store = open_store(url)
    try:
        with store.writing() as connection:
            info = store.tables.info
            connection.execute(sa.select(info).where(info.c.name == "store_id").with_for_update())
            yield
    finally:
        store.close()
        engine.dispose()


def test_a_store_that_works_is_ok(url: str, opened: Open) -> None:
    found = asked(world_of(reader(opened, url), writer=opened(url)), "store", now=NOW)

    assert levels(found) == dict.fromkeys(("", "schema", "writing", "size"), Level.OK)
    assert found["schema"].observation == f"tables at {HEAD} (head)"
    assert found["size"].values["bytes"] > 0


def test_a_locked_store_is_critical_and_ok_again(url: str, opened: Open) -> None:
    world = world_of(reader(opened, url), writer=opened(url))

    with locked(url):
        held = asked(world, "store", now=NOW, seconds=2.0)

    # Whoever waits for a lock has not answered in time.
    assert held[""].level is Level.CRITICAL
    assert "no answer within" in held[""].observation
    assert held[""].values["error"] == "timeout"
    assert held[""].advice.startswith("start the database")

    wait_until(lambda: set(levels(asked(world, "store", now=NOW)).values()) == {Level.OK}, 60)


def test_a_store_without_tables_says_what_to_do(database_url: str, opened: Open) -> None:
    if database_url.startswith("sqlite"):
        opened(database_url).engine.connect().close()

    found = asked(world_of(reader(opened, database_url)), "store", now=NOW)

    assert levels(found) == {"": Level.OK, "schema": Level.CRITICAL}
    assert found["schema"].observation.startswith("no tables of plet, this version needs ")
    assert found["schema"].advice == "celery -A proj plet migrate"


def test_a_store_that_is_away_is_critical(postgres_url: str, opened: Open) -> None:
    opened(postgres_url).ensure_schema()
    parsed = sa.make_url(postgres_url)
    proxy = Proxy(parsed.host or "127.0.0.1", parsed.port or 5432)
    try:
        world = world_of(reader(opened, proxy.url(postgres_url)))
        there = asked(world, "store", now=NOW)
        proxy.down()
        away = asked(world, "store", now=NOW)
        proxy.up()
        again = asked(world, "store", now=NOW)
    finally:
        proxy.down()

    assert there[""].level is again[""].level is Level.OK
    assert levels(away) == {"": Level.CRITICAL}
    assert "does not answer" in away[""].observation


def test_a_store_that_hangs_answers_by_its_silence(postgres_url: str, opened: Open) -> None:
    """And it is not asked again by one more thread each time."""
    opened(postgres_url).ensure_schema()
    parsed = sa.make_url(postgres_url)
    proxy = Proxy(parsed.host or "127.0.0.1", parsed.port or 5432)
    try:
        world = world_of(opened(proxy.url(postgres_url), read_only=True))
        asked(world, "store", now=NOW)
        proxy.swallow()
        began = time.monotonic()

        hanging = [asked(world, "store", now=NOW, seconds=0.3)[""] for _ in range(5)]

        threads = [one for one in threading.enumerate() if one.name == "plet-check-store"]
        assert {one.level for one in hanging} == {Level.CRITICAL}
        assert all("no answer within" in one.observation for one in hanging)
        assert len(threads) <= 1
        assert time.monotonic() - began < 60
        world.store.sever()
        proxy.up()
        wait_until(lambda: asked(world, "store", now=NOW)[""].level is Level.OK, 60)
    finally:
        proxy.down()


def test_a_store_that_grows_is_told(url: str, opened: Open) -> None:
    store, letter = opened(url), opened(url).tables.dead_letter
    # Some engines are large when they are empty.
    empty = asked(world_of(store), "store", now=NOW)["size"].values["bytes"]
    world = world_of(store, store_max_bytes=max(1 << 20, empty + (1 << 19)))
    before = asked(world, "store", now=NOW)["size"]

    with store.writing() as connection:
        for number in range(40):
            facts = {"writer": "w", "segment": 0, "offset": number, "journal_id": "j", "at": NOW}
            facts |= {"buried_at": NOW, "kind": "k", "reason": "r", "record": secrets.token_hex(32 << 10)}
            connection.execute(letter.insert().values(facts))
    if store.url.get_backend_name() in ("mysql", "mariadb"):
        with store.engine.connect() as connection:
            connection.exec_driver_sql(f"ANALYZE TABLE {letter.name}").all()

    after = wait_until(
        lambda: (one := asked(world, "store", now=NOW)["size"]).level is Level.WARNING and one, 30
    )
    assert before.level is Level.OK
    assert after
    assert "plet_store_max_bytes" in after.advice


def test_a_file_that_another_process_holds_is_critical(tmp_path: Path, opened: Open) -> None:
    """SQLite in exclusive mode: readers are kept out, too."""
    address = f"sqlite:///{tmp_path / 'plet.db'}"
    made = opened(address)
    made.ensure_schema()
    made.close()
    world = world_of(reader(opened, address, seconds=0.5))
    holder = sqlite3.connect(tmp_path / "plet.db", isolation_level=None)
    try:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        held = asked(world, "store", now=NOW)
    finally:
        holder.close()

    assert held[""].level is Level.CRITICAL
    wait_until(lambda: asked(world, "store", now=NOW)[""].level is Level.OK)


def test_no_password_is_in_an_answer(opened: Open, tmp_path: Path) -> None:
    world = world_of(opened("postgresql://watch:s3cr3t-word@127.0.0.1:1/plet", read_only=True))

    found = run_checks(world, now=NOW, seconds=20)

    assert found
    assert "s3cr3t-word" not in repr(found)


# What is kept


def test_a_level_holds_since_the_pass_that_first_saw_it(url: str, opened: Open) -> None:
    store = opened(url)
    for at, level in ((1, Level.OK), (2, Level.CRITICAL), (3, Level.CRITICAL)):
        health.keep(store, [result(level, values={"n": at})], now=NOW + at)

    (row,) = health.list_health(store)

    assert (row.result.level, row.since, row.checked_at) == (Level.CRITICAL, NOW + 2, NOW + 3)
    assert row.result.values == {"n": 3}
    health.keep(store, [result(Level.OK)], now=NOW + 4)
    assert health.list_health(store)[0].since == NOW + 4


def test_a_level_holds_since_its_own_evidence_where_there_is_some(url: str, opened: Open) -> None:
    store = opened(url)
    health.keep(store, [result(Level.WARNING, since=NOW - 500)], now=NOW)

    assert health.list_health(store)[0].since == NOW - 500


def test_what_is_not_found_again_is_gone_and_the_worst_comes_first(url: str, opened: Open) -> None:
    store = opened(url)
    health.keep(store, [result(Level.OK, "queue", one) for one in "abc"], now=NOW)
    second = [result(Level.OK, "queue", "a"), result(Level.CRITICAL, "queue", "z"), result(Level.NO_DATA)]
    health.keep(store, second, now=NOW + 30)

    rows = health.list_health(store)

    assert [(row.result.name, row.result.subject) for row in rows] == [
        ("queue", "z"), ("broker", ""), ("queue", "a"),
    ]  # fmt: skip
    assert rows[2].since == NOW


def test_whoever_is_fenced_keeps_nothing(url: str, opened: Open) -> None:
    store = opened(url)
    health.keep(store, [result(Level.OK)], now=NOW)

    def fence(connection: object) -> None:
        raise StaleWrite("another one passes")

    with pytest.raises(StaleWrite):
        health.keep(store, [result(Level.CRITICAL)], now=NOW + 30, fence=fence)

    assert health.list_health(store)[0].result.level is Level.OK


def test_text_of_any_kind_and_length_is_kept(url: str, opened: Open) -> None:
    store = opened(url)
    nasty = [result(Level.OK, "queue", "ü\u202e'\"<b>" * 200), result(Level.OK, "queue", "\0")]
    health.keep(store, nasty, now=NOW)
    health.keep(store, nasty, now=NOW + 1)

    assert len(health.list_health(store)) == 2
    assert kept(nasty, at=NOW)[0].since == NOW
