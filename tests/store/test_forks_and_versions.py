"""A store that was opened before a fork, and one whose schema another version has made."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa
from services import new_database
from storing import new_store

from plet_celery.errors import SchemaError
from plet_celery.store import Store, migrating, open_store, queries
from plet_celery.store import store as stores
from plet_celery.store.schema import HEAD, VERSION_TABLE

WAIT_SECONDS = 60


def _lists(store: Store, answers: multiprocessing.SimpleQueue[object]) -> None:
    try:
        for _ in range(20):
            queries.list_runs(store)
        answers.put(queries.as_of(store))
    except BaseException as error:
        answers.put(repr(error))


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(engine: str) -> None:
    context = multiprocessing.get_context("fork")
    with new_database(engine) as url:
        store = open_store(url)
        store.ensure_schema()
        assert queries.list_runs(store).items == []
        answers = context.SimpleQueue()
        # Held as another thread might have held it at the fork: nobody in the child would let go of it.
        with store._lock:
            children = [context.Process(target=_lists, args=(store, answers)) for _ in range(3)]
            for child in children:
                child.start()
        for child in children:
            child.join(WAIT_SECONDS)
            assert child.exitcode == 0

        # The parent's connections are as they were: no child has spoken on them, or closed them.
        assert queries.list_runs(store).items == []
        assert [answers.get() for _ in children] == [None] * 3
        store.close()


def _says_version(store: Store, version: str) -> None:
    schema = "plet." if store.url.get_backend_name() == "postgresql" else ""
    with store.writing() as connection:
        connection.execute(sa.text(f"UPDATE {schema}{VERSION_TABLE} SET version_num = '{version}'"))


def test_a_store_of_a_newer_version_says_so_to_every_reader(database_url: str) -> None:
    store = open_store(database_url)
    store.ensure_schema()
    _says_version(store, "9999")

    for ask in (queries.list_runs, queries.as_of, queries.count_runs_by_state):
        with pytest.raises(SchemaError, match="'9999' of a newer plet_celery"):
            ask(store)
    store.close()


def test_a_store_of_an_older_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    monkeypatch.setattr(migrating, "HEAD", "9999")

    with pytest.raises(SchemaError, match=rf"schema '{HEAD}', this plet_celery needs '9999'; run celery"):
        queries.list_runs(store)
    store.close()


def test_a_reader_that_stays_open_sees_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CHECKED_SECONDS", -1.0)
    store = new_store(tmp_path)
    assert queries.list_runs(store).items == []
    _says_version(store, "9999")

    with pytest.raises(SchemaError, match="newer"):
        queries.list_runs(store)
    store.close()
