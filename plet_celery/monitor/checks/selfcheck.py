"""`worker:self`: the workers of this host, for an exec probe; asked without the store.

What is not their own fault is none here: a broker that is away is no reason to restart a worker, which comes
back by itself; a solo pool answers nobody while it runs a task.
"""

from __future__ import annotations

from collections.abc import Iterator

from celery import Celery

from plet_celery.localnodes import Node
from plet_celery.monitor.checks import remote
from plet_celery.monitor.checks.asking import told
from plet_celery.monitor.checks.workers import EXPECTATION, NAME
from plet_celery.watchfacts import CheckResult, Level

SELF = "worker:self"


def check_self(app: Celery, nodes: list[Node], *, seconds: float) -> Iterator[CheckResult]:
    """Ask the workers of this host, each whether it consumes.

    Args:
        nodes: those that live here, as `localnodes` knows them.
        seconds: for all of it.
    """
    if not nodes:
        text = "no worker of this user and plet_home runs on this host"
        advice = "run the probe where the worker runs, as its user, with its PLET_HOME"
        yield CheckResult(
            name=NAME, level=Level.CRITICAL, observation=text, expectation=EXPECTATION, advice=advice
        )
        return
    names = [one.name for one in nodes]
    try:
        answers = remote.ask_workers(app, seconds=seconds, only=names, ours=names)
    # Each transport has its own.
    except Exception as error:
        for node in nodes:
            text = f"its process lives, and the broker does not answer: {told(error)}"
            yield _result(node, Level.WARNING, text, "see the check of the broker")
        return
    for node in nodes:
        yield _decide(node, answers.get(node.name))


def _decide(node: Node, answer: remote.WorkerAnswer | None) -> CheckResult:
    if answer is None and node.pool == "solo":
        return _result(node, Level.WARNING, "its process lives; a solo pool is deaf while it runs a task")
    if answer is None:
        return _result(node, Level.CRITICAL, "its process lives, and does not answer", "restart it")
    if answer.queues is not None and not answer.queues:
        return _result(node, Level.CRITICAL, "it answers, and consumes from no queue", "restart it")
    queues = ", ".join(answer.queues or ()) or "it does not say what"
    return _result(node, Level.OK, f"{answer.running} of {answer.slots} slots busy, consumes {queues}")


def _result(node: Node, level: Level, observation: str, advice: str = "") -> CheckResult:
    return CheckResult(
        name=NAME,
        subject=node.name,
        level=level,
        observation=observation,
        expectation=EXPECTATION,
        advice=advice,
        values={"pid": node.process.pid, "pool": node.pool},
    )
