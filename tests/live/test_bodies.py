"""`async def` bodies and threads of tasks in real workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from plet_celery.store import queries

pytestmark = pytest.mark.slow

MakeLive = Callable[[], Any]


def begin(make_live: MakeLive) -> Any:
    live = make_live()
    # The test's process is a writer that stays: nothing to wait for at the end.
    live.env["PLET_DRAIN_TIMEOUT"] = "1"
    return live


def stages(live: Any, run_id: str) -> list[tuple[str, str | None, str]]:
    found = queries.stages(live.store(), run_id)
    names = {one.number: one.name for one in found}
    return sorted((one.name, names.get(one.parent or 0), one.state) for one in found)


def lines(live: Any, run_id: str) -> list[str]:
    return sorted(line.text for line in queries.stored_log(live.store(), run_id))


def test_async_bodies_in_a_prefork_child(make_live: MakeLive) -> None:
    """Bodies end in every way that leaves a child alive: all are told, and the child goes on."""
    live = begin(make_live)
    live.worker("-c", "1", app="bodiesapp")
    app = live.app("bodiesapp")

    before = app.plain.delay()
    both = app.both.delay()
    flaky = app.flaky.delay({"rows": 1})
    caught, escapes = app.limited.delay(True), app.limited.delay(False)
    cancels = app.cancels_itself.delay()
    after = app.plain.delay()

    assert live.wait_state(both.id).state == "succeeded"
    assert stages(live, both.id) == [
        ("a", "outer", "succeeded"),
        ("b", "outer", "succeeded"),
        ("outer", None, "succeeded"),
    ]
    assert lines(live, both.id) == ["in a", "in b", "in outer"]
    run = live.wait_state(flaky.id, "succeeded")
    assert run.attempts == 2 and flaky.get(timeout=30) == {"rows": 2}
    assert live.wait_state(caught.id).state == "succeeded"
    assert stages(live, caught.id) == [("after the limit", None, "succeeded")]
    run = live.wait_state(escapes.id)
    assert run.state == "timed_out" and "TaskGroup" in run.error["traceback"]
    run = live.wait_state(cancels.id)
    assert run.state == "failed" and run.error["type"] == "CancelledError"
    assert type(cancels.get(timeout=30, propagate=False)).__name__ == "CancelledError"
    live.wait_state(after.id)
    assert before.get(timeout=30) == both.get(timeout=30) == after.get(timeout=30)  # one process, still


def test_async_bodies_are_ended_from_outside(make_live: MakeLive) -> None:
    live = begin(make_live)
    worker = live.worker("-c", "1", app="bodiesapp")
    app = live.app("bodiesapp")

    revoked = app.waits.delay("revoked")
    wait_until(lambda: live.has("revoked.started"))
    revoked.revoke(terminate=True)
    assert live.wait_state(revoked.id).state == "cancelled"
    wait_until(lambda: live.has("revoked.cleaned"))  # its `finally` ran, and could await

    hard = live.wait_state(app.hard_limit.delay().id)
    assert (hard.state, hard.reason) == ("timed_out", "hard time limit of 2 s")

    assert live.wait_state(app.kills_its_process.delay().id).state == "lost"

    warm = app.waits.delay("warm")
    wait_until(lambda: live.has("warm.started"))
    worker.terminate()
    wait_until(lambda: b"Warm shutdown" in live.output())
    live.go("warm")
    assert worker.wait(60) == 0
    assert live.wait_state(warm.id).state == "succeeded"


@pytest.mark.parametrize("options", ["-P prefork -c 1", "-P threads -c 2", "-P solo", "-P gevent -c 1"])
def test_threads_of_tasks_belong_to_their_runs(make_live: MakeLive, options: str) -> None:
    live = begin(make_live)
    live.worker(*options.split(), app="bodiesapp")
    app = live.app("bodiesapp")

    first, second = app.threaded.delay("first", True), app.threaded.delay("second", False)
    body = app.both.delay()
    for name, run in (("first", first), ("second", second)):
        assert live.wait_state(run.id).state == "succeeded"
        assert lines(live, run.id) == [
            f"{name}: {one}" for one in ("job", "shared job", "thread", "to_thread")
        ]
        assert {line.stage for line in queries.stored_log(live.store(), run.id)} == {1}
    waker = app.wakes_the_lingerer.delay()
    live.wait_state(waker.id)

    assert lines(live, waker.id) == ["mine"]  # nor the first run's, which is over
    assert live.wait_state(body.id).state == "succeeded"
    assert lines(live, body.id) == ["in a", "in b", "in outer"]


def test_async_bodies_under_gevent_leave_the_other_greenlets_running(make_live: MakeLive) -> None:
    """Each in a native thread: asyncio knows one running loop for all greenlets of one."""
    live = begin(make_live)
    live.worker("-P", "gevent", "-c", "10", app="bodiesapp")
    app = live.app("bodiesapp")

    waiting = [app.waits.delay(f"w{number}") for number in range(3)]
    wait_until(lambda: all(live.has(f"w{number}.started") for number in range(3)))
    both, flaky = app.both.delay(), app.flaky.delay({"rows": 1})
    assert live.wait_state(both.id).state == "succeeded"
    assert lines(live, both.id) == ["in a", "in b", "in outer"]
    assert live.wait_state(flaky.id, "succeeded").attempts == 2
    revoked = waiting.pop()
    revoked.revoke(terminate=True)
    assert live.wait_state(revoked.id).state == "cancelled"
    wait_until(lambda: live.has("w2.cleaned"))
    live.go("w0")
    live.go("w1")
    assert {live.wait_state(one.id).state for one in waiting} == {"succeeded"}
