"""What a run's folder holds."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logfile_events import START, WRITER, Story, busy_story, tree

from plet_celery import events, paths
from plet_celery.logfiles import LogFiles, LogLimits, RunLog, existing
from plet_celery.paths import run_digest


def test_a_run_with_a_line_gets_a_folder_named_by_its_start(home: Any) -> None:
    sink, story = home.open(), Story()
    started = story.started(tenant="acme/north", trigger="beat")

    sink.apply([started, story.log("hello", context={"row": 4})], story.positions)

    expected = paths.run_folder("acme/north", started.wall, "beat", "run-1")
    assert home.folder() == home.runs / expected
    assert home.text().splitlines() == [
        "[2023-11-14T22:13:20.001000Z] [INFO] [<plet>] attempt 1 of shop.import_catalogue started "
        "on celery@here "
        '{"host":"here","pid":41,"retries":0,"redelivered":false,"trigger":"beat"}',
        '[2023-11-14T22:13:20.002000Z] [INFO] [shop] hello {"row":4}',
    ]


def test_a_run_without_anything_to_say_costs_no_file(home: Any) -> None:
    sink, story = home.open(), Story()

    sink.apply([story.started(), story.ended()], story.positions)

    assert tree(home.runs) == {}
    assert sink.positions() == story.positions


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (events.LOG_WRITTEN, {"level": 20, "stream": "stdout", "text": "x", "i": 1, "o": 0}),
        (events.STAGE_STARTED, {"stage": 1, "name": "load"}),
        (events.MEASURE_RECORDED, {"values": {"gap": 0.5}, "i": 1}),
        (events.METADATA_SET, {"key": "supplier", "value": "acme", "i": 1}),
        (events.RUN_FAILED, {"by": "child", "error": {"type": "ValueError", "message": "no"}}),
        (events.RUN_LOST, {"by": "shipper", "reason": "writer gone"}),
        (events.RUN_CANCELLED, {"by": "main", "terminated": True, "signal": "SIGTERM"}),
    ],
)
def test_a_fact_worth_a_word_makes_the_folder(home: Any, kind: str, data: dict[str, Any]) -> None:
    sink, story = home.open(), Story()

    sink.apply([story.started()], story.positions)
    assert tree(home.runs) == {}
    sink.apply([story.event(kind, **data)], story.positions)

    told = [json.loads(line) for line in home.text(name="trace.jsonl").splitlines()]
    assert [one["event.action"] for one in told] == [events.RUN_STARTED, kind]


def test_a_failure_shows_its_traceback_in_continuation_lines(home: Any) -> None:
    sink, story = home.open(), Story()
    error = {
        "type": "ValueError",
        "message": "bad row",
        "traceback": "Traceback:\n  here\nValueError: bad row\n",
    }

    sink.apply([story.started(), story.ended(events.RUN_FAILED, error=error)], story.positions)

    assert home.text().splitlines()[1:] == [
        "[2023-11-14T22:13:20.002000Z] [ERROR] [<plet>] attempt 1 failed after 1.500 s: ValueError: bad row",
        "    |2| Traceback:",
        "    |3|   here",
        "    |4| ValueError: bad row",
    ]


def test_the_trace_has_ecs_names(home: Any) -> None:
    sink, story = home.open(), Story()
    told = [
        story.started(),
        story.log("a\u2028b \x1b[0m", stage=2, level=30),
        story.log("with more", context={"row": {"n": 1}}, part=[1, 2]),
        story.ended(events.RUN_FAILED, error={"type": "E", "message": "m", "traceback": "t"}),
    ]

    sink.apply(told, story.positions)

    raw = home.text(name="trace.jsonl")
    assert "\u2028" not in raw and "\x1b" not in raw
    _, line, more, end = (json.loads(one) for one in raw.split("\n")[:-1])
    assert line == {
        "@timestamp": "2023-11-14T22:13:20.002000Z",
        "log.level": "WARNING",
        "message": "a\u2028b \x1b[0m",
        "ecs.version": "8.17",
        "event.action": "log.written",
        "event.id": f"{WRITER}:0:200",
        "event.dataset": "plet",
        "log.logger": "shop",
        "process.pid": 41,
        "host.name": "here",
        "trace.id": "run-1",
        "transaction.id": "a-1",
        "labels.run": "run-1",
        "labels.attempt": 1,
        "labels.task": "shop.import_catalogue",
        "labels.worker": "celery@here",
        "labels.stage": 2,
        "labels.stream": "log",
        "plet.line": 1,
        "plet.offset": 10,
    }
    assert (more["plet.context"], more["plet.part"]) == ({"row": {"n": 1}}, [1, 2])
    assert set(more) - {"plet.context", "plet.part"} == set(line) - {"labels.stage"}
    assert (end["error.type"], end["error.message"], end["error.stack_trace"]) == ("E", "m", "t")


def test_a_retry_continues_the_folder_of_the_first_attempt(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(
        [story.started(), story.log("one"), story.ended(events.RUN_RETRIED, retries=0)], story.positions
    )
    first = home.folder()

    later = [story.started(attempt="a-2", retries=1), story.log("two", attempt="a-2")]
    home.open().apply(later, story.positions)

    assert home.folder() == first
    assert "— retried, attempt 2 starts —" in home.text().splitlines()
    assert [(one.attempt, one.line) for one in RunLog(first).tail(20)] == [
        (1, 0),
        (1, 1),
        (1, 1),
        (2, 0),
        (2, 0),
        (2, 1),
    ]


def test_a_retry_finds_the_folder_when_the_run_is_forgotten(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plet_celery.logfiles.registry.ENDED_MAX", 0)
    monkeypatch.setattr("plet_celery.logfiles.writing._UNCERTAIN_SECONDS", -1e10)
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("one"), story.ended(events.RUN_RETRIED)], story.positions)
    assert sink.folder("run-1") is None

    sink.apply([story.started(attempt="a-2", retries=1), story.log("two", attempt="a-2")], story.positions)

    assert [path.name for path in (home.runs / "_").iterdir()] == [home.folder().name]
    assert RunLog(home.folder()).newest_attempt() == 2
    assert [one.text for one in RunLog(home.folder()).tail(20) if one.stream == "log"] == ["one", "two"]


def test_a_lost_worker_is_named_before_the_next_attempt(home: Any) -> None:
    sink, story = home.open(), Story()

    sink.apply(
        [
            story.started(),
            story.log("one"),
            story.ended(events.RUN_LOST, attempt=None, by="main", pid=41, reason="killed"),
            story.started(attempt="a-2", redelivered=True),
        ],
        story.positions,
    )

    assert "— worker lost, attempt 2 starts —" in home.text().splitlines()


def test_lines_have_the_number_that_the_attempt_gave_them(home: Any) -> None:
    """A line that the journal had to drop leaves its number free, as in the store."""
    sink, story = home.open(), Story()

    sink.apply(
        [story.started(), story.log("a", i=1), story.log("c", i=3), story.log("odd", i=2)], story.positions
    )

    assert [one.line for one in RunLog(home.folder()).tail(3)] == [1, 3, 4]


def test_a_rate_limit_is_a_visible_gap(home: Any) -> None:
    sink, story = home.open(), Story()
    dropped = story.event(events.EVENTS_DROPPED, count=1203, reasons={"rate_limit": 1203})

    sink.apply([story.started(), story.log("a"), dropped], story.positions)

    assert home.text().splitlines()[-1] == "— 1 203 lines dropped by the rate limit —"


def test_a_stage_has_its_own_file_when_it_ends(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply(
        [
            story.started(stages=[["download", 1], ["load", 4]]),
            story.event(events.STAGE_STARTED, stage=1, name="download"),
            story.log("of the first", stage=1),
        ],
        story.positions,
    )
    assert not list(home.folder().glob("stage_*"))

    sink.apply(
        [
            story.log("of none"),
            story.log("more\nof the first", stage=1),
            story.event(events.STAGE_SUCCEEDED, stage=1, done=2, elapsed=1.0),
            story.event(events.STAGE_STARTED, stage=2, name="Load/all"),
            story.log("of the second", stage=2),
            story.ended(events.RUN_FAILED),
        ],
        story.positions,
    )

    first, second = sorted(home.folder().glob("stage_*"))
    assert (first.name, second.name) == ("stage_1_download.log", f"stage_2_{paths.slug('Load/all')}.log")
    assert [line.split("] ")[-1] for line in first.read_text().splitlines()] == [
        "stage download started",
        "of the first",
        "more",
        "    |2| of the first",
        'stage download succeeded after 1.000 s {"done":2}',
    ]
    assert "of the second" in second.read_text()


def test_a_stage_without_lines_gets_no_file_and_no_more_than_the_limit(home: Any) -> None:
    sink, story = home.open(stage_max_files=2), Story()
    told = [story.started()]
    for stage in range(1, 6):
        told.append(story.event(events.STAGE_STARTED, stage=stage, name=f"s{stage}"))
        if stage > 1:
            told.append(story.log("x", stage=stage))
        told.append(story.event(events.STAGE_SUCCEEDED, stage=stage, done=1, elapsed=0.1))

    sink.apply(told, story.positions)

    assert [path.name for path in sorted(home.folder().glob("stage_*"))] == [
        "stage_2_s2.log",
        "stage_3_s3.log",
    ]


def test_events_before_their_start_wait_for_it(home: Any) -> None:
    """Files of several writers are read one after the other."""
    sink, story, child = home.open(), Story(), Story("c" * 32)
    late = child.log("from a forked child", attempt="a-1")
    report = story.ended(events.RUN_TIMED_OUT, attempt=None, by="main", pid=41, limit="hard")

    sink.apply([late, report], child.positions | story.positions)
    home.open().apply([story.started()], story.positions)

    assert [one.text.partition(":")[0] for one in RunLog(home.folder()).tail(9)][1:] == [
        "from a forked child",
        "attempt 1 timed out after 1.500 s",
    ]


def test_strays_are_bounded_in_number_and_size(home: Any) -> None:
    sink, story = home.open(), Story()

    sink.apply([story.log("x", run="few", attempt="a") for _ in range(6000)], story.positions)
    assert sink._state.strays_dropped == 6000 - 4096
    sink.apply([story.log("x" * 60_000, run="large", attempt="a") for _ in range(60)], story.positions)
    assert (home.journal / "logsink.json").stat().st_size < 4 << 20

    home.open().apply([story.started("large", "a")], story.positions)
    kept = RunLog(home.folder("large")).tail(100, streams=["log"], max_bytes=1 << 30)
    assert 10 < len(kept) < 60


def test_runs_that_never_start_here_are_not_remembered_for_ever(home: Any) -> None:
    """Each run that expires in the queue, or is revoked there, leaves one report without a start."""
    sink, story = home.open(), Story()

    sink.apply(
        [story.ended(events.RUN_EXPIRED, run=f"run-{number}", attempt=None) for number in range(5000)],
        story.positions,
    )

    assert len(sink._recorder.runs._stray_runs) == len(sink._state.strays) == 4096


def test_of_a_tenants_folders_the_newest_are_remembered(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry looks for its folder; from then on those that are made are noted, for weeks perhaps."""
    monkeypatch.setattr(existing, "NAMES_MAX", 3)
    sink, story = home.open(), Story()
    sink.apply([story.started("first", "a", retries=1), story.log("x", run="first", attempt="a")], {})

    for number in range(5):
        run = f"run-{number}"
        sink.apply([story.started(run, "a"), story.log("x", run=run, attempt="a")], {})

    (names,) = sink._recorder._existing._names.values()
    assert list(names) == [run_digest(f"run-{number}") for number in (2, 3, 4)]


