"""SuccessRate and P95 over a window, and what is counted for compliance and error budgets."""

from __future__ import annotations

import pytest
from scenes import DAY, HOUR, MINUTE, Scene

from plet_celery import events
from plet_celery.objectives import P95, MaxRuntime, MaxWait, SuccessRate
from plet_celery.store.promises import budget_left
from plet_celery.store.tallies import Tally

TASK = "shop.load"


def ends(scene: Scene, good: int, bad: int, *, takes: float = 1.0) -> None:
    """Have so many runs, one a second."""
    for number in range(good + bad):
        scene.run(TASK, takes=takes, end=events.RUN_SUCCEEDED if number < good else events.RUN_FAILED)


def test_enough_successes_keep_a_rate(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    ends(scene, 9, 1)

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("kept", "90 % of 10 runs succeeded within 1 h")


def test_too_few_successes_break_a_rate(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    ends(scene, 8, 2)

    found = scene.judgement(TASK)

    assert (found.verdict, found.count) == ("broken", 2)
    assert (found.value, found.limit) == (
        "80 % of 10 runs succeeded within 1 h",
        "at least 90 % succeed within 1 h",
    )


def test_a_rate_recovers_when_failures_leave_its_window(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    ends(scene, 0, 2)
    assert scene.verdict(TASK) == "broken"
    scene.clock += 30 * MINUTE
    ends(scene, 3, 0)
    assert scene.verdict(TASK) == "broken"

    scene.clock += 36 * MINUTE

    assert scene.verdict(TASK) == "kept"


def test_a_rate_recovers_when_enough_succeed(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=HOUR))
    ends(scene, 0, 1)
    assert scene.verdict(TASK) == "broken"

    ends(scene, 1, 0)

    assert scene.verdict(TASK) == "kept"


def test_a_window_without_ends_is_no_data(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    ends(scene, 1, 0)
    scene.clock += 2 * HOUR

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("no_data", "no run ended within 1 h")


def test_too_few_ends_say_nothing(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR, min_runs=10))
    ends(scene, 0, 9)
    assert scene.judgement(TASK).value == "9 runs ended within 1 h, 10 are needed"

    ends(scene, 0, 1)

    assert scene.verdict(TASK) == "broken"


@pytest.mark.parametrize("kind", [events.RUN_CANCELLED, events.RUN_IGNORED, events.RUN_RETRIED])
def test_what_is_neither_success_nor_failure_does_not_count(scene: Scene, kind: str) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    ends(scene, 1, 0)
    scene.run(TASK, end=kind)

    assert scene.judgement(TASK).value == "100 % of 1 run succeeded within 1 h"


@pytest.mark.parametrize("kind", [events.RUN_TIMED_OUT, events.RUN_LOST, events.RUN_INTERRUPTED])
def test_every_bad_end_counts_as_failure(scene: Scene, kind: str) -> None:
    scene.promise(TASK, SuccessRate(0.9, window=HOUR))
    scene.run(TASK, end=kind)

    assert scene.verdict(TASK) == "broken"


def test_a_flapping_rate_is_judged_anew(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=5 * MINUTE))
    seen = []
    for _ in range(3):
        ends(scene, 0, 1)
        seen.append(scene.verdict(TASK))
        scene.clock += 11 * MINUTE
        ends(scene, 1, 0)
        seen.append(scene.verdict(TASK))
        scene.clock += 11 * MINUTE

    assert seen == ["broken", "kept"] * 3


def test_a_long_window_is_summed_from_hours(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=DAY))
    for hour in range(20):
        ends(scene, 1, 1 if hour < 4 else 0)
        scene.until(scene.clock + HOUR, 10 * MINUTE)

    found = scene.judgement(TASK)

    assert found.value == "83.33 % of 24 runs succeeded within 24 h"
    assert (scene.status(TASK).good, scene.status(TASK).bad) == (20, 4)


def test_hours_before_the_promise_are_counted_little_by_little(scene: Scene) -> None:
    for _ in range(20):
        ends(scene, 1, 1)
        scene.clock += HOUR
    scene.promise(TASK, SuccessRate(0.1, window=DAY))

    seen = []
    for _ in range(6):
        scene.look()
        scene.clock += 30
        seen.append(scene.status(TASK).good)

    assert seen == sorted(seen)
    assert seen[0] < 20
    assert seen[-1] == 20


