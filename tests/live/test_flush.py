# mypy: disable-error-code="untyped-decorator"
"""Eager tasks and `plet.flush`: the whole path in one process, also with the nastiest input."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from plet_celery import Plet, TrackedTask, journal, journal_delivery
from plet_celery.logfiles import RunLog
from plet_celery.store import Store, open_store, queries

NASTY_IDS = [
    "a/b",
    "../../etc/passwd",
    "line\nbreak",
    "x" * 10_240,
    "\udcff",
    "ü" * 300,
    " ",
    "'; drop table run; --",
    "%s",
    "A",
    "a",
]
NASTY_TEXT = [
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGVsbG8=\x07",
    '\x1e{"c":"00000000","l":10,"k":"run.succeeded"}\n',
    "two\nlines\r\nthree\u2028four\u0085five",
    "[2026-11-22T20:55:41.069272Z] [ERROR] [<plet>] forged",
    "    |2| forged continuation",
    "\0\x01\x7f\x9b31m",
    "\udcff\ud800",
    "‮right to left",
    "x" * 1_000_000,
    "",
]


class Eager:
    """An app whose tasks run eagerly, and what became of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.app = Celery("eager", set_as_current=False)
        self.app.conf.update(plet_home=str(home), plet_shipper="off")
        self.plet = Plet(self.app)
        self._store = open_store(self.plet.database_url, read_only=True)

    def flush(self) -> None:
        assert self.plet.flush(timeout=60)

    def store(self) -> Store:
        return self._store

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def eager(tmp_path: Path) -> Iterator[Eager]:
    made = Eager(tmp_path / "home")
    yield made
    made.close()


def test_what_eager_tasks_did_is_stored_by_flush(eager: Eager) -> None:
    @eager.app.task(shared=False, name="load", base=TrackedTask, bind=True, stages=("load",))
    def load(self: TrackedTask) -> str:
        for _ in self.track(range(3), "load", unit="rows"):
            pass
        self.log("warning", "odd")
        return "done"

    result = load.apply()
    eager.flush()

    run = queries.get_run(eager.store(), result.id)
    assert (run.state, run.percent, run.result) == ("succeeded", 100.0, "done")
    assert [stage.current for stage in queries.stages(eager.store(), result.id)] == [3]
    folder = eager.home / "runs" / run.log_folders[0]
    assert [line.text for line in RunLog(folder).tail(10) if line.stream == "task"] == ["odd"]


def test_what_a_slow_disk_keeps_in_the_queue_is_flushed_too(
    eager: Eager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_slowly(descriptor: int, record: Any) -> int:
        time.sleep(0.15)
        return os.write(descriptor, record)

    for module in (journal, journal_delivery):
        monkeypatch.setattr(module, "_write", write_slowly)

    @eager.app.task(shared=False, name="count", base=TrackedTask, bind=True)
    def count(self: TrackedTask) -> None:
        for number in range(12):
            self.log("info", str(number))

    result = count.apply()
    in_time = eager.plet.flush(timeout=0.01)
    eager.flush()

    assert not in_time
    run = queries.get_run(eager.store(), result.id)
    assert (run.state, run.log_lines) == ("succeeded", 12)


def test_flushing_twice_changes_nothing(eager: Eager) -> None:
    @eager.app.task(shared=False, name="noop")
    def noop() -> None: ...

    result = noop.apply()
    eager.flush()
    first = queries.get_run(eager.store(), result.id)
    eager.flush()

    second = queries.get_run(eager.store(), result.id)
    assert (first.version, first.attempts) == (second.version, second.attempts)


def test_runs_with_nasty_ids_are_kept_apart_and_inside_home(eager: Eager) -> None:
    @eager.app.task(shared=False, name="say", base=TrackedTask, bind=True)
    def say(self: TrackedTask) -> None:
        self.log("info", "hello")

    for task_id in NASTY_IDS:
        say.apply(task_id=task_id)
    eager.flush()

    runs = queries.list_runs(eager.store(), limit=50).items
    assert len(runs) == len(NASTY_IDS)
    assert {run.state for run in runs} == {"succeeded"}
    folders = {folder for run in runs for folder in run.log_folders}
    assert len(folders) == len(NASTY_IDS)
    for folder in folders:
        assert (eager.home / "runs" / folder / "run.log").resolve().is_relative_to(eager.home.resolve())
    for run in runs:
        assert queries.get_run(eager.store(), run.id).id == run.id


def test_nasty_text_stays_one_record_each(eager: Eager) -> None:
    @eager.app.task(shared=False, name="say", base=TrackedTask, bind=True)
    def say(self: TrackedTask) -> None:
        for text in NASTY_TEXT:
            self.log("info", text)
            self.metadata[text[:50] or "empty"] = text
            with self.stage(text) as stage:
                stage.message = text
        self.measure(**{text[:40] or "empty": 1.0 for text in NASTY_TEXT})

    result = say.apply()
    eager.flush()

    run = queries.get_run(eager.store(), result.id)
    assert run.state == "succeeded"
    stored = [line for line in queries.stored_log(eager.store(), result.id) if line.stream == "task"]
    raw = (eager.home / "runs" / run.log_folders[0] / "run.log").read_bytes()
    assert len({line.line for line in stored}) == len(stored)
    assert not set(raw) & (set(range(32)) - {9, 10})
    assert not any(
        line.startswith((b"[2026-11-22T20:55:41.069272Z]", b"    |2| forged")) for line in raw.split(b"\n")
    )
    assert "\u2028" not in raw.decode()


def test_ten_thousand_stages_and_lines_stay_bounded(eager: Eager) -> None:
    @eager.app.task(shared=False, name="many", base=TrackedTask, bind=True)
    def many(self: TrackedTask) -> None:
        for number in range(10_000):
            with self.stage(f"stage {number}", total=math.nan):
                self.log("debug", "unseen")
        for number in range(3000):
            self.log("warning", f"line {number}")

    result = many.apply()
    eager.flush()

    stages = queries.stages(eager.store(), result.id)
    assert len(stages) == 1001
    assert stages[-1].name == "other" and stages[-1].current == 9000
    run = queries.get_run(eager.store(), result.id)
    assert run.log_lines >= 3000
    assert len(queries.run_events(eager.store(), result.id, limit=5000)) <= 1100


def test_a_database_that_is_no_database_keeps_the_journal(
    eager: Eager, caplog: pytest.LogCaptureFixture
) -> None:
    @eager.app.task(shared=False, name="noop")
    def noop() -> str:
        return "fine"

    eager.home.mkdir(mode=0o700)
    (eager.home / "plet.db").write_bytes(b"this is no database" * 100)
    result = noop.apply()
    assert not eager.plet.flush(timeout=1.5)

    (eager.home / "plet.db").unlink()
    eager.flush()

    assert result.get() == "fine"
    assert queries.get_run(eager.store(), result.id).state == "succeeded"


@pytest.mark.parametrize("home", ["/proc/self/nothing", "a file"])
def test_flush_says_that_nothing_is_recorded(tmp_path: Path, home: str) -> None:
    (tmp_path / "a file").write_text("")
    eager = Eager(tmp_path / home)

    assert not eager.plet.flush(timeout=5)


def test_a_new_home_keeps_itself_out_of_version_control(eager: Eager) -> None:
    assert eager.plet.flush(timeout=20)

    assert (eager.home / ".gitignore").read_text() == "*\n"
