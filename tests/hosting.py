"""A store on each engine, two hosts that write into it, and what may happen to them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from histories import JOURNALS, Teller, Writer
from storing import positions_of

from plet_celery.events import Event
from plet_celery.store import Lease, Store, open_store
from plet_celery.store import engine as engines

HERE, THERE = JOURNALS[:2]


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """A store with its tables."""
    made = open_store(url)
    made.ensure_schema()
    yield made
    made.close()


def holder(**changed: Any) -> dict[str, Any]:
    return {"host": "a", "machine": "m", "boot": "b", "pid": 1, "now": 0.0} | changed


def silence(store: Store, journal: str, seconds: float) -> None:
    """Make it so long ago that a journal's shipper was heard of."""
    table = store.tables.journal
    with engines.writing(store.engine) as connection:
        earlier = table.update().values(touched_at=table.c.touched_at - seconds)
        connection.execute(earlier.where(table.c.journal_id == journal))


class Host:
    """A host whose shipper stores what its teller writes."""

    def __init__(self, store: Store, journal: str, name: str) -> None:
        self.store = store
        self.journal = journal
        self.name = name
        self.teller = Teller()
        self.teller.now = round(time.time() - 60, 3)
        self.lease = self.take()

    def take(self, **changed: Any) -> Lease:
        chosen = holder(host=self.name, machine=f"machine-{self.name}") | changed
        self.lease = self.store.take_lease(self.journal, **chosen)
        return self.lease

    def writer(self) -> Writer:
        return self.teller.writer(self.journal)

    def ship(self, found: Sequence[Event]) -> None:
        self.store.ingest(self.lease, found, positions_of(found), now=time.time())

    def start(self, run: str, attempt: str = "a1") -> Writer:
        """Store the start of a run; return its writer."""
        writer = self.writer()
        self.ship([self.teller.start(writer, run, attempt, host=self.name)])
        return writer
