"""A scene: a store in a file whose time passes as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes import Scene, at
from storing import new_store


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A Monday morning in a year that no real clock reaches soon."""
    store = new_store(tmp_path)
    made = Scene(store, at("2031-03-03 08:00"))
    yield made
    made.store.close()
