"""Passes as they happen: by beat, by a shipper where beat cannot, by a command; told to a webhook."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import webhooks
from waiting import wait_until
from webhooks import Receiver, receiving

from plet_celery.errors import PletError
from plet_celery.store import alerting, alertlists, health, open_store, queries, watching
from plet_celery.store.watching import LastPass
from plet_celery.watchfacts import Alert, AlertState, Level

Live = Any  # the fixture's own class
MakeLive = Callable[..., Any]
PATIENCE = 90.0


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def _told(hook: Receiver) -> list[tuple[str, str]]:
    """What the webhook was told: the kinds, with the rules, in their order; once what it was told again."""
    bodies = {one.headers["Idempotency-Key"]: json.loads(one.body) for one in hook.requests}
    return [(body["kind"], body["rule"]) for body in bodies.values()]


def _kinds(hook: Receiver) -> list[str]:
    return [kind for kind, rule in _told(hook) if rule.startswith("objective:")]


def _beat(live: Live, **env: str) -> subprocess.Popen[bytes]:
    """Start a beat; the test, or the end of it, stops it."""
    output = (live.folder / "beat.log").open("wb")
    words = [sys.executable, "-m", "celery", "-A", "monitorapp", "beat", "-l", "info", "-s", "schedule"]
    beat = subprocess.Popen(
        words,
        env={**live.env, **env},
        cwd=live.folder,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output.close()
    live.processes.append(beat)
    return beat


def _last(live: Live) -> LastPass | None:
    try:
        return watching.last_pass(live.store())
    except PletError:
        return None


def _passed_by(live: Live, kind: str) -> bool:
    last = _last(live)
    return last is not None and last.passed_at is not None and last.doc.get("caller") == kind


def _firing(live: Live) -> list[Alert]:
    return [one for one in alerting.open_alerts(live.store()) if one.state is AlertState.FIRING]


def _is_known(live: Live) -> bool:
    """Whether the store knows of a worker."""
    try:
        return bool(queries.list_workers(live.store()))
    except PletError:
        return False


def _levels(live: Live, name: str) -> set[Level]:
    """What the last pass has found in one check."""
    return {row.result.level for row in health.list_health(live.store()) if row.result.name == name}


def _noted(live: Live, name: str) -> list[str]:
    """The words that a function of the app has left behind."""
    return (live.folder / name).read_text().split() if live.has(name) else []


def _statuses(live: Live, alert: Alert, state: str) -> set[str | None]:
    """How messages about an alert that are in this state fared at the webhook."""
    found = alertlists.deliveries_of(live.store(), alert.id)
    return {one.status for one in found if (one.channel, one.state) == ("hook", state)}


def _said(live: Live) -> str:
    logs = [*live.folder.glob("*.log"), *live.home.glob("journal/*/shipper.log")]
    last = _last(live)
    return "\n".join([str(last), *(f"== {one.name}\n{one.read_text()[-3000:]}" for one in logs)])


def _await(live: Live, condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    return wait_until(condition, timeout, what=lambda: _said(live))


def test_a_broken_promise_is_told_while_the_run_still_runs(make_live: MakeLive, hook: Receiver) -> None:
    """Given a worker and beat; when a run takes longer than promised, then that is told before it ends."""
    live = make_live(LIVE_WEBHOOK=hook.url)
    live.worker("-c", "2", app="monitorapp")
    _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))

    run = live.app("monitorapp").held.delay("one").id
    _await(live, lambda: _kinds(hook) == ["fired"])

    assert live.wait_state(run, "running").state == "running", "nobody has let it go yet"
    (alert,) = _firing(live)
    assert alert.doc.runs == (run,)
    assert alert.severity == "critical"
    live.go("one")
    _await(live, lambda: _kinds(hook) == ["fired", "resolved"])
    _await(live, lambda: not _firing(live))
    live.wait_state(run, "succeeded")


@pytest.mark.parametrize(
    "misbehave",
    [webhooks.answer(500), webhooks.redirect("http://127.0.0.1:9/"), webhooks.hang, webhooks.late],
    ids=["fails", "redirects", "hangs", "answers late"],
)
def test_a_webhook_that_misbehaves_is_told_again_under_the_same_key(
    make_live: MakeLive, hook: Receiver, misbehave: webhooks.Behaviour
) -> None:
    """Given a receiver that does not take the message; then the others are told all the same, the run goes
    on, and once it behaves it gets the same message again.
    """
    live = make_live(LIVE_WEBHOOK=hook.url, LIVE_WEBHOOK_TIMEOUT="1.5")
    live.worker("-c", "2", app="monitorapp")
    _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))
    hook.behave = misbehave

    run = live.app("monitorapp").held.delay("one").id
    _await(live, lambda: hook.requests)
    _await(live, lambda: live.has("called"))
    (alert,) = _firing(live)
    _await(live, lambda: _statuses(live, alert, "waiting") - {None, "is being sent"})
    hook.release.set()
    hook.behave = webhooks.answer(200)
    _await(live, lambda: _statuses(live, alert, "delivered"))

    live.go("one")
    _await(live, lambda: _kinds(hook)[-1] == "resolved")
    assert live.wait_state(run, "succeeded").attempts == 1
    keys = {
        one.headers["Idempotency-Key"] for one in hook.requests if json.loads(one.body)["kind"] == "fired"
    }
    assert len(keys) == 1
    assert len(hook.requests) >= 3, "not taken, taken, over"
    assert (live.folder / "called").read_text().startswith("fired")


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_passes_happen_in_every_pool(make_live: MakeLive, pool: str) -> None:
    """Also where the worker that passes cannot answer meanwhile: it does not accuse itself."""
    live = make_live(LIVE_CHECK_TIMEOUT="10")
    live.worker("-P", pool, "-c", "2", app="monitorapp")
    _await(live, lambda: _is_known(live))
    _beat(live)

    # On a busy machine a worker may answer too late for one pass or another.
    _await(
        live,
        lambda: _passed_by(live, "beat") and _levels(live, "workers") <= {Level.OK, Level.NO_DATA},
    )

    last = _last(live)
    assert last is not None
    assert last.doc["troubles"] == []


def test_the_functions_of_the_app_are_told_too(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "2", app="monitorapp")
    _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))

    live.app("monitorapp").held.delay("one")

    _await(live, lambda: len(_noted(live, "called")) >= 2 and len(_noted(live, "signalled")) >= 2)
    assert _noted(live, "called")[0] == "fired"
    assert _noted(live, "signalled")[:2] == ["fired", "monitorapp"]
    live.go("one")


def test_passes_are_no_runs(make_live: MakeLive) -> None:
    """Neither those that passed, nor those that expired in the queue."""
    live = make_live()
    live.worker("-c", "1", app="monitorapp")
    _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))
    module = live.app("monitorapp")
    blocking = module.held.delay("one").id
    live.wait_state(blocking, "running")
    begun = _last(live)
    assert begun is not None
    _await(live, lambda: _passed_by(live, "shipper"))
    live.go("one")
    marker = module.free.delay().id
    live.wait_state(marker, "succeeded", timeout=PATIENCE)

    assert {one.task for one in queries.list_runs(live.store()).items} == {
        "monitorapp.held",
        "monitorapp.free",
    }
    assert b"plet.monitor" in live.output()


def test_while_the_queue_is_jammed_a_shipper_passes(make_live: MakeLive, hook: Receiver) -> None:
    """Given one task process; when the run that breaks its promise holds it, then nothing of beat's is done,
    and somebody is told all the same. What needs the app waits until a pass has it.
    """
    live = make_live(LIVE_WEBHOOK=hook.url)
    live.worker("-c", "1", app="monitorapp")
    _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))

    run = live.app("monitorapp").held.delay("one").id
    _await(live, lambda: _kinds(hook) == ["fired"])

    assert live.wait_state(run, "running").state == "running"
    # The message comes before the end of the pass that sends it.
    _await(live, lambda: _passed_by(live, "shipper"))
    last = _last(live)
    assert last is not None
    assert not last.has_app
    assert not live.has("called")
    (alert,) = _firing(live)
    _await(live, lambda: _statuses(live, alert, "delivered"))
    waiting = [one for one in alertlists.deliveries_of(live.store(), alert.id) if one.state == "waiting"]
    assert {one.channel for one in waiting} == {"call", "signals"}
    live.go("one")
    _await(live, lambda: live.has("called") and live.has("signalled"))
    _await(live, lambda: _passed_by(live, "beat"))


def test_without_beat_a_shipper_passes(make_live: MakeLive, hook: Receiver) -> None:
    """Given a beat that was killed; when a promise is broken then, somebody is told."""
    live = make_live(LIVE_WEBHOOK=hook.url)
    live.worker("-c", "2", app="monitorapp")
    beat = _beat(live)
    _await(live, lambda: _passed_by(live, "beat"))
    beat.kill()
    beat.wait(20)
    _await(live, lambda: _passed_by(live, "shipper"))

    run = live.app("monitorapp").held.delay("one").id
    _await(live, lambda: _kinds(hook) == ["fired"])

    assert live.wait_state(run, "running").state == "running"
    _await(live, lambda: _passed_by(live, "shipper"))
    live.go("one")
    _await(live, lambda: _kinds(hook) == ["fired", "resolved"])


def test_a_worker_that_never_had_a_beat_is_watched(make_live: MakeLive) -> None:
    live = make_live()
    live.worker("-c", "1", app="monitorapp")

    _await(live, lambda: _passed_by(live, "shipper"))


def test_a_shipper_of_a_command_knows_the_broker(make_live: MakeLive) -> None:
    """It is started with the app's name, so its passes can ask what the app is wired to."""
    live = make_live(PLET_SHIPPER="external", LIVE_CHECK_TIMEOUT="10")
    words = [sys.executable, "-m", "celery", "-A", "monitorapp", "plet", "ship"]
    with (live.folder / "ship.log").open("wb") as output:
        ship = subprocess.Popen(words, env=live.env, cwd=live.folder, stdout=output, stderr=output)
    live.processes.append(ship)

    _await(live, lambda: _passed_by(live, "shipper"))

    _await(live, lambda: _levels(live, "broker") == {Level.OK})
    ship.terminate()
    assert ship.wait(PATIENCE) == 0


