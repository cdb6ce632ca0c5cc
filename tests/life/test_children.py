"""Children that come and go: recycled, grown, shrunk, replaced for their memory; nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from living import Team
from waiting import wait_until

from plet_celery.store import queries

MakeTeam = Callable[..., Team]


def descriptors(pid: int) -> list[str]:
    """What the open descriptors of a process lead to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return sorted(found)


def writer_rows(team: Team) -> int:
    with team.store() as store, store.reading() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(store.tables.writer)).scalar()
    return int(count or 0)


@pytest.mark.slow
def test_recycled_children_leave_no_run_file_row_or_descriptor_behind(make_team: MakeTeam) -> None:
    """One worker takes a new child for every task, the other for every third."""
    team = make_team(PLET_JOURNAL_KEEP="2", PLET_LOST_GRACE="3", PLET_FSYNC_INTERVAL="0.2")
    workers = [team.start("-c", "5", "--max-tasks-per-child", number, wait=False) for number in ("1", "3")]
    for worker in workers:
        team.await_ready(worker)
    team.await_states(team.submit("life.ok", count=20), succeeded=20)
    before = [descriptors(worker.pid) for worker in workers]

    ids = team.submit("life.ok", count=120)

    team.await_states(ids, succeeded=120)
    # Each worker's main process and children that have run a task; the shipper itself.
    alive = 2 * (1 + 5) + 1
    wait_until(lambda: len(team.writers()) <= alive, 60, what=lambda: f"{len(team.writers())} writers")
    wait_until(lambda: writer_rows(team) <= alive, 60, what=lambda: f"{writer_rows(team)} rows")
    for worker, opened in zip(workers, before, strict=True):
        after = descriptors(worker.pid)
        assert len(after) <= len(opened) + 4, (opened, after)
        assert sum(name.endswith(".plj") for name in after) == 1
        wait_until(lambda: psutil.Process(worker.pid).num_threads() == 1, 30)  # noqa: B023
    assert len(team.shippers()) == 1
    assert team.told().count("shipper serves") == 1
    assert [team.stop(worker) for worker in workers] == [0, 0]
    assert team.states(ids) == {"succeeded": 120}


@pytest.mark.slow
def test_no_run_is_lost_while_children_grow_shrink_and_are_replaced(make_team: MakeTeam) -> None:
    """One worker grows and shrinks, the other replaces each child that has eaten too much."""
    team = make_team(PLET_LOST_GRACE="3", AUTOSCALE_KEEPALIVE="1")
    elastic = team.start("--autoscale", "4,1", wait=False)
    hungry = team.start("-c", "2", "--max-memory-per-child", "120000", "-Q", "hungry", wait=False)
    for worker in (elastic, hungry):
        team.await_ready(worker)
    napping = team.submit("life.nap", 0.05, count=120)
    growing = team.submit("life.grow", 60, count=16, queue="hungry")

    team.await_states(napping + growing, succeeded=136)
    wait_until(lambda: children(elastic.pid) <= 1, 60, what="the worker shrinks")
    # It had grown.
    assert len(set(ran_in(team, napping))) >= 3
    assert "lost_attempts" not in team.told()

    # Negative control: a child that goes in the middle of a run is a loss, and the only one.
    (dead,) = team.submit("life.die")
    team.await_states([dead], lost=1)
    assert len(set(ran_in(team, growing))) >= 5
    assert [team.stop(elastic), team.stop(hungry)] == [0, 0]
    assert team.states(napping + growing) == {"succeeded": 136}


def children(pid: int) -> int:
    """The pool processes of a worker."""
    return sum(is_of_the_pool(child) for child in psutil.Process(pid).children())


def is_of_the_pool(child: psutil.Process) -> bool:
    try:
        return "plet_celery.shipper" not in child.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False  # it has just been replaced


def ran_in(team: Team, ids: list[str]) -> Iterator[int | None]:
    """The process of each run."""
    with team.store() as store:
        for run in ids:
            yield from (attempt.pid for attempt in queries.attempts(store, run))
