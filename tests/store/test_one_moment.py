"""Reads that share a moment, and connections that were gone before they were used again."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper

from plet_celery.errors import StoreUnavailable
from plet_celery.store import Store, open_store, queries

RUNS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(3)]


def _tell(store: Store, number: int) -> None:
    teller = Teller()
    teller.tell(teller.writer(JOURNALS[number]), "run.queued", RUNS[number], None, task="shop.import")
    assert Shipper(store).ship(teller.told) == 0


def _ids(store: Store) -> list[str]:
    return sorted(run.id for run in queries.list_runs(store).items)


def test_reads_of_one_moment_see_one_state(database_url: str) -> None:
    writer, reader = open_store(database_url), open_store(database_url, read_only=True)
    writer.ensure_schema()
    _tell(writer, 0)

    with reader.one_moment():
        mark, before = queries.change_mark(reader), _ids(reader)
        _tell(writer, 1)
        assert (queries.change_mark(reader), _ids(reader)) == (mark, before)
        # Another thread's reads are of another moment.
        others: list[list[str]] = []
        thread = threading.Thread(target=lambda: others.append(_ids(reader)))
        thread.start()
        thread.join()
    assert before == RUNS[:1]
    assert others == [RUNS[:2]]
    assert _ids(reader) == RUNS[:2]
    assert queries.change_mark(reader) != mark
    writer.close()
    reader.close()


def test_what_fails_in_a_moment_is_told_as_ever(database_url: str) -> None:
    writer, reader = open_store(database_url), open_store(database_url, read_only=True)
    writer.ensure_schema()
    with pytest.raises(ValueError, match="mine"), reader.one_moment():
        raise ValueError("mine")
    with pytest.raises(StoreUnavailable), reader.one_moment(), reader.reading():
        raise sa.exc.OperationalError("select 1", {}, Exception("gone"), connection_invalidated=True)

    assert _ids(reader) == []
    writer.close()
    reader.close()


def _end_sessions(url: str) -> None:
    """End every session of the database but this one's, as a server does that starts anew."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        mine = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}"
        )
    engine.dispose()


def test_a_readers_connection_that_is_gone_is_replaced_before_anything_is_asked(postgres_url: str) -> None:
    writer, reader = open_store(postgres_url), open_store(postgres_url, read_only=True)
    writer.ensure_schema()
    for _ in range(2):
        assert _ids(reader) == []
        _end_sessions(postgres_url)

    assert _ids(reader) == []
    writer.close()
    reader.close()


def test_a_reader_writes_nothing(postgres_url: str) -> None:
    writer, reader = open_store(postgres_url), open_store(postgres_url, read_only=True)
    writer.ensure_schema()

    with pytest.raises(sa.exc.DBAPIError, match="read-only"), reader.engine.begin() as connection:
        connection.execute(reader.tables.task.insert().values(name="x"))
    writer.close()
    reader.close()
