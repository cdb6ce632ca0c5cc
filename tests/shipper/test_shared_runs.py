"""Four shippers tell of the same runs at once: rows are locked in one order, so nobody waits in a circle."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from histories import Teller
from services import new_database
from storing import positions_of

from plet_celery import events
from plet_celery.errors import StoreUnavailable
from plet_celery.events import Event
from plet_celery.store import Store, bulk, open_store, queries
from plet_celery.store.troubles import code_of

JOURNALS = tuple(digit * 32 for digit in "1234")
RUNS = [f"00000000-0000-4000-8000-{number:012}" for number in range(30)]
BATCHES = 4
_DEADLOCKS = ("40P01", 1213)
seen = threading.Event()
"""A deadlock has happened."""


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database(request.param) as made:
        store = open_store(made)
        store.ensure_schema()
        store.close()
        yield made


class Shipper(threading.Thread):
    """One host's shipper: every batch tells of all runs, each of an attempt of its own."""

    def __init__(self, url: str, journal: str, ready: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self.store = open_store(url)
        self.lease = self.store.take_lease(
            journal, host=journal[:1], machine=journal[:1], boot="b", pid=1, now=0
        )
        self.deadlocks = self.dead_letters = 0
        self.refused = 0
        self.batches = batches(journal)
        self._ready = ready
        sa.event.listen(self.store.engine, "handle_error", self._note)

    def _note(self, context: Any) -> None:
        error = context.sqlalchemy_exception
        if isinstance(error, sa.exc.DBAPIError) and code_of(error) in _DEADLOCKS:
            self.deadlocks += 1
            seen.set()

    def run(self) -> None:
        self._ready.wait()
        for found in self.batches:
            self._ship(found)
        self.store.close()

    def _ship(self, found: Sequence[Event]) -> None:
        while True:
            try:
                done = self.store.ingest(self.lease, found, positions_of(found), now=time.time())
                self.dead_letters += done.dead_letters
                return
            except StoreUnavailable:
                self.refused += 1


def batches(journal: str) -> list[list[Event]]:
    """All runs begin in the first batch and go on through the others, in another order each time."""
    teller, chance = Teller(), random.Random(journal)
    writer = teller.writer(journal)
    found: list[list[Event]] = [[] for _ in range(BATCHES)]
    for number, batch in enumerate(found):
        for run in chance.sample(RUNS, len(RUNS)):
            attempt = f"{run[-4:]}{journal[:4]}"
            if number == 0:
                batch.append(teller.start(writer, run, attempt, host=journal[:1]))
            elif number == BATCHES - 1:
                batch.append(teller.end(writer, events.RUN_FAILED, run, attempt))
            else:
                batch.append(
                    teller.tell(writer, events.STAGE_STARTED, run, attempt, stage=number, name=f"s{number}")
                )
    return found


def shipped(url: str) -> list[Shipper]:
    ready = threading.Barrier(len(JOURNALS))
    found = [Shipper(url, journal, ready) for journal in JOURNALS]
    for one in found:
        one.start()
    for one in found:
        one.join(200)
        assert not one.is_alive()
    return found


def is_complete(store: Store) -> bool:
    runs = queries.list_runs(store, limit=len(RUNS) + 1).items
    return len(runs) == len(RUNS) and {(run.state, run.attempts) for run in runs} == {
        ("failed", len(JOURNALS))
    }


def test_shippers_that_share_runs_do_not_deadlock(url: str) -> None:
    found = shipped(url)

    store = open_store(url)
    assert is_complete(store)
    assert sum(one.deadlocks for one in found) == 0
    assert sum(one.dead_letters for one in found) == 0
    store.close()


def test_without_the_order_they_do_and_try_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: rows locked one by one in any order end in circles; all of them are tried again."""
    seen.clear()
    real = bulk.fetch

    def disordered(
        connection: sa.Connection, table: sa.Table, keys: Any, *, columns: Any = (), lock: bool = False
    ) -> Iterator[Any]:
        found = list(keys)
        # One circle proves it; with more of them each waits a second for the next.
        if seen.is_set() or not lock or len(found) < 2:
            yield from real(connection, table, found, columns=columns, lock=lock)
            return
        rows = []
        for key in random.sample(found, len(found)):
            rows += list(real(connection, table, [key], columns=columns, lock=True))
        yield from sorted(rows)

    monkeypatch.setattr(bulk, "fetch", disordered)

    found = shipped(url)

    store = open_store(url)
    assert sum(one.deadlocks for one in found) > 0
    assert is_complete(store)
    assert sum(one.dead_letters for one in found) == 0
    store.close()
