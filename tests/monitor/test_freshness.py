"""Freshness by interval and by crontab: kept, missed, made up for, told late, through outages and jumps."""

from __future__ import annotations

import pytest
from scenes import DAY, HOUR, MINUTE, Scene, at, shown

from plet_celery import events
from plet_celery.objectives import Freshness

TASK = "shop.sync"
BERLIN = "Europe/Berlin"


def test_a_success_every_hour_keeps_it(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=60))
    seen = set()
    for _ in range(5):
        scene.run(TASK)
        scene.clock += HOUR
        seen.add(scene.verdict(TASK))

    assert seen == {"kept"}
    assert scene.dues() == []


def test_no_success_for_longer_breaks_it(scene: Scene) -> None:
    scene.promise(TASK, Freshness(24 * HOUR, grace=HOUR))
    run = scene.run(TASK)
    ended = run.started_at + 1
    scene.clock = ended + 25 * HOUR - 1
    assert scene.verdict(TASK) == "kept"

    scene.clock = ended + 26 * HOUR
    found = scene.judgement(TASK)

    assert (found.verdict, found.count, found.since) == ("broken", 1, ended + 25 * HOUR)
    assert (found.value, found.limit) == ("last success 26 h ago", "a success every 24 h + 1 h grace")


def test_a_failed_run_refreshes_nothing(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    scene.run(TASK)
    scene.clock += HOUR / 2
    scene.run(TASK, end=events.RUN_FAILED)
    scene.clock += HOUR / 2 + 10

    assert scene.verdict(TASK) == "broken"


def test_a_success_mends_it(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    scene.run(TASK)
    scene.clock += 2 * HOUR
    assert scene.verdict(TASK) == "broken"

    scene.run(TASK)

    assert scene.verdict(TASK) == "kept"


def test_without_any_success_it_is_no_data_and_then_broken(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=60))
    scene.clock += HOUR
    assert scene.verdict(TASK) == "no_data"

    scene.clock += 61
    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("broken", "no success since it is promised, 1 h 1 min ago")


def test_each_interval_that_passes_is_one_due_time(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    run = scene.run(TASK)
    ended = run.started_at + 1
    scene.until(ended + 3.5 * HOUR, 5 * MINUTE)

    assert scene.dues() == [(ended + number * HOUR, "missed") for number in (1, 2, 3)]
    assert scene.judgement(TASK).count == 3


def test_a_monitor_down_for_a_day_counts_every_interval_that_passed(scene: Scene) -> None:
    scene.promise(TASK, Freshness(5 * MINUTE, grace=0, window=DAY))
    run = scene.run(TASK)
    ended = run.started_at + 1
    scene.look()
    scene.clock = ended + DAY

    written = []
    for _ in range(4):
        scene.clock += 1
        assert scene.verdict(TASK) == "broken"
        assert scene.last is not None
        written.append(len(scene.last.kept.dues))

    assert written == [100, 100, 88, 0]
    assert scene.dues() == [(ended + number * 5 * MINUTE, "missed") for number in range(1, 289)]
    assert (scene.status(TASK).good, scene.status(TASK).bad) == (0, 288)


def test_an_outage_between_two_passes_is_found_afterwards(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    run = scene.run(TASK)
    ended = run.started_at + 1
    scene.look()
    scene.clock = ended + 2.5 * HOUR
    scene.run(TASK, takes=0)

    assert scene.verdict(TASK) == "kept"
    assert scene.dues() == [(ended + HOUR, "late"), (ended + 2 * HOUR, "late")]


def test_the_last_success_is_remembered_when_its_run_is_removed(scene: Scene) -> None:
    scene.promise(TASK, Freshness(10 * DAY, grace=0))
    scene.run(TASK)
    scene.look()
    with scene.store.writing() as connection:
        connection.execute(scene.store.tables.run.delete())
    scene.clock += 9 * DAY

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("kept", "last success 9 d ago")


def test_a_missed_time_turns_out_to_be_met_when_it_is_told_late(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    scene.run(TASK)
    scene.hold()
    scene.clock += 0.9 * HOUR
    scene.run(TASK)
    scene.clock += 0.2 * HOUR
    assert scene.verdict(TASK) == "broken"

    scene.release()

    assert scene.verdict(TASK) == "kept"
    assert [state for _, state in scene.dues()] == ["met"]


# Crontab


def every_quarter(scene: Scene, grace: float = 60) -> None:
    """Promise a success every quarter of an hour, and let a first pass see it."""
    scene.promise(TASK, Freshness("*/15 * * * *", grace=grace))
    scene.look()


def test_a_success_for_each_time_keeps_it(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    for number in range(1, 5):
        scene.clock = begun + number * 15 * MINUTE
        scene.run(TASK, takes=30)
        assert scene.verdict(TASK) == "kept"
        scene.clock += 45

    assert scene.verdict(TASK) == "kept"
    assert scene.dues() == [(begun + number * 15 * MINUTE, "met") for number in range(1, 5)]


def test_a_time_without_success_breaks_it_after_its_grace(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.clock = begun + 15 * MINUTE
    scene.run(TASK)
    scene.clock = begun + 31 * MINUTE
    assert scene.verdict(TASK) == "kept"

    scene.clock += 1
    found = scene.judgement(TASK)

    assert (found.verdict, found.since, found.count) == ("broken", begun + 31 * MINUTE, 1)
    assert found.value == "last success 16 min ago, was due Mon 08:30"


def test_a_success_behind_its_grace_is_late_and_mends_it(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.clock = begun + 15 * MINUTE
    run = scene.start(scene.publish(TASK))
    scene.clock += 90
    assert scene.verdict(TASK) == "broken"
    scene.end(run)
    scene.clock += 1

    assert scene.verdict(TASK) == "kept"
    assert scene.dues() == [(begun + 15 * MINUTE, "late")]


def test_the_long_run_of_an_earlier_time_is_not_the_next_ones(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.clock = begun + 15 * MINUTE
    scene.run(TASK, takes=15 * MINUTE + 10)  # it ends when the next one is due
    scene.clock = begun + 32 * MINUTE

    assert scene.verdict(TASK) == "broken"
    assert scene.dues()[-1] == (begun + 30 * MINUTE, "missed")


@pytest.mark.parametrize("skew", [-40.0, 40.0])
def test_a_beat_whose_clock_is_a_little_wrong_meets_its_times(scene: Scene, skew: float) -> None:
    every_quarter(scene)
    begun = scene.clock
    for number in range(1, 5):
        scene.clock = begun + number * 15 * MINUTE + skew
        scene.run(TASK, takes=5)
        scene.clock = begun + number * 15 * MINUTE + 61
        assert scene.verdict(TASK) == "kept"

    assert {state for _, state in scene.dues()} == {"met"}


def test_a_host_whose_clock_is_far_ahead_is_put_right(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.ahead = 45.0
    scene.clock = begun + 15 * MINUTE
    scene.run(TASK, takes=30)  # by its own clock 75 s behind its time
    scene.clock = begun + 17 * MINUTE

    assert scene.verdict(TASK) == "kept"


def test_a_flapping_task_is_judged_anew_at_each_time(scene: Scene) -> None:
    every_quarter(scene)
    begun, seen = scene.clock, []
    for number in range(1, 7):
        scene.clock = begun + number * 15 * MINUTE
        if number % 2:
            scene.run(TASK)
        scene.clock = begun + number * 15 * MINUTE + 61
        seen.append(scene.verdict(TASK))

    assert seen == ["kept", "broken"] * 3


def test_beat_down_for_a_day_is_one_judgement_and_each_time_once(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.clock = begun + 15 * MINUTE
    scene.run(TASK)
    scene.look()
    counts = []
    while scene.clock < begun + DAY:
        scene.clock += 10 * MINUTE
        (found,) = scene.look()
        counts.append(found.count)

    missed = [due for due, state in scene.dues() if state == "missed"]
    assert missed == [
        begun + number * 15 * MINUTE for number in range(2, 97) if number * 900 + 60 < DAY + 600
    ]
    assert counts == sorted(counts)

    # It comes back, and beat publishes once, as it does.
    scene.run(TASK)
    found = scene.judgement(TASK)

    assert found.verdict == "kept"
    assert len(scene.dues()) == len(set(scene.dues())) == len(missed) + 1


def test_a_monitor_down_for_a_day_catches_up_in_small_parts(scene: Scene) -> None:
    every_quarter(scene, grace=0)
    begun = scene.clock
    for number in range(1, 130):
        scene.clock = begun + number * 15 * MINUTE
        if number not in (50, 51):
            scene.run(TASK, takes=-0.0)
    scene.clock += 1

    written = []
    for _ in range(3):
        assert scene.verdict(TASK) == "kept"
        assert scene.last is not None
        written.append(len(scene.last.kept.dues))
        scene.clock += 1

    assert written == [100, 29, 0]
    assert [due for due, state in scene.dues() if state == "missed"] == [
        begun + number * 15 * MINUTE for number in (50, 51)
    ]


def test_a_task_that_runs_all_the_time_meets_its_times_all_the_same(scene: Scene) -> None:
    scene.promise(TASK, Freshness("*/5 * * * *", grace=60))
    scene.look()
    begun = scene.clock
    for _ in range(700):
        scene.run(TASK, takes=1)
        scene.clock += 1
    scene.clock = begun + 25 * MINUTE
    for _ in range(4):
        scene.look()
        scene.clock += 1

    # 1,400 s of runs: the times up to 20 min are met, that of 25 min is not over.
    assert scene.verdict(TASK) == "kept"
    assert scene.dues() == [(begun + number * 5 * MINUTE, "met") for number in range(1, 5)]


def test_a_shipper_that_is_silent_excuses_for_a_while(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.clock = begun + 15 * MINUTE
    scene.run(TASK)
    scene.heard = begun + 29 * MINUTE
    scene.clock = begun + 32 * MINUTE
    assert scene.verdict(TASK) == "no_data"

    scene.clock = begun + 45 * MINUTE

    assert scene.verdict(TASK) == "broken"


def test_what_the_shipper_brings_later_puts_it_right(scene: Scene) -> None:
    every_quarter(scene)
    begun = scene.clock
    scene.hold()
    for number in (1, 2, 3):
        scene.clock = begun + number * 15 * MINUTE
        scene.run(TASK)
    scene.clock = begun + 50 * MINUTE
    assert scene.verdict(TASK) == "broken"
    assert [state for _, state in scene.dues()] == ["missed"] * 3

    scene.release()

    assert scene.verdict(TASK) == "kept"
    assert [state for _, state in scene.dues()] == ["met"] * 3


# The clock jumps


@pytest.mark.parametrize(
    ("text", "eve", "count"),
    [
        ("*/15 * * * *", "2031-03-30", 92),  # 23 hours
        ("*/15 * * * *", "2031-10-26", 100),  # 25 hours
        ("0 2 * * *", "2031-03-30", 1),
        ("30 2 * * *", "2031-10-26", 1),
        ("0 */2 * * *", "2031-03-30", 12),
    ],
)
def test_a_day_of_a_jump_has_as_many_times_as_its_clock_shows(
    scene: Scene, text: str, eve: str, count: int
) -> None:
    scene.clock = at(f"{eve} 00:00", BERLIN) - 60
    scene.promise(TASK, Freshness(text, grace=0, zone=BERLIN))
    scene.look()
    # Up to the next midnight, whose own time does not count.
    scene.clock = at(f"{eve} 23:59", BERLIN)
    for _ in range(2):
        scene.look()
        scene.clock += 1

    assert len(scene.dues()) == count
    assert all(shown(due, BERLIN).startswith(eve[5:]) for due, _ in scene.dues())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Freshness(HOUR, grace=0), Freshness(24 * HOUR, grace=0)),
        (Freshness("0 * * * *", grace=0), Freshness("30 4 * * *", grace=0)),
    ],
    ids=["interval", "crontab"],
)
def test_other_numbers_forget_the_times_of_the_old_ones(scene: Scene, old: Freshness, new: Freshness) -> None:
    scene.promise(TASK, old)
    scene.look()
    scene.clock += 10 * HOUR + 60
    scene.look()
    assert scene.status(TASK).bad == 10

    scene.declared.clear()
    scene.promise(TASK, new)
    scene.look()

    assert (scene.status(TASK).good, scene.status(TASK).bad, scene.status(TASK).compliance) == (0, 0, None)
