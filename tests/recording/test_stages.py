"""Stages: numbers, ends, nesting, limits, and every way to misuse them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry
from listwriter import ListWriter

from plet_celery.current import NULL_RUN
from plet_celery.run import Run

MakeRun = Callable[..., Run]


def test_a_stage_writes_its_start_and_its_end(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load", total=3, unit="rows") as stage:
        for _ in range(3):
            stage.advance()
        stage.result = {"rows": 3}

    assert [kind for kind, _ in writer.events] == ["stage.started", "stage.succeeded"]
    assert writer.events[0][1] == {"stage": 1, "name": "load", "total": 3, "unit": "rows", "percent": 0.0}
    end = writer.events[1][1]
    assert (end["done"], end["total"], end["result"], end["percent"]) == (3, 3, {"rows": 3}, 100.0)


def test_nested_stages_know_their_parent(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("outer"), run.stage("inner"), run.stage("innermost"):
        pass

    assert [(one["name"], one.get("parent")) for one in writer.of("stage.started")] == [
        ("outer", None),
        ("inner", 1),
        ("innermost", 2),
    ]


def test_stages_nest_a_thousand_deep(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()
    stages = [run.stage(f"level {n}") for n in range(1000)]

    for stage in stages:
        stage.__enter__()
    for stage in reversed(stages):
        stage.__exit__(None, None, None)

    assert writer.of("stage.started")[-1]["parent"] == 999
    assert len(writer.of("stage.succeeded")) == 1000


def test_declared_weights_give_the_total_percent(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(declared=(("download", 1.0), ("load", 4.0)))

    with run.stage("download"):
        pass
    with run.stage("load", total=2) as load:
        load.advance()
        load.flush(math.inf)

    assert [data["percent"] for _, data in writer.events] == [0.0, 20.0, 20.0, 60.0, 100.0]
    assert {data["stage"] for _, data in writer.events} == {1, 2}


def test_percent_never_falls_and_is_absent_without_ground(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(progress_rate=1000.0)

    with run.stage("blind"):
        pass
    with run.stage("load", total=10) as stage:
        for done in (5, 2, 9, -4, 50):
            stage.set(done)
            stage.flush(math.inf)

    percents = [data.get("percent") for _, data in writer.events]
    assert percents[:2] == [None, None]
    numbers = [percent for percent in percents[2:] if percent is not None]
    assert numbers == sorted(numbers) and len(numbers) == len(percents) - 2
    assert percents[-1] == 100.0
    assert [one["done"] for one in writer.of("stage.progressed")] == [5, 2, 9, -4, 50]


def test_progress_is_written_at_most_at_the_rate_and_the_last_value_is_kept(
    make_run: MakeRun, writer: ListWriter
) -> None:
    run = make_run(progress_rate=10.0)

    with run.stage("load", total=200_000) as stage:
        for _ in range(200_000):
            stage.advance()

    elapsed = writer.of("stage.succeeded")[0]["elapsed"]
    assert len(writer.of("stage.progressed")) <= elapsed * 10 + 1
    assert writer.of("stage.succeeded")[0]["done"] == 200_000


def test_track_counts_each_item_once(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    assert list(run.track(range(1003), "load", unit="rows")) == list(range(1003))

    end = writer.of("stage.succeeded")[0]
    assert (end["done"], end["total"]) == (1003, 1003)


@pytest.mark.parametrize("stop_at", [0, 1, 2, 7, 30])
def test_track_counts_what_was_done_when_the_loop_is_left(
    make_run: MakeRun, writer: ListWriter, stop_at: int
) -> None:
    run = make_run()

    for number in run.track(range(100), "load"):
        if number == stop_at:
            break
    run.close_body()

    assert writer.of("stage.succeeded")[0]["done"] == stop_at


def test_track_over_something_without_length_has_no_total(make_run: MakeRun, writer: ListWriter) -> None:
    class Broken:
        def __len__(self) -> int:
            raise RuntimeError("no length")

        def __iter__(self) -> Any:
            return iter("ab")

    run = make_run()

    assert list(run.track((x for x in "ab"), "generator")) == ["a", "b"]
    assert list(run.track(Broken(), "broken")) == ["a", "b"]
    assert all("total" not in one for one in writer.of("stage.started"))


def test_an_exception_fails_the_stage_and_passes(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with pytest.raises(ValueError, match="no such row"), run.stage("load"):
        raise ValueError("no such row")

    assert writer.of("stage.failed")[0]["error"]["type"] == "ValueError"


def test_a_loop_left_by_an_exception_fails_its_stage_at_the_bodys_end(
    make_run: MakeRun, writer: ListWriter
) -> None:
    run = make_run()

    def body() -> None:
        for number in run.track(range(10), "load"):
            if number == 4:
                raise ValueError("bad row")

    try:
        body()
    except ValueError as error:
        # As Celery does: tell of the failure, then clear the frames that hold the generator.
        run.close_body(error)
        assert error.__traceback__ is not None and error.__traceback__.tb_next is not None
        error.__traceback__.tb_next.tb_frame.clear()

    assert writer.of("stage.failed")[0]["done"] == 4
    assert not writer.of("stage.succeeded")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Ignore(), "stage.skipped"),
        (Reject("no", requeue=False), "stage.skipped"),
        (Retry(), "stage.skipped"),
        (Retry(exc=ValueError("x")), "stage.failed"),
        (SoftTimeLimitExceeded(), "stage.failed"),
        (SystemExit(3), "stage.failed"),
    ],
)
def test_celerys_ways_to_leave_are_no_failures(
    make_run: MakeRun, writer: ListWriter, error: BaseException, kind: str
) -> None:
    run = make_run()

    with pytest.raises(type(error)), run.stage("load"):
        raise error

    assert writer.events[-1][0] == kind


def test_ten_thousand_distinct_stages_fold_into_other(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(stage_max=100)

    for number in range(10_000):
        with run.stage(f"stage {number}") as stage:
            stage.advance()
    run.finish("run.succeeded", {})

    started = writer.of("stage.started")
    assert len(started) == 101
    assert (started[-1]["name"], started[-1]["unit"]) == ("other", "stages")
    assert writer.of("stage.succeeded")[-1]["done"] == 9_900
    assert "more than 100 stages" in writer.texts()[0]


def test_loops_past_the_limit_that_are_left_are_counted_and_not_kept(make_run: MakeRun) -> None:
    run = make_run(stage_max=2)
    for _ in range(50):
        for _ in run.track(range(3), "chunk"):
            break

    book = run._stages()

    assert len(book._left) <= 2
    assert book._other is not None
    assert book._other.done == 48


@pytest.mark.parametrize("total", [-5, math.nan, math.inf, "many", object(), 2**80])
def test_a_total_that_is_no_count_is_unknown_and_told_once(
    make_run: MakeRun, writer: ListWriter, total: Any
) -> None:
    run = make_run()

    with run.stage("load", total=total) as stage:
        stage.total = total
        stage.advance()

    assert stage.total is None
    assert "total" not in writer.of("stage.started")[0]
    assert len(writer.texts()) == 1 and "treated as unknown" in writer.texts()[0]


def test_a_total_of_zero_is_all_done(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load", total=0) as stage:
        assert stage.fraction == 1.0

    assert writer.of("stage.started")[0]["total"] == 0


@pytest.mark.parametrize("done", [math.nan, "x", None, object(), b"1", 2**70])
def test_progress_that_is_no_number_keeps_the_last_good_value(
    make_run: MakeRun, writer: ListWriter, done: Any
) -> None:
    run = make_run()

    with run.stage("load", total=10) as stage:
        stage.set(4)
        stage.flush(math.inf)
        stage.set(done)
        stage.advance(done)

    assert writer.of("stage.succeeded")[0]["done"] == 4


def test_numbers_of_other_types_count(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load", total=Decimal(10)) as stage:
        stage.set(Decimal("2.5"))  # type: ignore[arg-type]

    assert writer.of("stage.succeeded")[0]["done"] == 2.5


def test_progress_after_the_end_is_ignored_and_told_once(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()
    with run.stage("load", total=10) as stage:
        stage.set(3)

    stage.advance()
    stage.advance()
    stage.message = "late"

    assert writer.of("stage.succeeded")[0]["done"] == 3
    assert [text for text in writer.texts() if "after the stage's end" in text] == [
        "stage 'load': progress after the stage's end is ignored"
    ]


def test_a_stage_without_with_starts_by_itself_and_ends_with_the_run(
    make_run: MakeRun, writer: ListWriter
) -> None:
    run = make_run()

    run.stage("load", total=5).advance(5)
    run.finish("run.succeeded", {})

    assert [kind for kind, _ in writer.events] == ["stage.started", "stage.succeeded", "run.succeeded"]


@pytest.mark.parametrize("name", ["", None, 7, "x" * 100_000, "a\nb\x1b[31m", "\udc80"])
def test_any_stage_name_is_taken(make_run: MakeRun, writer: ListWriter, name: Any) -> None:
    run = make_run()

    with run.stage(name):
        pass

    recorded = writer.of("stage.started")[0]["name"]
    assert recorded and len(recorded) <= 200
    recorded.encode()


def test_the_same_name_twice_is_two_stages(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run(declared=(("load", 1.0),))

    for _ in range(2):
        with run.stage("load"):
            pass

    assert [one["stage"] for one in writer.of("stage.started")] == [1, 2]


def test_progress_from_another_thread_counts(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    def work() -> None:
        with run.stage("in thread") as inner:
            inner.advance(2)
        stage.advance(5)

    with run.stage("load", total=5) as stage:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    ends = {one["stage"]: one["done"] for one in writer.of("stage.succeeded")}
    assert ends == {1: 5, 2: 2}
    assert writer.of("stage.started")[1]["parent"] == 1


def test_a_forked_child_numbers_its_stages_apart(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()
    with run.stage("parent"):
        run.forked()
        with run.stage("child"):
            pass

    numbers = [one["stage"] for one in writer.of("stage.started")]
    assert numbers[0] == 1
    assert numbers[1] == (os.getpid() % 64 + 1) * 1000 + 1


def test_outside_a_task_everything_does_nothing() -> None:
    run = NULL_RUN

    with run.stage("load", total=2) as stage:
        stage.advance()
        stage.message = "fine"
    assert list(run.track([1, 2], "load")) == [1, 2]
    run.log("info", "hello")
    run.measure(gap=1.0)
    run.metadata["supplier"] = "x"

    assert stage.done == 1
    assert run.metadata["supplier"] == "x"
    assert run.percent is None


def test_a_number_that_cannot_even_be_shown_costs_no_end(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("a", total=10) as stage:
        stage.advance(10**5000)
    with run.stage("b"):
        pass
    run.finish("run.succeeded", {})

    assert [kind for kind, _ in writer.events if not kind.startswith("log.")] == [
        "stage.started",
        "stage.succeeded",
        "stage.started",
        "stage.succeeded",
        "run.succeeded",
    ]
    assert "parent" not in writer.of("stage.started")[1]


def test_a_stage_that_cannot_be_ended_does_not_cost_the_runs_end(
    make_run: MakeRun, writer: ListWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    broken, sound = run.stage("broken"), run.stage("sound")
    broken.__enter__()
    sound.__enter__()

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(run._stages()), "_add_numbers", fail)
    run.finish("run.succeeded", {})

    assert writer.events[-1][0] == "run.succeeded"


def test_a_bad_number_does_not_poison_the_next_good_one(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load", total=3) as stage:
        stage.set("2")  # type: ignore[arg-type]
        stage.advance()

    assert writer.of("stage.succeeded")[0]["done"] == 1


class Leaving:
    """A number whose conversion wants to end the process."""

    def __float__(self) -> float:
        raise SystemExit(3)


def test_a_number_that_exits_is_no_number(make_run: MakeRun, writer: ListWriter) -> None:
    run = make_run()

    with run.stage("load", total=Leaving()) as stage:
        stage.set(Leaving())  # type: ignore[arg-type]
    run.measure(gap=Leaving())  # type: ignore[arg-type]

    assert writer.of("stage.succeeded")[0]["done"] == 0
