"""`prune` and `erase`: what they ask, tell and leave, and with which exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from plet_celery import paths
from plet_celery.journal_place import open_journal
from plet_celery.store import erasing, queries

DAY = 86_400.0
CANARY = "c4n4ry-in-a-line"


@pytest.fixture
def aged(project: Any) -> Any:
    """A project of this host with two old runs and a young one; its journal is served by nobody."""
    now = time.time()
    for days in (100, 40, 1):
        run = project.story.run("shop.load", started=now - days * DAY)
        run.log(CANARY if days == 1 else "old")
        run.succeed()
    project.story.ship()
    # The story's journal is this host's.
    journal = open_journal(paths.journal_directory(project.home))
    store = project.story.store
    with store.writing() as connection:
        for table in (store.tables.journal, store.tables.attempt, store.tables.run, store.tables.writer):
            connection.execute(table.update().values(journal_id=journal.journal_id))
    return project


def ids(project: Any) -> list[str]:
    return [one.id for one in queries.list_runs(project.story.store).items]


def folders(project: Any) -> list[str]:
    return sorted(file.parent.name for file in (project.home / "runs").rglob("run.log"))


def test_a_dry_run_tells_what_would_go(aged: Any) -> None:
    done = aged.invoke("prune", "--dry-run")
    facts = json.loads(aged.invoke("prune", "--dry-run", "--older-than", "50d", "--json").stdout)

    assert done.exit_code == 0
    assert done.stdout.startswith("2 runs would go, the oldest created 100d ago")
    assert (facts["expired"], facts["dry_run"], facts["removed"]) == (1, True, 0)
    assert len(ids(aged)) == len(folders(aged)) == 3


def test_prune_removes_rows_and_the_folders_of_this_host(aged: Any) -> None:
    done = aged.invoke("prune")

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1:] == ["2 runs removed"]
    assert len(ids(aged)) == len(folders(aged)) == 1
    assert aged.invoke("prune", "--json", "--vacuum").exit_code == 0


def test_prune_beyond_the_settings_asks_first(aged: Any) -> None:
    refused = aged.invoke("prune", "--older-than", "12h")
    assert refused.exit_code == 2
    assert "give --yes" in refused.stderr
    assert len(ids(aged)) == 3

    assert aged.invoke("prune", "--older-than", "12h", "--task", "shop.lo*", "--yes").exit_code == 0
    assert ids(aged) == []
    assert folders(aged) == []


@pytest.mark.parametrize(
    "args",
    [
        ["prune", "--older-than", "-3d"],
        ["prune", "--older-than", "soon"],
        ["erase"],
        ["erase", "--run", "x", "--tenant", "y"],
        ["erase", "--tenant", ".."],
        ["erase", "--tenant", "%"],
        ["erase", "--tenant", ""],
        ["erase", "--tenant", "a/../b", "--yes"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(aged: Any, args: list[str]) -> None:
    done = aged.invoke(*args)

    assert done.exit_code == 2
    assert len(ids(aged)) == 3


def test_a_clock_that_jumped_ends_with_1_and_says_so(aged: Any) -> None:
    aged.invoke("prune")
    store = aged.story.store
    with store.writing() as connection:
        old = f'{{"seen":{time.time() - 300 * DAY}}}'
        connection.execute(
            store.tables.info.update().where(store.tables.info.c.name == "prune_clock").values(value=old)
        )

    done = aged.invoke("prune")

    assert done.exit_code == 1
    assert "300.0 days ahead of the last look" in done.stdout
    assert aged.invoke("prune", "--trust-clock").exit_code == 0


def test_erase_removes_a_run_of_this_host_and_says_what_remains(aged: Any) -> None:
    newest = ids(aged)[0]

    assert aged.invoke("erase", "--run", newest).exit_code == 2  # nobody can answer
    done = aged.invoke("erase", "--run", newest, "--yes")

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 runs erased from the store")
    assert "remains: journal files" in done.stdout and "remains: backups" in done.stdout
    assert len(ids(aged)) == len(folders(aged)) == 2
    for file in Path(aged.home).rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file
    assert aged.invoke("erase", "--run", newest, "--yes").exit_code == 4


def test_erase_of_a_host_that_does_not_answer_ends_with_1(aged: Any) -> None:
    store = aged.story.store
    with store.writing() as connection:
        for table in (store.tables.journal, store.tables.attempt):
            connection.execute(table.update().values(journal_id="9" * 32))

    done = aged.invoke("erase", "--run", ids(aged)[0], "--yes", "--wait", "0", "--json")

    assert done.exit_code == 1
    facts = json.loads(done.stdout)
    assert facts["runs"] == 1
    assert facts["waiting"] == [
        {
            "journal_id": "9" * 32,
            "host": "atlas",
            "folders": 1,
            "copies": 0,
            "seen_at": pytest.approx(time.time(), abs=120),
        }
    ]


def test_a_running_run_is_not_erased_unasked(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 5, tenant="acme")
    run.log("on it")
    project.story.ship()

    refused = project.invoke("erase", "--run", run.id, "--yes")
    assert refused.exit_code == 2
    assert "is running; cancel it" in refused.stderr
    of_tenant = project.invoke("erase", "--tenant", "acme", "--yes")
    assert of_tenant.exit_code == 1
    assert "1 runs that have not ended" in of_tenant.stdout
    assert ids(project) == [run.id]

    done = project.invoke("erase", "--run", run.id, "--running", "--yes", "--wait", "0")
    assert done.exit_code == 1  # its folder is this host's, but nobody here serves its journal
    assert ids(project) == []


@pytest.fixture
def tenant_of_three(project: Any, tmp_path: Path) -> Any:
    """A project with three ended runs of a tenant, and their results in a backend."""
    (tmp_path / "results").mkdir()
    project.app.conf.result_backend = f"file://{tmp_path / 'results'}"
    for number in range(3):
        run = project.story.run("shop.load", started=time.time() - 60 - number, tenant="acme")
        run.succeed()
        project.app.backend.store_result(run.id, number, "SUCCESS")
    project.story.ship()
    return project


def results(project: Any) -> int:
    folder = Path(str(project.app.conf.result_backend).removeprefix("file://"))
    return sum(1 for _ in folder.iterdir())


def test_results_are_forgotten_where_that_is_asked_for(tenant_of_three: Any) -> None:
    done = tenant_of_three.invoke("erase", "--tenant", "acme", "--results", "--yes", "--wait", "0")

    assert "3 results forgotten" in done.stdout
    assert "result backend" not in done.stdout
    assert results(tenant_of_three) == 0


def test_without_it_they_stay_and_that_is_said(tenant_of_three: Any) -> None:
    done = tenant_of_three.invoke("erase", "--tenant", "acme", "--yes", "--wait", "0")

    assert "remains: results in Celery's result backend" in done.stdout
    assert results(tenant_of_three) == 3


def test_what_one_erasure_cannot_forget_is_said(
    tenant_of_three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "IDS_MAX", 2)

    done = tenant_of_three.invoke("erase", "--tenant", "acme", "--results", "--yes", "--wait", "0")

    assert "2 results forgotten" in done.stdout
    assert "remains: results of 1 runs in Celery's result backend" in done.stdout
    assert results(tenant_of_three) == 1


def test_a_backend_that_does_not_answer_is_named_and_ends_with_1(tenant_of_three: Any) -> None:
    tenant_of_three._app = None
    tenant_of_three.app.conf.result_backend = "file:///nowhere/at/all"

    done = tenant_of_three.invoke("erase", "--tenant", "acme", "--results", "--yes", "--wait", "0")

    assert done.exit_code == 1
    assert "remains: results of 3 runs in Celery's result backend, until result_expires: " in done.stdout
    assert "does not exist" in done.stdout or "ImproperlyConfigured" in done.stdout
    assert ids(tenant_of_three) == []
