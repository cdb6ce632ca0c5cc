"""A store on each engine: what these tests say holds on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services import ENGINES
from storing import drop_stores, store_on

from plet_celery.store import Store


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, once for each engine."""
    made = store_on(request.param, tmp_path)
    yield made
    _close(made)


@pytest.fixture(params=[engine for engine in ENGINES if engine != "sqlite"])
def server_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, once for each server: SQLite has one writer and no connection that could be lost."""
    return store_on(request.param, tmp_path)


@pytest.fixture
def mariadb_store(tmp_path: Path) -> Store:
    """An empty store on MariaDB: for what is special there."""
    return store_on("mariadb", tmp_path)


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a file: for what only a file can do."""
    made = store_on("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module", params=ENGINES)
def kept_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests of a module share and empty themselves, once for each engine."""
    made = store_on(request.param, tmp_path_factory.mktemp("kept"), "kept")
    yield made
    _close(made)


@pytest.fixture(scope="session", autouse=True)
def databases() -> Iterator[None]:
    """Drop what was made on servers."""
    yield
    drop_stores()


def _close(store: Store) -> None:
    # One on a server is kept for the next test, with its connections and compiled statements.
    if store.url.get_backend_name() == "sqlite":
        store.close()