def test_what_a_host_brings_hours_later_is_counted_in_its_turn(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=12 * HOUR))
    ends(scene, 1, 0)
    scene.hold()
    ends(scene, 0, 3)
    scene.until(scene.clock + 6 * HOUR, 10 * MINUTE)
    assert scene.verdict(TASK) == "kept"

    scene.release()
    scene.until(scene.clock + 25 * MINUTE, 30)

    assert scene.verdict(TASK) == "broken"


def test_while_nobody_is_heard_of_a_kept_rate_is_no_data(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=HOUR))
    ends(scene, 1, 0)
    scene.heard = scene.clock
    scene.clock += 5 * MINUTE

    assert scene.verdict(TASK) == "no_data"


def test_while_nobody_is_heard_of_a_broken_rate_stays_broken(scene: Scene) -> None:
    scene.promise(TASK, SuccessRate(0.5, window=HOUR))
    ends(scene, 0, 1)
    scene.heard = scene.clock
    scene.clock += 5 * MINUTE

    assert scene.verdict(TASK) == "broken"


def test_fast_runs_keep_a_percentile(scene: Scene) -> None:
    scene.promise(TASK, P95(10, window=HOUR))
    ends(scene, 19, 0, takes=2)
    scene.run(TASK, takes=60)

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("kept", "95 % of 20 runs took at most 10 s within 1 h")


def test_slow_runs_break_a_percentile(scene: Scene) -> None:
    scene.promise(TASK, P95(10, window=HOUR))
    ends(scene, 18, 0, takes=2)
    scene.run(TASK, takes=60)
    scene.run(TASK, takes=60)

    found = scene.judgement(TASK)

    assert (found.verdict, found.count) == ("broken", 2)
    assert found.limit == "95 % take at most 10 s within 1 h"


def test_a_percentile_recovers(scene: Scene) -> None:
    scene.promise(TASK, P95(10, window=HOUR))
    scene.run(TASK, takes=60)
    assert scene.verdict(TASK) == "broken"
    scene.clock += 70 * MINUTE
    ends(scene, 1, 0)

    assert scene.verdict(TASK) == "kept"


def test_failures_make_no_percentile_better(scene: Scene) -> None:
    scene.promise(TASK, P95(10, window=HOUR))
    scene.run(TASK, takes=60)
    ends(scene, 0, 50)

    assert scene.judgement(TASK).value == "0 % of 1 run took at most 10 s within 1 h"


def test_a_percentile_without_success_is_no_data(scene: Scene) -> None:
    scene.promise(TASK, P95(10, window=HOUR))
    ends(scene, 0, 3)

    assert scene.verdict(TASK) == "no_data"


# Compliance and budget


def test_the_budget_of_a_runtime_is_counted_from_what_ended(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(10, target=0.9, window=7 * DAY))
    scene.look()
    ends(scene, 19, 0)
    scene.run(TASK, takes=60)
    scene.look()

    found = scene.status(TASK)

    assert (found.good, found.bad, found.compliance) == (19, 1, 0.95)
    assert found.budget_left == pytest.approx(0.5)
    assert (found.window, found.target) == (7 * DAY, 0.9)


def test_the_budget_of_a_wait_is_counted_from_what_started(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(10))
    scene.look()
    scene.run(TASK, waits=60)
    for _ in range(3):
        scene.run(TASK, waits=1)
    scene.look()

    assert (scene.status(TASK).good, scene.status(TASK).bad) == (3, 1)


def test_a_new_limit_counts_anew_and_stays_the_same_promise(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(10))
    scene.look()
    scene.run(TASK, takes=60)
    scene.look()
    before = scene.status(TASK)
    scene.declared.clear()
    scene.promise(TASK, MaxRuntime(100))
    scene.look()

    after = scene.status(TASK)

    assert (before.id, before.bad, after.id, after.bad, after.good) == (after.id, 1, before.id, 0, 1)
    assert after.limit == "an end within 100 s"


@pytest.mark.parametrize(
    ("good", "bad", "target", "left"),
    [(0, 0, 0.99, None), (100, 0, 0.99, 1.0), (99, 1, 0.99, 0.0), (98, 2, 0.99, -1.0), (5, 1, 1.0, 0.0)],
)
def test_a_budget_is_what_is_left_of_the_failures_that_are_allowed(
    good: int, bad: int, target: float, left: float | None
) -> None:
    assert budget_left(Tally(good, bad), target) == (None if left is None else pytest.approx(left))
