"""What the rules read: ends and losses of the last hour, from the rollups, on each engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from hosting import HERE, THERE, Host, silence
from plans import faults
from storing import Shipper

from plet_celery import events
from plet_celery.monitor import alarms, ruling
from plet_celery.rulebook import Rulebook
from plet_celery.store import Store, alerting, hostloss, rates, watching
from plet_celery.watchfacts import Judgement, Verdict

OOM = {"type": "OSError", "module": "builtins", "message": "no route to 10.0.0.7:5432"}


class Service:
    """Runs that end as they are told, on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shipper = Shipper(store)
        self.teller = Teller()
        self.writers = {journal: self.teller.writer(journal) for journal in JOURNALS}
        self._numbers = itertools.count(1)

    def end(
        self, kind: str, count: int = 1, *, journal: str = JOURNALS[0], before: float = 0, **facts: Any
    ) -> list[str]:
        """Tell runs that ended so many seconds before now."""
        writer = self.writers[journal]
        ids = []
        for _ in range(count):
            number = next(self._numbers)
            run, attempt = f"{number:08x}-0000-4000-8000-000000000000", f"a{number}"
            self.teller.start(writer, run, attempt, queued_at=None, **facts)
            at = self.teller.now - before
            end = {"error": OOM} if kind == events.RUN_FAILED else {}
            self.teller.tell(writer, kind, run, attempt, at=at, by="child", runtime=0.1, **end)
            ids.append(run)
        return ids

    def ship(self) -> None:
        assert self.shipper.ship(self.teller.told) == 0
        self.teller.told.clear()

    def judge(self, **given: Any) -> dict[tuple[str, str], Judgement]:
        found = ruling.rule(self.store, [], book=Rulebook(given), now=self.teller.now)
        return {(one.rule, one.subject): one for one in found}


@pytest.fixture
def service(store: Store) -> Service:
    return Service(store)


def broken(found: dict[tuple[str, str], Judgement]) -> list[tuple[str, str]]:
    return sorted(key for key, one in found.items() if one.verdict is Verdict.BROKEN)


def test_ends_are_summed_by_task_over_hosts_queues_and_tenants(service: Service, store: Store) -> None:
    service.end(events.RUN_SUCCEEDED, 3, task="a")
    service.end(events.RUN_SUCCEEDED, 2, task="a", journal=JOURNALS[1], queue="other", tenant="acme")
    service.end(events.RUN_FAILED, 4, task="a")
    service.end(events.RUN_TIMED_OUT, 1, task="b")
    service.end(events.RUN_SUCCEEDED, 9, task="a", before=7200)
    service.ship()

    found = rates.ends_by_task(store, since=service.teller.now - 3600)

    assert found == {"a": {"succeeded": 5, "failed": 4}, "b": {"timed_out": 1}}


def test_a_retry_is_no_end(service: Service, store: Store) -> None:
    writer = service.writers[JOURNALS[0]]
    service.teller.start(writer, "r", "a1", queued_at=None)
    service.teller.end(writer, events.RUN_RETRIED, "r", "a1", retries=0)
    service.ship()

    assert rates.ends_by_task(store, since=service.teller.now - 3600) == {}


def test_one_of_two_is_no_rate(service: Service) -> None:
    service.end(events.RUN_SUCCEEDED, 1)
    service.end(events.RUN_FAILED, 1)
    service.ship()

    assert service.judge() == {}
    assert broken(service.judge(failure_rate={"minimum": 2})) == [("failure_rate", "shop.import")]


def test_failing_runs_are_one_judgement_that_names_the_newest(service: Service) -> None:
    service.end(events.RUN_SUCCEEDED, 50)
    ids = service.end(events.RUN_FAILED, 30)
    service.ship()

    found = service.judge()

    assert broken(found) == [("failure_rate", "shop.import")]
    one = found["failure_rate", "shop.import"]
    assert (one.count, one.runs) == (30, tuple(reversed(ids[-20:])))


def test_tasks_that_fail_in_the_same_way_are_one_judgement(service: Service) -> None:
    for task in "abc":
        service.end(events.RUN_FAILED, 20, task=task)
    service.end(events.RUN_SUCCEEDED, 20, task="d")
    service.ship()

    found = service.judge()

    (key,) = broken(found)
    assert key == ("failure_rate", "cause: OSError: no route to #.#.#.#:#")
    assert found[key].value == "60 runs of 3 tasks: a, b, c"
    assert len(found[key].runs) == 18


def test_lost_runs_are_judged_by_host_and_a_killer_by_task(service: Service) -> None:
    service.end(events.RUN_LOST, 2, task="oom", before=900)
    service.end(events.RUN_LOST, 2, task="oom")
    service.end(events.RUN_LOST, 3, task="bystander")
    service.ship()

    found = service.judge()

    host = f"a ({JOURNALS[0][:8]})"
    assert broken(found) == [("killer_task", "oom"), ("run_lost", host)]
    assert (found["killer_task", "oom"].count, found["run_lost", host].count) == (4, 3)
    assert len(found["killer_task", "oom"].runs) == 4


