"""`runs`: what is listed, how it fits a width, and what scripts get."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import pytest
from rich.cells import cell_len

from plet_celery import events
from plet_celery.cli.command import View
from plet_celery.cli.table import draw_runs
from plet_celery.store import queries
from plet_celery.terminal.output import Output
from plet_celery.terminal.text import Clock


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def told(project: Any) -> Any:
    """A project with a run of each kind; the newest is still running."""
    now = time.time()
    report = project.story.run("shop.reports.nightly_report", started=now - 3700, trigger="beat")
    report.now += 192
    report.metadata(supplier="acme")
    report.succeed()
    failed = project.story.run("shop.import_catalogue", started=now - 150)
    failed.stage("index", total=4, done=3, took=41, state="failed")
    failed.fail("SyntaxError", "invalid syntax (poison.py, line 3)\nsecond line")
    lost = project.story.run("shop.import_catalogue", started=now - 100)
    lost.end(events.RUN_LOST, reason="the child got signal 9")
    running = project.story.run("shop.import_catalogue", started=now - 12)
    running.stage("parse", took=10, total=668, done=412, unit="files", percent=62.4, state="running")
    project.story.ship()
    project.ids = {"report": report.id, "failed": failed.id, "lost": lost.id, "running": running.id}
    return project


def _listed(project: Any, *args: str) -> list[str]:
    """Return the short names of the runs that a command lists."""
    done = project.invoke("runs", "--json", *args)
    assert done.exit_code == 0, done.output
    names = {value: name for name, value in project.ids.items()}
    return [names[json.loads(line)["id"]] for line in done.stdout.splitlines()]


def test_runs_come_newest_first(told: Any) -> None:
    assert _listed(told) == ["running", "lost", "failed", "report"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--state", "failed"], ["failed"]),
        (["--state", "failed", "--state", "lost"], ["lost", "failed"]),
        (["--task", "shop.reports.nightly_report"], ["report"]),
        (["--task", "shop.import*"], ["running", "lost", "failed"]),
        (["--meta", "supplier=acme"], ["report"]),
        (["--meta", "supplier=other"], []),
        (["--since", "1h"], ["running", "lost", "failed"]),
        (["--since", "1m", "--state", "running"], ["running"]),
        (["--limit", "2"], ["running", "lost"]),
    ],
)
def test_filters_narrow_the_list(told: Any, filters: list[str], found: list[str]) -> None:
    assert _listed(told, *filters) == found


def test_a_cursor_goes_on_where_the_list_ended(told: Any) -> None:
    first = told.invoke("runs", "--limit", "2")
    cursor = first.stderr.strip().removeprefix("more: --after ")

    assert _listed(told, "--after", cursor) == ["failed", "report"]


@pytest.mark.parametrize(
    "args",
    [
        ["--state", "broken"],
        ["--after", "zzz"],
        ["--since", "yesterdayish"],
        ["--since", ""],
        ["--limit", "0"],
        ["--meta", "supplier"],
        ["--fields", "id,nosuch"],
        ["--watch", "--after", "x"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(told: Any, args: list[str]) -> None:
    done = told.invoke("runs", *args)

    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert done.stdout == ""


def test_a_pipe_gets_whole_ids_and_absolute_times(told: Any) -> None:
    lines = told.invoke("runs", "--utc").stdout.splitlines()

    assert [line.split()[0] for line in lines[1:]] == [
        told.ids[name] for name in ("running", "lost", "failed", "report")
    ]
    assert "◐ running" in lines[1]
    assert "parse  412/668 files  62 %" in lines[1]
    assert re.search(r" UTC \((1[2-9]s|[2-5]\ds|\d+m) ago\)", lines[1])
    assert "SyntaxError: invalid syntax (poison.py, line 3)" in lines[3]
    assert "second line" not in lines[3]
    assert "3m12s" in lines[4]
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


def test_json_has_the_names_of_the_record(told: Any) -> None:
    newest = json.loads(told.invoke("runs", "--json", "--limit", "1").stdout)

    assert newest["state"] == "running"
    assert newest["started_at"].endswith("Z")
    assert newest["percent"] == 62.4
    assert newest["eta"] is None


def test_fields_are_selected_in_their_order(told: Any) -> None:
    line = told.invoke("runs", "--fields", "state, id", "--limit", "1").stdout

    assert line == json.dumps({"state": "running", "id": told.ids["running"]}, separators=(",", ":")) + "\n"


def test_an_empty_store_says_how_to_get_the_first_run(project: Any) -> None:
    project.story.ship()

    done = project.invoke("runs")

    assert done.exit_code == 0
    assert "no runs yet" in done.stdout
    assert "plet = Plet(app)" in done.stdout
    assert "celery -A shop worker" in done.stdout
    assert "celery -A shop call shop." in done.stdout


def test_no_match_is_told_from_nothing_recorded(told: Any) -> None:
    assert "no run matches" in told.invoke("runs", "--task", "shop.nosuch").stdout


def test_an_empty_list_is_no_json(project: Any) -> None:
    project.story.ship()

    assert project.invoke("runs", "--json").stdout == ""


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("width", [40, 56, 60, 76, 80, 100, 110, 120, 200])
def test_a_table_fits_its_width(told: Any, monkeypatch: pytest.MonkeyPatch, width: int, plain: bool) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = _Tty()
    output = Output(stream, no_color=plain)
    view: Any = View(None, output, Clock(time.time()), ())  # type: ignore[arg-type]

    draw_runs(view, queries.list_runs(told.story.store).items)

    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert len(lines) == 5
    assert all(cell_len(line) <= width for line in lines)
    for line, name in zip(lines[1:], ("running", "lost", "failed", "report"), strict=True):
        assert line.startswith(told.ids[name][:8])
    for state in ("◐ running", "? lost", "✖ failed", "✔ succeeded"):
        assert sum(state in line for line in lines) == 1


def test_wide_characters_keep_the_columns(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    project.story.run("店.輸入カタログを読み込むとても長い名前の仕事です", started=time.time() - 5).succeed()
    project.story.ship()
    stream = _Tty()
    output = Output(stream, no_color=True)
    view: Any = View(None, output, Clock(time.time()), ())  # type: ignore[arg-type]

    draw_runs(view, queries.list_runs(project.story.store).items)

    assert all(cell_len(line) <= 60 for line in stream.getvalue().splitlines())
    assert "✔ succeeded" in stream.getvalue()


def test_without_signs_in_the_encoding_ascii_stands_in(told: Any) -> None:
    done = told.run("runs", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})

    assert done.returncode == 0
    assert "* running" in done.stdout
    assert "x failed" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.slow
def test_ten_thousand_runs_are_listed(project: Any) -> None:
    now = time.time()
    for number in range(10_000):
        project.story.run("shop.load", started=now - number).succeed()
    project.story.ship()

    table = project.invoke("runs", "--limit", "10000")
    listed = project.invoke("runs", "--json", "--limit", "10000")

    assert len(table.stdout.splitlines()) == 10_001
    assert len(listed.stdout.splitlines()) == 10_000
    assert len({json.loads(line)["id"] for line in listed.stdout.splitlines()}) == 10_000


def test_a_reader_that_has_had_enough_is_no_error(told: Any) -> None:
    for _ in range(300):
        told.story.run("shop.load", started=time.time()).succeed()
    told.story.ship()
    line = " ".join(told.command("runs", "--limit", "5000")) + " | head -1; echo ${PIPESTATUS[0]}"

    done = told.run_shell(line)

    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == "" or done.stderr.startswith("more: --after")


@pytest.mark.parametrize(("redirection", "code"), [(">&-", 0), ("> /dev/full", 69)])
def test_a_stdout_that_cannot_be_written(told: Any, redirection: str, code: int) -> None:
    done = told.run_shell(" ".join(told.command("runs")) + " " + redirection)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
