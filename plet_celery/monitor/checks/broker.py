"""`broker` and `queue`: does the broker answer, how much waits, for how long, and does anybody consume it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from plet_celery.monitor.checks import brokers
from plet_celery.monitor.checks.asking import told
from plet_celery.monitor.checks.look import Looks
from plet_celery.monitor.checks.remote import WorkerAnswer
from plet_celery.store.waiting import Waiting
from plet_celery.terminal.text import span
from plet_celery.watchfacts import CheckResult, Level

BROKER: Final = "broker"
QUEUE: Final = "queue"
GONE_SECONDS: Final = 86_400.0
"""An empty queue that lost its consumer is told for a day."""
AFFECTED: Final = "every task: none can be sent or received"
ADVICE: Final = "start the broker, or correct broker_url; workers reconnect by themselves"


def check_broker(looks: Looks) -> Iterator[CheckResult]:
    """Connect to the broker."""
    where = looks.broker
    expectation = "a connection and a channel"
    left_out = [name for name in looks.world.facts.get("left_out") or [] if name.startswith("broker")]
    if left_out and not looks.world.has_app:
        yield CheckResult(
            name=BROKER,
            level=Level.NO_DATA,
            observation=f"{', '.join(left_out)} holds what is no JSON: only a pass with the app can connect",
            expectation=expectation,
            advice="write it as plain values, or run beat, so that passes have the app",
        )
        return
    try:
        latency = brokers.reach(looks.world.app, seconds=looks.seconds * 0.8)
    # Each transport has its own; whatever it is, there is no broker for anybody.
    except Exception as error:
        yield CheckResult(
            name=BROKER,
            level=Level.CRITICAL,
            observation=f"{where} does not answer: {told(error)}",
            expectation=expectation,
            affected=AFFECTED,
            advice=ADVICE,
            values={"url": where, "error": type(error).__name__},
        )
        return
    yield CheckResult(
        name=BROKER,
        level=Level.OK,
        observation=f"{where} answers in {span(latency)}",
        expectation=expectation,
        values={"url": where, "latency": round(latency, 6)},
    )


def check_queues(looks: Looks) -> Iterator[CheckResult]:
    """Look at every queue that the app names, a worker consumes, or a recorded run waits in."""
    depths = looks.depths()
    try:
        answers: dict[str, WorkerAnswer] | None = looks.answers()
    except Exception:
        # Told by the check of the workers; what lies in the queues is known all the same.
        answers = None
    try:
        waiting, is_whole = looks.queued()
    except Exception:
        waiting, is_whole = {}, False
    settings, own = looks.world.settings, looks.world.facts.get("queues") or []
    for name, depth in sorted(depths.items()):
        consumers = consumers_of(name, depth, answers)
        if name not in own and not depth.messages and not consumers:
            # Known from runs alone, by a routing key that need not be a queue.
            continue
        before = looks.before(QUEUE, name)
        yield decide_queue(
            name,
            depth,
            consumers=consumers,
            consumed_at=before.result.values.get("consumed_at") if before is not None else None,
            waiting=waiting.get(name),
            is_known=is_whole,
            now=looks.now,
            max_messages=settings.queue_max_messages,
            max_wait=settings.queue_max_wait,
        )


def consumers_of(
    name: str, depth: brokers.Depth, answers: dict[str, WorkerAnswer] | None
) -> list[str] | int | None:
    """Return who consumes a queue: names where workers told, else how many the broker counts, else None."""
    names = [one.name for one in (answers or {}).values() if one.queues is not None and name in one.queues]
    if names or depth.consumers is None:
        return names if names or answers is not None else None
    return depth.consumers


def decide_queue(
    name: str,
    depth: brokers.Depth,
    *,
    consumers: list[str] | int | None,
    consumed_at: float | None,
    waiting: Waiting | None,
    is_known: bool,
    now: float,
    max_messages: int,
    max_wait: float,
) -> CheckResult:
    """Say how a queue does.

    Args:
        consumed_at: when a pass last saw a consumer of it.
        waiting: what the store knows of runs in it; only looked at while messages are there.
        is_known: the store could be asked, and knows all that waits.
    """
    number = consumers if isinstance(consumers, int) else len(consumers) if consumers is not None else None
    oldest = waiting if waiting is not None and depth.messages else None
    wait = max(0.0, now - oldest.oldest_at) if oldest is not None else None
    parts = [f"{depth.messages} wait" if depth.messages else "empty"]
    if oldest is not None and wait is not None:
        parts.append(f"the oldest run for {span(wait, whole=True)} ({oldest.oldest_task})")
    elif depth.messages and not is_known:
        parts.append("for how long is not known")
    parts.append(_consumed(number))
    is_late = wait is not None and wait > max_wait
    values: dict[str, Any] = {"messages": depth.messages, "consumers": number}
    if number or consumed_at is not None:
        values["consumed_at"] = now if number else consumed_at
    if oldest is not None and wait is not None:
        values |= {"oldest_wait": round(wait, 1), "oldest_run": oldest.oldest_run, "is_late": is_late}
    level, affected, advice, since = Level.OK, "", "", None
    if number == 0 and depth.messages:
        level, since = Level.CRITICAL, oldest.oldest_at if oldest is not None else None
        affected = f"every task sent to {name}: nobody takes it"
        advice = f"start a worker with -Q {name}, or correct the task's queue"
    elif depth.messages > max_messages or is_late:
        level = Level.WARNING
        affected = f"tasks sent to {name} begin late"
        advice = "add workers or slots; see which task takes long on the list of runs"
    elif number is None:
        level = Level.NO_DATA
        advice = "see the check of the workers"
    elif number == 0 and consumed_at is not None and now - consumed_at < GONE_SECONDS:
        # One that never had a consumer may be a default queue that nothing is sent to.
        level, since = Level.WARNING, consumed_at
        affected = f"whatever is sent to {name} will wait"
        advice = f"start a worker with -Q {name}, or take the queue out of task_queues"
    return CheckResult(
        name=QUEUE,
        subject=name,
        level=level,
        observation=", ".join(parts),
        expectation=f"a consumer, at most {max_messages} messages,"
        f" none for longer than {span(max_wait, whole=True)}",
        affected=affected,
        advice=advice,
        since=since,
        values=values,
    )


def _consumed(number: int | None) -> str:
    if number is None:
        return "who consumes it is not known"
    if number == 0:
        return "nobody consumes it"
    return f"{number} worker{'s' if number != 1 else ''} consume{'s' if number == 1 else ''} it"