# Hosts


@pytest.fixture
def hosts(store: Store) -> Iterator[tuple[Host, Host]]:
    yield Host(store, HERE, "atlas"), Host(store, THERE, "borea")


def judge(store: Store, **given: Any) -> dict[tuple[str, str], Judgement]:
    found = ruling.rule(store, [], book=Rulebook(given), now=time.time())
    return {(one.rule, one.subject): one for one in found}


def test_a_lost_host_is_one_judgement_and_its_runs_are_no_second_one(
    store: Store, hosts: tuple[Host, Host]
) -> None:
    _, there = hosts
    for number in range(5):
        there.start(f"00000000-0000-4000-8000-{number:012}")
    silence(store, THERE, 1000)
    subject = f"borea ({THERE[:8]})"

    silent = judge(store)
    assert broken(silent) == [("host_lost", subject)]
    assert silent["host_lost", subject].count == 0

    _, gone = hostloss.silent(store)
    assert hostloss.mark_lost(store, gone[0], after=900, by=HERE) is not None
    lost = judge(store)
    # They are in the rollups, and told of once.
    assert rates.ends_by_task(store, since=time.time() - 3600) == {"shop.import": {"lost": 5}}
    assert broken(lost) == [("host_lost", subject)]
    assert lost["host_lost", subject].count == 5


def test_without_the_rule_of_hosts_its_shippers_check_says_so(store: Store, hosts: tuple[Host, Host]) -> None:
    silence(store, THERE, 1000)

    assert broken(judge(store, host_lost="off")) == []
    assert broken(judge(store)) == [("host_lost", f"borea ({THERE[:8]})")]


def test_a_host_that_said_goodbye_is_not_lost(store: Store, hosts: tuple[Host, Host]) -> None:
    _, there = hosts
    store.leave(there.lease)
    silence(store, THERE, 1000)

    assert judge(store) == {}


# The whole


def test_from_runs_to_an_alert_and_back(service: Service, store: Store) -> None:
    lease = watching.take(store, "tests", seconds=60)
    assert lease is not None

    def passes(after: float) -> list[str]:
        service.teller.now += after
        service.ship()
        found = ruling.rule(store, [], book=Rulebook(), now=service.teller.now)
        changes = alarms.settle(store, lease, found, route=lambda alert, change: [], now=service.teller.now)
        return [change.kind for change in changes if change.kind]

    service.end(events.RUN_FAILED, 10)
    assert passes(30) == ["pending"]
    assert passes(30) == []
    assert passes(30) == ["fired"]
    service.end(events.RUN_SUCCEEDED, 90)
    assert passes(30) == []
    assert passes(300) == ["resolved"]
    (alert,) = alerting.list_alerts(store).items
    assert alert.doc.value == "10 % of 100 runs in 1 h fail (10)"


def test_what_is_read_grows_with_the_buckets_and_not_with_the_runs(service: Service, store: Store) -> None:
    for hour in range(200):
        service.end(events.RUN_SUCCEEDED, 1, task=f"t{hour % 20}", before=hour * 3600.0)
        service.end(events.RUN_LOST, 1, task=f"t{hour % 20}", before=hour * 3600.0)
    service.ship()
    seen: list[Any] = []

    def note(connection: Any, clause: Any, *rest: Any) -> None:
        if isinstance(clause, sa.Select) and "rollup" in str(clause):
            seen.append(clause)

    sa.event.listen(store.engine, "before_execute", note)
    try:
        rates.ends_by_task(store, since=service.teller.now - 3600)
        rates.losses(store, since=service.teller.now - 3600)
    finally:
        sa.event.remove(store.engine, "before_execute", note)

    assert len(seen) >= 2
    with store.reading() as connection:
        if store.url.get_backend_name() == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        assert [faults(connection, query) for query in seen] == [[]] * len(seen)


def test_a_periodic_task_that_did_not_run_is_judged_by_its_newest_run(service: Service, store: Store) -> None:
    service.end(events.RUN_SUCCEEDED, 1, task="often", before=7000)
    service.end(events.RUN_FAILED, 1, task="often", before=400)
    service.end(events.RUN_SUCCEEDED, 1, task="sampled", before=400)
    service.ship()
    table = [
        {"name": "a", "task": "often", "every": 100.0},
        {"name": "b", "task": "sampled", "every": 100.0},
        {"name": "c", "task": "never", "every": 100.0},
    ]

    def keys(after: float) -> dict[str, str]:
        now = service.teller.now + after
        found = ruling.rule(
            store,
            [],
            book=Rulebook(),
            now=now,
            timetable=table,
            is_whole=lambda task: not task.startswith("sam"),
        )
        return {one.subject: one.verdict.value for one in found if one.rule == "missed_schedule"}

    # Runs are created when they start, not when they end.
    assert keys(0) == {"often": "kept"}
    assert keys(300) == {"often": "broken"}
