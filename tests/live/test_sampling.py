"""Sampling between a real producer and a real worker: they agree, and what goes wrong is never left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waiting import wait_until

from plet_celery import sampling
from plet_celery.store import queries

MakeLive = Callable[[], Any]


def begin(make_live: MakeLive, shares: str) -> tuple[Any, Any]:
    """Return a live folder with one child, and its app, on a host that is served."""
    live = make_live()
    live.env["PLET_SAMPLE"] = shares
    live.env["PLET_SAMPLE_KEEP_AFTER"] = "3600"
    live.env["PLET_DRAIN_TIMEOUT"] = "1"
    live.worker("-c", "1")
    app = live.app()
    live.wait_state(app.ok.delay().id)
    return live, app


def test_only_what_goes_wrong_is_recorded_of_a_task_with_share_0(make_live: MakeLive) -> None:
    live, app = begin(make_live, '{"liveapp.ok": 1, "liveapp.*": 0}')

    quiet = [app.add.delay(1, number) for number in range(5)]
    failed, lost, again = app.fail.delay(), app.kill_child.delay(), app.retry_then_ok.delay()
    timed_out, line = app.soft_limit.delay(), app.say.delay("a warning")
    assert live.wait_state(failed.id).state == "failed"
    assert live.wait_state(lost.id).state == "lost"
    run = live.wait_state(again.id, "succeeded")
    assert (run.attempts, run.weight) == (2, 1)
    run = live.wait_state(timed_out.id)
    assert run.state == "timed_out" and run.started_at < run.ended_at - 0.9
    run = live.wait_state(line.id)
    assert [one.text for one in queries.stored_log(live.store(), run.id)] == ["a warning"]
    revoked = app.wait.delay("revoked")
    wait_until(lambda: live.has("revoked.started"))
    revoked.revoke(terminate=True)
    assert live.wait_state(revoked.id).state == "cancelled"

    live.wait_state(app.ok.delay().id)
    assert [result.get(timeout=30) for result in quiet] == [1, 2, 3, 4, 5]
    known = {run.id for run in queries.list_runs(live.store(), limit=100).items}
    assert not known & {result.id for result in quiet}
    assert len(known) == 8


def test_producer_and_worker_pick_the_same_and_whole_canvases(make_live: MakeLive) -> None:
    live, app = begin(make_live, '{"liveapp.add": 0.5}')

    results = [app.add.delay(1, number) for number in range(20)]
    chord = app.start_chord.delay()
    picked = {result.id for result in results if sampling.is_picked(result.id, 0.5)}
    for result in results:
        result.get(timeout=30)
    for run_id in picked:
        assert live.wait_state(run_id).weight == 2

    def members() -> list[Any]:
        return list(queries.list_runs(live.store(), canvas=chord.id).items)

    whole = 4 if sampling.is_picked(chord.id, 0.5) else 2
    wait_until(lambda: [run.state for run in members()] == ["succeeded"] * whole)
    found = queries.list_runs(live.store(), task="liveapp.add", limit=100).items
    assert {run.id for run in found} - {run.id for run in members()} == picked
    assert {run.state for run in found} == {"succeeded"}  # none is queued for ever
