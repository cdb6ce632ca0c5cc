"""A worker that fails to start beside the one that has its pidfile and its name."""

from __future__ import annotations

from collections.abc import Callable

from living import Team
from waiting import wait_until

from plet_celery.store import queries
from plet_celery.store.overviews import WorkerStatus

MakeTeam = Callable[..., Team]


def workers(team: Team) -> list[WorkerStatus]:
    with team.store() as store:
        return queries.list_workers(store)


def test_a_worker_whose_pidfile_is_taken_has_stopped_and_the_other_lives_on(make_team: MakeTeam) -> None:
    team = make_team()
    options = ("-P", "solo", f"--pidfile={team.folder / 'worker.pid'}")
    first = team.start(*options, name="same")
    team.served()

    failed = team.start(*options, name="same", wait=False)
    assert failed.wait(240) != 0, team.output(failed)
    assert "Pidfile" in team.output(failed)

    wait_until(
        lambda: any(one.stopped_at or one.lost_at for one in workers(team)), 60, what=lambda: team.told()
    )
    lives, ended = workers(team)
    assert (lives.pid, lives.is_living) == (first.pid, True)
    assert (ended.pid, ended.lost_at) == (failed.pid, None)
    assert "worker is gone" not in team.told()
    assert team.stop(first) == 0
