"""A store on each engine, and one in a file."""

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
    if request.param == "sqlite":
        made.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a file."""
    made = store_on("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def databases() -> Iterator[None]:
    """Drop what was made on servers."""
    yield
    drop_stores()
