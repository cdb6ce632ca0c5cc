"""Plays the ends of the matrix on one pool and one broker, and tells what came of each.

Two acts: `play_ends` has one worker come to all ends that leave it alive; `play_stops` ends workers in
every way, each of which takes up what the one before it left.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import chain, chord, group
from live.matrix import Outcome
from waiting import wait_until

from plet_celery.store import queries

POOL_OPTIONS = {
    "prefork": ("-P", "prefork", "-c", "4"),
    "threads": ("-P", "threads", "-c", "6"),
    "gevent": ("-P", "gevent", "-c", "20"),
    "solo": ("-P", "solo", "-c", "1"),
}
# Where a limit strikes, the body is longer than a busy machine needs to hear of it.
LIMITED = {
    "prefork": {"LIVE_SOFT_LIMITED": "60", "LIVE_HARD_LIMITED": "60"},
    "gevent": {"LIVE_HARD_LIMITED": "60"},
}


class Stage:
    """A live folder with the matrix's app, a pool, and the runs that are watched."""

    def __init__(self, live: Any, pool: str) -> None:
        self.live = live
        self.pool = pool
        self.tasks = live.app("matrixapp")
        self.plain = __import__("liveapp")
        self.app = self.tasks.app
        self.runs: dict[str, str] = {}

    def worker(self, **env: str) -> Any:
        return self.live.worker(
            *POOL_OPTIONS[self.pool], app="matrixapp", **LIMITED.get(self.pool, {}), **env
        )

    def watch(self, end: str, result: Any) -> Any:
        self.runs[end] = result.id
        return result

    def seen(self, end: str, expected: Outcome) -> Outcome:
        """What is known of a run now, as far as `expected` speaks of it."""
        run_id = self.runs.get(end, "")
        run = self.live.run(run_id) if run_id else None
        if run is None:
            return Outcome("", "")
        state = str(self.app.AsyncResult(run_id).state)
        states = tuple(one.state for one in queries.attempts(self.live.store(), run_id))
        return Outcome(
            expected.plet if run.state in expected.plet.split(" or ") else run.state,
            expected.celery if state in expected.celery.split(" or ") else state,
            states if len(states) > 1 or expected.attempts else (),
        )

    def settle(self, expected: Mapping[str, Outcome], timeout: float = 90.0) -> dict[str, Outcome]:
        """Return what is seen of the expected ends, once it is that; else what it is when time is up."""
        with contextlib.suppress(AssertionError):
            wait_until(
                lambda: all(self.seen(end, there) == there for end, there in expected.items()), timeout, 0.1
            )
        return {end: self.seen(end, there) for end, there in expected.items()}

    def started(self, name: str) -> None:
        wait_until(lambda: self.live.has(f"{name}.started"), 40, what=self.told)

    def accepted(self, end: str) -> None:
        """Wait until the newest worker knows that a run has started: its child knows it first."""
        name = f"w{len(self.live.processes) - 1}@test"

        def is_active() -> bool:
            told = self.app.control.inspect([name], timeout=5).active() or {}
            return self.runs[end] in {one["id"] for one in told.get(name, ())}

        wait_until(is_active, 60, what=self.told)

    def output(self) -> bytes:
        """What the newest worker said."""
        return bytes(self.live.output(len(self.live.processes) - 1))

    def told(self) -> str:
        count = len(self.live.processes)
        return "\n".join(self.live.output(number).decode()[-2000:] for number in range(count))


def play_ends(stage: Stage, ends: Collection[str]) -> None:
    """Have one worker come to every end that leaves it alive."""
    stage.worker()
    tasks, plain, control = stage.tasks, stage.plain, stage.app.control
    watch = stage.watch
    # First, while the worker is idle: RabbitMQ drops an expired message that would have to wait.
    watch("expired", plain.ok.apply_async(expires=datetime.now(UTC) - timedelta(seconds=5)))
    wait_until(lambda: control.revoke("revoked-before-it-came", reply=True, timeout=2, limit=1), 40)
    watch("success", plain.tracked.delay())
    watch("exception", plain.fail.delay())
    watch("retry, then success", plain.retry_then_ok.delay())
    watch("retry, then failure", plain.retry_then_fail.delay())
    watch("Ignore", plain.ignore.delay())
    watch("Reject", plain.reject.delay())
    watch("Reject(requeue=True)", tasks.requeue_once.delay())
    watch("replace", tasks.goes_on_as.delay())
    watch("unknown task", stage.app.send_task("matrixapp.nobody_has_this"))
    watch("revoked before its start", plain.ok.apply_async(task_id="revoked-before-it-came"))
    watch("chain", chain(plain.add.s(1, 1), plain.chained.s()).apply_async())
    grouped: Any = group(plain.add.s(n, n) for n in range(2)).apply_async()
    watch("group", grouped.results[-1])
    watch("chord", chord([plain.add.s(n, n) for n in range(2)], plain.collect.s()).apply_async())
    watch("soft limit", tasks.soft_limited.delay())
    watch("hard limit", tasks.hard_limited.delay())
    if "sys.exit" in ends and stage.pool != "solo":
        watch("sys.exit", tasks.exits.delay())
    if "process killed" in ends:
        watch("process killed", tasks.kill_process.delay())
    revoked = watch("revoked while running", tasks.wait.delay("revoked"))
    stage.started("revoked")
    control.revoke(revoked.id, terminate=True, signal="SIGTERM")
    if stage.pool == "threads":
        wait_until(lambda: b"does not implement kill_job" in stage.live.output(), 30, what=stage.told)
    if stage.pool in ("threads", "solo"):
        stage.live.go("revoked")
    if stage.pool == "solo":
        watch("sys.exit", tasks.exits.delay())  # last: it takes the worker with it


