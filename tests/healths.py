"""Believable answers of every check, well and in trouble, for pages and commands that show them."""

from __future__ import annotations

import time

from plet_celery.store.schema import HEAD
from plet_celery.watchfacts import CheckResult, Level

STACK = """Current thread 0x00007f2b (most recent call first):
  File "/srv/shop/prices.py", line 88 in wait_for_supplier
  File "/srv/shop/tasks.py", line 21 in update_prices
  File "/usr/lib/python3/dist-packages/celery/app/trace.py", line 453 in trace_task"""


def well() -> list[CheckResult]:
    """Return what is found where all is well."""

    def one(name: str, subject: str, observation: str) -> CheckResult:
        return CheckResult(name=name, subject=subject, level=Level.OK, observation=observation)

    return [
        one("store", "", "postgresql answers in 2 ms"),
        one("store", "schema", f"tables at {HEAD} (head)"),
        one("store", "size", "1.2 GiB in tables"),
        one("store", "writing", "it can be written"),
        one("broker", "", "amqp://broker.internal:5672// answers in 6 ms"),
        one("queue", "celery", "empty, 4 workers consume it"),
        one(
            "queue",
            "imports",
            "12 wait, the oldest run for 3 s (shop.import_catalogue), 2 workers consume it",
        ),
        one("workers", "", "4 of 4 answer, with 32 slots"),
        one("workers", "celery@atlas", "3 of 8 slots busy, consumes celery, imports"),
        one("workers", "celery@borea", "0 of 8 slots busy, consumes celery, imports"),
        one("beat", "", "last tick 8 s ago"),
        one("results", "", "RedisBackend answers in 1 ms"),
        one("shipper", "atlas (5b0f6c1d)", "heard of 2.1 s ago"),
        one("stuck", "", "every running run has told something of late"),
        one("disk", "atlas (5b0f6c1d)", "212.0 GiB free at plet_home"),
        one("clock", "atlas (5b0f6c1d)", "12 ms ahead of the store's clock"),
        one("retention", "", "last removal 14 m 02 s ago"),
        one("channel", "ops", "it takes what it is sent, last 2 h 10 m 00 s ago"),
    ]


def in_trouble(run_id: str = "1f9f7a2e-0000-4000-8000-000000000001") -> list[CheckResult]:
    """Return what is found on a bad morning."""
    now = time.time()
    bad = [
        CheckResult(
            name="queue",
            subject="reports",
            level=Level.CRITICAL,
            observation="212 wait, the oldest run for 41 m 07 s (shop.nightly_report), nobody consumes it",
            expectation="a consumer, at most 100 messages, none for longer than 15 m 00 s",
            affected="every task sent to reports: nobody takes it",
            advice="start a worker with -Q reports, or correct the task's queue",
            since=now - 2467,
        ),
        CheckResult(
            name="workers",
            subject="celery@corvus",
            level=Level.CRITICAL,
            observation="it answers and is idle, while 12 messages wait in imports",
            expectation="it answers, consumes its queues, and has room",
            affected="tasks in imports",
            advice="restart this worker: it has lost its queues (celery#8030, #8384)",
            since=now - 190,
        ),
        CheckResult(
            name="stuck",
            subject="shop.update_prices",
            level=Level.WARNING,
            observation="a run tells nothing for 22 m 10 s, in stage fetch (celery@atlas)",
            expectation="progress or a line within 10 m 00 s",
            affected="1 run of shop.update_prices, and the slots they hold",
            advice="see its stack below; raise plet_stuck_after_tasks where a task is silent for good reason",
            since=now - 1330,
            values={
                "count": 1,
                "runs": [
                    {
                        "run_id": run_id,
                        "stage": "fetch",
                        "worker": "celery@atlas",
                        "pid": 4711,
                        "stack": STACK,
                    }
                ],
            },
        ),
        CheckResult(
            name="disk",
            subject="delphi (77aa10c2)",
            level=Level.WARNING,
            observation="1.6 GiB free at plet_home",
            expectation="more than 2.0 GiB: below 1.0 GiB recording drops lines and progress",
            affected="logs and progress of every run there",
            advice="free some space, or keep runs for a shorter time (plet_retention_days)",
            since=now - 7000,
        ),
        CheckResult(
            name="beat",
            level=Level.NO_DATA,
            observation="no tick was seen yet",
            expectation="a tick every 30.0 s",
            affected="periodic tasks",
            advice="start one: celery -A proj beat (one for all hosts)",
        ),
    ]
    places = {(one.name, one.subject) for one in bad}
    return [*bad, *(one for one in well() if (one.name, one.subject) not in places)]