def test_with_the_monitor_off_nothing_is_installed(make_live: MakeLive) -> None:
    live = make_live(LIVE_MONITOR="0")
    live.worker("-c", "1", app="monitorapp")

    module = live.app("monitorapp")

    assert "plet.monitor" not in module.app.tasks
    assert not module.app.conf.beat_schedule
    assert b"plet.monitor" not in live.output()


def test_passes_have_a_queue_of_their_own(make_live: MakeLive) -> None:
    """Given a worker of that queue; when every other task process is busy, then beat's passes go on."""
    live = make_live(LIVE_MONITOR_QUEUE="watch")
    live.worker("-c", "1", "-Q", "celery", app="monitorapp")
    live.worker("-c", "1", "-Q", "watch", app="monitorapp")
    _beat(live)
    run = live.app("monitorapp").held.delay("one").id
    live.wait_state(run, "running", timeout=PATIENCE)
    before = _last(live)
    now = before.now if before is not None else 0.0

    def passed_since() -> bool:
        last = _last(live)
        return _passed_by(live, "beat") and last is not None and (last.begun_at or 0.0) > now

    _await(live, passed_since)
    assert b"plet.monitor" not in live.output(0).split(b" ready.")[1]
    live.go("one")


class Command:
    """`celery plet monitor` as a process."""

    def __init__(self, live: Live, *options: str, **env: str) -> None:
        self._path: Path = live.folder / f"monitor{len(live.processes)}.log"
        words = [sys.executable, "-m", "celery", "-A", "monitorapp", "plet", "monitor", *options]
        with self._path.open("wb") as output:
            self.process = subprocess.Popen(
                words, env={**live.env, **env}, cwd=live.folder, stdout=output, stderr=subprocess.STDOUT
            )
        live.processes.append(self.process)

    @property
    def said(self) -> str:
        return self._path.read_text()


