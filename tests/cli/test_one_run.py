"""`show` and `logs`: one run, found by id, prefix or name."""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

import pytest
from recorded_runs import RunStory

from plet_celery import events

TRACE = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 41, in parse_batch
    tree = ast.parse(text)
SyntaxError: invalid syntax"""


@pytest.fixture
def failed(project: Any) -> RunStory:
    """A run that failed in its second stage, after a retry, with children."""
    now = time.time()
    run: RunStory = project.story.run(
        "shop.import_catalogue",
        started=now - 60,
        user="anna",
        tenant="acme/berlin",
        args=["/data"],
        kwargs={"batch": 50},
    )
    run.log("flaky read", level=30)
    run.retry(after=2)
    number = run.stage("scan", total=668, unit="files", took=1.1)
    run.log("scanning\n  two lines", stage=number)
    number = run.stage(
        "index", total=4, done=3, took=9.8, state="failed", error={"type": "SyntaxError", "message": "x"}
    )
    run.log("poison.py: invalid syntax", level=40, stage=number)
    run.metadata(supplier="acme", rows=12)
    run.fail("SyntaxError", "invalid syntax", traceback=TRACE)
    for state in ("succeed", "fail"):
        child = project.story.run("shop.parse", started=now - 30, canvas=run.id, parent=run.id)
        getattr(child, state)()
    project.story.ship()
    return run


def test_show_tells_all_of_a_run(project: Any, failed: RunStory) -> None:
    shown = project.invoke("show", failed.id).stdout

    first, *_ = shown.splitlines()
    assert first.startswith(f"shop.import_catalogue {failed.id[:8]} · ✖ failed in ")
    assert "attempt 2" in first
    for fact in (
        failed.id,
        "anna",
        "acme/berlin",
        "celery@atlas",
        "supplier  acme",
        "[0]    /data",
        "batch  50",
    ):
        assert fact in shown
    assert "SyntaxError: invalid syntax" in shown
    assert "at /srv/shop/tasks.py:41 in parse_batch" in shown
    assert "    tree = ast.parse(text)" in shown
    assert "✔ scan   668/668 files" in shown
    assert "✖ index  3/4" in shown
    assert "1  ↻ retrying" in shown
    assert "OSError: flaky read" in shown
    assert "✖ shop.parse ×2  1 ✔  1 ✖" in shown


def test_the_error_comes_before_the_stages(project: Any, failed: RunStory) -> None:
    titles = [
        line for line in project.invoke("show", failed.id).stdout.splitlines() if line and line[0] != " "
    ]

    assert titles[1:] == ["Error", "Stages", "Metadata", "Arguments", "Attempts", "Child runs"]


def test_show_lists_the_events_in_order(project: Any, failed: RunStory) -> None:
    shown = project.invoke("show", failed.id, "--events").stdout

    kinds = [line.split()[2] for line in shown[shown.index("Events") :].splitlines()[1:]]
    assert kinds[0] == events.RUN_STARTED
    assert kinds[-1] == events.RUN_FAILED
    assert events.RUN_RETRIED in kinds


def test_show_as_json_is_one_object(project: Any, failed: RunStory) -> None:
    value = json.loads(project.invoke("show", failed.id, "--stages", "--events", "--json").stdout)

    assert value["id"] == failed.id
    assert value["error"]["type"] == "SyntaxError"
    assert [stage["name"] for stage in value["stages"]] == ["scan", "index"]
    assert value["events"][-1]["kind"] == events.RUN_FAILED
    assert "stages" not in json.loads(project.invoke("show", failed.id, "--json").stdout)


def test_many_stages_are_folded_unless_asked_for(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 60)
    for number in range(60):
        run.stage(f"part {number:02}", took=0.1)
    run.succeed()
    project.story.ship()

    assert "… 37 succeeded" in project.invoke("show", run.id).stdout
    assert project.invoke("show", run.id, "--stages").stdout.count("✔ part") == 60


@pytest.mark.parametrize("name", ["@last-failed", "prefix"])
def test_a_run_is_found_by_name_and_prefix(project: Any, failed: RunStory, name: str) -> None:
    asked = failed.id[:10] if name == "prefix" else name
    found = json.loads(project.invoke("show", asked, "--json").stdout)

    assert found["state"] == "failed"


@pytest.mark.parametrize("command", ["show", "logs", "watch"])
def test_an_unknown_run_is_not_found(project: Any, failed: RunStory, command: str) -> None:
    done = project.invoke(command, "nosuch")

    assert done.exit_code == 4
    assert done.stderr.startswith("Error: no run 'nosuch'")


@pytest.mark.parametrize("command", ["show", "logs", "watch"])
def test_an_ambiguous_prefix_lists_the_candidates(project: Any, command: str) -> None:
    ids = ["abc00000-0000-4000-8000-000000000001", "abc00000-0000-4000-8000-000000000002"]
    for one in ids:
        project.story.run("shop.load", started=time.time(), id=one).succeed()
    project.story.ship()

    done = project.invoke(command, "abc")

    assert done.exit_code == 2
    assert all(one in done.stderr for one in ids)


@pytest.mark.parametrize("name", ["@last", "@last-failed"])
def test_a_name_of_nothing_recorded_is_not_found(project: Any, name: str) -> None:
    project.story.ship()

    assert project.invoke("show", name).exit_code == 4


def test_an_id_that_looks_like_an_option_is_taken_behind_two_dashes(project: Any) -> None:
    project.story.run("shop.load", started=time.time(), id="--json").succeed()
    project.story.ship()

    assert project.invoke("show", "--", "--json").exit_code == 0


def _texts(project: Any, *args: str) -> list[str]:
    done = project.invoke("logs", "--json", *args)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["text"] for line in lines if line["stream"] != "plet"]


def test_logs_print_the_lines_of_all_attempts(project: Any, failed: RunStory) -> None:
    shown = project.invoke("logs", failed.id).stdout

    assert "WARN  flaky read" in shown
    assert "— attempt 2 —" in shown or "attempt 2" in shown
    assert "INFO  scan: scanning\n" in shown
    assert "\n" + " " * 30 + "  two lines\n" in shown
    assert "ERROR index: poison.py: invalid syntax" in shown


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("args", "found"),
    [
        ([], ["flaky read", "scanning\n  two lines", "poison.py: invalid syntax"]),
        (["-n", "all"], ["flaky read", "scanning\n  two lines", "poison.py: invalid syntax"]),
        (["--level", "warning"], ["flaky read", "poison.py: invalid syntax"]),
        (["--level", "40"], ["poison.py: invalid syntax"]),
        (["--stage", "scan"], ["scanning\n  two lines"]),
        (["--stage", "2"], ["poison.py: invalid syntax"]),
        (["--since", "5m", "--level", "ERROR"], ["poison.py: invalid syntax"]),
        (["--since", "1s"], []),
        (["-n", "0"], []),
    ],
)
def test_logs_are_filtered_alike_from_the_file_and_from_the_store(
    project: Any, failed: RunStory, local: bool, args: list[str], found: list[str]
) -> None:
    if not local:
        shutil.rmtree(project.home / "runs")

    assert _texts(project, failed.id, *args) == found


def test_logs_of_the_store_say_so(project: Any, failed: RunStory) -> None:
    shutil.rmtree(project.home / "runs")

    done = project.invoke("logs", failed.id)

    assert "what the store kept" in done.stderr
    assert "poison.py" in done.stdout


def test_a_tail_is_a_tail(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 60)
    for number in range(500):
        run.log(f"line {number}")
    run.succeed()
    project.story.ship()

    assert _texts(project, run.id, "-n", "4")[-3:] == ["line 497", "line 498", "line 499"]
    assert len(_texts(project, run.id)) in (199, 200)
    assert len(_texts(project, run.id, "-n", "all")) == 500


def test_a_stage_includes_the_stages_within(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 60)
    outer = run.stage("merge")
    inner = run.stage("build", parent=outer)
    run.log("outer", stage=outer)
    run.log("inner", stage=inner)
    run.log("neither")
    run.succeed()
    project.story.ship()

    assert _texts(project, run.id, "--stage", "merge") == ["outer", "inner"]
    assert _texts(project, run.id, "--stage", "build") == ["inner"]


def test_an_unknown_stage_names_those_there_are(project: Any, failed: RunStory) -> None:
    done = project.invoke("logs", failed.id, "--stage", "nosuch")

    assert done.exit_code == 4
    assert "scan, index" in done.stderr


def test_a_silent_run_prints_nothing(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 60)
    run.succeed()
    project.story.ship()

    done = project.invoke("logs", run.id, "-f")

    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "args", [["--raw"], ["-n", "x"], ["-n", "-5"], ["--level", "LOUD"], ["--since", "?"]]
)
def test_what_makes_no_sense_is_a_usage_error(project: Any, failed: RunStory, args: list[str]) -> None:
    assert project.invoke("logs", failed.id, *args).exit_code == 2


def test_config_shows_value_and_source_masked(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "canary-in-a-secret"
    project.app.conf.plet_database_url = f"postgresql://plet:{canary}@db.example/plet?sslpassword={canary}"
    project.app.conf.plet_redact_values_secret = [canary]
    monkeypatch.setenv("PLET_GATHER", "0.5")

    shown = project.invoke("config").stdout
    value = json.loads(project.invoke("config", "--json").stdout)

    assert canary not in shown
    assert canary not in json.dumps(value)
    assert "store      postgresql://***@db.example/plet?***" in shown
    settings = {one["name"]: (one["value"], one["source"]) for one in value["settings"]}
    assert settings["plet_database_url"] == ("***", "conf")
    assert settings["plet_gather"] == (0.5, "environment")
    assert settings["plet_log_level"] == ("INFO", "default")
    assert value["home"] == str(project.home)
    changed = project.invoke("config", "--changed").stdout
    assert "plet_gather" in changed
    assert "plet_log_level" not in changed


def test_migrate_makes_the_store_and_tells_whether_it_is_current(project: Any) -> None:
    assert project.invoke("migrate", "--check").exit_code == 69
    made = project.invoke("migrate")
    again = project.invoke("migrate", "--json")
    check = project.invoke("migrate", "--check")

    assert "(migrated now)" in made.stdout
    assert json.loads(again.stdout)["changed"] is False
    assert (check.exit_code, check.stdout.count("the newest")) == (0, 1)


def test_pending_migrations_are_bad(project: Any) -> None:
    import sqlite3

    project.home.mkdir()
    sqlite3.connect(project.home / "plet.db").close()

    done = project.invoke("migrate", "--check")

    assert done.exit_code == 1
    assert "without tables" in done.stdout


def test_migrate_prints_sql_for_servers(project: Any) -> None:
    project.app.conf.plet_database_url = "postgresql://plet@127.0.0.1:1/plet"

    done = project.invoke("migrate", "--sql")

    assert done.exit_code == 0
    assert "CREATE TABLE plet.run " in done.stdout


@pytest.mark.parametrize("args", [["--check", "--sql"], ["--revision", "nosuch"]])
def test_a_migration_that_cannot_be(project: Any, args: list[str]) -> None:
    done = project.invoke("migrate", *args)

    assert done.exit_code in (2, 69)
    assert "Traceback" not in done.output
