"""A store that cannot tell gives 69 and a way out, never a traceback."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from plet_celery.store import sqlite

READING = ["runs", "show @last", "logs @last", "watch @last", "migrate --check"]


def _says(project: Any, command: str) -> str:
    done = project.invoke(*command.split())
    assert done.exit_code == 69, done.output
    assert "Traceback" not in done.output
    assert done.output.startswith("Error: ")
    return str(done.output)


@pytest.mark.parametrize("command", READING)
def test_a_missing_store(project: Any, command: str) -> None:
    assert "first worker" in _says(project, command)
    assert not project.home.exists()


@pytest.mark.parametrize("command", READING)
def test_a_file_that_is_no_database(project: Any, command: str) -> None:
    project.home.mkdir()
    (project.home / "plet.db").write_bytes(b"not a database at all, but long enough to be read\n" * 100)

    assert "move the file away" in _says(project, command)


@pytest.mark.parametrize("command", [one for one in READING if "migrate" not in one])
def test_a_database_without_tables(project: Any, command: str) -> None:
    project.home.mkdir()
    sqlite3.connect(project.home / "plet.db").close()

    assert "-A shop migrate" in _says(project, command)


@pytest.mark.parametrize("command", [*READING, "migrate"])
def test_tables_of_a_newer_version(project: Any, command: str) -> None:
    project.story.close()
    with sqlite3.connect(project.home / "plet.db") as connection:
        connection.execute("UPDATE plet_alembic_version SET version_num = '9999'")
    connection.close()

    assert "upgrade plet_celery" in _says(project, command)


def test_a_locked_store(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    project.story.close()
    other = sqlite3.connect(project.home / "plet.db", isolation_level=None)
    # A reader is let by in WAL; this is what a backup tool or an old SQLite does.
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        for command in (*READING, "migrate"):
            assert "is locked by another process" in _says(project, command), command
    finally:
        other.close()

    assert project.invoke("runs").exit_code == 0


def test_a_folder_in_place_of_the_store(project: Any) -> None:
    (project.home / "plet.db").mkdir(parents=True)

    _says(project, "runs")


def test_a_server_that_does_not_answer(project: Any) -> None:
    project.app.conf.plet_database_url = (
        "postgresql://plet:canary-secret@127.0.0.1:1/plet?password=canary-too"
    )

    said = _says(project, "runs")

    assert "canary" not in said
    assert "127.0.0.1" in said


@pytest.mark.parametrize("url", ["oracle://host/db", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_names_no_store(project: Any, url: str) -> None:
    project.app.conf.plet_database_url = url

    assert "plet_database_url" in _says(project, "runs")


@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("canary", "postgresql"),
        ("postgresql://plet:canary@host:canary/db", "port"),
        ("mariadb://plet:x@canary@host/db", "%40"),
    ],
)
def test_a_url_with_a_typing_error_says_which_and_shows_no_part(project: Any, url: str, way_out: str) -> None:
    project.app.conf.plet_database_url = url

    done = project.invoke("runs")

    assert done.exit_code == 2
    assert "plet_database_url" in done.output
    assert way_out in done.output
    assert "canary" not in done.output


def test_a_setting_that_cannot_be_used_is_a_usage_error(project: Any) -> None:
    project.app.conf.plet_gathre = 3

    done = project.invoke("runs")

    assert done.exit_code == 2
    assert "plet_gather" in done.output


def test_a_deep_error_shows_no_control_characters(project: Any, tmp_path: Path) -> None:
    project.app.conf.plet_home = str(tmp_path / "a\x1b[2Jb")

    assert "\x1b" not in _says(project, "runs")
