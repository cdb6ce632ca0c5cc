"""What is kept of promises, on every engine: rows, due times, tallies, states, and how they do."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from scenes import DAY, HOUR, JOURNAL, MINUTE, Scene, at

from plet_celery import events
from plet_celery.monitor import promise_pass
from plet_celery.objectives import (
    P95,
    Declared,
    FinishBy,
    Freshness,
    MaxRuntime,
    MaxWait,
    StartBy,
    SuccessRate,
)
from plet_celery.store import Store, erasing, evidence, tallies
from plet_celery.store.histogram import bin_of
from plet_celery.store.promises import declared_objectives, list_objectives
from plet_celery.store.tallies import Counting, Tally

TASK = "shop.load"


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store, at("2031-03-03 08:00"))


def test_a_day_of_every_promise(scene: Scene) -> None:
    kinds = {
        "a.wait": MaxWait(60),
        "b.start": StartBy("09:30"),
        "c.runtime": MaxRuntime(60),
        "d.canvas": MaxRuntime(90, scope="canvas"),
        "e.finish": FinishBy("10:30"),
        "f.interval": Freshness(HOUR, grace=0),
        "g.crontab": Freshness("0 * * * *", grace=10 * MINUTE),
        "h.rate": SuccessRate(0.9, window=2 * HOUR),
        "i.p95": P95(60, window=4 * HOUR),
    }
    for task, objective in kinds.items():
        scene.promise(task, objective)
    scene.look()

    # Given: an hour in which all goes well, then one in which all is slow and fails.
    begun, seen = scene.clock, []
    for hour in (1, 2, 3):
        scene.clock = begun + hour * HOUR
        is_good = hour != 2
        for task in kinds:
            scene.clock += 1
            end = events.RUN_SUCCEEDED if is_good or task == "i.p95" else events.RUN_FAILED
            scene.run(task, takes=1 if is_good else 100, end=end)
        scene.clock = begun + hour * HOUR + 30 * MINUTE
        seen.append({one.task: one.verdict.value for one in scene.look()})

    # Then: each promise was judged by what it is about.
    assert seen[0] == dict.fromkeys(kinds, "kept") | {"e.finish": "kept"}
    assert {task for task, verdict in seen[1].items() if verdict == "broken"} == {
        *("c.runtime", "f.interval", "g.crontab", "h.rate", "i.p95"),
    }
    assert seen[2]["g.crontab"] == seen[2]["f.interval"] == seen[2]["c.runtime"] == "kept"
    status = {one.task: one for one in list_objectives(scene.store, now=scene.clock)}
    assert {task: (one.good, one.bad) for task, one in status.items()} == {
        "a.wait": (3, 0),
        "b.start": (1, 0),
        "c.runtime": (2, 1),
        "d.canvas": (2, 1),
        "e.finish": (1, 0),
        "f.interval": (1, 2),  # its first success came some seconds after an hour, too
        "g.crontab": (2, 1),
        "h.rate": (2, 1),  # in whole hours
        "i.p95": (2, 1),
    }
    assert status["c.runtime"].compliance == pytest.approx(2 / 3)
    assert status["c.runtime"].budget_left == pytest.approx(1 - 1 / 0.03)


def test_a_second_pass_at_the_same_time_writes_nothing_new(scene: Scene) -> None:
    scene.promise(
        TASK, MaxRuntime(60, window=DAY), Freshness("0 * * * *", grace=0), SuccessRate(0.9, window=DAY)
    )
    scene.run(TASK)
    scene.clock += 3 * HOUR
    first = scene.look()
    kept = scene.last
    for _ in range(3):
        scene.look()  # a day before the promise is counted, too

    second = scene.look()

    assert first == second
    assert kept is not None
    assert scene.last is not None
    assert len(kept.kept.dues) == 3
    assert scene.last.kept.dues == ()
    assert scene.last.kept.promises == ()


def test_of_two_who_declare_the_later_limit_holds(scene: Scene) -> None:
    for limit in (60, 90):
        one = Declared(TASK, MaxWait(limit), "task", "shop")
        promise_pass.announce(scene.store, [one], now=scene.clock, has_app=True, app="shop")

    assert declared_objectives(scene.store) == [Declared(TASK, MaxWait(90), "task", "shop")]


def test_names_and_texts_of_every_kind_are_kept(scene: Scene) -> None:
    strange = "täsk " * 60
    scene.promise(strange, MaxWait(60, name="ü" * 64, advice="…\n'\"\\" * 50))
    scene.run(strange)

    (found,) = list_objectives(scene.store, now=scene.clock)

    assert (found.name, found.objective["advice"]) == ("ü" * 64, "…\n'\"\\" * 50)
    assert scene.look()[0].verdict == "kept"


def test_a_viewer_of_some_tenants_sees_no_promise(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))

    assert list_objectives(scene.store, now=scene.clock, tenants=["acme"]) == []
    assert len(list_objectives(scene.store, now=scene.clock)) == 1


def test_a_promise_that_nobody_judged_is_new(scene: Scene) -> None:
    scene.promise(TASK, MaxWait(60))

    found = scene.status(TASK)

    assert (found.state, found.limit, found.value) == ("new", "a start within 60 s", "")
    assert (found.compliance, found.budget_left) == (None, None)


def test_what_is_older_than_any_window_goes(scene: Scene) -> None:
    scene.promise(TASK, Freshness("0 * * * *", grace=0))
    scene.promise("shop.rate", SuccessRate(0.9))
    scene.run("shop.rate")
    scene.clock += 3 * HOUR
    scene.look()
    scene.declared.clear()
    scene.announce()
    assert len(scene.dues()) == 3

    scene.clock += 401 * DAY
    scene.promise("shop.other", MaxWait(60))
    scene.look()

    tables = scene.store.tables.watching
    with scene.store.reading() as connection:
        rows = [
            connection.execute(table.select()).all() for table in (tables.due, tables.tally, tables.objective)
        ]
    assert [len(some) for some in rows] == [0, 0, 1]


def test_more_open_runs_than_are_read_are_counted_task_by_task(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "PER_TASK_MAX", 5)
    for _ in range(12):
        scene.publish("shop.noise")
        scene.publish(TASK)
    scene.promise(TASK, MaxWait(60))
    scene.clock += 90
    read = evidence.open_runs

    monkeypatch.setattr(evidence, "open_runs", lambda *some: read(*some, limit=10))
    found = scene.judgement(TASK)

    assert (found.verdict, found.count, len(found.runs)) == ("broken", 12, 5)


def test_tallies_are_the_sums_of_the_rollups(scene: Scene) -> None:
    for takes in (1, 1, 50, 100):
        scene.run(TASK, takes=takes)
    scene.run(TASK, takes=1, end=events.RUN_FAILED)
    countings = {
        "rate": Counting(TASK, "state", frozenset({"succeeded", "failed"})),
        "all": Counting(TASK, "runtime", None, bin_of(10)),
        "good": Counting(TASK, "runtime", frozenset({"succeeded"}), bin_of(60)),
        "other": Counting("shop.other", "state"),
    }

    with scene.store.reading() as connection:
        found = tallies.count(
            connection, scene.store.tables, countings, since=scene.clock - HOUR, until=scene.clock
        )

    assert found == {(0, "rate"): Tally(4, 1), (0, "all"): Tally(3, 2), (0, "good"): Tally(3, 1)}


def test_a_host_that_was_never_heard_of_since_is_silent(scene: Scene) -> None:
    scene.promise(TASK, MaxRuntime(900))
    scene.start(scene.publish(TASK))
    scene.clock += 1000
    scene.look()
    # By the store's own clock, years before the scene's.
    with scene.store.writing() as connection:
        table = scene.store.tables.journal
        connection.execute(table.update().where(table.c.journal_id == JOURNAL).values(touched_at=1.0))
    with scene.store.reading() as connection:
        found = evidence.open_runs(connection, scene.store.tables, {TASK})

    assert [run.silent_since for run in found.runs] == [1.0]


def test_the_id_of_an_erased_run_is_in_no_promise(scene: Scene) -> None:
    scene.promise("shop.sync", Freshness("0 * * * *", grace=10 * MINUTE))
    scene.promise("shop.whole", MaxRuntime(90, scope="canvas"))
    scene.look()
    scene.clock += HOUR
    run = scene.run("shop.sync", takes=1, end=events.RUN_SUCCEEDED)
    scene.look()
    scene.clock += 20 * MINUTE
    whole = scene.start(scene.publish("shop.whole"))
    before = scene.verdict("shop.sync")
    assert run.id in told_of_promises(scene.store)
    assert whole.id in told_of_promises(scene.store)

    erasing.erase_run(scene.store, run.id, mirror=False)

    assert run.id not in told_of_promises(scene.store)
    assert whole.id in told_of_promises(scene.store)
    assert scene.verdict("shop.sync") == before


def told_of_promises(store: Store) -> str:
    """Return the rows of promises and due times, as text."""
    own = store.tables.watching
    with store.reading() as connection:
        return "\n".join(
            str(list(connection.execute(sa.select(table)))) for table in (own.objective, own.due)
        )


def test_a_name_that_no_database_stores_keeps_no_promise_from_being_judged(scene: Scene) -> None:
    odd = [
        Declared("shop.\ud800", MaxWait(60), "task", "shop\ud800"),
        Declared("shop.\x00", MaxWait(60), "\udfff", "shop"),
    ]
    fine = Declared("shop.fine", MaxWait(60), "task", "shop\ud800")
    for made in ([*odd, fine], [*odd, fine], [fine]):
        promise_pass.announce(scene.store, made, now=scene.clock, has_app=True, app="shop\ud800")
        scene.clock += 1

        assert "shop.fine" in [one.task for one in scene.look()]
    assert len(scene.look()) == 2  # that of the other app, and the one that is still made
