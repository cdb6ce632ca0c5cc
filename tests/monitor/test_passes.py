"""A pass: its order, who may do it, and what is left where it ends too early."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from storing import new_store

from plet_celery.errors import SchemaError, StaleWrite, StoreUnavailable
from plet_celery.monitor.outbox import Delivered
from plet_celery.monitor.passes import Caller, Ended, Steps, lease_seconds, run_pass
from plet_celery.store import Store, open_store, watching
from plet_celery.watchfacts import Change, CheckResult, Judgement, Level, Verdict, WatchLease

NOW = 1_800_000_000.0
CALLER = Caller(owner="test", kind="command", has_app=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


class Recorder:
    """Steps that note what was done, and do nothing else."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.nows: set[float] = set()
        self.failed_steps: Sequence[str] = ()
        self.heard: Sequence[Judgement] = ()
        self.pings: list[bool] = []

    def steps(self) -> Steps:
        return Steps(
            check=self._check,
            keep_checks=self._keep,
            promise=self._promise,
            rule=self._rule,
            alert=self._alert,
            keep=self._keep_more,
            deliver=self._deliver,
            ping=self._ping,
        )

    def _note(self, name: str, now: float | None = None) -> None:
        self.done.append(name)
        if now is not None:
            self.nows.add(now)

    def _check(self, now: float, seconds: float) -> Sequence[CheckResult]:
        self._note("check", now)
        return [CheckResult(name="broker", level=Level.OK, observation="it answers")]

    def _keep(self, lease: WatchLease, results: Sequence[CheckResult], now: float) -> None:
        self._note("keep_checks", now)

    def _promise(self, lease: WatchLease, now: float) -> Sequence[Judgement]:
        self._note("promise", now)
        return [Judgement(rule="objective:x", subject="shop.pay", verdict=Verdict.BROKEN)]

    def _rule(self, results: Sequence[CheckResult], now: float) -> Sequence[Judgement]:
        self._note("rule", now)
        return [Judgement(rule="check:broker", subject="broker", verdict=Verdict.KEPT)]

    def _alert(
        self, lease: WatchLease, judgements: Sequence[Judgement], failed: Sequence[str], now: float
    ) -> Sequence[Change]:
        self._note("alert", now)
        self.heard, self.failed_steps = judgements, failed
        return []

    def _keep_more(self, lease: WatchLease, now: float) -> None:
        self._note("keep", now)

    def _deliver(self, now: float, seconds: float) -> Delivered:
        self._note("deliver", now)
        return Delivered(delivered=2, failed=1)

    def _ping(self, complete: bool) -> None:
        self._note("ping")
        self.pings.append(complete)


IN_ORDER = ["check", "keep_checks", "promise", "rule", "alert", "keep", "deliver", "ping"]


def _fail(error: BaseException) -> Callable[..., Any]:
    def act(*given: Any) -> Any:
        raise error

    return act


def test_a_pass_does_its_steps_in_their_order_for_one_time(store: Store) -> None:
    seen = Recorder()

    outcome = run_pass(store, seen.steps(), CALLER, now=NOW)

    assert outcome.ended is Ended.PASSED
    assert seen.done == IN_ORDER
    assert seen.nows == {NOW}
    assert seen.pings == [True]
    assert [one.rule for one in seen.heard] == ["objective:x", "check:broker"]
    assert seen.failed_steps == []


def test_its_summary_lies_in_the_store(store: Store) -> None:
    run_pass(store, Recorder().steps(), CALLER, now=NOW)

    last = watching.last_pass(store)
    assert last.has_app
    assert last.age is not None
    facts = {"caller", "owner", "checks", "judgements", "broken", "delivered", "undelivered"}
    assert {name: last.doc[name] for name in facts} == {
        "caller": "command",
        "owner": "test",
        "checks": {"ok": 1},
        "judgements": 2,
        "broken": 1,
        "delivered": 2,
        "undelivered": 1,
    }


def test_without_a_time_it_judges_by_the_stores_clock(store: Store) -> None:
    seen = Recorder()

    run_pass(store, seen.steps(), CALLER)

    (now,) = seen.nows
    assert abs(now - watching.last_pass(store).now) < 60


def test_of_two_callers_at_once_one_passes(store: Store) -> None:
    seen, other = Recorder(), Recorder()
    inside: list[Ended] = []

    def meanwhile(now: float, seconds: float) -> Sequence[CheckResult]:
        inside.append(run_pass(store, other.steps(), CALLER, now=NOW).ended)
        return ()

    outcome = run_pass(store, replace(seen.steps(), check=meanwhile), CALLER, now=NOW)

    assert outcome.ended is Ended.PASSED
    assert inside == [Ended.BUSY]
    assert other.done == []


def test_of_ten_monitors_that_race_one_passes(tmp_path: Path) -> None:
    """Each with a connection of its own, as ten processes have; the others find it held, or just done."""
    new_store(tmp_path).close()
    barrier = threading.Barrier(10)
    done: list[tuple[Ended, list[str]]] = []

    def race() -> None:
        own = open_store(f"sqlite:///{tmp_path / 'plet.db'}")
        seen = Recorder()
        barrier.wait()
        done.append((run_pass(own, seen.steps(), CALLER, now=NOW, spacing=600).ended, seen.done))
        own.close()

    threads = [threading.Thread(target=race) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended for ended, _ in done) == sorted([Ended.BUSY] * 9 + [Ended.PASSED])
    assert sorted(steps for _, steps in done) == [[]] * 9 + [IN_ORDER]


