"""The store: the SQL database behind every query.

Writing is for a journal's shipper, which holds the lease; reading is in `queries.py`. Everything opens
late: making a Store touches nothing.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from plet_celery.errors import SchemaError, StoreError
from plet_celery.events import Event
from plet_celery.store import engine as engines
from plet_celery.store import hosts, lease, merge, migrating
from plet_celery.store.batches import IngestResult, Writer
from plet_celery.store.lease import Lease, Positions
from plet_celery.store.lifelines import Lifelines
from plet_celery.store.limits import IngestLimits
from plet_celery.store.load import state_of
from plet_celery.store.migrating import SchemaStatus
from plet_celery.store.patience import Patience
from plet_celery.store.schema import Tables, tables_for
from plet_celery.store.troubles import shown, translated

_CHECKED_SECONDS: Final = 60.0
"""How long readers trust the schema's version that they have seen."""


@dataclass(frozen=True)
class OpenAttempt:
    """What the store knows of an attempt without an end."""

    run_id: str
    attempt_id: str
    writer: str
    task: str | None
    queue: str | None
    tenant: str | None
    worker: str | None
    pid: int | None
    started: float | None
    queued_at: float | None
    last_segment: int
    """Position of the newest event that its writer told of it."""
    last_offset: int


def open_store(
    url: str,
    *,
    read_only: bool = False,
    query_seconds: float | None = None,
    connections: int | None = None,
) -> Store:
    """Return the store at a SQLAlchemy URL; nothing is opened before the first use.

    Args:
        read_only: never make or change the database (the CLI, the pages).
        query_seconds: how long a read of a read-only store may take: one that takes longer, or waits so
            long for a lock or a connection, raises StoreUnavailable.
        connections: so many threads may read at the same time; the next one waits.

    Raises:
        StoreError: the URL cannot be used.
    """
    if query_seconds is not None and not read_only:
        raise StoreError("query_seconds is for readers; open the store with read_only=True")
    return Store(url, read_only=read_only, patience=Patience(query_seconds, connections))


