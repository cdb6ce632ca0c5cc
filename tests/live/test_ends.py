"""What is known of each end beside its state; which state it gives on which pool is in test_matrix.py."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from waiting import wait_until

from plet_celery.store import queries

pytestmark = pytest.mark.slow

MakeLive = Callable[..., Any]


def options(pool: str) -> list[str]:
    return ["-P", pool, *(["-c", "2"] if pool == "prefork" else [])]


def attempts(live: Any, run_id: str) -> list[Any]:
    return list(queries.attempts(live.store(), run_id))


def end_kinds(live: Any, run_id: str) -> list[str]:
    events = queries.run_events(live.store(), run_id)
    return [
        e.kind for e in events if e.kind not in ("run.queued", "run.started") and e.kind.startswith("run.")
    ]


def test_what_is_known_of_each_end(make_live: MakeLive) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()

    expected = {
        app.ok.delay().id: "succeeded",
        app.tracked.delay().id: "succeeded",
        app.fail.delay().id: "failed",
        app.retry_then_ok.delay().id: "succeeded",
        app.retry_then_fail.delay().id: "failed",
        app.ignore.delay().id: "ignored",
        app.reject.delay().id: "rejected",
        app.ok.apply_async(expires=datetime.now(UTC) - timedelta(seconds=5)).id: "expired",
        app.app.send_task("liveapp.nobody_has_this").id: "rejected",
    }
    runs = {run_id: live.wait_state(run_id, "succeeded", *{state}) for run_id, state in expected.items()}

    assert {run_id: run.state for run_id, run in runs.items()} == expected
    by_task = {run.task: run for run in runs.values() if run.state != "expired"}
    assert by_task["liveapp.fail"].error["type"] == "ValueError"
    assert by_task["liveapp.retry_then_ok"].attempts == 2
    assert by_task["liveapp.retry_then_fail"].attempts == 2
    assert by_task["liveapp.tracked"].metadata == {"supplier": "acme"}
    assert by_task["liveapp.tracked"].percent == 100.0
    for run_id in expected:
        assert len(end_kinds(live, run_id)) == max(1, len(attempts(live, run_id)))


def test_what_fails_beside_the_body_has_failed(make_live: MakeLive) -> None:
    """A hook that raises, and a BaseException: Celery stores FAILURE, and the child goes on."""
    live = make_live()
    live.worker("-P", "prefork", "-c", "1")
    app = live.app()
    expected = {
        app.fail_in_hook.delay().id: "LookupError",
        app.retry_in_hook.delay().id: "LookupError",
        app.cancelled_inside.delay().id: "CancelledError",
    }

    for run_id, error in expected.items():
        run = live.wait_state(run_id)
        assert (run.state, run.error["type"]) == ("failed", error)
        # Celery has published the retry when its hook raises: that fails, too.
        assert set(end_kinds(live, run_id)) == {"run.failed"}
    ok = live.wait_state(app.ok.delay().id)
    assert ok.state == "succeeded"
    assert {attempts(live, one)[0].pid for one in (*expected, ok.id)} == {attempts(live, ok.id)[0].pid}


def test_a_soft_limit_that_escapes_is_timed_out(make_live: MakeLive) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()

    run = live.wait_state(app.soft_limit.delay().id)

    assert run.state == "timed_out"
    assert run.error["type"] == "SoftTimeLimitExceeded"
    assert end_kinds(live, run.id) == ["run.timed_out"]


def test_a_hard_limit_is_timed_out_and_the_backend_never_shows_progress(make_live: MakeLive) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()

    result = app.hard_limit.delay()
    seen = set()

    def has_failed() -> bool:
        seen.add(result.state)
        return bool(result.state == "FAILURE")

    wait_until(has_failed, 60)
    run = live.wait_state(result.id)

    assert run.state == "timed_out"
    assert "PROGRESS" in seen
    assert result.state == "FAILURE"
    stages = queries.stages(live.store(), result.id)
    assert [one.state for one in stages] == ["failed"]
    assert attempts(live, result.id)[0].ended_at is not None


@pytest.mark.parametrize(("task", "fact"), [("kill_child", "SIGKILL"), ("exit_child", 3)])
def test_a_lost_child_is_lost_with_its_signal_or_code(make_live: MakeLive, task: str, fact: Any) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()

    run = live.wait_state(getattr(app, task).delay().id, timeout=20)

    assert run.state == "lost"
    event = next(e for e in queries.run_events(live.store(), run.id) if e.kind == "run.lost")
    assert fact in (event.data.get("signal"), event.data.get("exitcode"))
    assert end_kinds(live, run.id) == ["run.lost"]


@pytest.mark.parametrize("sig", ["SIGTERM", "SIGKILL"])
def test_a_revoked_run_is_cancelled(make_live: MakeLive, sig: str) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()
    result = app.wait.delay("one")
    wait_until(lambda: live.has("one.started"))

    app.app.control.revoke(result.id, terminate=True, signal=sig)
    run = live.wait_state(result.id)

    assert run.state == "cancelled"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)


def test_a_warm_shutdown_lets_the_run_end(make_live: MakeLive) -> None:
    live = make_live(PLET_DRAIN_TIMEOUT="60")
    worker = live.worker(*options("prefork"))
    app = live.app()
    run_id = app.wait.delay("one").id
    wait_until(lambda: live.has("one.started"))

    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: b"Warm shutdown" in live.output())
    live.go("one")
    assert worker.wait(120) == 0

    assert live.run(run_id).state == "succeeded"  # at once: the worker waited for the drain


@pytest.mark.parametrize(("how", "state"), [("ok", "succeeded"), ("fail", "failed")])
def test_a_replaced_run_goes_on_under_its_id(make_live: MakeLive, how: str, state: str) -> None:
    live = make_live()
    live.worker(*options("prefork"))
    app = live.app()

    run_id = app.replaced.delay(how).id
    run = live.wait_state(run_id, "succeeded", "failed")

    assert run.state == state
    assert run.replaced


def test_a_solo_worker_stopped_cold_interrupts_its_run(make_live: MakeLive) -> None:
    live = make_live()
    worker = live.worker(*options("solo"))
    app = live.app()
    run_id = app.wait.delay("one").id
    wait_until(lambda: live.has("one.started"))

    worker.send_signal(signal.SIGQUIT)
    worker.wait(60)
    run = live.wait_state(run_id)

    assert run.state == "interrupted"