@pytest.mark.parametrize("name", ["check", "keep_checks", "promise", "rule", "keep", "deliver"])
def test_a_step_that_fails_keeps_no_other_from_its_work(store: Store, name: str) -> None:
    seen = Recorder()
    steps = replace(seen.steps(), **{name: _fail(ValueError("broken"))})

    outcome = run_pass(store, steps, CALLER, now=NOW)

    assert outcome.ended is Ended.INCOMPLETE
    assert outcome.troubles == [f"{name}: ValueError"]
    assert seen.done == [step for step in IN_ORDER if step != name]
    assert seen.pings == [False]
    last = watching.last_pass(store)
    assert last.age is None, "an incomplete pass is none for whoever asks how old the last one is"
    assert last.doc["troubles"] == [f"{name}: ValueError"]


def test_what_was_found_is_not_kept_where_no_alert_was_made_of_it(store: Store) -> None:
    """Else the next pass would not find it again, and nobody would ever be told."""
    seen = Recorder()

    run_pass(store, replace(seen.steps(), alert=_fail(ValueError())), CALLER, now=NOW)

    assert "keep" not in seen.done
    assert "deliver" in seen.done


@pytest.mark.parametrize("name", ["check", "promise", "rule"])
def test_who_writes_alerts_is_told_which_step_could_not_judge(store: Store, name: str) -> None:
    seen = Recorder()

    run_pass(store, replace(seen.steps(), **{name: _fail(ValueError())}), CALLER, now=NOW)

    assert seen.failed_steps == [name]


def test_a_query_that_took_too_long_is_one_steps_trouble(store: Store) -> None:
    seen = Recorder()
    steps = replace(seen.steps(), promise=_fail(StoreUnavailable("the query took longer than 5 s")))

    outcome = run_pass(store, steps, CALLER, now=NOW)

    assert outcome.ended is Ended.INCOMPLETE
    assert "alert" in seen.done


def test_a_ping_that_fails_spoils_no_pass(store: Store) -> None:
    steps = replace(Recorder().steps(), ping=_fail(OSError("no route")))

    assert run_pass(store, steps, CALLER, now=NOW).ended is Ended.PASSED


def test_whoever_was_overtaken_writes_nothing_more(store: Store) -> None:
    """A holder that was frozen in its checks wakes up when another one has passed."""
    seen, other = Recorder(), Recorder()

    def freeze(now: float, seconds: float) -> Sequence[CheckResult]:
        with store.writing() as connection:
            connection.execute(store.tables.watching.watch.update().values(held_until=1.0))
        assert run_pass(store, other.steps(), replace(CALLER, owner="other"), now=NOW).ended is Ended.PASSED
        return ()

    outcome = run_pass(store, replace(seen.steps(), check=freeze), CALLER, now=NOW)

    assert outcome.ended is Ended.FENCED
    assert seen.done == []
    assert other.done == IN_ORDER
    assert watching.last_pass(store).owner == "other"


def test_a_step_that_is_fenced_ends_the_pass(store: Store) -> None:
    seen = Recorder()

    outcome = run_pass(store, replace(seen.steps(), alert=_fail(StaleWrite("gone"))), CALLER, now=NOW)

    assert outcome.ended is Ended.FENCED
    assert "deliver" not in seen.done
    assert seen.pings == []


@pytest.mark.parametrize("after", range(7))
def test_a_pass_that_is_asked_to_end_stops_between_two_steps(store: Store, after: int) -> None:
    seen = Recorder()

    outcome = run_pass(store, seen.steps(), CALLER, now=NOW, stopped=lambda: len(seen.done) >= after)

    assert outcome.ended is Ended.STOPPED
    assert seen.done == IN_ORDER[:after]
    assert not watching.last_pass(store).is_held, "the next one need not wait until the lease has run out"
    assert run_pass(store, Recorder().steps(), CALLER, now=NOW, spacing=600).ended is Ended.PASSED


@pytest.mark.parametrize(
    "name", ["check", "keep_checks", "promise", "rule", "alert", "keep", "deliver", "ping"]
)
def test_a_pass_that_is_killed_is_taken_up_by_the_next(tmp_path: Path, name: str) -> None:
    new_store(tmp_path).close()
    url = f"sqlite:///{tmp_path / 'plet.db'}"
    killed = os.fork()
    if not killed:
        try:
            run_pass(open_store(url), replace(Recorder().steps(), **{name: lambda *_: os._exit(9)}), CALLER)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == 9
    store, seen = open_store(url), Recorder()

    assert run_pass(store, seen.steps(), CALLER).ended is Ended.BUSY, "the dead one's lease holds for a while"
    with store.writing() as connection:
        connection.execute(store.tables.watching.watch.update().values(held_until=1.0))
    assert run_pass(store, seen.steps(), CALLER, spacing=600).ended is Ended.PASSED
    assert seen.done == IN_ORDER
    store.close()


def test_when_beat_asked_last_outlives_passes_of_others(store: Store) -> None:
    beat = Caller(owner="beat", kind="beat", has_app=True)
    run_pass(store, Recorder().steps(), beat, now=NOW)
    run_pass(store, Recorder().steps(), Caller(owner="child", kind="shipper", has_app=False), now=NOW + 60)

    last = watching.last_pass(store)

    assert (last.doc["beat_at"], last.doc["app_at"], last.has_app) == (NOW, NOW, False)


def test_a_store_without_tables_is_told_before_anything_is_done(tmp_path: Path) -> None:
    store, seen = open_store(f"sqlite:///{tmp_path / 'none.db'}"), Recorder()

    with pytest.raises(SchemaError):
        run_pass(store, seen.steps(), CALLER, now=NOW)
    assert seen.done == []
    store.close()


@pytest.mark.parametrize(("interval", "held"), [(1.0, 8.0), (30.0, 24.0), (600.0, 30.0)])
def test_the_lease_is_shorter_than_an_interval(interval: float, held: float) -> None:
    assert lease_seconds(interval) == held