def _with_tables(live: Live) -> None:
    live.home.mkdir(mode=0o700, exist_ok=True)
    store = open_store(f"sqlite:///{live.home / 'plet.db'}")
    store.ensure_schema()
    store.close()


def test_a_command_passes_once(make_live: MakeLive) -> None:
    live = make_live()
    _with_tables(live)

    once = Command(live, "--once")

    assert once.process.wait(PATIENCE) == 0, once.said
    assert "passed" in once.said.splitlines()
    last = _last(live)
    assert last is not None
    assert (last.doc["caller"], last.has_app) == ("command", True)


def test_a_command_passes_again_and_again_until_a_signal(make_live: MakeLive) -> None:
    live = make_live()
    _with_tables(live)
    loop = Command(live)
    _await(live, lambda: _passed_by(live, "command"))
    first = _last(live)
    assert first is not None

    def again() -> bool:
        last = _last(live)
        return last is not None and (last.begun_at or 0.0) > (first.begun_at or 0.0)

    _await(live, again)
    loop.process.send_signal(signal.SIGTERM)

    assert loop.process.wait(PATIENCE) == 0, loop.said
    assert "monitor ends" in loop.said
    assert not _last(live).is_held  # type: ignore[union-attr]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_pass_that_a_person_ends_says_so(make_live: MakeLive, how: int, code: int) -> None:
    """The broker says nothing, so that the pass cannot have ended before the signal comes."""
    live = make_live(LIVE_INTERVAL="60", LIVE_CHECK_TIMEOUT="8")
    _with_tables(live)
    with receiving(_never) as silent:
        once = Command(live, "--once", LIVE_BROKER=f"redis://127.0.0.1:{silent.port}/0")
        _await(live, lambda: silent.connections > 0)
        once.process.send_signal(how)
        assert once.process.wait(PATIENCE) == code, once.said
    assert "stopped in between" in once.said


