"""Workers, what they run and what they lost."""

from __future__ import annotations

from typing import Any

import pytest
from histories import JOURNALS, Teller
from storing import Shipper

from plet_celery import events
from plet_celery.store import Store, queries, workers

RUNS = tuple(f"{number:08x}-0000-4000-8000-000000000000" for number in range(6))
VERSIONS = {"plet": "0.1.0", "celery": "5.7.0"}


@pytest.fixture
def teller() -> Teller:
    return Teller()


def start_worker(teller: Teller, name: str, journal: str = JOURNALS[0], **facts: Any) -> Any:
    """Tell that a worker started; return its main process."""
    main = teller.writer(journal)
    told: dict[str, Any] = {"worker": name, "host": "atlas", "pid": 12, "pool": "prefork", "concurrency": 4}
    told |= {"app": "shop", "versions": VERSIONS}
    teller.tell(main, events.WORKER_STARTED, None, None, **(told | facts))
    return main


def test_a_worker_tells_what_it_is(store: Store, teller: Teller) -> None:
    main = start_worker(teller, "celery@a")
    stopping = teller.tell(main, events.WORKER_STOPPING, None, None, worker="celery@a")
    assert Shipper(store).ship(teller.told) == 0

    (found,) = queries.list_workers(store)

    assert (found.name, found.host, found.pid, found.pool) == ("celery@a", "atlas", 12, "prefork")
    assert (found.concurrency, found.app, found.versions) == (4, "shop", VERSIONS)
    assert (found.started_at, found.stopping_at) == (teller.told[0][1].wall, stopping.wall)
    assert (found.stopped_at, found.journal, found.is_living) == (None, JOURNALS[0], True)
    assert found.lease_age is not None and found.lease_age < 300
    assert found.unreachable_since is None


def test_the_living_come_first_then_the_newest(store: Store, teller: Teller) -> None:
    start_worker(teller, "celery@again")
    start_worker(teller, "celery@old")
    stopped = start_worker(teller, "celery@stopped")
    teller.tell(stopped, events.WORKER_STOPPED, None, None, worker="celery@stopped")
    start_worker(teller, "celery@again")
    start_worker(teller, "celery@away", JOURNALS[1])
    shipper = Shipper(store)
    assert shipper.ship(teller.told) == 0
    store.leave(shipper.lease(JOURNALS[1]))

    found = queries.list_workers(store)

    assert [(one.name, one.is_living) for one in found] == [
        ("celery@again", True),
        ("celery@old", True),
        ("celery@away", False),
        ("celery@stopped", False),
        ("celery@again", False),
    ]
    assert [one.name for one in queries.list_workers(store, limit=2)] == ["celery@away", "celery@again"][::-1]


def test_a_worker_whose_host_is_silent_does_not_live(store: Store, teller: Teller) -> None:
    start_worker(teller, "celery@a")
    assert Shipper(store).ship(teller.told) == 0
    journal = store.tables.journal
    with store.writing() as connection:
        connection.execute(journal.update().values(touched_at=1000.0))

    (found,) = queries.list_workers(store)

    assert (found.is_living, found.unreachable_since) == (False, 1000.0)
    assert found.lease_age is not None and found.lease_age > 1e9


def test_a_worker_whose_journal_is_at_its_end_does_not_live(store: Store, teller: Teller) -> None:
    main = start_worker(teller, "celery@a")
    shipper = Shipper(store)
    assert shipper.ship(teller.told) == 0

    store.forget_writers(shipper.lease(JOURNALS[0]), [main.id])

    assert [one.is_living for one in queries.list_workers(store)] == [False]


def lose(teller: Teller, main: Any, name: str) -> Any:
    """Tell, as the shipper does, that a worker's process is gone."""
    facts = {"by": "shipper", "writer": main.id, "worker": name, "host": "atlas", "reason": "gone"}
    return teller.tell(teller.writer(JOURNALS[0]), events.WORKER_LOST, None, None, **facts)


def test_a_worker_whose_process_is_gone_is_lost(store: Store, teller: Teller) -> None:
    main = start_worker(teller, "celery@a")
    start_worker(teller, "celery@b")
    shipper = Shipper(store)
    assert shipper.ship(teller.told) == 0
    assert set(workers.open_workers(store, JOURNALS[0]).values()) == {"celery@a", "celery@b"}
    told = [lose(teller, main, "celery@a"), lose(teller, main, "celery@a")]
    assert shipper.ship(teller.told) == 0

    found = {one.name: one for one in queries.list_workers(store)}

    assert (found["celery@a"].is_living, found["celery@a"].lost_at) == (False, told[0].wall)
    assert (found["celery@b"].is_living, found["celery@b"].lost_at) == (True, None)
    assert list(workers.open_workers(store, JOURNALS[0]).values()) == ["celery@b"]


