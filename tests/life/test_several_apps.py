"""Several apps on one host, each with the home beside its module: nothing of one is the other's business."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from living import APPS, Team, shippers_of, told
from waiting import wait_until

from plet_celery import paths
from plet_celery.errors import PletError
from plet_celery.store import open_store, queries

MakeTeam = Callable[..., Team]


def journal_beside(app: Path) -> Path:
    """Our journal in the default home of an app's folder."""
    return paths.journal_directory(app / ".plet")


def stored(app: Path) -> dict[str, str]:
    """The runs in the default store of an app's folder, with their states; none before it is migrated."""
    try:
        store = open_store(f"sqlite:///{app / '.plet' / 'plet.db'}", read_only=True)
        try:
            return {run.id: run.state for run in queries.list_runs(store, limit=500).items}
        finally:
            store.close()
    except PletError:
        return {}


@pytest.mark.slow
def test_two_apps_on_a_host_have_a_journal_and_a_shipper_each(make_team: MakeTeam) -> None:
    team = make_team()
    del team.env["PLET_HOME"]
    shop, mail = (team.folder / name for name in ("shop", "mail"))
    for app in (shop, mail):
        app.mkdir()
        shutil.copy(APPS / "lifeapp.py", app)
    # Other settings, too: in one home their shippers would replace each other.
    shop_worker = team.start("-c", "2", "-Q", "shop", wait=False, PYTHONPATH=str(shop), PLET_GATHER="0.2")
    mail_worker = team.start("-c", "2", "-Q", "mail", wait=False, PYTHONPATH=str(mail), PLET_GATHER="0.3")
    team.await_ready(shop_worker)
    team.await_ready(mail_worker)
    served = {app: team.served(at=journal_beside(app)) for app in (shop, mail)}

    # At once, and more than one batch.
    ids = {app: team.submit("life.nap", 0.01, count=100, queue=app.name) for app in (shop, mail)}

    for app in (shop, mail):
        wanted = dict.fromkeys(ids[app], "succeeded")
        wait_until(lambda: stored(app) == wanted, 90, what=lambda: told(journal_beside(app)))  # noqa: B023
        assert [one.pid for one in shippers_of(journal_beside(app))] == [served[app].process.pid]
    assert served[shop].process != served[mail].process

    # One app that goes takes its own shipper with it, and nothing of the other's.
    assert team.stop(shop_worker) == 0
    wait_until(lambda: not shippers_of(journal_beside(shop)), 60, what=lambda: told(journal_beside(shop)))
    (later,) = team.submit("life.ok", queue="mail")
    wait_until(lambda: stored(mail).get(later) == "succeeded", 60)
    assert team.served(at=journal_beside(mail)).process == served[mail].process
    assert later not in stored(shop)
    assert "steps down" not in told(journal_beside(shop)) + told(journal_beside(mail))
    assert team.stop(mail_worker) == 0
