"""A slow disk under a real worker: a child that has done its last task writes what it acknowledged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from living import Team
from waiting import wait_until

from plet_celery.logfiles.reading import RunLog, find_folders
from plet_celery.store import queries

MakeTeam = Callable[..., Team]


@pytest.mark.slow
def test_a_recycled_child_leaves_nothing_in_its_queue(make_team: MakeTeam) -> None:
    team = make_team(LIFE_SLOW_DISK="0.08", PLET_LOST_GRACE="2")
    worker = team.start("-c", "1", "--max-tasks-per-child", "1")

    ids = team.submit("life.count", 15, count=2)

    team.await_states(ids, succeeded=2)
    assert team.stop(worker) == 0
    assert "lost_attempts" not in team.told()
    for run in ids:
        wait_until(lambda: lines(team, run) == [f"line {n}" for n in range(15)], 60)  # noqa: B023


def lines(team: Team, run: str) -> list[str]:
    """What a run printed, as its log file has it."""
    with team.store() as store:
        names = queries.get_run(store, run).log_folders
    texts = [
        line.text for folder in find_folders(team.home / "runs", names) for line in RunLog(folder).tail(99)
    ]
    return [text for text in texts if text.startswith("line ")]
