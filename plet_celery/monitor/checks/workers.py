"""`workers`: who lives, consumes (a worker can answer every ping and be deaf to its queue), and has room.

A worker is deaf where messages lie in a queue that it says it consumes while it runs and holds nothing, and
has begun nothing since the pass before saw the same. What a pass saw lies in the values of its rows, so any
process may do the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from plet_celery.monitor.checks.asking import told
from plet_celery.monitor.checks.brokers import Depth
from plet_celery.monitor.checks.look import Looks
from plet_celery.monitor.checks.remote import WorkerAnswer
from plet_celery.store.health import HealthRow
from plet_celery.store.overviews import WorkerStatus
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "workers"
DEAF_SECONDS: Final = 25.0
"""An idle worker takes a message within a second; a broker that comes back may need some more."""
NEW_SECONDS: Final = 30.0
"""A worker that has just begun is given so long to answer."""
EXPECTATION: Final = "it answers, consumes its queues, and has room"


def check(looks: Looks) -> Iterator[CheckResult]:
    """Ask every worker over remote control, and compare with those that the store knows to live."""
    known = {one.name: one for one in reversed(_living(looks))}
    try:
        answers = looks.answers()
    # Each transport has its own; the check of the broker says what it means.
    except Exception as error:
        yield CheckResult(
            name=NAME,
            level=Level.NO_DATA,
            observation=f"they cannot be asked: {told(error)}",
            expectation="at least one that consumes",
            advice="see the check of the broker",
            values={"known": len(known), "error": type(error).__name__},
        )
        return
    try:
        depths = looks.depths()
    except Exception:
        depths = {}
    yield decide_all(answers, known)
    for name in sorted({*answers, *known}):
        yield decide_worker(
            name,
            answers.get(name),
            known.get(name),
            depths=depths,
            before=looks.before(NAME, name),
            now=looks.now,
        )


def _living(looks: Looks) -> list[WorkerStatus]:
    try:
        return [one for one in looks.workers() if one.is_living]
    except Exception:
        # The check of the store says so; who answers is known without it.
        return []


def decide_all(answers: Mapping[str, WorkerAnswer], known: Mapping[str, WorkerStatus]) -> CheckResult:
    """Say whether there is any worker at all."""
    consuming = [one for one in answers.values() if one.queues or one.queues is None]
    slots = sum(one.slots or 0 for one in consuming)
    values = {"answering": len(answers), "known": len(known), "slots": slots}
    if consuming:
        text = f"{len(answers)} of {len({*answers, *known})} answer, with {slots} slots"
        return CheckResult(
            name=NAME,
            level=Level.OK,
            observation=text,
            expectation="at least one that consumes",
            values=values,
        )
    solo = sum(one.pool == "solo" for one in known.values())
    if not answers and solo:
        # A pass that a solo worker does is itself the task that it is deaf for.
        return CheckResult(
            name=NAME,
            level=Level.NO_DATA,
            observation=f"none answers; {solo} of {len(known)} have a solo pool, deaf while it runs a task",
            expectation="at least one that consumes",
            values=values,
        )
    text = "none answers" if not answers else f"{len(answers)} answer, and none consumes"
    return CheckResult(
        name=NAME,
        level=Level.CRITICAL,
        observation=text,
        expectation="at least one that consumes",
        affected="every task: none is run",
        advice="start one: celery -A proj worker; look at the log of the one that was there",
        values=values,
    )


def decide_worker(
    name: str,
    answer: WorkerAnswer | None,
    known: WorkerStatus | None,
    *,
    depths: Mapping[str, Depth],
    before: HealthRow | None,
    now: float,
) -> CheckResult:
    """Say how one worker does.

    Args:
        answer: what it answered; None: nothing.
        known: what the store knows of it, if it is one that lives.
        depths: messages by queue; empty where they are not known.
        before: what the pass before kept of this worker.
    """
    if answer is None:
        return _silent(name, known, now)
    if answer.queues is not None and not answer.queues:
        return _result(
            name,
            Level.CRITICAL,
            "it answers, and consumes from no queue",
            affected="tasks in its queues wait for others",
            advice="restart it, or: celery -A proj control add_consumer QUEUE",
            values=_values(answer),
        )
    waiting = {
        queue: depths[queue].messages
        for queue in answer.queues or ()
        if queue in depths and depths[queue].messages
    }
    idle_since = _idle_since(answer, before, now) if waiting and answer.is_idle else None
    values = _values(answer, idle_since)
    if idle_since is not None and now - idle_since >= DEAF_SECONDS:
        return _result(
            name,
            Level.CRITICAL,
            f"it answers and is idle, while {sum(waiting.values())} messages wait in {_listed(waiting)}",
            affected=f"tasks in {_listed(waiting)}",
            advice="restart this worker: it has lost its queues (celery#8030, #8384)",
            since=idle_since,
            values=values,
        )
    if answer.slots and answer.running is not None and answer.running >= answer.slots and waiting:
        return _result(
            name,
            Level.WARNING,
            f"all {answer.slots} slots are busy, and {sum(waiting.values())} messages wait "
            f"in {_listed(waiting)}",
            affected=f"tasks in {_listed(waiting)} begin late",
            advice="add workers or slots (-c); look for runs that are stuck",
            values=values,
        )
    busy = f"{answer.running if answer.running is not None else '?'} of {answer.slots or '?'} slots busy"
    if answer.queues is None:
        return _result(
            name,
            Level.NO_DATA,
            f"{busy}; it does not say what it consumes",
            advice="ask again",
            values=values,
        )
    return _result(name, Level.OK, f"{busy}, consumes {_listed(answer.queues)}", values=values)


def _silent(name: str, known: WorkerStatus | None, now: float) -> CheckResult:
    """Say what it means that a worker which lives by its record does not answer."""
    solo = known is not None and known.pool == "solo"
    young = known is not None and now - known.started_at < NEW_SECONDS
    leaving = known is not None and known.stopping_at is not None
    values = {"pool": known.pool if known is not None else None, "pid": known.pid if known else None}
    if leaving:
        text, level = "it is stopping, and does not answer any more", Level.OK
    elif young:
        text, level = "it has just begun, and does not answer yet", Level.NO_DATA
    elif solo:
        text, level = "it does not answer: a solo pool is deaf while it runs a task", Level.NO_DATA
    else:
        text, level = "it is recorded as living, and does not answer", Level.CRITICAL
    return _result(
        name,
        level,
        text,
        affected="tasks that it has taken, and its queues" if level is Level.CRITICAL else "",
        advice="look at its log; restart it if it hangs" if level is Level.CRITICAL else "",
        values=values,
    )


def _idle_since(answer: WorkerAnswer, before: HealthRow | None, now: float) -> float:
    """Return since when it is idle while messages wait and has begun nothing, as far as passes have seen."""
    values = before.result.values if before is not None else {}
    since = values.get("idle_since")
    same = values.get("total") == answer.total and values.get("pid") == answer.pid
    return float(since) if same and isinstance(since, int | float) and since <= now else now


def _values(answer: WorkerAnswer, idle_since: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "queues": list(answer.queues) if answer.queues is not None else None,
        "slots": answer.slots,
        "running": answer.running,
        "total": answer.total,
        "pid": answer.pid,
    }
    return found | ({"idle_since": idle_since} if idle_since is not None else {})


def _listed(names: Any) -> str:
    found = sorted(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _result(
    name: str,
    level: Level,
    observation: str,
    *,
    affected: str = "",
    advice: str = "",
    since: float | None = None,
    values: dict[str, Any],
) -> CheckResult:
    return CheckResult(
        name=NAME,
        subject=name,
        level=level,
        observation=observation,
        expectation=EXPECTATION,
        affected=affected,
        advice=advice,
        since=since,
        values=values,
    )
