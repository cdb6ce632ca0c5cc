"""Where batches of events go: what a sink is, and the store as one. Each keeps its checkpoint with its data.

A sink opens what it needs when it is first asked, and again after `close`: a database that is down
at the start holds up nobody else. It is used by one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from plet_celery.errors import SchemaError, StaleWrite, StoreUnavailable
from plet_celery.events import EVENTS_DROPPED, Event
from plet_celery.journal_place import JournalInfo, remember_store
from plet_celery.journal_reader import Batch

if TYPE_CHECKING:
    from plet_celery.store import IngestLimits, Lease, OpenAttempt, Store

log = logging.getLogger(__name__)

Position = tuple[int, int]
Positions = Mapping[str, Position]


class Sink(Protocol):
    """A destination of events that knows how far it has got."""

    @property
    def name(self) -> str:
        """One word for logs and health."""

    def positions(self) -> Positions:
        """Open if need be, and return the checkpoint: writer → (segment, byte after the last event taken)."""

    def apply(self, batch: Batch, now: float) -> None:
        """Take all events of a batch and move the checkpoint to its positions, or raise and take none."""

    def forget(self, writers: Sequence[str]) -> None:
        """Drop the checkpoints of writers whose files are gone."""

    def sever(self) -> None:
        """End a wait that lasts for ever, where that is possible; from another thread, never raises."""

    def close(self) -> None:
        """Let go of files and connections; never raises."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who takes the lease of a journal."""

    host: str
    machine: str
    boot: str
    pid: int
    stale_after: float = 30.0
    """Seconds without a sign of life after which others may call the host unreachable."""


class StoreSink:
    """Into the SQL store: rows, positions and lease in one transaction.

    Raises:
        StaleWrite: another shipper has taken the lease since; the caller steps down.
        StoreUnavailable: try again later.
        SchemaError: the schema is missing, too old or too new; an operator has to migrate.
        JournalError: the journal belongs to another store.
    """

    name = "store"

    def __init__(
        self,
        url: str,
        journal: JournalInfo,
        *,
        holder: Holder,
        limits: IngestLimits,
        migrates: bool,
        fence: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            migrates: bring the schema up to date by ourselves (the embedded store).
            fence: False once another shipper has the lock: then no lease is taken.
        """
        self._url = url
        self._journal = journal
        self._holder = holder
        self.limits = limits
        self._migrates = migrates
        self._fence = fence
        self._now = now
        self._store: Store | None = None
        self._opening: Store | None = None
        self._lease: Lease | None = None

    def positions(self) -> Positions:
        """Open the store and return what it has of this journal."""
        return self._opened().positions(self._journal.journal_id)

    def apply(self, batch: Batch, now: float) -> None:
        """Store a batch in one transaction."""
        store = self._opened()
        assert self._lease is not None
        events = [*batch.events, *dropped(batch, now)]
        result = store.ingest(self._lease, events, batch.positions, limits=self.limits, now=now)
        if result.dead_letters:
            log.warning("store refused events: dead_letters=%d", result.dead_letters)

    def store(self) -> Store:
        """Return the open store, the lease taken."""
        return self._opened()

    def beat(self, facts: Mapping[str, Any], now: float) -> None:
        """Tell the store of this host without the journal.

        Raises:
            StaleWrite: another shipper holds the lease.
            StoreUnavailable: nobody was told.
        """
        if self._store is not None and self._lease is not None:
            self._store.beat(self._lease, facts, now=now)

    def leave(self) -> None:
        """Say that nobody writes into the journal any more.

        Raises:
            StaleWrite: another shipper holds the lease.
            StoreUnavailable: nobody was told; the host will seem unreachable.
        """
        if self._store is not None and self._lease is not None:
            self._store.leave(self._lease)

    def open_attempts(self, writer: str) -> Sequence[OpenAttempt]:
        """Return the attempts of a writer that have no end."""
        return self._opened().open_attempts(self._journal.journal_id, writer)

    def writers_with_open_attempts(self) -> Collection[str]:
        """Return the writers of this journal that have such attempts."""
        return self._opened().writers_with_open_attempts(self._journal.journal_id)

    def open_workers(self) -> Mapping[str, str]:
        """Return the workers of this journal of which no end is known, as {writer: node name}."""
        from plet_celery.store.workers import open_workers

        return open_workers(self._opened(), self._journal.journal_id)

    def forget(self, writers: Sequence[str]) -> None:
        """Remove the position rows of these writers."""
        store = self._opened()
        assert self._lease is not None
        store.forget_writers(self._lease, writers)

    def tell(self, events: Sequence[Event], now: float) -> None:
        """Store events that are in no journal: what this shipper found in the store itself.

        Raises:
            StaleWrite: another shipper holds the lease.
        """
        store = self._opened()
        assert self._lease is not None
        store.ingest(self._lease, events, {}, limits=self.limits, now=now)

    def sever(self) -> None:
        """Break the connections."""
        store = self._store or self._opening
        if store is not None:
            store.sever()

    def close(self) -> None:
        """Close the connections; the lease stays ours until somebody takes it."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _opened(self) -> Store:
        if self._store is None:
            from plet_celery.store import open_store  # loads SQLAlchemy: not before it is needed

            self._opening = store = open_store(self._url)
            try:
                self._prepare(store)
            except BaseException:
                store.close()
                raise
            finally:
                self._opening = None
            self._store = store
        return self._store

    def _prepare(self, store: Store) -> None:
        if self._migrates:
            store.ensure_schema()
        else:
            status = store.check_schema()
            if not status.is_current:
                raise SchemaError(
                    f"the store's schema is {status.current!r}, this version needs {status.head!r}; "
                    "run celery plet migrate"
                )
        remember_store(self._journal.directory, store.store_id())
        if self._lease is None:
            # Once in a life: a shipper that lost its lease must not take it back by reconnecting.
            if not self._fence():
                raise StaleWrite("the lock file was replaced")
            self._lease = self._take_lease(store)

    def _take_lease(self, store: Store) -> Lease:
        holder = self._holder
        try:
            return store.take_lease(
                self._journal.journal_id,
                host=holder.host,
                machine=holder.machine,
                boot=holder.boot,
                pid=holder.pid,
                stale_after=holder.stale_after,
                now=self._now(),
            )
        except StaleWrite as error:
            # Not ours to lose: another machine stores this journal, or did a moment ago. Only this
            # sink waits for it to be over.
            raise StoreUnavailable(str(error)) from error


def dropped(batch: Batch, now: float) -> list[Event]:
    """Return what writers of this batch say they had to drop, as one event a writer.

    The counts ride in records (`x`), which are events of their own. This one's offset is the last byte
    of the writer's last record in the batch: no record begins there.
    """
    newest = {event.writer: event for event in batch.events}
    told = []
    for writer, reasons in batch.drops.items():
        segment, offset = batch.positions[writer]
        last = newest.get(writer)
        told.append(
            Event(
                kind=EVENTS_DROPPED,
                wall=last.wall if last else now,
                mono=last.mono if last else 0.0,
                run=None,
                attempt=None,
                data={"count": sum(reasons.values()), "reasons": reasons},
                writer=writer,
                segment=segment,
                offset=max(0, offset - 1),
            )
        )
    return told
