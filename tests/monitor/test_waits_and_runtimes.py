"""MaxWait and MaxRuntime while runs go on, for runs that never start, and for canvases as a whole."""

from __future__ import annotations

import functools

import pytest
from scenes import DAY, HOUR, MINUTE, Scene

from plet_celery import events
from plet_celery.monitor import snapshot
from plet_celery.objectives import MaxRuntime, MaxWait
from plet_celery.store import evidence

TASK = "shop.load"


def test_a_run_that_starts_in_time_keeps_its_wait(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    run = scene.publish(TASK)
    scene.clock += 59

    assert scene.verdict(TASK) == "kept"
    scene.start(run)
    assert scene.verdict(TASK) == "kept"


def test_a_run_that_never_starts_breaks_its_wait_while_it_waits(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    run = scene.publish(TASK)
    scene.clock += 61

    found = scene.judgement(TASK)

    assert (found.verdict, found.count, found.runs) == ("broken", 1, (run.id,))
    assert found.since == run.queued_at + 60
    assert (found.value, found.limit) == ("1 run late, the longest waits for 61 s", "a start within 60 s")


def test_a_wait_is_over_when_the_run_starts_though_late(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.look()
    run = scene.publish(TASK)
    scene.clock += 90
    assert scene.verdict(TASK) == "broken"

    scene.start(run)
    scene.clock += 1

    assert scene.verdict(TASK) == "kept"


def test_many_late_runs_are_one_judgement_with_a_count(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    runs = [scene.publish(TASK) for _ in range(30)]
    scene.clock += 61

    (found,) = scene.look()

    assert found.count == 30
    assert len(found.runs) == 20
    assert set(found.runs) <= {run.id for run in runs}


def test_a_run_with_an_eta_waits_from_then_on(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.publish(TASK, eta=scene.clock + 600)
    scene.clock += 601

    assert scene.verdict(TASK) == "kept"
    scene.clock += 60
    assert scene.verdict(TASK) == "broken"


def test_a_wait_for_an_eta_is_not_counted_against_the_budget(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    run = scene.publish(TASK, eta=scene.clock + 600)
    scene.clock += 610
    scene.start(run)
    scene.end(run)
    scene.look()

    assert (scene.status(TASK).good, scene.status(TASK).bad) == (1, 0)


def test_behind_more_runs_with_an_eta_than_are_looked_at_nothing_is_known(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "PER_TASK_MAX", 3)
    monkeypatch.setattr(evidence, "open_runs", functools.partial(evidence.open_runs, limit=3))
    scene.promise(TASK, MaxWait(60))
    ahead = [scene.publish(TASK, eta=scene.clock + HOUR) for _ in range(4)]
    scene.publish(TASK)
    scene.clock += 90

    assert scene.verdict(TASK) == "no_data"
    scene.clock += HOUR + 60
    found = scene.judgement(TASK)
    assert (found.verdict, len(found.runs), {*found.runs} < {run.id for run in ahead}) == ("broken", 3, True)


def test_a_retry_is_no_wait(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    run = scene.start(scene.publish(TASK))
    scene.end(run, events.RUN_RETRIED)
    scene.clock += 600

    assert scene.verdict(TASK) == "kept"


def test_nothing_is_said_of_a_task_that_never_ran(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.run("shop.other")

    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("no_data", "no run was ever recorded")


def test_a_task_without_open_runs_keeps_its_wait(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.run(TASK)
    scene.clock += DAY

    assert scene.verdict(TASK) == "kept"


def test_a_runtime_is_broken_while_the_run_goes_on(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    run = scene.start(scene.publish(TASK))
    scene.clock += 900
    assert scene.verdict(TASK) == "kept"

    scene.clock += 60
    found = scene.judgement(TASK)

    assert (found.verdict, found.runs, found.since) == ("broken", (run.id,), run.started_at + 900)
    assert found.value == "1 run late, the longest has run for 16 min"


def test_a_runtime_counts_retries_from_the_first_start(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    run = scene.start(scene.publish(TASK))
    scene.clock += 500
    scene.end(run, events.RUN_RETRIED)
    scene.clock += 500

    assert scene.verdict(TASK) == "broken"


def test_a_runtime_recovers_after_the_late_run_has_ended(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.look()
    run = scene.start(scene.publish(TASK))
    scene.clock += 1000
    assert scene.verdict(TASK) == "broken"

    scene.end(run)
    scene.clock += 30
    ended = scene.judgement(TASK)
    scene.clock += 30

    assert (ended.verdict, ended.value) == ("broken", "1 run ended late since the last look, after 17 min")
    assert (ended.runs, ended.since) == ((run.id,), run.started_at + 900)
    assert scene.verdict(TASK) == "kept"


@pytest.mark.parametrize("ends", [False, True], ids=["going on", "ended"])
def test_runs_that_started_late_between_two_passes_are_named(scene: Scene, ends: bool) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.look()
    runs = [scene.publish(TASK) for _ in range(2)]
    patient = scene.publish(TASK, eta=scene.clock + 74)
    scene.clock += 75
    for run in (*runs, patient):
        scene.start(run)
        if ends:
            scene.end(run)
    scene.run(TASK, waits=10)

    found = scene.judgement(TASK)

    assert found.value == "2 runs started late since the last look, after 75 s"
    assert set(found.runs) == {run.id for run in runs}
    assert (found.since, found.count) == (runs[0].queued_at + 60, 2)
    scene.clock += 30
    assert scene.verdict(TASK) == "kept"


def test_a_late_start_is_not_told_once_more_at_the_end(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.look()
    run = scene.publish(TASK)
    scene.clock += 90
    assert scene.verdict(TASK) == "broken"
    scene.clock += 10
    scene.start(run)
    scene.clock += 20
    assert scene.verdict(TASK) == "kept"
    scene.until(scene.clock + 600)
    scene.end(run)
    scene.clock += 30

    assert scene.verdict(TASK) == "kept"
    assert (scene.status(TASK).good, scene.status(TASK).bad) == (0, 1)


def test_a_run_that_is_late_between_two_passes_is_seen_all_the_same(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(5))
    scene.look()
    scene.clock += 1
    scene.run(TASK, takes=10)
    scene.clock += 19

    assert scene.verdict(TASK) == "broken"
    scene.clock += 30
    assert scene.verdict(TASK) == "kept"


def test_a_late_run_is_seen_after_hours_in_which_nothing_changed(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(5, window=3600))
    scene.run(TASK)
    scene.until(scene.clock + 3 * 3600, 5 * MINUTE)
    scene.run(TASK, takes=10)
    scene.clock += 1

    assert scene.verdict(TASK) == "broken"


@pytest.mark.parametrize("interval", [30.0, 120.0, 3600.0])
def test_what_ends_late_just_before_a_full_hour_is_counted(scene: Scene, interval: float) -> None:
    scene.promise(TASK, MaxRuntime(5))
    scene.clock += 3600 - 20 - interval
    scene.look()
    scene.clock += interval
    scene.run(TASK, takes=10)
    scene.clock += interval

    assert scene.verdict(TASK) == "broken"
    assert scene.status(TASK).bad == 1


def test_what_ended_late_while_no_pass_was_made_is_not_told_hours_later(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(5))
    scene.look()
    scene.run(TASK, takes=10)
    scene.clock += 4 * 3600

    assert scene.verdict(TASK) == "kept"
    scene.clock += 30
    scene.look()
    assert scene.status(TASK).bad == 1


def test_what_ended_late_before_it_was_promised_is_not_told(scene: Scene) -> None:
    scene.run(TASK, takes=100)
    scene.promise(TASK, MaxRuntime(5))

    assert scene.verdict(TASK) == "kept"


def test_a_flapping_wait_is_judged_anew_in_every_pass(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.look()
    seen = []
    for _ in range(4):
        run = scene.publish(TASK)
        scene.clock += 61
        seen.append(scene.verdict(TASK))
        scene.start(run)
        scene.clock += 1
        seen.append(scene.verdict(TASK))
        scene.end(run)

    assert seen == ["broken", "kept"] * 4


def test_several_promises_of_a_task_are_judged_by_themselves(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(60), MaxRuntime(600, severity="critical"), MaxWait(60))
    scene.start(scene.publish(TASK))
    scene.clock += 90

    found = {(one.limit, one.severity): one.verdict for one in scene.look()}

    assert found == {
        ("an end within 60 s", "warning"): "broken",
        ("an end within 10 min", "critical"): "kept",
        ("a start within 60 s", "warning"): "kept",
    }


def test_promises_of_other_tasks_see_nothing_of_it(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.promise("shop.other", MaxWait(60))
    scene.run("shop.other")
    scene.publish(TASK)
    scene.clock += 61

    assert {one.task: one.verdict for one in scene.look()} == {TASK: "broken", "shop.other": "kept"}


def test_the_tenant_is_told_where_all_late_runs_have_one(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))
    scene.publish(TASK, tenant="acme")
    scene.clock += 61
    assert scene.judgement(TASK).tenant == "acme"

    scene.publish(TASK, tenant="zeta")
    scene.clock += 61
    found = scene.judgement(TASK)

    assert (found.tenant, found.affected) == ("", "2 runs of acme, zeta")


# Clocks and silence


@pytest.mark.parametrize("ahead", [-300.0, 300.0])
def test_a_host_with_a_wrong_clock_is_judged_by_its_own_time(scene: Scene, ahead: float) -> None:
    scene.ahead = ahead
    scene.promise(TASK, MaxRuntime(200))
    scene.start(scene.publish(TASK))
    scene.clock += 150
    assert scene.verdict(TASK) == "kept"

    scene.clock += 60

    assert scene.verdict(TASK) == "broken"


def test_while_nobody_is_heard_of_a_kept_promise_is_no_data(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.start(scene.publish(TASK))
    assert scene.verdict(TASK) == "kept"

    scene.heard = scene.clock
    scene.clock += 5 * MINUTE
    found = scene.judgement(TASK)

    assert (found.verdict, found.value) == ("no_data", "nothing was heard of any host for 5 min")


def test_a_run_of_a_silent_host_may_have_ended(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.start(scene.publish(TASK))
    scene.heard = scene.clock + 60
    scene.clock += 20 * MINUTE

    assert scene.verdict(TASK) == "no_data"


def test_a_run_that_was_late_when_its_host_fell_silent_stays_broken(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.start(scene.publish(TASK))
    scene.clock += 1000
    assert scene.verdict(TASK) == "broken"
    scene.heard = scene.clock
    scene.clock += 5 * MINUTE

    assert scene.verdict(TASK) == "broken"


def test_a_shipper_that_is_heard_of_again_makes_it_kept_again(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.start(scene.publish(TASK))
    scene.heard = scene.clock
    scene.clock += 5 * MINUTE
    assert scene.verdict(TASK) == "no_data"

    scene.heard = None

    assert scene.verdict(TASK) == "kept"


def test_an_empty_store_says_nothing(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))

    assert scene.judgement(TASK).value == "nothing was ever recorded"


# Canvases


def test_a_canvas_is_late_as_a_whole_though_no_run_is(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    first = scene.run(TASK, takes=400)
    second = scene.start(scene.publish("shop.index", canvas=first.id))
    assert scene.verdict(TASK) == "kept"
    scene.clock += 300

    found = scene.judgement(TASK)

    assert (found.verdict, found.count, found.runs) == ("broken", 1, (first.id,))
    assert found.value == "1 canvas late, the longest has run for 12 min"
    scene.end(second)
    scene.clock += 30
    assert scene.verdict(TASK) == "kept"


def test_a_canvas_that_another_task_began_is_not_this_tasks(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    first = scene.run("shop.begin", takes=400)
    scene.start(scene.publish(TASK, canvas=first.id))
    scene.clock += 1000

    assert scene.verdict(TASK) == "kept"


def test_a_group_that_nothing_began_is_its_oldest_runs(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    members = [scene.start(scene.publish(TASK, canvas="some-group")) for _ in range(3)]
    scene.clock += 700

    found = scene.judgement(TASK)

    assert (found.verdict, found.count) == ("broken", 1)
    assert members


def test_canvases_that_ended_are_counted_against_the_budget(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    for takes in (100, 700):
        first = scene.start(scene.publish(TASK))
        scene.look()
        scene.clock += takes
        scene.end(first)
        scene.clock += 30
        scene.look()

    assert (scene.status(TASK).good, scene.status(TASK).bad) == (1, 1)


def test_canvases_between_two_passes_are_counted_once(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(10, scope="canvas"))
    scene.look()
    first = scene.run(TASK, takes=4)
    scene.run("shop.index", canvas=first.id, takes=3)
    scene.run(TASK, takes=1)
    slow = scene.run(TASK, takes=8)
    scene.run("shop.index", canvas=slow.id, takes=3)
    for _ in range(10):
        scene.look()
        assert (scene.status(TASK).good, scene.status(TASK).bad) == (2, 1)
        scene.clock += 30


def test_a_canvas_that_was_seen_open_is_counted_once(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    scene.look()
    first = scene.start(scene.publish(TASK))
    scene.look()
    scene.clock += 5
    scene.end(first)
    for _ in range(3):
        scene.look()
        assert (scene.status(TASK).good, scene.status(TASK).bad) == (1, 0)
        scene.clock += 30


def test_a_canvas_that_another_task_began_is_not_counted_for_this_one(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    scene.look()
    first = scene.run("shop.other")
    scene.run(TASK, canvas=first.id)
    members = [scene.run(TASK, canvas="some-group") for _ in range(3)]
    scene.look()

    assert members
    assert (scene.status(TASK).good, scene.status(TASK).bad) == (1, 0)


def test_brief_canvases_that_are_told_of_late_are_counted(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    scene.look()
    scene.hold()
    scene.run(TASK)
    scene.clock += 60
    scene.look()
    scene.release()
    scene.look()

    assert scene.status(TASK).good == 1


def test_more_brief_canvases_than_a_pass_looks_at_are_counted_in_later_ones(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "BRIEF_MAX", 5)
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    scene.look()
    for _ in range(18):
        scene.run(TASK, takes=1)
    counted = []
    for _ in range(6):
        scene.look()
        counted.append(scene.status(TASK).good)

    assert counted[0] == 5
    assert counted[-1] == 18
    assert counted == sorted(counted)


def test_a_restart_forgets_no_brief_canvas_and_counts_none_twice(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(600, scope="canvas"))
    scene.look()
    for number in range(1, 6):
        scene.run(TASK, takes=1)
        scene.look()
        scene.restart()
        assert scene.status(TASK).good == number
