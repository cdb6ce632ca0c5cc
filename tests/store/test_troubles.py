"""What a server's error means, by real errors of real servers: try again, or a value that is at fault."""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper

from plet_celery import events
from plet_celery.errors import SchemaError, StoreUnavailable
from plet_celery.store import Store, queries
from plet_celery.store import engine as engines
from plet_celery.store.troubles import is_data_fault, is_worth_another_try, translated

WAIT_SECONDS = 60
ONE, TWO = (f"{number:08x}-0000-4000-8000-000000000000" for number in (1, 2))


@pytest.fixture
def server(server_store: Store) -> Store:
    """A store on a server, with two runs."""
    teller = Teller()
    for run in (ONE, TWO):
        teller.start(teller.writer(), run, "a1")
    assert Shipper(server_store).ship(teller.told) == 0
    return server_store


def error_of(store: Store, act: Callable[[sa.Connection], Any]) -> sa.exc.DBAPIError:
    """Return what the database says to `act`, as SQLAlchemy wraps it."""
    with pytest.raises(sa.exc.DBAPIError) as found, begun(store) as connection:
        act(connection)
    return found.value


def meaning_of(store: Store, error: BaseException) -> BaseException:
    """Return what readers and shippers get for an error."""
    with pytest.raises(Exception) as found, translated(store.url):
        raise error
    return found.value


def begun(store: Store) -> contextlib.AbstractContextManager[sa.Connection]:
    """Open a write transaction whose errors stay SQLAlchemy's."""
    return engines.writing(store.engine)


def touch(connection: sa.Connection, store: Store, run: str) -> None:
    table = store.tables.run
    connection.execute(table.update().where(table.c.id == run).values(version=table.c.version + 1))


def test_a_deadlock_is_tried_again(server: Store) -> None:
    holds_two, failed = threading.Event(), []

    def other() -> None:
        try:
            with (
                server.engine.connect().execution_options(plet_writes=True) as connection,
                connection.begin(),
            ):
                touch(connection, server, TWO)
                holds_two.set()
                touch(connection, server, ONE)
        except sa.exc.DBAPIError as error:
            failed.append(error)

    thread = threading.Thread(target=other)
    try:
        with begun(server) as connection:
            touch(connection, server, ONE)
            thread.start()
            assert holds_two.wait(WAIT_SECONDS)
            touch(connection, server, TWO)
    except sa.exc.DBAPIError as error:
        failed.append(error)
    thread.join(WAIT_SECONDS)

    (victim,) = failed
    assert not is_data_fault(victim)
    assert is_worth_another_try(victim)
    assert isinstance(meaning_of(server, victim), StoreUnavailable)
    assert "is busy" in str(meaning_of(server, victim))


def test_a_row_that_is_locked_for_long_is_tried_again(server: Store) -> None:
    brief = {
        "postgresql": "SET LOCAL lock_timeout = '20ms'",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    }[server.url.get_backend_name()]

    def act(connection: sa.Connection) -> None:
        connection.exec_driver_sql(brief)
        touch(connection, server, ONE)

    with server.writing() as holder:
        touch(holder, server, ONE)
        error = error_of(server, act)

    assert not is_data_fault(error)
    assert is_worth_another_try(error)
    assert isinstance(meaning_of(server, error), StoreUnavailable)


def test_a_killed_connection_is_tried_again(server: Store) -> None:
    def act(connection: sa.Connection) -> None:
        own, kill = {
            "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
            "mysql": ("SELECT connection_id()", "KILL {}"),
        }[server.url.get_backend_name()]
        name = connection.exec_driver_sql(own).scalar()
        with server.writing() as other:
            other.exec_driver_sql(kill.format(name)).close()
        touch(connection, server, ONE)

    error = error_of(server, act)

    assert not is_data_fault(error)
    assert not is_worth_another_try(error)
    assert "does not answer" in str(meaning_of(server, error))
    assert isinstance(meaning_of(server, error), StoreUnavailable)
    assert len(queries.list_runs(server).items) == 2


def test_a_reader_cannot_write(server: Store) -> None:
    with pytest.raises(StoreUnavailable, match="is read-only"), server.reading() as connection:
        touch(connection, server, ONE)


def test_readers_see_one_state(server: Store) -> None:
    table = server.tables.run
    versions = sa.select(table.c.version).order_by(table.c.id)
    with server.reading() as connection:
        before = connection.execute(versions).all()
        with server.writing() as other:
            touch(other, server, ONE)
        assert connection.execute(versions).all() == before

    with server.writing() as connection:
        connection.execute(versions).all()
        with server.writing() as other:
            touch(other, server, ONE)
        # A writer must see what another host has just committed, or it would merge into an old row.
        assert connection.execute(versions).all()[0].version == before[0].version + 2


def test_a_missing_table_or_column_is_the_schemas(server: Store) -> None:
    own = server.tables.run.fullname
    for statement, words in (
        (f"SELECT nosuch FROM {own}", "has older tables"),
        (f"SELECT 1 FROM {own}_nosuch", "has no tables of plet"),
    ):
        error = error_of(server, operator.methodcaller("exec_driver_sql", statement))
        assert isinstance(meaning_of(server, error), SchemaError)
        assert words in str(meaning_of(server, error))


@pytest.mark.parametrize(
    "change",
    [
        {"task": "x" * 256},
        {"attempts": 1 << 40},
        {"version": 1 << 63},
        {"task": None},
        {"task": "\ud800"},
        {"id": TWO},
    ],
    ids=str,
)
def test_a_value_that_no_column_holds_is_at_fault(server: Store, change: dict[str, Any]) -> None:
    table = server.tables.run
    with pytest.raises(Exception) as found, server.writing() as connection:
        connection.execute(table.update().where(table.c.id == ONE).values(change))

    # PyMySQL sends half a character to the server, which refuses it, as the others' drivers do.
    assert is_data_fault(found.value), found.value
    assert not isinstance(found.value, StoreUnavailable)


def test_two_hosts_that_tell_of_one_run_at_once_both_get_through(server: Store) -> None:
    """Each journal in a thread of its own, on rows of the same runs: they wait, and insert the same key."""
    tellers = [Teller(), Teller()]
    runs = [f"{number:08x}-0000-4000-8000-0000000000ff" for number in range(40)]
    for journal, teller in zip(JOURNALS, tellers, strict=True):
        writer = teller.writer(journal)
        for number, run in enumerate(runs):
            teller.start(writer, run, f"{journal[0]}{number}")
            teller.end(writer, events.RUN_RETRIED, run, f"{journal[0]}{number}", retries=0)
    failed: list[BaseException] = []
    both = threading.Barrier(2)

    def ship(teller: Teller) -> None:
        try:
            shipper = Shipper(server)
            for start in range(0, len(teller.told), 8):
                both.wait(WAIT_SECONDS)
                assert shipper.ship(teller.told[start : start + 8]) == 0
        except BaseException as error:
            failed.append(error)
            both.abort()

    threads = [threading.Thread(target=ship, args=(teller,)) for teller in tellers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert failed == []
    assert {queries.get_run(server, run).attempts for run in runs} == {2}