def test_a_worker_that_has_said_that_it_stopped_is_not_lost(store: Store, teller: Teller) -> None:
    main = start_worker(teller, "celery@a")
    lose(teller, main, "celery@a")
    stopped = teller.tell(main, events.WORKER_STOPPED, None, None, worker="celery@a")
    assert Shipper(store).ship(teller.told) == 0

    (found,) = queries.list_workers(store)

    assert (found.stopped_at, found.lost_at) == (stopped.wall, None)


@pytest.mark.parametrize("end", ["stopped", "lost"])
def test_one_that_failed_to_start_does_not_hide_the_one_that_lives(
    store: Store, teller: Teller, end: str
) -> None:
    start_worker(teller, "celery@a")
    failed = start_worker(teller, "celery@a")
    if end == "stopped":
        teller.tell(failed, events.WORKER_STOPPED, None, None, worker="celery@a")
    else:
        lose(teller, failed, "celery@a")
    assert Shipper(store).ship(teller.told) == 0

    lives, ended = queries.list_workers(store)

    assert (lives.is_living, ended.is_living) == (True, False)
    assert lives.started_at < ended.started_at


def test_a_loss_without_a_start_names_its_worker(store: Store, teller: Teller) -> None:
    lose(teller, teller.writer(JOURNALS[0]), "celery@a")
    assert Shipper(store).ship(teller.told) == 0

    assert [(one.name, one.is_living) for one in queries.list_workers(store)] == [("celery@a", False)]


def test_facts_of_a_wrong_kind_are_none(store: Store, teller: Teller) -> None:
    start_worker(teller, "celery@a", pid="x", pool=1, concurrency=[1], app={}, versions={"a": 1, "b": "2"})
    assert Shipper(store).ship(teller.told) == 0

    (found,) = queries.list_workers(store)

    assert (found.pid, found.pool, found.concurrency, found.app) == (None, None, None, None)
    assert found.versions == {"b": "2"}


def test_what_a_worker_runs_is_told_oldest_first(store: Store, teller: Teller) -> None:
    writer = teller.writer()
    for number, worker in enumerate(("celery@b", "celery@a", "celery@b", None)):
        teller.start(writer, RUNS[number], f"a{number}", worker=worker)
    teller.tell(writer, events.STAGE_PROGRESSED, RUNS[2], "a2", stage=1, done=1, percent=30.0)
    teller.start(writer, RUNS[4], "a4", worker="celery@a")
    teller.end(writer, events.RUN_SUCCEEDED, RUNS[4], "a4")
    assert Shipper(store).ship(teller.told) == 0

    found = queries.running_by_worker(store)
    first = queries.running_by_worker(store, limit=2)

    shown = {worker: [run.id for run in runs] for worker, runs in found.by_worker.items()}
    assert shown == {"": [RUNS[3]], "celery@a": [RUNS[1]], "celery@b": [RUNS[0], RUNS[2]]}
    assert found.by_worker["celery@b"][1].percent == 30.0
    assert (found.truncated, first.truncated) == (False, True)
    assert [run.id for runs in first.by_worker.values() for run in runs] == [RUNS[1], RUNS[0]]


def test_lost_runs_tell_their_worker_and_the_reason(store: Store, teller: Teller) -> None:
    for number in range(3):
        writer = teller.writer()
        teller.start(writer, RUNS[number], f"a{number}", worker=f"celery@{number}")
        teller.lose(teller.writer(), writer, RUNS[number], f"a{number}", writer.after)
    teller.start(teller.writer(), RUNS[3], "a3")
    assert Shipper(store).ship(teller.told) == 0

    found = queries.lost_runs(store, limit=2)

    assert [(run.id, run.worker, run.reason) for run in found] == [
        (RUNS[2], "celery@2", "its process died"),
        (RUNS[1], "celery@1", "its process died"),
    ]
    since = queries.get_run(store, RUNS[2]).queued_at
    assert [run.id for run in queries.lost_runs(store, since=since)] == [RUNS[2]]
