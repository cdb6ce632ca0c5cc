"""Runs that wait for ever are found, and told of once, however many say it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper, new_store

from plet_celery import events
from plet_celery.events import Event
from plet_celery.shipper.forsaken import ForsakenRuns
from plet_celery.store import Store, abandonment, queries
from plet_celery.store.engine import store_clock

WEEK = 7 * 86_400.0


def _now(store: Store) -> float:
    with store.reading() as connection:
        return float(connection.execute(sa.select(store_clock(connection.dialect.name))).scalar_one())


class Sink:
    """A shipper's sink: its store, and its lease."""

    def __init__(self, store: Store, journal: str) -> None:
        self._store = store
        self._lease = Shipper(store).lease(journal)

    def store(self) -> Store:
        return self._store

    def tell(self, told: list[Event], now: float) -> None:
        self._store.ingest(self._lease, told, {}, now=now)


def _waiting(store: Store, **runs: tuple[float, dict[str, Any]]) -> None:
    """Store runs that were queued so many seconds ago, with more facts."""
    teller, now = Teller(), _now(store)
    producer = teller.writer()
    for run, (ago, facts) in runs.items():
        told = {"task": "shop.import", "trigger": "api", "canvas": run, "retries": 0} | facts
        teller.tell(producer, events.RUN_QUEUED, run, None, at=now - ago, **told)
    Shipper(store).ship(teller.told)


def _look(store: Store, journal: str = JOURNALS[0], *, after: float = WEEK) -> ForsakenRuns:
    """Let a shipper look at everything."""
    runs = ForsakenRuns(Sink(store, journal), after=after, fence=lambda: True)  # type: ignore[arg-type]
    for turn in range(20):
        runs.look(1e9 + turn)
    return runs


def _state(store: Store, run: str) -> str:
    return str(queries.get_run(store, run).state)


def test_what_waits_for_too_long_is_abandoned_and_says_why(store: Store) -> None:
    _waiting(store, old=(WEEK + 60, {}), young=(WEEK - 60, {}))

    _look(store)

    run = queries.get_run(store, "old")
    assert run.state == "abandoned"
    assert run.reason == "queued, and not heard of for 7 days"
    assert run.ended_at is not None
    assert _state(store, "young") == "queued"
    kinds = [one.kind for one in queries.run_events(store, "old")]
    assert kinds == [events.RUN_QUEUED, events.RUN_ABANDONED]


def test_an_eta_that_lies_ahead_is_waited_for(store: Store) -> None:
    ahead = datetime.fromtimestamp(_now(store) + 3600, UTC).isoformat()
    _waiting(store, planned=(2 * WEEK, {"eta": ahead}), old=(2 * WEEK, {}))

    _look(store)

    assert (_state(store, "planned"), _state(store, "old")) == ("queued", "abandoned")


def test_a_retry_that_never_came_counts_from_its_last_attempt(sqlite_store: Store) -> None:
    store, teller, now = sqlite_store, Teller(), _now(sqlite_store)
    for run, ago in (("old", WEEK + 60), ("young", WEEK - 60)):
        child = teller.writer()
        teller.now = now - 2 * WEEK
        teller.start(child, run, f"{run}-1")
        teller.now = now - ago
        teller.end(child, events.RUN_RETRIED, run, f"{run}-1", retries=0)
    Shipper(store).ship(teller.told)

    _look(store)

    assert (_state(store, "old"), _state(store, "young")) == ("abandoned", "retrying")


def test_a_retry_that_is_planned_for_later_is_waited_for(store: Store) -> None:
    teller, now = Teller(), _now(store)
    for run, planned in (("planned", now + 3600), ("old", now - WEEK - 30)):
        child = teller.writer()
        teller.now = now - 2 * WEEK
        teller.start(child, run, f"{run}-1")
        teller.now = now - WEEK - 60
        teller.end(child, events.RUN_RETRIED, run, f"{run}-1", retries=0, when=planned)
    Shipper(store).ship(teller.told)

    _look(store)

    assert (_state(store, "planned"), _state(store, "old")) == ("retrying", "abandoned")


def test_shippers_of_two_hosts_say_the_same(store: Store) -> None:
    _waiting(store, old=(WEEK + 60, {}))
    now, found, _ = abandonment.forsaken(store, after=WEEK)
    told = [abandonment.event_of(one, after=WEEK, now=now) for one in found]

    for journal in JOURNALS[:2]:
        Sink(store, journal).tell(told, now)
        Sink(store, journal).tell(told, now)

    assert _state(store, "old") == "abandoned"
    assert len(queries.run_events(store, "old")) == 2
    assert abandonment.forsaken(store, after=WEEK)[1] == []


def test_it_goes_on_when_it_is_heard_of_again(store: Store) -> None:
    _waiting(store, old=(WEEK + 60, {}))
    _look(store)
    teller = Teller()
    teller.now = _now(store)

    teller.start(teller.writer(), "old", "old-1")
    Shipper(store).ship(teller.told)

    run = queries.get_run(store, "old")
    assert (run.state, run.ended_at, run.reason) == ("running", None, None)


def test_more_than_a_part_are_all_found(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    count = 2 * abandonment.AT_ONCE + 1
    _waiting(store, **{f"run{number:04}": (WEEK + 60 + number % 7, {}) for number in range(count)})

    _look(store)

    assert abandonment.forsaken(store, after=WEEK)[1] == []
    assert len(queries.list_runs(store, states=("queued",), limit=50).items) == 0
    store.close()


@pytest.mark.parametrize(("after", "fenced"), [(0.0, False), (WEEK, True)])
def test_nothing_is_said_where_it_is_off_or_another_shipper_serves(
    sqlite_store: Store, after: float, fenced: bool
) -> None:
    _waiting(sqlite_store, old=(10 * WEEK, {}))
    sink: Any = Sink(sqlite_store, JOURNALS[0])

    ForsakenRuns(sink, after=after, fence=lambda: not fenced).look(1e9)

    assert _state(sqlite_store, "old") == "queued"


def test_by_a_clock_that_has_jumped_nothing_is_abandoned(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host that looks lives a year before the store: one of the two is wrong."""
    _waiting(sqlite_store, old=(10 * WEEK, {}))
    monkeypatch.setattr("plet_celery.shipper.forsaken.time.time", lambda: _now(sqlite_store) - 365 * 86_400)

    _look(sqlite_store)

    assert _state(sqlite_store, "old") == "queued"
