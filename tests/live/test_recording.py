"""What a real worker records beside ends: context, log lines, redaction, users' own settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from plet_celery.store import queries

MakeLive = Callable[[], Any]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_what_a_task_says_is_captured_once(make_live: MakeLive, pool: str) -> None:
    live = make_live()
    live.worker("-P", pool)
    app = live.app()

    run = live.wait_state(app.talk.delay().id)

    def has_fork() -> bool:
        return any(line.text == "from a fork" for line in queries.stored_log(live.store(), run.id))

    wait_until(has_fork, what="the line of another writer, which may come after the end")
    lines = queries.stored_log(live.store(), run.id)
    texts = [line.text for line in lines]
    for expected in (
        "printed words 7",
        "two",
        "lines",
        "unfinished",
        "logged line",
        "from the task logger",
        "from a thread",
        "from a fork",
    ):
        assert texts.count(expected) == 1, (expected, texts)
    assert any("UserWarning: old way" in text for text in texts)
    streams = {line.text: line.stream for line in lines}
    assert (streams["printed words 7"], streams["unfinished"], streams["logged line"]) == (
        "stdout",
        "stderr",
        "log",
    )
    assert "canary-in-a-log-line" not in str(texts)
    assert not any(line.logger == "celery.app.trace" for line in lines)


def test_arguments_are_redacted_by_name_and_shape(make_live: MakeLive) -> None:
    live = make_live()
    live.worker()
    app = live.app()

    result = app.login.delay(
        "bob", "canary-one", {"api_key": "canary-two", "url": "https://u:canary-three@h/"}
    )
    run = live.wait_state(result.id)
    live.stop(live.processes[0])

    assert run.args[0] == "bob"
    everything = b"".join(live.written())
    assert b"canary" not in everything
    assert b"bob" in everything


def test_context_travels_through_a_chain_of_tasks(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "2")
    app = live.app()
    headers = {"plet_tenant": "acme/north", "plet_user": "bob", "plet_trigger": "api"}

    first = app.nested.apply_async((2,), headers=headers)
    chorded = app.start_chord.apply_async(headers=headers)
    live.wait_state(first.id)
    live.wait_state(chorded.id)

    def family(run_id: str, count: int) -> list[Any]:
        def ended() -> list[Any]:
            found = queries.list_runs(live.store(), canvas=run_id, limit=50).items
            return list(found) if [run.state for run in found] == ["succeeded"] * count else []

        return wait_until(ended)

    nested, members = family(first.id, 3), family(chorded.id, 4)
    for run in nested + members:
        assert (run.tenant, run.user, run.canvas) == ("acme/north", "bob", run.canvas)
        assert run.trigger == ("api" if run.id in (first.id, chorded.id) else "task")
    assert {run.task for run in members} == {"liveapp.start_chord", "liveapp.add", "liveapp.collect"}


def test_a_retry_keeps_trigger_and_gets_a_new_queue_time(make_live: MakeLive) -> None:
    live = make_live()
    live.worker()
    app = live.app()

    run = live.wait_state(app.retry_then_ok.apply_async(headers={"plet_trigger": "api"}).id, "succeeded")

    assert run.trigger == "api"
    assert run.waited is not None and run.waited < 30


def test_beat_starts_runs_with_its_own_trigger(make_live: MakeLive) -> None:
    live = make_live()
    live.worker()
    beat = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "liveapp",
            "beat",
            "-s",
            str(live.folder / "schedule"),
            "--pidfile=",
        ],
        env={**live.env, "LIVE_BEAT": "1"},
        cwd=live.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    live.processes.append(beat)

    def ended() -> Any:
        found = live.is_readable() and queries.list_runs(live.store(), states=("succeeded",), limit=5).items
        return found[0] if found else None

    run = wait_until(ended, 30)
    beat.terminate()
    beat.wait(20)

    assert run.trigger == "beat"


def test_users_own_settings_are_kept(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "1")
    app = live.app()

    run = live.wait_state(app.with_own_request.delay().id, timeout=20)

    assert live.has("accepted")  # the user's Request class was called
    assert run.state == "lost"  # and ours reported
    assert app.annotated.rate_limit == "1000/s"
    assert app.app.conf.task_annotations == {"liveapp.annotated": {"rate_limit": "1000/s"}}


def test_free_functions_record_in_a_plain_task(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "1")
    app = live.app()

    run = live.wait_state(app.free_functions.delay().id)

    stages = queries.stages(live.store(), run.id)
    assert [(one.name, one.state) for one in stages] == [("outer", "succeeded"), ("inner", "succeeded")]
    assert stages[1].current == 5
    assert run.metadata == {"who": "free"}
    assert not run.tracked


def test_recording_switched_off_leaves_no_trace(make_live: MakeLive) -> None:
    live = make_live()
    worker = live.worker("-c", "1", PLET_ENABLED="0")
    app = live.app()

    assert app.tracked.delay().get(timeout=20) == 100
    live.stop(worker)

    assert not live.home.exists()


def test_a_bad_setting_stops_the_worker_with_a_sentence(make_live: MakeLive) -> None:
    live = make_live()

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "liveapp", "worker", "-P", "solo"],
        env={**live.env, "PLET_GATHER": "soon"},
        cwd=live.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode != 0
    assert "plet_gather = 'soon'" in done.stdout + done.stderr
