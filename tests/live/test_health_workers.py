"""Checks of broker, queues, workers and stuck runs with real workers: each is made red, and green again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until
from worlds import kept, world_of

from plet_celery.monitor.checks import run_check
from plet_celery.store.health import HealthRow
from plet_celery.watchfacts import CheckResult, Level


class Monitored:
    """A live folder, asked again and again as passes do: each knows what the one before kept."""

    def __init__(self, live: Any, name: str = "healthapp", **settings: Any) -> None:
        self.live = live
        self.tasks = live.app(name)
        self.app = self.tasks.app
        self.settings = settings
        self._rows: dict[str, list[HealthRow]] = {}

    def worker(self, *options: str, **environ: str) -> Any:
        """Start a worker of the app."""
        return self.live.worker(*options, app=self.app.main, **environ)

    def began(self, name: str) -> None:
        """Wait until a task has begun."""
        wait_until(lambda: self.live.has(f"{name}.began"), 60, what=lambda: self.live.output().decode())

    def ask(self, name: str, *, later: float = 0.0) -> dict[str, CheckResult]:
        """Ask one check, as a process without the app does.

        Args:
            later: seconds to add to the clock.
        """
        now = time.time() + later
        world = world_of(
            self.live.store(), self.app, home=self.live.home, before=self._rows.get(name, ()), **self.settings
        )
        found = run_check(world, name, now=now, seconds=20.0)
        self._rows[name] = kept(found, at=now)
        return {one.subject: one for one in found}

    def until(
        self,
        name: str,
        subject: str,
        level: Level,
        *,
        later: float = 0.0,
        when: Callable[[CheckResult], Any] = lambda found: True,
    ) -> CheckResult:
        """Ask until a subject has this level, and `when` says yes: a busy worker answers late at times."""
        found: dict[str, CheckResult] = {}

        def there() -> bool:
            found.clear()
            found.update(self.ask(name, later=later))
            return subject in found and found[subject].level is level and bool(when(found[subject]))

        wait_until(there, 60, every=0.2, what=lambda: f"{name} {subject!r} {level}: {found}")
        return found[subject]


def is_observed(text: str) -> Callable[[CheckResult], bool]:
    """Return the question whether this is what was seen."""
    return lambda found: found.observation == text


@pytest.fixture
def monitored(make_live: Callable[..., Any]) -> Callable[..., Monitored]:
    def make(**settings: Any) -> Monitored:
        return Monitored(make_live(PLET_HOST_BEAT="0.5"), **settings)

    return make


def test_a_worker_that_consumes_is_ok(monitored: Callable[..., Monitored]) -> None:
    one = monitored()
    one.worker("-c", "2")
    # It answers before its host has told the store of it.
    values = {"answering": 1, "known": 1, "slots": 2}
    one.until("workers", "", Level.OK, when=lambda found: found.values == values)

    found = one.until("workers", "w0@test", Level.OK, when=is_observed("0 of 2 slots busy, consumes celery"))
    assert found.values["total"] == 0
    one.until("queue", "celery", Level.OK, when=is_observed("empty, 1 worker consumes it"))


def test_without_a_worker_nothing_is_run(monitored: Callable[..., Monitored]) -> None:
    one = monitored()
    worker = one.worker()
    one.until("workers", "", Level.OK)
    one.until("queue", "celery", Level.OK, when=lambda found: found.values["consumers"] == 1)

    one.live.stop(worker)

    gone = one.until("workers", "", Level.CRITICAL)
    assert gone.observation == "none answers"
    # It had a consumer: an empty queue without one is told, and one with messages is worse.
    assert one.until("queue", "celery", Level.WARNING).affected == "whatever is sent to celery will wait"
    one.tasks.quick.delay()
    lone = one.until("queue", "celery", Level.CRITICAL)
    assert lone.observation.startswith("1 wait")
    assert lone.observation.endswith("nobody consumes it")
    one.worker()
    one.until("queue", "celery", Level.OK)
    one.until("workers", "", Level.OK)


def test_a_worker_that_consumes_nothing_is_told_by_name(monitored: Callable[..., Monitored]) -> None:
    one = monitored()
    one.worker()
    one.until("workers", "w0@test", Level.OK)

    one.app.control.cancel_consumer("celery")

    deaf = is_observed("it answers, and consumes from no queue")
    one.until("workers", "w0@test", Level.CRITICAL, when=deaf)
    one.until("workers", "", Level.CRITICAL, when=is_observed("1 answer, and none consumes"))
    one.app.control.add_consumer("celery")
    one.until("workers", "w0@test", Level.OK)


def test_a_worker_that_is_deaf_and_answers_is_told(monitored: Callable[..., Monitored]) -> None:
    one = monitored()
    one.worker()
    one.until("workers", "w0@test", Level.OK)

    assert one.app.control.broadcast("deafen", reply=True, timeout=60, limit=1)
    one.tasks.quick.delay()

    # It says that it consumes, and is idle: one look is no proof.
    one.until("workers", "w0@test", Level.OK, when=lambda found: found.values.get("idle_since"))
    idle = is_observed("it answers and is idle, while 1 messages wait in celery")
    deaf = one.until("workers", "w0@test", Level.CRITICAL, later=60, when=idle)
    assert deaf.since is not None
    one.app.control.add_consumer("celery")
    one.until("workers", "w0@test", Level.OK)


def test_a_frozen_worker_is_told(monitored: Callable[..., Monitored]) -> None:
    one = monitored()
    worker = one.worker()
    one.until("workers", "w0@test", Level.OK)

    os.kill(worker.pid, signal.SIGSTOP)
    try:
        # A worker that has just begun is given time to answer.
        young = one.until("workers", "w0@test", Level.NO_DATA, later=-60)
        frozen = one.until("workers", "w0@test", Level.CRITICAL, later=60)
    finally:
        os.kill(worker.pid, signal.SIGCONT)

    assert young.observation == "it has just begun, and does not answer yet"
    assert frozen.observation == "it is recorded as living, and does not answer"
    one.until("workers", "w0@test", Level.OK)


def test_a_full_pool_is_told_while_messages_wait(monitored: Callable[..., Monitored]) -> None:
    one = monitored(queue_max_messages=1)
    one.worker("-c", "1")
    one.until("workers", "w0@test", Level.OK)

    one.tasks.hang.delay("first")
    one.began("first")
    one.until("workers", "w0@test", Level.OK, when=is_observed("1 of 1 slots busy, consumes celery"))
    for _ in range(5):
        one.tasks.quick.delay()

    full = one.until("workers", "w0@test", Level.WARNING)
    deep = one.until(
        "queue",
        "celery",
        Level.WARNING,
        when=lambda found: found.observation.endswith("1 worker consumes it"),
    )
    assert full.observation.startswith("all 1 slots are busy, and ")
    assert deep.values["messages"] > 1
    one.live.go("first")
    one.until("workers", "w0@test", Level.OK)
    one.until("queue", "celery", Level.OK)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_stuck_run_is_told_with_its_stack(monitored: Callable[..., Monitored], pool: str) -> None:
    one = monitored(stuck_after=5.0)
    one.worker("-P", pool, "-c", "3")
    hanging, talking = one.tasks.hang.delay("hang"), one.tasks.talk.delay("talk")
    one.began("hang")
    one.began("talk")

    stuck = one.until(
        "stuck", "healthapp.hang", Level.WARNING, when=lambda found: "stack" in found.values["runs"][0]
    )

    (run,) = stuck.values["runs"]
    assert run["run_id"] == hanging.id
    assert run["stage"] == "waiting"
    assert "in wait_in_vain" in run["stack"]
    assert "healthapp.talk" not in one.ask("stuck")
    assert "silent" not in run["stack"]  # names of code, no values
    one.live.go("hang")
    one.live.wait_state(hanging.id, "succeeded", timeout=60)
    assert hanging.get(timeout=60) == "done"
    one.until("stuck", "", Level.OK)
    one.live.go("talk")
    one.live.wait_state(talking.id, "succeeded", timeout=60)


def test_a_task_may_be_silent_for_as_long_as_it_or_its_pattern_says(
    monitored: Callable[..., Monitored],
) -> None:
    one = monitored(stuck_after=1.0, stuck_after_tasks={"healthapp.hang": 3600})
    one.worker("-c", "3")
    one.tasks.hang.delay("hang")
    one.tasks.quiet.delay("quiet")
    one.tasks.hang_with_signal.delay("other", "none")
    one.began("hang")
    one.began("quiet")
    one.began("other")

    one.until("stuck", "healthapp.hang_with_signal", Level.WARNING)

    assert list(one.ask("stuck")) == ["healthapp.hang_with_signal"]
    for name in ("hang", "quiet", "other"):
        one.live.go(name)


@pytest.mark.parametrize("how", ["take", "default", "close", "process"])
def test_a_task_keeps_its_own_signal(monitored: Callable[..., Monitored], how: str) -> None:
    """Neither replaced nor triggered; and a task that has none any more is not killed by it."""
    one = monitored(stuck_after=1.0)
    one.worker("-c", "1", HEALTH_TAKES_SIGNAL=how)
    result = one.tasks.hang_with_signal.delay("hang", how)
    one.began("hang")

    late = "its worker does not answer"
    stuck = one.until(
        "stuck",
        "healthapp.hang_with_signal",
        Level.WARNING,
        when=lambda found: found.values["runs"][0].get("no_stack") != late,
    )
    one.ask("stuck")

    (run,) = stuck.values["runs"]
    assert "stack" not in run
    assert "SIGUSR2 is not ours" in run["no_stack"]
    assert not one.live.has("handled")
    if how in ("take", "process"):
        os.kill(run["pid"], signal.SIGUSR2)
        wait_until(lambda: one.live.has("handled"), 30)
    one.live.go("hang")
    assert result.get(timeout=60) == "done"