def play_eagerly(stage: Stage) -> dict[str, Any]:
    """Come to every end that an eager task can come to; return the results."""
    tasks, plain = stage.tasks, stage.plain
    late = datetime.now(UTC) - timedelta(seconds=5)
    grouped: Any = group(plain.add.s(n, n) for n in range(2)).apply()
    results: dict[str, Any] = {
        "success": plain.tracked.apply(),
        "exception": plain.fail.apply(),
        "retry, then success": plain.retry_then_ok.apply(),
        "retry, then failure": plain.retry_then_fail.apply(),
        "Ignore": plain.ignore.apply(),
        "Reject": plain.reject.apply(),
        "Reject(requeue=True)": tasks.requeue_once.apply(),
        "replace": tasks.goes_on_as.apply(),
        "expired": plain.ok.apply(expires=late),
        "chain": chain(plain.add.s(1, 1), plain.chained.s()).apply(),
        "group": grouped.results[-1],
        "chord": chord([plain.add.s(n, n) for n in range(2)], plain.collect.s()).apply(),
        "soft limit": tasks.soft_limited.apply(),
        "hard limit": tasks.hard_limited.apply(),
    }
    for end, result in results.items():
        stage.watch(end, result)
    stage.runs["sys.exit"] = "the-one-that-exits"
    with contextlib.suppress(SystemExit):
        tasks.exits.apply(task_id="the-one-that-exits")
    return results


def play_stops(stage: Stage, ends: Collection[str]) -> None:
    """End workers in every way; each new one takes up what the one before it left."""
    tasks, watch, pool = stage.tasks, stage.watch, stage.pool

    def begin(end: str) -> None:
        task = tasks.wait_late if end.endswith("acks_late") else tasks.wait
        watch(end, task.delay(slug(end)))
        stage.started(slug(end))
        # Elsewhere it knows at once; and SIGQUIT, whose handler fails there, may strike while it answers.
        if pool == "prefork":
            stage.accepted(end)

    # A solo worker has one task at a time. Under gevent Celery stops at the first one that it cancels.
    together = pool not in ("solo", "gevent")

    worker = stage.worker()
    begin("worker killed")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()

    for how, soft in (("cold", "0"), ("soft", "1")):
        worker = stage.worker(LIVE_SOFT=soft)
        begin(f"{how} shutdown")
        if together and f"{how} shutdown, acks_late" in ends:
            begin(f"{how} shutdown, acks_late")
        _quit(worker, stage, how)
        if together:
            stage.live.go(slug(f"{how} shutdown, acks_late"))  # for the next one
    if not together:
        worker = stage.worker()
        begin("cold shutdown, acks_late")
        _quit(worker, stage, "cold")

    stage.live.go(slug("cold shutdown, acks_late"))
    worker = stage.worker()
    begin("warm shutdown")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: b"Warm shutdown" in stage.output(), 60, what=stage.told)
    stage.live.go("warm-shutdown")
    worker.wait(60)


def _quit(worker: Any, stage: Stage, how: str) -> None:
    """Send SIGQUIT, and wait for the end; a worker that waits for its tasks then gets them ended."""
    if stage.pool == "threads":
        # Celery's handler fails there; whoever catches that, in the midst of an answer say, keeps it alive.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: "poll" in Path(f"/proc/{worker.pid}/wchan").read_text(), 10, every=0.001)
    worker.send_signal(signal.SIGQUIT)
    if stage.pool == "threads" or (stage.pool == "gevent" and how == "soft"):
        wait_until(
            lambda: b"Unrecoverable error" in stage.output() or worker.poll() is not None,
            60,
            what=stage.told,
        )
        stage.live.go(slug(f"{how} shutdown"))
        stage.live.go(slug(f"{how} shutdown, acks_late"))
    worker.wait(60)


def slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")
