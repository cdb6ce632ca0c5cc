"""StartBy and FinishBy: met, missed, made up for, on both days on which the clock jumps."""

from __future__ import annotations

import pytest
from scenes import DAY, HOUR, MINUTE, Scene, at, shown

from plet_celery import events
from plet_celery.objectives import FinishBy, StartBy

TASK = "shop.night"
BERLIN = "Europe/Berlin"


def finish(scene: Scene, time: str = "06:00", **more: object) -> None:
    """Promise that the task is done by then, and let a first pass see it."""
    scene.promise(TASK, FinishBy(time, zone=BERLIN, **more))  # type: ignore[arg-type]
    scene.look()


def test_done_in_time_is_kept(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, takes=3 * HOUR)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("kept", "succeeded Tue 05:00")
    assert scene.dues() == [(at("2031-03-04 06:00", BERLIN), "met")]


def test_done_long_before_is_kept_before_the_time_is_over(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, takes=HOUR)
    scene.clock = at("2031-03-04 04:00", BERLIN)

    assert scene.verdict(TASK) == "kept"


def test_nothing_is_said_before_the_first_time(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 05:00", BERLIN)

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("no_data", "nothing was due yet since it is promised")


def test_a_run_that_still_goes_on_breaks_it(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    run = scene.start(scene.publish(TASK))
    scene.clock = at("2031-03-04 06:01", BERLIN)

    found = scene.judgement(TASK)

    assert (found.verdict, found.runs) == ("broken", (run.id,))
    assert found.value == "was due Tue 06:00, still running"
    assert found.limit == "a success by 06:00 Europe/Berlin"
    assert found.since == at("2031-03-04 06:00", BERLIN)


def test_a_run_that_never_starts_breaks_it(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.publish(TASK)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    assert scene.judgement(TASK).value == "was due Tue 06:00, still queued"


def test_a_run_that_was_never_published_breaks_it(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    assert scene.judgement(TASK).value == "was due Tue 06:00, no run is open"


def test_a_failed_run_finishes_nothing(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, end=events.RUN_FAILED)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    assert scene.verdict(TASK) == "broken"


def test_a_late_success_makes_up_for_it(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    run = scene.start(scene.publish(TASK))
    scene.clock = at("2031-03-04 06:01", BERLIN)
    assert scene.verdict(TASK) == "broken"
    scene.clock = at("2031-03-04 07:12", BERLIN)
    scene.end(run)
    scene.clock += 30

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("kept", "succeeded Tue 07:12, 1 h 12 min late")
    assert scene.dues() == [(at("2031-03-04 06:00", BERLIN), "late")]


def test_a_run_that_was_started_by_hand_makes_up_for_it(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 06:01", BERLIN)
    assert scene.verdict(TASK) == "broken"
    scene.clock = at("2031-03-04 08:00", BERLIN)
    scene.run(TASK, takes=HOUR)

    assert scene.verdict(TASK) == "kept"


def test_yesterdays_late_run_is_not_todays(scene: Scene) -> None:
    finish(scene)
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, takes=5 * HOUR)  # 07:00: an hour late
    scene.look()
    scene.clock = at("2031-03-05 06:01", BERLIN)

    assert scene.verdict(TASK) == "broken"
    assert [state for _, state in scene.dues()] == ["late", "missed"]


def test_what_was_published_too_long_before_does_not_count(scene: Scene) -> None:
    finish(scene, within=8 * HOUR)
    scene.clock = at("2031-03-03 20:00", BERLIN)
    scene.run(TASK)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    assert scene.verdict(TASK) == "broken"


def test_what_was_made_up_during_the_day_hides_no_missing_night(scene: Scene) -> None:
    finish(scene, within=6 * HOUR)
    scene.clock = at("2031-03-04 06:01", BERLIN)
    assert scene.verdict(TASK) == "broken"
    scene.clock = at("2031-03-04 08:00", BERLIN)
    scene.run(TASK)  # by hand
    scene.look()
    scene.clock = at("2031-03-05 06:01", BERLIN)

    assert scene.verdict(TASK) == "broken"
    assert [state for _, state in scene.dues()] == ["late", "missed"]


def test_days_without_a_time_ask_for_nothing(scene: Scene) -> None:
    finish(scene, days="mon-fri")
    scene.clock = at("2031-03-07 02:00", BERLIN)  # Friday
    scene.run(TASK)
    scene.look()
    scene.clock = at("2031-03-09 23:00", BERLIN)  # Sunday
    assert scene.verdict(TASK) == "kept"

    scene.clock = at("2031-03-10 06:01", BERLIN)
    assert scene.verdict(TASK) == "broken"


def test_started_in_time_is_kept_while_the_run_goes_on(scene: Scene) -> None:
    scene.promise(TASK, StartBy("02:30", zone=BERLIN))
    scene.look()
    scene.clock = at("2031-03-04 02:00", BERLIN)
    run = scene.publish(TASK)
    scene.clock = at("2031-03-04 02:29", BERLIN)
    scene.start(run)
    scene.clock = at("2031-03-04 02:31", BERLIN)

    assert scene.judgement(TASK).value == "started Tue 02:29"
    assert scene.verdict(TASK) == "kept"


@pytest.mark.parametrize("is_published", [True, False])
def test_what_does_not_start_breaks_it_and_a_late_start_mends_it(scene: Scene, is_published: bool) -> None:
    scene.promise(TASK, StartBy("02:30", zone=BERLIN))
    scene.look()
    scene.clock = at("2031-03-04 02:00", BERLIN)
    run = scene.publish(TASK) if is_published else None
    scene.clock = at("2031-03-04 02:31", BERLIN)
    assert scene.verdict(TASK) == "broken"

    scene.clock += 10 * MINUTE
    scene.start(run or scene.publish(TASK))
    scene.clock += 30

    assert scene.verdict(TASK) == "kept"
    assert [state for _, state in scene.dues()] == ["late"]


def test_a_start_is_enough_even_if_the_run_fails(scene: Scene) -> None:
    scene.promise(TASK, StartBy("02:30", zone=BERLIN))
    scene.look()
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, end=events.RUN_FAILED)
    scene.clock = at("2031-03-04 02:31", BERLIN)

    assert scene.verdict(TASK) == "kept"


# The clock jumps: 30 March from 02:00 to 03:00, 26 October from 03:00 to 02:00


@pytest.mark.parametrize(
    ("eve", "time", "due"),
    [
        ("2031-03-29", "02:30", "03-30 03:30 +0200"),  # left out: as long after midnight as ever
        ("2031-03-29", "06:00", "03-30 06:00 +0200"),
        ("2031-10-25", "02:30", "10-26 02:30 +0200"),  # twice: the first one
        ("2031-10-25", "06:00", "10-26 06:00 +0100"),
        ("2031-10-25", "03:00", "10-26 03:00 +0100"),
    ],
)
def test_on_the_days_of_a_jump_it_is_due_once_and_right(scene: Scene, eve: str, time: str, due: str) -> None:
    scene.clock = at(f"{eve} 12:00", BERLIN)
    finish(scene, time)
    broken_at = None
    end = scene.clock + DAY
    while scene.clock < end and broken_at is None:
        scene.clock += 5 * MINUTE
        broken_at = scene.judgement(TASK).since
    scene.until(end, HOUR)

    assert broken_at is not None
    assert shown(broken_at, BERLIN) == due
    assert [shown(one, BERLIN) for one, _ in scene.dues()] == [due]


@pytest.mark.parametrize("eve", ["2031-03-29", "2031-10-25"])
def test_a_nightly_run_keeps_it_through_a_jump(scene: Scene, eve: str) -> None:
    scene.clock = at(f"{eve} 00:30", BERLIN)
    finish(scene, "06:00")
    for day in range(3):
        # As beat publishes it: by the zone's clock.
        scene.clock = at(f"{eve} 02:00", BERLIN) + day * DAY
        scene.run(TASK, takes=HOUR)
        scene.look()
        scene.until(at(f"{eve} 12:00", BERLIN) + day * DAY, HOUR)
        assert scene.verdict(TASK) == "kept"

    assert [state for _, state in scene.dues()] == ["met"] * 3


@pytest.mark.parametrize(
    ("eve", "more"),
    [
        ("2031-03-29", {}),  # 23 hours later it is due again
        ("2031-03-04", {"within": 2 * DAY}),
    ],
)
def test_a_run_of_the_time_before_is_not_this_ones(scene: Scene, eve: str, more: dict[str, float]) -> None:
    scene.clock = at(f"{eve} 00:30", BERLIN)
    finish(scene, "06:00", **more)
    scene.clock = at(f"{eve} 05:20", BERLIN)
    scene.run(TASK, takes=10 * MINUTE)
    scene.clock = at(f"{eve} 06:01", BERLIN)
    assert scene.verdict(TASK) == "kept"

    scene.clock = at(f"{eve} 06:01", BERLIN) + DAY
    assert scene.verdict(TASK) == "broken"
    assert [state for _, state in scene.dues()] == ["met", "missed"]


# Canvases


def test_a_canvas_is_done_when_all_of_it_has_succeeded(scene: Scene) -> None:
    finish(scene, scope="canvas")
    scene.clock = at("2031-03-04 02:00", BERLIN)
    first = scene.run(TASK, takes=HOUR)
    second = scene.start(scene.publish("shop.index", canvas=first.id))
    scene.clock = at("2031-03-04 06:01", BERLIN)
    found = scene.judgement(TASK)
    assert (found.verdict, found.runs) == ("broken", (first.id,))

    scene.end(second)
    scene.clock += 30

    assert scene.verdict(TASK) == "kept"


def test_a_canvas_with_a_failed_run_is_not_done(scene: Scene) -> None:
    finish(scene, scope="canvas")
    scene.clock = at("2031-03-04 02:00", BERLIN)
    first = scene.run(TASK, takes=HOUR)
    scene.run("shop.index", canvas=first.id, end=events.RUN_FAILED)
    scene.clock = at("2031-03-04 06:01", BERLIN)

    assert scene.verdict(TASK) == "broken"


# A changed promise


def test_a_new_time_begins_anew(scene: Scene) -> None:
    finish(scene, "06:00")
    scene.clock = at("2031-03-04 02:00", BERLIN)
    scene.run(TASK, takes=3.5 * HOUR)
    scene.clock = at("2031-03-04 06:30", BERLIN)
    assert scene.verdict(TASK) == "kept"

    scene.declared.clear()
    scene.promise(TASK, FinishBy("05:00", zone=BERLIN))

    assert scene.judgement(TASK).value == "succeeded Tue 05:30"
    scene.clock = at("2031-03-05 05:01", BERLIN)
    assert scene.verdict(TASK) == "broken"
