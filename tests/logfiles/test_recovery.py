"""After a power cut, a lost state or a full disk nothing is told twice, and what is missing is named."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from logfile_events import Story, batches, busy_story, tree

from plet_celery import events
from plet_celery.events import Event
from plet_celery.logfiles import LogFiles, LogLimits, RunLog

LOST = "— a part of this log was lost: the machine stopped before it was on disk —"


def texts(folder: Path) -> list[str]:
    return [line.text for line in RunLog(folder).range(1, 10_000) if line.stream == "log"]


def hello(story: Story, lines: int = 20) -> list[Event]:
    return [story.started(), *(story.log(f"line {number}") for number in range(lines))]


def power_cut(home: Any) -> None:
    """Make the state look as if it had been written before the machine was started."""
    path = home.journal / "logsink.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"boot": "an earlier one"}))


def cut(path: Path, by: int) -> None:
    os.truncate(path, max(0, path.stat().st_size - by))


@pytest.mark.parametrize("name", ["run.log", "run.idx", "trace.jsonl"])
def test_a_file_longer_than_the_checkpoint_is_cut(home: Any, name: str) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    before = tree(home.runs)
    with (home.folder() / name).open("ab") as file:
        file.write(b"[junk\nof a batch that the state has not seen")

    power_cut(home)
    again = home.open()

    assert again.damaged_runs() == set()
    assert tree(home.runs) == before


@pytest.mark.parametrize("name", ["run.log", "run.idx", "trace.jsonl"])
def test_a_shortened_file_is_rebuilt_from_the_segments(home: Any, name: str) -> None:
    sink, story = home.open(), Story()
    told = hello(story)
    sink.apply(told, story.positions)
    before = tree(home.runs)
    cut(home.folder() / name, 700)

    again = home.open()
    assert again.damaged_runs() == {"run-1"}
    again.rebuild("run-1", told)

    assert again.damaged_runs() == set()
    assert tree(home.runs) == before
    again.apply([story.log("and on")], story.positions)
    assert texts(home.folder()) == [f"line {number}" for number in range(20)] + ["and on"]


@pytest.mark.parametrize("name", ["run.log", "run.idx"])
def test_without_segments_the_trace_is_enough(home: Any, name: str) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    cut(home.folder() / name, 10**6)

    home.open().apply([story.log("and on")], story.positions)

    assert texts(home.folder()) == [f"line {number}" for number in range(20)] + ["and on"]
    assert LOST not in home.text()


def test_what_nobody_has_any_more_is_a_gap(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    for name in ("run.log", "run.idx", "trace.jsonl"):
        path = home.folder() / name
        cut(path, path.stat().st_size // 2)

    home.open().apply([story.log("and on")], story.positions)

    found = texts(home.folder())
    assert found[0] == "line 0" and found[-1] == "and on" and len(found) < 21
    assert home.text().splitlines()[-2] == LOST


def test_all_files_gone_is_a_gap_too(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    folder = home.folder()
    for path in folder.iterdir():
        path.unlink()

    home.open().apply([story.log("and on")], story.positions)

    assert home.folder() == folder
    assert home.text().splitlines()[0] == LOST
    assert [(line.line, line.text) for line in RunLog(folder).tail(1)] == [(21, "and on")]


def test_zeros_at_the_end_after_a_power_cut_are_damage(home: Any) -> None:
    sink, story = home.open(), Story()
    told = hello(story)
    sink.apply(told, story.positions)
    before = tree(home.runs)
    for name in ("run.log", "trace.jsonl"):
        size = (home.folder() / name).stat().st_size
        cut(home.folder() / name, 100)
        os.truncate(home.folder() / name, size)

    power_cut(home)
    again = home.open()
    assert again.damaged_runs() == {"run-1"}
    again.rebuild("run-1", told)

    assert tree(home.runs) == before


def test_damage_found_while_writing_is_mended_at_once(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    cut(home.folder() / "run.log", 500)

    sink.apply([story.log("and on")], story.positions)

    assert texts(home.folder()) == [f"line {number}" for number in range(20)] + ["and on"]


@pytest.mark.parametrize(
    ("lose", "kept"), [("removed", 0), ("removed", 40), ("damaged", 0), ("empty", 40), ("older", 0)]
)
def test_a_lost_state_tells_nothing_twice(home: Any, lose: str, kept: int) -> None:
    """The journal comes again from its oldest kept segment; the traces know what was written."""
    told = busy_story(10)
    sink = home.open()
    older = b""
    for batch, positions in batches(told, 30):
        sink.apply(batch, positions)
        older = older or (home.journal / "logsink.json").read_bytes()
    sink.close()
    before = tree(home.runs)
    path = home.journal / "logsink.json"
    path.write_bytes({"removed": b"", "damaged": b'{"x"', "empty": b"", "older": older}[lose])
    if lose == "removed":
        path.unlink()
    if lose == "older":
        power_cut(home)

    again = home.open()
    first = again.positions().get(told[0].writer, (0, 0))[1]
    rest = [event for event in told if event.offset >= max(first, kept * 100)]
    for batch, positions in batches(rest, 17):
        again.apply(batch, positions)

    assert tree(home.runs) == before


def test_a_removed_open_run_starts_again(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story), story.positions)
    shutil.rmtree(home.folder())

    sink.apply([story.log("and on"), story.ended()], story.positions)

    assert LOST in home.text()
    assert RunLog(home.folder()).search("and on").count == 1


def limited(size: int, act: Callable[[], None]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_takes_nothing_of_a_batch(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story, 5), story.positions)
    reached, before = sink.positions(), tree(home.runs)
    more = [story.log(f"more {number} {'x' * 400}") for number in range(200)]

    for _ in range(3):
        with pytest.raises(OSError, match="too large"):
            limited(40 << 10, lambda: sink.apply(more, story.positions))
        assert sink.positions() == reached or sink.positions() == {}
    assert tree(home.runs).keys() == before.keys()

    sink.apply(more, story.positions)
    assert len(texts(home.folder())) == 205
    assert sink.positions() == story.positions


def test_an_interrupt_in_a_batch_leaves_the_last_one(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story, 5), story.positions)
    more = [story.log("more")]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("plet_celery.logfiles.state.save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sink.apply(more, story.positions)
    sink.apply(more, story.positions)

    assert texts(home.folder()) == [f"line {number}" for number in range(5)] + ["more"]


@pytest.mark.parametrize("left", [0, 10, 900])
def test_a_file_that_always_shrinks_does_not_loop(
    home: Any, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    sink, story = home.open(), Story()
    sink.apply(hello(story, 5), story.positions)
    flush, path = sink._files.flush, home.folder() / "trace.jsonl"

    def shrink() -> None:
        os.truncate(path, left)
        flush()

    with monkeypatch.context() as patch:
        patch.setattr(sink._files, "flush", shrink)
        sink.apply([story.log("and on")], story.positions)

    assert texts(home.folder())[-1] == "and on"
    assert LOST in home.text()


def test_a_rebuild_of_a_whole_run_changes_nothing(home: Any) -> None:
    sink, story = home.open(), Story()
    told = [*hello(story), story.ended(events.RUN_RETRIED), story.started(attempt="a-2", retries=1)]
    sink.apply(told, story.positions)
    before = tree(home.runs)

    sink.rebuild("run-1", told)
    sink.rebuild("run-1", [])
    sink.rebuild("unknown", told)

    assert tree(home.runs) == before


def test_a_rebuild_keeps_capped_logs_within_their_limit(tmp_path: Path) -> None:
    story = Story()
    sink = LogFiles(tmp_path / "runs", tmp_path / "journal", limits=LogLimits(run_max_log_bytes=16 << 10))
    told = [story.started(), *(story.log("x" * 90) for _ in range(1000))]
    sink.apply(told, story.positions)
    folder = tmp_path / "runs" / (sink.folder("run-1") or "")
    cut(next(folder.glob("tail_*.log")), 10)

    sink.close()
    again = LogFiles(tmp_path / "runs", tmp_path / "journal", limits=LogLimits(run_max_log_bytes=16 << 10))
    assert again.damaged_runs() == {"run-1"}
    again.rebuild("run-1", told)
    again.apply([story.log("the last"), story.ended()], story.positions)

    assert not list(folder.glob("tail_*"))
    assert (folder / "run.log").stat().st_size < 18 << 10
    assert RunLog(folder).search("the last").count == 1
    again.close()
