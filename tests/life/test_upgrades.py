"""Workers of other versions or with other settings on one journal: it changes hands once, never back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from living import APPS, Team
from waiting import wait_until

from plet_celery.shipper.verdict import TURNS_MAX
from plet_celery.store import open_store

MakeTeam = Callable[..., Team]
STEPS_DOWN = "steps down for a worker"


def newer(team: Team) -> str:
    """The PYTHONPATH with which plet_celery has a higher version."""
    facts = team.folder / "newer" / "plet_celery-99.0.dist-info"
    if not facts.exists():
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: plet-celery\nVersion: 99.0\n")
    return f"{facts.parent}{os.pathsep}{APPS}"


def stays(team: Team, seconds: float = 6.0) -> bool:
    """Whether the shipper that serves now still does so many of its own seconds later."""
    first = team.served()
    wait_until(lambda: (now := team.beat()) is None or now.mono >= first.mono + seconds, 90)
    now = team.beat()
    return now is not None and now.process == first.process


@pytest.mark.slow
def test_a_newer_worker_gets_its_own_shipper_and_an_older_one_never_takes_it_back(
    make_team: MakeTeam,
) -> None:
    team = make_team()
    team.start("-c", "1")
    old = team.served()
    ids = team.submit("life.nap", 0.05, count=60)

    team.start("-c", "1", PYTHONPATH=newer(team))

    new = team.served(plet="99.0")
    assert (old.plet, new.process == old.process) == ("0.1.0", False)
    team.start("-c", "1")
    assert stays(team)
    team.await_states(ids, succeeded=60)
    # Whoever spawns first after a crash, the newer one ends up serving.
    os.kill(new.process.pid, signal.SIGKILL)
    team.served(but=new, plet="99.0")
    # One more for each time that a busy machine lets ten seconds pass before the newer one has spawned.
    assert team.told().count(STEPS_DOWN) <= TURNS_MAX
    team.await_states(team.submit("life.ok", count=10), succeeded=10)


@pytest.mark.slow
def test_two_apps_with_other_settings_in_one_home_do_not_fight(make_team: MakeTeam) -> None:
    """The newest start wins, once; the other one says what is wrong, and all is stored."""
    team = make_team()
    one = team.start("-c", "1", wait=False, PLET_GATHER="0.2")
    other = team.start("-c", "1", wait=False, PLET_GATHER="0.3")
    for worker in (one, other):
        team.await_ready(worker)

    # The first one that serves may be about to step down for a worker that has begun later.
    assert stays(team) or stays(team)

    assert team.told().count(STEPS_DOWN) <= 1
    ids = team.submit("life.ok", count=20)
    team.await_states(ids, succeeded=20)
    said = "two apps with different plet_ settings need two homes"
    wait_until(lambda: (said in team.output(one)) != (said in team.output(other)), 60)
    # A restart with new settings takes over; the one with the old ones does not take it back.
    before = team.served()
    assert team.stop(one) == 0
    team.start("-c", "1", PLET_GATHER="0.4")
    team.served(but=before)
    assert stays(team)
    assert team.output(other).count(said) <= 2


@pytest.mark.slow
def test_an_app_with_another_store_does_not_stop_the_journals_own_app(make_team: MakeTeam) -> None:
    """A journal belongs to one store: the shipper of the other app steps aside, and nothing waits."""
    team = make_team()
    team.start("-c", "1", "-Q", "own")
    team.await_states(team.submit("life.ok", count=5, queue="own"), succeeded=5)
    first = team.served()
    other = f"sqlite:///{team.folder / 'other.db'}"
    store = open_store(other)
    store.ensure_schema()
    store.close()

    stranger = team.start("-c", "1", PLET_DATABASE_URL=other)

    wait_until(lambda: "this store cannot take the journal" in team.told(), 60, what=team.told)
    back = team.served(but=first)
    wait_until(lambda: (found := team.beat()) and found.fingerprint == first.fingerprint, 60)
    assert stays(team)
    ids = team.submit("life.ok", count=10, queue="own") + team.submit("life.ok", count=10)
    team.await_states(ids, succeeded=20)
    assert back.process != first.process
    # More than two where a busy machine lets ten seconds pass before the own app has spawned.
    assert 2 <= team.told().count(STEPS_DOWN) <= TURNS_MAX
    wait_until(lambda: "need two homes" in team.output(stranger), 60)


@pytest.mark.slow
def test_a_worker_that_restarts_itself_brings_its_new_settings(make_team: MakeTeam) -> None:
    """SIGHUP replaces the program, not the process; what is left of its shipper is reaped."""
    team = make_team(PLET_SHIPPER_LINGER="0.1")
    worker = team.start("-c", "1")
    first = team.served()
    (team.folder / "conf.json").write_text(json.dumps({"plet_journal_keep": 1800.0}))

    worker.send_signal(signal.SIGHUP)

    team.await_ready(worker, times=2)
    wait_until(lambda: (found := team.beat()) and found.fingerprint != first.fingerprint, 60)
    team.await_states(team.submit("life.ok", count=5), succeeded=5)
    wait_until(
        lambda: not Path(f"/proc/{first.process.pid}").exists(), 30, what="the first shipper is reaped"
    )
    assert team.stop(worker) == 0
