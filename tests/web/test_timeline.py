"""The timeline of a run: which rows it has, where their bars lie, and what is folded, filtered and said."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timelines import T0, lines_of, make_attempt, make_child, make_run, make_stage

from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.web.drawing.rows import Row
from plet_celery.web.drawing.timeline import ROWS, Timeline, timeline


def row_of(shown: Timeline, name: str) -> Row:
    (row,) = [row for row in shown.rows if row.name == name]
    return row


def test_a_run_is_its_wait_its_attempt_and_its_stages() -> None:
    stages = [make_stage(1, "scan", 1, 3), make_stage(2, "read", 2, 1, parent=1), make_stage(3, "load", 4, 6)]

    shown = timeline(make_run(ended_at=T0 + 11), [make_attempt(runtime=10.0)], stages, now=0.0)

    assert lines_of(shown.rows) == [
        ("queue", 0, "In the queue"),
        ("attempt", 0, "Attempt 1"),
        ("stage", 1, "scan"),
        ("stage", 2, "read"),
        ("stage", 1, "load"),
    ]
    (bar,) = row_of(shown, "load").bars
    assert (bar.x, bar.width, bar.kind) == (36.364, 54.545, "succeeded")
    assert row_of(shown, "load").text == "starts at 3 s, takes 6.0 s, succeeded"
    assert row_of(shown, "In the queue").bars[0].kind == "waiting"
    assert (shown.length, shown.now_x) == (11.0, None)


def test_a_running_bar_reaches_now() -> None:
    stage = make_stage(1, "load", 3, None, current=412, total=1200, unit="rows")

    shown = timeline(make_run("running"), [make_attempt(state="running")], [stage], now=T0 + 20)

    row = row_of(shown, "load")
    assert row.bars[0].x + row.bars[0].width == shown.now_x == 100.0
    assert (row.since, row.seconds, row.text) == (T0 + 3, None, "starts at 2 s, still running")
    assert (row.amount, row.fraction) == ("412/1200 rows", 412 / 1200)


def test_an_open_run_looks_the_same_until_a_step_has_passed() -> None:
    runs = [
        timeline(make_run("running"), [make_attempt(state="running")], [], now=T0 + at)
        for at in (3601.0, 3605.0)
    ]

    assert runs[0].rows == runs[1].rows


def test_an_ended_run_looks_the_same_for_ever() -> None:
    runs = [
        timeline(make_run(ended_at=T0 + 9), [make_attempt(runtime=8.0)], [make_stage(1, "a", 2, 3)], now=now)
        for now in (T0 + 10, T0 + 1e6)
    ]

    assert runs[0].rows == runs[1].rows


def test_a_retry_is_a_notch_with_its_reason_and_the_wait_for_the_next_is_hatched() -> None:
    error = {"type": "ConnectionError", "message": "try again\nand again"}
    attempts = [
        make_attempt(1, "retrying", start=1, runtime=2.0, error=error),
        make_attempt(2, start=8, runtime=2.0),
    ]

    shown = timeline(make_run(ended_at=T0 + 10), attempts, [], now=0.0)

    first, second = row_of(shown, "Attempt 1"), row_of(shown, "Attempt 2")
    assert [(notch.x, notch.text) for notch in first.notches] == [(30.0, "ConnectionError: try again")]
    assert first.note == "ConnectionError: try again"
    assert [(bar.kind, bar.x, bar.width) for bar in second.bars] == [
        ("waiting", 30.0, 50.0),
        ("succeeded", 80.0, 20.0),
    ]


def test_a_run_between_two_tries_waits_until_now() -> None:
    shown = timeline(make_run("retrying"), [make_attempt(1, "retrying", runtime=2.0)], [], now=T0 + 5)

    row = row_of(shown, "Waiting for attempt 2")
    assert (row.state, row.since, row.bars[0].kind) == ("retrying", T0 + 3, "waiting")


def test_a_queued_run_waits_until_now() -> None:
    shown = timeline(make_run("queued", started_at=None), [], [], now=T0 + 5)

    assert [(row.state, row.bars[0].width, row.since) for row in shown.rows] == [("queued", 100.0, T0)]


def test_a_run_that_never_started_waited_until_its_end() -> None:
    shown = timeline(make_run("expired", started_at=None, ended_at=T0 + 60), [], [], now=T0 + 999)

    assert [(row.state, row.seconds) for row in shown.rows] == [("", 60.0)]


def test_of_a_host_that_is_silent_it_is_not_known_whether_the_run_goes_on() -> None:
    run = make_run("running", unreachable_since=T0 + 6)

    shown = timeline(run, [make_attempt(state="running")], [], now=T0 + 11)

    heard, unheard = row_of(shown, "Attempt 1").bars
    assert (heard.kind, unheard.kind) == ("running", "unheard")
    assert heard.width == pytest.approx(unheard.width, abs=0.3)


def test_of_a_stage_on_a_silent_host_it_is_not_known_either() -> None:
    run = make_run("running", unreachable_since=T0 + 6)
    stages = [make_stage(1, "scan", 1, 2), make_stage(2, "load", 4, None), make_stage(3, "late", 8, None)]

    shown = timeline(run, [make_attempt(state="running")], stages, now=T0 + 11)

    assert [bar.kind for bar in row_of(shown, "scan").bars] == ["succeeded"]
    assert [bar.kind for bar in row_of(shown, "load").bars] == ["running", "unheard"]
    assert [bar.kind for bar in row_of(shown, "late").bars] == ["running", "unheard"]
    assert [
        bar.kind for bar in row_of(timeline(make_run("running"), [], stages, now=T0 + 11), "load").bars
    ] == ["running"]


def test_planned_and_skipped_stages_have_a_row_and_no_bar() -> None:
    stages = [make_stage(1, "load", None, None), make_stage(2, "report", None, None, "skipped")]

    shown = timeline(make_run(ended_at=T0 + 2), [make_attempt(runtime=1.0)], stages, now=0.0)

    assert [(row.state, row.bars, row.text) for row in shown.rows[2:]] == [
        ("planned", (), "not started, planned"),
        ("skipped", (), "not started, skipped"),
    ]


def test_a_stage_stands_below_its_own_attempt() -> None:
    attempts = [make_attempt(1, "retrying", runtime=1.0), make_attempt(2, start=3, runtime=1.0)]
    stages = [make_stage(1, "load", 1, 1, "failed"), make_stage(1, "load", 3, 1, attempt_id="a2")]

    shown = timeline(make_run(ended_at=T0 + 4), attempts, stages, now=0.0)

    assert [(row.name, row.attempt, row.number) for row in shown.rows[1:]] == [
        ("Attempt 1", 1, 0), ("load", 1, 1), ("Attempt 2", 2, 0), ("load", 2, 1),
    ]  # fmt: skip


def test_time_orders_by_start_and_order_by_number() -> None:
    stages = [make_stage(1, "second", 5, 1), make_stage(2, "first", 2, 2)]
    run, attempts = make_run(ended_at=T0 + 6), [make_attempt(runtime=5.0)]

    by_time = timeline(run, attempts, stages, now=0.0)
    by_number = timeline(run, attempts, stages, now=0.0, layout="order")

    assert [row.name for row in by_time.rows[2:]] == ["first", "second"]
    assert [(row.name, row.bars[0].x, row.bars[0].width) for row in by_number.rows[2:]] == [
        ("second", 0.0, 50.0),
        ("first", 0.0, 100.0),
    ]
    assert [bar.kind for bar in by_number.rows[1].bars] == ["succeeded", "outer"]


def test_only_what_failed_is_shown_with_what_encloses_it() -> None:
    stages = [
        make_stage(1, "a", 1, 1),
        make_stage(2, "b", 2, 3),
        make_stage(3, "b1", 2, 1, parent=2),
        make_stage(4, "b2", 3, 1, "failed", parent=2),
    ]

    shown = timeline(make_run(ended_at=T0 + 6), [make_attempt(runtime=5.0)], stages, now=0.0, only="failed")

    assert [row.name for row in shown.rows] == ["Attempt 1", "b", "b2"]


def test_only_what_is_unfinished_is_shown() -> None:
    stages = [make_stage(1, "a", 1, 1), make_stage(2, "b", 2, None), make_stage(3, "c", None, None)]
    children = [make_child(1), make_child(2, state="queued")]

    shown = timeline(
        make_run("running"), [make_attempt(state="running")], stages, children, now=T0 + 9, only="unfinished"
    )

    assert [row.name for row in shown.rows] == ["Attempt 1", "b", "c", "shop.parse"]


def test_a_filter_that_leaves_nothing_says_so() -> None:
    shown = timeline(make_run(ended_at=T0 + 2), [make_attempt()], [], now=0.0, only="failed")

    assert (shown.rows, shown.empty) == ((), "Nothing failed.")


def test_few_child_runs_stand_one_by_one_with_their_wait() -> None:
    stranger = make_child(3)
    stranger.parent_id = "another"

    shown = timeline(
        make_run(ended_at=T0 + 2), [make_attempt(runtime=1.0)], [], [make_child(1), stranger], now=0.0
    )

    row = row_of(shown, "shop.parse")
    assert (row.kind, row.run_id, [bar.kind for bar in row.bars]) == ("run", "c1", ["waiting", "succeeded"])


def test_many_child_runs_of_a_task_are_one_row_and_those_that_failed() -> None:
    states = ["succeeded"] * 640 + ["running"] * 27 + ["failed"]
    children = [make_child(n, state=state, took=1.0 + n / 1000) for n, state in enumerate(states)]

    shown = timeline(make_run("running"), [make_attempt(state="running")], [], children, now=T0 + 9)

    fold, failed = shown.rows[2:]
    assert (fold.name, fold.size, fold.states) == (
        "shop.parse", 668, {"succeeded": 640, "running": 27, "failed": 1},
    )  # fmt: skip
    assert fold.p50 == pytest.approx(1.32, abs=0.001)
    assert fold.longest == pytest.approx(1.667)
    assert (failed.run_id, failed.depth, failed.state) == ("c667", 1, "failed")
    assert len(fold.bars) <= 6


def test_above_the_limit_stages_of_one_name_in_one_place_are_one_row() -> None:
    stages: list[Stage] = []
    for chunk in range(250):
        number = 3 * chunk + 1
        stages += [
            make_stage(number, "chunk", 1 + chunk, 0.9, "failed" if chunk == 77 else ""),
            make_stage(number + 1, "read", 1 + chunk, 0.3, parent=number),
            make_stage(number + 2, "parse", 1.3 + chunk, 0.5, parent=number),
        ]

    shown = timeline(make_run(ended_at=T0 + 252), [make_attempt(runtime=251.0)], stages, now=0.0)

    assert [(row.kind, row.depth, row.name, row.size) for row in shown.rows[2:]] == [
        ("stages", 1, "chunk", 250),
        ("stage", 2, "chunk", 1),
        ("stages", 2, "read", 250),
        ("stages", 2, "parse", 250),
    ]
    assert (shown.is_folded, shown.stages) == (True, 750)
    assert shown.rows[2].state == "failed"
    assert shown.rows[2].p50 == pytest.approx(0.9, abs=1e-5)
    assert [bar.kind for bar in shown.rows[2].bars][-1] == "failed"


def test_a_thousand_names_are_cut_to_what_runs_and_counted() -> None:
    stages = [make_stage(n, f"s{n}", n, 1) for n in range(1, 1000)] + [make_stage(1000, "last", 1000, None)]

    shown = timeline(make_run("running"), [make_attempt(state="running")], stages, now=T0 + 1002)

    more = [row for row in shown.rows if row.kind == "more"]
    assert len(shown.rows) <= ROWS + 2
    assert row_of(shown, "last").state == "running"
    assert sum(row.size for row in more) + sum(row.kind == "stage" for row in shown.rows) == 1000


def test_a_clock_that_is_behind_makes_nothing_negative() -> None:
    run = make_run(queued_at=T0 + 30, ended_at=T0 + 2)
    stages = [make_stage(1, "back", 5, None, "succeeded", ended_at=T0 - 50)]

    shown = timeline(run, [make_attempt(ended_at=T0 - 5)], stages, now=0.0)

    assert [row.seconds for row in shown.rows] == [0.0, 0.0, 0.0]


def test_text_of_a_task_is_one_harmless_line() -> None:
    stage = make_stage(1, "a\u202eb\x1b[31m\nc", 1, 1, message="m\r\nn")

    shown = timeline(make_run(ended_at=T0 + 2), [make_attempt()], [stage], now=0.0)

    assert (shown.rows[2].name, shown.rows[2].detail) == ("a\\u202eb\\x1b[31m", "m\\r")


TIMES = st.one_of(
    st.none(), st.floats(), st.floats(T0 - 1e5, T0 + 1e5), st.sampled_from([T0, 0.0, -1.0, 1e300, math.nan])
)
STATES = st.sampled_from(
    ["queued", "running", "retrying", "succeeded", "failed", "lost", "planned", "skipped", "new one"]
)
PEOPLE = st.sampled_from(["a", "b", "", "\u202e<b>"])


def records(kind: Any, **fields: Any) -> Any:
    return st.builds(kind, state=STATES, started_at=TIMES, ended_at=TIMES, **fields)


RUNS = records(
    Run, id=st.sampled_from(["r-1", "c1", "c2", "c3"]), short_id=PEOPLE, task=PEOPLE, queued_at=TIMES,
    runtime=TIMES, percent=TIMES, parent_id=st.sampled_from([None, "r-1", "c1"]), unreachable_since=TIMES,
)  # fmt: skip
ATTEMPTS = st.lists(
    records(Attempt, id=st.sampled_from(["a1", "a2"]), run_id=st.just("r-1"), number=st.integers(1, 3),
            runtime=TIMES, percent=TIMES, error=st.sampled_from([None, {}, {"type": 3, "message": None}])),
    max_size=4,
)  # fmt: skip
STAGES = st.lists(
    records(Stage, run_id=st.just("r-1"), attempt_id=st.sampled_from(["a1", "a2", "a9"]), name=PEOPLE,
            number=st.integers(-1, 9), parent=st.one_of(st.none(), st.integers(-1, 9)), elapsed=TIMES,
            current=TIMES, total=TIMES),
    max_size=12,
)  # fmt: skip


@given(
    RUNS, ATTEMPTS, STAGES, st.lists(RUNS, max_size=25), TIMES.filter(lambda at: at is not None),
    st.sampled_from(["time", "order", "?"]), st.sampled_from(["", "failed", "unfinished", "?"]),
)  # fmt: skip
def test_any_records_are_drawn_within_the_axis(
    run: Run,
    attempts: list[Attempt],
    stages: list[Stage],
    children: list[Run],
    now: float,
    layout: str,
    only: str,
) -> None:
    shown = timeline(run, attempts, stages, children, now=now, layout=layout, only=only)

    for row in shown.rows:
        for bar in row.bars:
            assert 0 <= bar.x <= 100
            assert 0 < bar.width <= 100
            assert bar.x + bar.width <= 100.0005
        assert all(0 <= notch.x <= 100 for notch in row.notches)
        assert row.text
        assert row.fraction is None or 0 <= row.fraction <= 1
        assert row.seconds is None or row.seconds >= 0
    if not shown.only:
        known = {(stage.attempt_id, stage.number) for stage in stages}
        assert sum(row.kind == "stage" for row in shown.rows) >= len({number for _, number in known})
