"""Workers of one host, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from living import Team

from plet_celery.embedded.valkey import Valkey


@pytest.fixture
def make_team(tmp_path: Path, valkey: Valkey) -> Iterator[Callable[..., Team]]:
    """Make a folder with its own plet home over the emptied broker; arguments are environment."""
    made: list[Team] = []

    def make(**env: str) -> Team:
        folder = tmp_path / f"team{len(made)}"
        folder.mkdir()
        made.append(Team(folder, valkey, **env))
        return made[-1]

    yield make
    for team in made:
        team.close()