def _never(receiver: Receiver, peer: Any, request: Any) -> None:
    receiver.closing.wait(60)


def test_a_store_that_is_away_is_69(make_live: MakeLive) -> None:
    live = make_live(PLET_DATABASE_URL="postgresql+psycopg://nobody@127.0.0.1:1/none")

    once = Command(live, "--once")

    assert once.process.wait(PATIENCE) == 69, once.said


def test_a_store_without_tables_is_69(make_live: MakeLive) -> None:
    """One that a person chose: the project's own makes its tables itself."""
    live = make_live()
    (live.folder / "chosen.db").touch(mode=0o600)
    live.env["PLET_DATABASE_URL"] = f"sqlite:///{live.folder / 'chosen.db'}"

    once = Command(live, "--once")

    assert once.process.wait(PATIENCE) == 69, once.said
    assert "no tables" in once.said


def test_a_monitor_that_is_off_is_a_usage_error(make_live: MakeLive) -> None:
    live = make_live(LIVE_MONITOR="0")

    once = Command(live, "--once")

    assert once.process.wait(PATIENCE) == 2, once.said
    assert "plet_monitor" in once.said


def test_a_command_and_beat_at_once_are_one_pass_at_a_time(make_live: MakeLive) -> None:
    live = make_live()
    _with_tables(live)
    store = open_store(f"sqlite:///{Path(live.home) / 'plet.db'}")
    held = watching.take(store, "beat w1 1", seconds=3600)
    assert held is not None

    once = Command(live, "--once", "--json")

    assert once.process.wait(PATIENCE) == 0, once.said
    assert json.loads(once.said.splitlines()[-1])["ended"] == "busy"
    store.close()
