"""What the store tells of hosts: who is silent, since when, and whose clock is wrong; on every engine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from histories import Teller
from hosting import HERE, THERE, holder, opened, silence
from storing import positions_of

from plet_celery import events
from plet_celery.store import Lease, Store, hostfacts, queries

RUN = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with opened(database_url) as made:
        yield made


def start_a_run(store: Store, held: Lease) -> None:
    teller = Teller()
    started = [teller.start(teller.writer(), RUN, "a1")]
    store.ingest(held, started, positions_of(started), now=time.time())


def test_a_host_that_is_heard_of_is_not_unreachable(store: Store) -> None:
    held = store.take_lease(HERE, **holder(host="atlas", pid=7))
    beat = {"host": "atlas", "backlog_bytes": 12, "writers": 3, "plet": "1.2"}
    store.beat(held, beat, now=1_790_000_000.0)

    (status,) = queries.list_hosts(store)

    assert (status.host, status.journal, status.machine, status.boot) == ("atlas", HERE, "m", "b")
    assert (status.pid, status.plet, status.backlog_bytes, status.writers) == (7, "1.2", 12, 3)
    assert status.unreachable_since is None
    assert status.lease_age < 30
    assert not status.is_skewed
    assert status.beat_at == 1_790_000_000.0


def test_a_silent_host_is_unreachable_since_it_was_last_heard_of(store: Store) -> None:
    store.take_lease(HERE, **holder(host="a"))
    store.take_lease(THERE, **holder(host="b"))
    silence(store, THERE, 600)

    here, there = queries.list_hosts(store)

    assert here.unreachable_since is None
    assert there.unreachable_since is not None
    assert 600 <= there.lease_age < 660


def test_a_host_is_silent_only_after_what_it_promised(store: Store) -> None:
    store.take_lease(HERE, **holder(stale_after=900.0))
    silence(store, HERE, 600)

    assert queries.list_hosts(store)[0].unreachable_since is None


def test_a_shipper_that_left_because_nobody_writes_is_not_missed(store: Store) -> None:
    held = store.take_lease(HERE, **holder())
    store.leave(held)
    silence(store, HERE, 600)

    (status,) = queries.list_hosts(store)
    assert status.unreachable_since is None
    assert status.left_at is not None

    store.take_lease(HERE, **holder(pid=2))
    assert queries.list_hosts(store)[0].left_at is None


def test_the_place_of_a_journal_that_was_left_may_be_another_machine(store: Store) -> None:
    store.leave(store.take_lease(HERE, **holder(machine="m")))

    assert store.take_lease(HERE, **holder(machine="n")).epoch == 2


def test_a_running_run_says_since_when_its_host_is_unreachable(store: Store) -> None:
    held = store.take_lease(HERE, **holder())
    start_a_run(store, held)
    assert queries.get_run(store, RUN).unreachable_since is None
    silence(store, HERE, 600)

    run = queries.get_run(store, RUN)

    assert run.state == "running"
    assert run.unreachable_since == queries.list_hosts(store)[0].unreachable_since
    assert queries.list_runs(store).items[0].unreachable_since == run.unreachable_since


def test_a_run_that_ended_does_not_need_its_host(store: Store) -> None:
    held = store.take_lease(HERE, **holder())
    teller = Teller()
    writer = teller.writer()
    found = [teller.start(writer, RUN, "a1"), teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1")]
    store.ingest(held, found, positions_of(found), now=time.time())
    silence(store, HERE, 600)

    assert queries.get_run(store, RUN).unreachable_since is None


@pytest.mark.parametrize(("ahead", "flagged"), [(-40.0, True), (-20.0, False), (20.0, False), (40.0, True)])
def test_a_clock_that_is_off_by_more_than_30_s_is_flagged(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead: float, flagged: bool
) -> None:
    held = store.take_lease(HERE, **holder())
    real = time.time
    monkeypatch.setattr("plet_celery.store.lease.time.time", lambda: real() + ahead)

    store.beat(held, {}, now=real())

    (status,) = queries.list_hosts(store)
    assert status.skew == pytest.approx(ahead, abs=5.0)
    assert status.is_skewed is flagged


def test_a_host_whose_clock_was_put_back_is_heard_at_once(store: Store) -> None:
    held, now = store.take_lease(HERE, **holder(host="a")), time.time()
    store.beat(held, {"disk_free_bytes": 1 << 40}, now=now + 86_400)

    store.beat(held, {"disk_free_bytes": 1}, now=now)
    store.beat(held, {"disk_free_bytes": 2}, now=now - 30)  # told before

    (status,) = queries.list_hosts(store)
    assert status.beat_at == now
    assert hostfacts.by_journal(store)[HERE].disk_free_bytes == 1
