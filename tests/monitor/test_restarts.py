"""Another process goes on with the next pass, whatever state a promise is in; and who declares what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scenes import HOUR, MINUTE, Scene, at

from plet_celery import events
from plet_celery.errors import StaleWrite
from plet_celery.monitor import promise_pass
from plet_celery.objectives import FinishBy, Freshness, MaxRuntime, MaxWait, Objective, SuccessRate

TASK = "shop.load"


def nothing(scene: Scene) -> None:
    """Let nothing happen."""


def waiting_too_long(scene: Scene) -> None:
    scene.publish(TASK)
    scene.clock += 2 * MINUTE


def running_too_long(scene: Scene) -> None:
    scene.start(scene.publish(TASK))
    scene.clock += 20 * MINUTE


def one_success(scene: Scene) -> None:
    scene.run(TASK)


def one_failure(scene: Scene) -> None:
    scene.run(TASK, end=events.RUN_FAILED)


def a_day(scene: Scene) -> None:
    scene.clock += 25 * HOUR


def silence(scene: Scene) -> None:
    scene.run(TASK)
    scene.heard = scene.clock
    scene.clock += 5 * MINUTE


@pytest.mark.parametrize(
    ("objective", "happens", "verdict"),
    [
        (MaxWait(60), one_success, "kept"),
        (MaxWait(60), waiting_too_long, "broken"),
        (MaxWait(60), silence, "no_data"),
        (MaxRuntime(600), one_success, "kept"),
        (MaxRuntime(600), running_too_long, "broken"),
        (MaxRuntime(600), silence, "no_data"),
        (FinishBy("12:00"), one_success, "kept"),
        (FinishBy("12:00"), a_day, "broken"),
        (FinishBy("12:00"), nothing, "no_data"),
        (Freshness(HOUR), one_success, "kept"),
        (Freshness(HOUR), a_day, "broken"),
        (Freshness(HOUR), nothing, "no_data"),
        (Freshness("0 * * * *"), a_day, "broken"),
        (SuccessRate(0.9), one_success, "kept"),
        (SuccessRate(0.9), one_failure, "broken"),
        (SuccessRate(0.9), nothing, "no_data"),
    ],
)
def test_a_restart_changes_nothing(
    scene: Scene, objective: Objective, happens: Callable[[Scene], None], verdict: str
) -> None:
    scene.promise(TASK, objective)
    scene.look()
    happens(scene)
    scene.clock += 30
    before = scene.judgement(TASK)
    state = scene.status(TASK)
    dues = scene.dues()

    scene.restart()
    after = scene.judgement(TASK)

    assert before.verdict == after.verdict == verdict
    assert before == after
    assert scene.status(TASK) == state
    assert scene.dues() == dues


def test_a_pass_that_dies_before_it_keeps_is_made_again(scene: Scene) -> None:
    scene.promise(TASK, Freshness("0 * * * *", grace=0))
    scene.look()
    scene.clock += 1.5 * HOUR
    promise_pass.look(scene.store, now=scene.clock)  # and nothing is kept

    scene.restart()

    assert scene.verdict(TASK) == "broken"
    assert scene.dues() == [(at("2031-03-03 09:00"), "missed")]


def test_since_is_when_it_began_through_restarts(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    run = scene.publish(TASK)
    scene.clock += 90
    scene.look()
    scene.restart()
    scene.clock += 300
    scene.look()

    assert (scene.status(TASK).state, scene.status(TASK).since) == ("broken", run.queued_at + 60)


def test_who_may_not_pass_any_more_writes_nothing(scene: Scene) -> None:
    def refuse(connection: object) -> None:
        raise StaleWrite("another one passes")

    scene.promise(TASK, Freshness("0 * * * *", grace=0))
    scene.look()
    scene.clock += 1.5 * HOUR
    found = promise_pass.look(scene.store, now=scene.clock)

    with pytest.raises(StaleWrite):
        promise_pass.keep(scene.store, found.kept, now=scene.clock, fence=refuse)
    with pytest.raises(StaleWrite):
        promise_pass.announce(scene.store, [], now=scene.clock, has_app=True, app="shop", fence=refuse)

    assert scene.dues() == []


# Who declares what


def test_what_an_app_promises_no_more_is_not_judged(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.look()
    scene.declared.clear()

    scene.announce()

    assert scene.look() == []


def test_what_is_promised_again_begins_anew(scene: Scene) -> None:
    scene.promise(TASK, Freshness("0 * * * *", grace=0))
    scene.clock += 2 * HOUR
    assert scene.verdict(TASK) == "broken"
    declared, scene.declared = scene.declared, []
    scene.announce()
    scene.clock += HOUR
    scene.declared = declared

    scene.announce()

    assert scene.verdict(TASK) == "no_data"


def test_who_has_no_app_adds_what_is_unknown_and_takes_nothing_away(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.declared.clear()
    scene.promise("shop.other", MaxWait(60), announce=False)
    scene.announce(has_app=False)

    assert {one.task for one in scene.look()} == {TASK, "shop.other"}


def test_who_has_no_app_does_not_bring_back_what_the_app_gave_up(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    declared, scene.declared = scene.declared, []
    scene.announce()
    scene.declared = declared

    scene.announce(has_app=False)

    assert scene.look() == []


def test_an_app_does_not_take_away_what_another_one_promises(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))

    promise_pass.announce(scene.store, [], now=scene.clock, has_app=True, app="billing")

    assert [one.task for one in scene.look()] == [TASK]


def test_a_worker_that_lacks_a_task_does_not_take_away_what_another_one_promises(scene: Scene) -> None:
    scene.promise(TASK, Freshness(HOUR, grace=0))
    began, seen = scene.clock, set()

    def lacking() -> None:
        promise_pass.announce(
            scene.store, [], now=scene.clock, has_app=True, app="shop", tasks={"shop.other"}
        )

    while scene.clock < began + 2 * HOUR:
        lacking()
        seen.add(scene.verdict(TASK))
        scene.clock += 5 * 60
        scene.announce()
        seen.add(scene.verdict(TASK))
        scene.clock += 5 * 60

    assert seen == {"no_data", "broken"}
    scene.clock += HOUR / 2
    lacking()
    # Nobody makes it any more.
    assert scene.look() == []


def test_a_worker_that_has_a_task_takes_away_what_it_promises_no_more(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))

    promise_pass.announce(scene.store, [], now=scene.clock, has_app=True, app="shop", tasks={TASK})

    assert scene.look() == []