def test_a_thread_may_log_after_a_silent_end(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.ended()], story.positions)

    home.open().apply([story.log("still here")], story.positions)

    assert [one.text for one in RunLog(home.folder()).tail(1)] == ["still here"]


def test_a_report_without_an_attempt_is_of_the_attempt_with_its_pid(home: Any) -> None:
    sink, story = home.open(), Story()

    sink.apply(
        [
            story.started(pid=1),
            story.started(attempt="a-2", pid=2, redelivered=True),
            story.ended(events.RUN_LOST, attempt=None, by="main", pid=1, reason="gone"),
        ],
        story.positions,
    )

    assert "attempt 1 was lost after 1.500 s: gone" in home.text()


def test_an_event_with_odd_values_stops_nothing(home: Any, caplog: pytest.LogCaptureFixture) -> None:
    sink, story = home.open(), Story()
    caplog.set_level(logging.ERROR)
    odd: list[Any] = [None, 5, [], {}, "x", -1, 1 << 62, 1e300, True]
    told = [story.started(stages=odd, pid="x", tenant=7, trigger=["x"])]
    for value in odd:
        told.append(
            story.log("x", level=value, logger=value, stream=value, stage=value, i=value, context=value)
        )
        told.append(story.event(events.LOG_WRITTEN, text=value, part=value, cut=value, o=value))
        told.append(story.event(events.STAGE_STARTED, stage=value, name=value, total=value))
        told.append(story.event(events.STAGE_FAILED, stage=value, elapsed=value, error=value))
        told.append(story.event(events.EVENTS_DROPPED, count=value, reasons=value))
        told.append(story.event(events.METADATA_SET, key=value))
        told.append(story.event("an.unknown_kind", anything=value))
    told.append(story.log("the last"))

    sink.apply(told, story.positions)

    assert RunLog(home.folder()).tail(1)[0].text == "the last"
    assert sink.positions() == story.positions
    assert len(caplog.records) <= 1


