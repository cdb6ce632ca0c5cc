"""Connections to the store's database: how an engine is opened, and how its transactions begin.

Writers work at READ COMMITTED and lock the rows they merge; readers see one state of the database in
all statements of a transaction. What databases say of themselves is `troubles.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, Transaction
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from plet_celery.errors import StoreError
from plet_celery.store import bulk, servers, sqlite
from plet_celery.store.patience import Patience, keep_deadlines
from plet_celery.store.troubles import shown, translated

_WRITES: Final = "plet_writes"
_ENDLESS: Final = Patience()
_BEGINNINGS: Final = {
    "sqlite": ("BEGIN IMMEDIATE", "BEGIN"),
    "postgresql": servers.POSTGRES_BEGINNINGS,
    "mysql": servers.MYSQL_BEGINNINGS,
    "mariadb": servers.MYSQL_BEGINNINGS,
}
"""How a transaction begins that writes, and one that reads, by engine."""
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS: Final = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


def parse_url(url: str) -> URL:
    """Return the parsed URL; the drivers we test are chosen where it names none.

    Raises:
        StoreError: it is no URL, or its engine is not supported.
    """
    try:
        parsed = sa.make_url(url)
    # The text itself may hold a password: none of these repeats it.
    except ArgumentError:
        raise StoreError(
            "plet_database_url is not a database URL; write it as sqlite:////path/plet.db"
        ) from None
    except ValueError:
        raise StoreError(
            "plet_database_url has a port that is no number; write it as postgresql+psycopg://user@host:5432/plet"
        ) from None
    if parsed.host and "@" in parsed.host:
        raise StoreError("plet_database_url has an @ too many; write one of user or password as %40")
    drivername = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if drivername not in _DRIVERS.values():
        raise StoreError(
            f"plet_database_url has the engine {parsed.drivername!r}; "
            "use sqlite, postgresql+psycopg, mariadb+pymysql or mysql+pymysql"
        )
    return parsed.set(drivername=drivername)


def make_engine(url: URL, *, read_only: bool, patience: Patience = _ENDLESS) -> Engine:
    """Return an engine; nothing is opened yet, except that a new SQLite file is made (0600).

    Raises:
        StoreError: the URL's driver is not installed, or not one that plet knows.
    """
    name = url.get_backend_name()
    try:
        if name == "sqlite":
            engine = sqlite.make_engine(sqlite.path_of(url), read_only=read_only, patience=patience)
        elif name == "postgresql":
            engine = servers.make_postgres(url, patience, read_only=read_only)
        else:
            engine = servers.make_mysql(url, patience)
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(
            f"the driver of {shown(url)} is not installed ({error}); "
            f"run pip install 'plet-celery[{_EXTRAS[name]}]'"
        ) from error
    bulk.prepare(engine)
    # First of all: the beginning of a transaction must not be measured by the end of the one before.
    keep_deadlines(engine, patience, shown(url))
    writes, reads = _BEGINNINGS[name]
    if name == "postgresql":
        reads = servers.POSTGRES_READER_BEGINNING if read_only else reads
        reads += patience.postgres_beginning

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql(writes if is_write else reads)

    return engine


@contextmanager
def opened(
    url: URL,
    engine: Callable[[], Engine],
    kind: Callable[[Engine], AbstractContextManager[Connection]],
    query_seconds: float | None = None,
) -> Iterator[Connection]:
    """Open a transaction whose errors are translated."""
    with translated(url, query_seconds), kind(engine()) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a write transaction: it commits at the end, an exception rolls it back."""
    options: dict[str, Any] = {_WRITES: True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a read transaction: all statements inside see one state, and nothing can be written."""
    try:
        connection, transaction = _begun(engine)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        # It was gone before it was used: nothing was asked yet, and the next one is new.
        connection, transaction = _begun(engine)
    with connection, transaction:
        yield connection


def _begun(engine: Engine) -> tuple[Connection, Transaction]:
    connection = engine.connect()
    try:
        return connection, connection.begin()
    except BaseException:
        connection.close()
        raise


def prefer_indexes(connection: Connection) -> None:
    """Have the rest of a read transaction use indexes, where the engine would rather read a whole table.

    PostgreSQL does where a limit seems to be reached soon: not so where all that is wanted was written last.
    """
    if connection.dialect.name == "postgresql" and not connection.get_execution_options().get(servers.READER):
        # What it must read in full all the same looks so dear to it that it would be compiled first.
        connection.exec_driver_sql(servers.POSTGRES_BY_INDEX)


def tie_breaker(run_id: sa.ColumnElement[str], dialect: str) -> sa.ColumnElement[str]:
    """Return the id as the last term of an order by time, of runs that another index leads to.

    SQLite takes the index by time and id wherever that has all of an order, though it read ten million rows
    for the few that run: it must not know that it has.
    """
    return sa.func.coalesce(run_id, run_id).label("id") if dialect == "sqlite" else run_id


SET_BACK: Final = 60.0
"""Seconds: a time further ahead was left by a clock that was put back; with less it is soon there again."""


def store_clock(dialect: str) -> sa.ColumnElement[float]:
    """Return the expression for the database's own clock, seconds since the epoch."""
    texts = {
        "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
        "postgresql": "cast(extract(epoch from clock_timestamp()) as double precision)",
    }
    # The session's zone is UTC: an hour that comes twice would be ambiguous here.
    return sa.literal_column(texts.get(dialect, "unix_timestamp(now(6))"), sa.Double())
