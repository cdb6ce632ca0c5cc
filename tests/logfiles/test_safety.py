"""Hostile names stay inside the root, and nothing strange in the place of a file is written to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logfile_events import Story, tree

from plet_celery import paths
from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logfiles import LogFiles, RunLog, find_folders

HOSTILE = [
    "../",
    "../../../../etc/passwd",
    "/",
    "/etc/passwd",
    ".",
    "..",
    "",
    "a\nb",
    "a\x00b",
    "%2e%2e%2f",
    "r" * 10_240,
    "../" * 3000,
    "\u202e\u2028",
    "C:\\x",
    "-rf *",
    "\ud800",
    "run.log",
]


@pytest.mark.parametrize("bad", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_id_makes_one_folder_of_slugs(home: Any, bad: str) -> None:
    sink, story = home.open(), Story()

    sink.apply([story.started(run=bad, trigger=bad), story.log("x", run=bad)], story.positions)

    folders = [path for path in home.runs.rglob("*") if path.is_dir()]
    assert len(folders) == 2
    assert all(set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for path in folders)
    assert {path.name for path in home.runs.parent.iterdir()} == {"runs", "journal"}
    assert RunLog(home.folder(bad)).tail(1)[0].text == "x"


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_tenant_stays_below_the_root(tenant: str, trigger: str) -> None:
    relative = paths.run_folder(tenant, 1.0, trigger, "run")

    assert not relative.is_absolute()
    assert not {"..", "."} & set(relative.parts)


@pytest.mark.parametrize("bad", ["../x", "/x", "a/../b", "a//b", "", ".", "a/\0"])
def test_a_folder_name_of_another_shape_is_refused(home: Any, bad: str) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x")], story.positions)
    before = tree(home.runs.parent)

    with pytest.raises(HomeError):
        sink.remove(bad)

    assert tree(home.runs.parent) == before


def test_modes_do_not_depend_on_the_umask(home: Any) -> None:
    for umask in (0o000, 0o077, 0o777):
        before = os.umask(umask)
        try:
            sink, story = home.open(run_max_log_bytes=1 << 10), Story(writer=f"{umask:032x}")
            run = f"run-{umask}"
            sink.apply(
                [story.started(run=run), *(story.log("x" * 99, run=run) for _ in range(30))], story.positions
            )
        finally:
            os.umask(before)
    for path in home.runs.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted


def folder_of(home: Any, story: Story) -> Path:
    started = story.started()
    found: Path = home.runs / paths.run_folder("", started.wall, "manual", "run-1")
    story.offset -= 100
    story.now -= 0.001
    return found


def plant_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def plant_hard_link(place: Path, outside: Path) -> None:
    place.hardlink_to(outside)


def plant_fifo(place: Path, outside: Path) -> None:
    os.mkfifo(place)


def plant_socket(place: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(place.parent)  # the path of a socket is short
        server.bind(place.name)
        os.chdir(here)


def plant_folder(place: Path, outside: Path) -> None:
    place.mkdir(mode=0o700)


@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_fifo, plant_socket, plant_folder])
@pytest.mark.parametrize("name", ["run.log", "run.idx", "trace.jsonl"])
def test_what_is_planted_for_a_file_is_refused_and_the_others_go_on(
    home: Any, plant: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink, story = home.open(), Story()
    outside = home.runs.parent / "outside"
    outside.write_text("precious")
    outside.chmod(0o600)
    folder = folder_of(home, story)
    folder.parent.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    plant(folder / name, outside)

    told = [story.started(), story.log("x"), story.started("run-2", "a-2"), story.log("y", "run-2", "a-2")]
    sink.apply(told, story.positions)
    sink.apply([story.log("more"), story.ended(), story.log("z", "run-2", "a-2")], story.positions)

    assert outside.read_text() == "precious"
    assert RunLog(home.folder("run-2")).tail(1)[0].text == "z"
    assert sink.positions() == story.positions
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (folder / name).rmdir() if plant is plant_folder else (folder / name).unlink()


@pytest.mark.parametrize("where", ["run", "tenant"])
def test_a_link_in_the_place_of_a_folder_is_refused(home: Any, where: str) -> None:
    sink, story = home.open(), Story()
    outside = home.runs.parent / "elsewhere"
    outside.mkdir(mode=0o700)
    folder = folder_of(home, story)
    if where == "run":
        folder.parent.mkdir(mode=0o700)
        folder.symlink_to(outside)
    else:
        folder.parent.symlink_to(outside)

    told = [
        story.started(),
        story.log("x"),
        story.started("run-2", "a-2", tenant="other"),
        story.log("y", "run-2", "a-2"),
    ]
    sink.apply(told, story.positions)

    assert list(outside.iterdir()) == []
    assert RunLog(home.folder("run-2")).tail(1)[0].text == "y"
    with pytest.raises(HomeError):
        RunLog(folder).tail(1)
    with pytest.raises(HomeError):
        sink.remove(str(folder.relative_to(home.runs)))


def test_a_folder_open_to_other_writers_is_refused(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x")], story.positions)
    folder = home.folder()
    folder.chmod(0o770)

    with pytest.raises(HomeError, match="closed to other writers"):
        RunLog(folder).tail(1)
    folder.chmod(0o700)


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o777)
    (tmp_path / "real").chmod(0o777)

    with pytest.raises(HomeError):
        LogFiles(tmp_path / "real", tmp_path / "journal")


@pytest.mark.parametrize("name", ["run.log", "run.idx"])
def test_a_reader_follows_no_link(home: Any, name: str) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x")], story.positions)
    outside = home.runs.parent / "outside"
    outside.write_text("secret")
    outside.chmod(0o600)
    place = home.folder() / name
    place.unlink()
    place.symlink_to(outside)

    with pytest.raises(HomeError):
        RunLog(home.folder()).tail(5)


def test_folders_are_found_by_their_names_or_by_the_digest(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(tenant="acme"), story.log("x")], story.positions)
    name = sink.folder("run-1")
    assert name is not None
    other_time = f"acme/20200101_000000_{name.split('_', 2)[2]}"

    assert find_folders(home.runs, [name]) == [home.folder()]
    assert find_folders(home.runs, [other_time]) == [home.folder()]
    assert find_folders(home.runs, ["acme/20200101_000000_manual_0123456789", "nobody/x"]) == []
    with pytest.raises(LogNotFound):
        RunLog(home.runs / "acme" / "nothing").tail(1)
    with pytest.raises(HomeError):
        find_folders(home.runs, ["../x/y"])