def test_surrogates_in_every_place_are_replaced(home: Any) -> None:
    sink, story = home.open(), Story()

    sink.apply(
        [
            story.started(run="r-\ud800", tenant="t-\ud800", task="\ud800"),
            story.log("text \udfff", run="r-\ud800", logger="l-\ud800", context={"\ud800": "\ud801"}),
            story.event(events.METADATA_SET, run="r-\ud800", key="\ud800", value="\ud800"),
        ],
        story.positions,
    )

    assert "text \ufffd" in home.text("r-\ud800")
    assert len(home.text("r-\ud800", "trace.jsonl").splitlines()) == 3


def test_positions_of_gone_writers_can_be_dropped(home: Any) -> None:
    sink = home.open()
    sink.apply([], {"a": (3, 5), "b": (1, 2)})

    sink.forget(["a"])
    sink.apply([], {})

    assert home.open().positions() == {"b": (1, 2)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_how_events_come_in_batches_changes_no_byte(seed: int, sizes: list[int]) -> None:
    told = busy_story(8, seed)
    with tempfile.TemporaryDirectory() as folder:
        limits = LogLimits(run_max_log_bytes=4096, stage_max_files=2)
        whole = LogFiles(Path(folder, "1/runs"), Path(folder, "1/journal"), limits=limits)
        whole.apply(told, {})
        parts = LogFiles(Path(folder, "2/runs"), Path(folder, "2/journal"), limits=limits)
        at = 0
        while at < len(told):
            size = sizes[at % len(sizes)]
            parts.apply(told[at : at + size], {})
            at += size
        whole.close()
        parts.close()

        assert tree(Path(folder, "2/runs")) == tree(Path(folder, "1/runs"))


def test_the_state_stays_small(home: Any) -> None:
    sink, story, told = home.open(), Story(), []
    for number in range(2000):
        run, attempt = f"run-{number}", f"a-{number}"
        told += [story.started(run, attempt), story.ended(run=run, attempt=attempt)]

    sink.apply(told, story.positions)

    assert (home.journal / "logsink.json").stat().st_size < 256 << 10


def test_times_are_those_of_the_events(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x")], story.positions)

    assert RunLog(home.folder()).tail(1)[0].at == pytest.approx(START + 0.002, abs=1e-6)


def test_a_removed_folder_is_forgotten(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x"), story.ended()], story.positions)
    name = sink.folder("run-1")
    assert name is not None

    assert sink.remove(name)
    assert not sink.remove(name)

    assert sink.folder("run-1") is None
    assert list(home.runs.iterdir()) == []  # a tenant's folder that is empty goes, too


def test_an_ended_run_that_retention_removed_is_no_damage(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("x"), story.ended()], story.positions)
    shutil.rmtree(home.folder())

    again = home.open()

    assert again.damaged_runs() == set()
    assert again.folder("run-1") is None