class Store:
    """One database with the tables of plet."""

    def __init__(self, url: str, *, read_only: bool = False, patience: Patience | None = None) -> None:
        self._url = engines.parse_url(url)
        self._read_only = read_only
        self._patience = patience or Patience()
        self._engine: Engine | None = None
        self._lifelines: Lifelines | None = None
        self._lock = threading.Lock()
        self._here = threading.local()
        self._pid = os.getpid()
        self._checked_at = -math.inf
        self.tables: Tables = tables_for(self._url.get_backend_name())
        self._writer = Writer(self.tables)

    @property
    def shown_url(self) -> str:
        """The URL for people, without its password."""
        return shown(self._url)

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._checked_at = -math.inf
        if engine is not None:
            engine.dispose()

    def sever(self) -> None:
        """Break all connections, from another thread: who waits for the database gets StoreUnavailable."""
        lifelines = self._lifelines
        if lifelines is not None:
            lifelines.sever()

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a read transaction, for the queries.

        Raises:
            StoreUnavailable: the database cannot be reached, or a query takes longer than it may.
            SchemaError: it has no tables yet, or those of another version.
        """
        shared: Connection | None = getattr(self._here, "connection", None)
        return self._reading() if shared is None else self._again(shared)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Have all reads of this thread in here see one state of the database: they share a transaction.

        Raises:
            StoreUnavailable: the database cannot be reached, or all together take longer than a read may.
            SchemaError: it has no tables yet, or those of another version.
        """
        with self._reading() as connection:
            self._here.connection = connection
            try:
                yield
            finally:
                del self._here.connection

    def ensure_schema(self) -> SchemaStatus:
        """Make or migrate the tables where that is needed, once among all who try at the same time.

        Raises:
            SchemaError: the tables come from a newer version.
        """
        status = self.check_schema()
        migrating.check_not_newer(status)
        return status if status.is_current else migrate(self)

    def check_schema(self) -> SchemaStatus:
        """Return which schema the database has, and which one this version needs."""
        with translated(self._url, self._patience.query_seconds):
            return migrating.read_status(self._open())

    def store_id(self) -> str:
        """Return the id that was given to this database when its tables were made.

        Raises:
            SchemaError: there are no tables yet.
        """
        info = self.tables.info
        with self.reading() as connection:
            found = connection.execute(sa.select(info.c.value).where(info.c.name == "store_id")).scalar()
        if found is None:
            raise SchemaError(f"{self.shown_url} has no id; run celery plet migrate")
        return str(found)

    def take_lease(
        self,
        journal_id: str,
        *,
        host: str,
        machine: str,
        boot: str,
        pid: int,
        now: float,
        stale_after: float = lease.STALE_SECONDS,
    ) -> Lease:
        """Take over the writing for a journal: from here on, an earlier holder's writes are refused.

        Args:
            now: unused by the lease itself, which follows the store's clock.
            stale_after: seconds without a touch after which the host counts as unreachable.

        Raises:
            StaleWrite: another machine holds it and is alive.
        """
        with self.writing() as connection:
            return lease.take(
                connection,
                self.tables,
                journal_id,
                host=host,
                machine=machine,
                boot=boot,
                pid=pid,
                stale_after=stale_after,
            )

    def ingest(
        self,
        held: Lease,
        events: Sequence[Event],
        positions: Mapping[str, tuple[int, int]],
        *,
        limits: IngestLimits | None = None,
        now: float,
        heard: bool = True,
    ) -> IngestResult:
        """Store a batch in one transaction: rows, positions, the touch of the lease.

        Args:
            positions: by writer, the byte after the last event of this batch.
            now: this host's wall time; an event's own time counts as "as of" no further than this.
            heard: False where another host tells of a silent one: its lease does not become younger.

        Returns:
            Which runs changed, and how many events were refused (they lie in `dead_letter`).

        Raises:
            StaleWrite: another shipper holds the lease; nothing was written.
            StoreUnavailable: the database is down or locked; nothing was written, try again.
        """
        with translated(self._url):
            return self._writer.ingest(
                self._open(), held, events, positions, limits=limits or IngestLimits(), now=now, heard=heard
            )

    def beat(self, held: Lease, facts: Mapping[str, Any], *, now: float) -> None:
        """Touch the lease and keep what the host tells of itself.

        Raises:
            StaleWrite: another shipper holds the lease.
        """
        with self.writing() as connection:
            lease.touch(connection, self.tables, held)
            hosts.keep_beat(connection, self.tables, held.journal_id, now, dict(facts))

    def leave(self, held: Lease) -> None:
        """Say that nobody writes into the journal any more, so that its silence means nothing.

        Raises:
            StaleWrite: another shipper holds the lease.
        """
        with self.writing() as connection:
            lease.leave(connection, self.tables, held)

    def positions(self, journal_id: str) -> Positions:
        """Return how far each writer's files were read: {writer: (segment, offset)}."""
        with self.reading() as connection:
            return lease.positions(connection, self.tables, journal_id)

    def forget_writers(self, held: Lease, writers: Iterable[str]) -> None:
        """Drop the positions of writers whose files are gone.

        Raises:
            StaleWrite: another shipper holds the lease.
        """
        with self.writing() as connection:
            lease.touch(connection, self.tables, held)
            lease.forget(connection, self.tables, held.journal_id, writers)

    def open_attempts(self, journal_id: str, writer: str) -> list[OpenAttempt]:
        """Return the attempts that `writer` started and nobody ended."""
        table = self.tables.attempt
        mine = (table.c.journal_id == journal_id, table.c.writer == writer, table.c.state == "running")
        query = sa.select(table.c.run_id, table.c.id, table.c.doc).where(*mine).order_by(table.c.run_id)
        with self.reading() as connection:
            return [open_attempt(row.run_id, row.id, row.doc, writer) for row in connection.execute(query)]

    @contextmanager
    def _again(self, connection: Connection) -> Iterator[Connection]:
        with translated(self._url, self._patience.query_seconds):
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._opened(engines.reading) as connection:
            # Another host may migrate while a page is open for days.
            if time.monotonic() - self._checked_at > _CHECKED_SECONDS:
                migrating.check_version(connection)
                self._checked_at = time.monotonic()
            yield connection

    def writers_with_open_attempts(self, journal_id: str) -> set[str]:
        """Return the writers of a journal that started attempts which nobody ended."""
        table = self.tables.attempt
        mine = (table.c.journal_id == journal_id, table.c.state == "running")
        with self.reading() as connection:
            return set(connection.scalars(sa.select(table.c.writer).where(*mine).distinct()))

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a write transaction that touches no lease, for what a shipper does beside batches.

        Raises:
            StoreUnavailable: the database is down or locked; nothing was written, try again.
        """
        return self._opened(engines.writing)

    def _opened(
        self, kind: Callable[[Engine], AbstractContextManager[Connection]]
    ) -> AbstractContextManager[Connection]:
        return engines.opened(self._url, self._open, kind, self._patience.query_seconds)

    def _open(self) -> Engine:
        if self._pid != os.getpid():
            self._forget_parent()
        with self._lock:
            if self._engine is None:
                self._engine = engines.make_engine(
                    self._url, read_only=self._read_only, patience=self._patience
                )
                self._lifelines = Lifelines(self._engine)
            return self._engine

    def _forget_parent(self) -> None:
        """Begin anew in a forked child: the connections are its parent's, and so may the lock be."""
        engine, self._engine = self._engine, None
        self._lock, self._pid = threading.Lock(), os.getpid()
        if engine is not None:
            engine.dispose(close=False)

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine; opened late."""
        return self._open()

    @property
    def url(self) -> sa.URL:
        """The parsed URL, with its password."""
        return self._url


def check_schema(store: Store) -> SchemaStatus:
    """Return which schema a store has, and which one this version needs."""
    return store.check_schema()


def migrate(store: Store, revision: str = "head") -> SchemaStatus:
    """Bring a store's tables to `revision`, once among all who try at the same time.

    Raises:
        SchemaError: they come from a newer version, or there is no such revision.
    """
    with translated(store.url):
        return migrating.migrate(store.engine, revision)


def migrate_sql(store: Store, revision: str = "head") -> str:
    """Return the SQL of a migration from nothing, for a person to run."""
    dialect = store.url.get_backend_name()
    if dialect == "sqlite":
        raise StoreError("SQLite's tables are made by plet itself; --sql is for PostgreSQL and MariaDB")
    return migrating.sql(dialect, revision)


def open_attempt(run: str, attempt: str, doc: str, writer: str) -> OpenAttempt:
    """Return what the row of an attempt says; `writer` is its column."""
    state = state_of(doc)
    segment, offset = state.seen.get(writer, (0, 0))
    facts = state.start.data if state.start is not None else {}
    return OpenAttempt(
        run_id=run,
        attempt_id=attempt,
        writer=writer,
        task=merge.text(facts.get("task"), 255),
        queue=merge.text(facts.get("queue"), 255),
        tenant=merge.text(facts.get("tenant"), 255),
        worker=merge.text(facts.get("worker"), 255),
        pid=merge.integer(facts.get("pid")),
        started=state.start.stamp[0] if state.start is not None else None,
        queued_at=merge.number(facts.get("queued_at")),
        last_segment=segment,
        last_offset=offset,
    )
