"""Connections to the store's database, and what its errors mean.

The only place that knows how an engine is opened, locked and how it says that it is down. SQLite: WAL,
synchronous=FULL, a write transaction takes the lock at its beginning (a read lock that is upgraded
later fails at once when another process writes).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from plet_celery.errors import PletError, SchemaError, StoreError, StoreUnavailable

BUSY_SECONDS: Final = 10.0
"""How long a statement waits for another process's lock on SQLite."""
_LOCK_LOOK_SECONDS: Final = 0.02
_WAL_LIMIT_BYTES: Final = 64 << 20
_CACHE_KIB: Final = 32 << 10
_EXTRAS: Final = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


def parse_url(url: str) -> URL:
    """Return the parsed URL; the drivers we test are chosen where it names none.

    Raises:
        StoreError: it is no URL, or its engine is not supported.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        # The text itself may hold a password: it is not repeated.
        raise StoreError(
            "plet_database_url is not a database URL; write it as sqlite:////path/plet.db"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise StoreError(
            f"plet_database_url has the engine {parsed.get_backend_name()!r}; "
            "use sqlite, postgresql+psycopg, mariadb+pymysql or mysql+pymysql"
        )
    default = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
    return parsed.set(drivername=default.get(parsed.drivername, parsed.drivername))


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """Return an engine; nothing is opened yet, except that a new SQLite file is made (0600)."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(_sqlite_path(url), read_only=read_only)
    try:
        return sa.create_engine(
            url, pool_pre_ping=True, pool_size=2, isolation_level="READ COMMITTED", hide_parameters=True
        )
    except (ImportError, NoSuchModuleError) as error:
        extra = _EXTRAS[url.get_backend_name()]
        raise StoreError(
            f"the driver of {shown(url)} is not installed ({error}); run pip install 'plet-celery[{extra}]'"
        ) from error


def shown(url: URL) -> str:
    """Return a URL for people: neither its password nor its options (they may hold one, too)."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn what the database says into StoreUnavailable, SchemaError or StoreError with a way out.

    Data errors (a value the database refuses) pass through: only the caller knows what to do.
    """
    try:
        yield
    except PletError:
        raise
    except DBAPIError as error:
        found = _meaning(error.orig, shown(url), error)
        if found is None:
            raise
        raise found from error
    except sqlite3.Error as error:
        found = _meaning(error, shown(url), None)
        if found is None:
            raise
        raise found from error
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable(f"{shown(url)}: no connection became free; try again later") from error


def is_data_fault(error: BaseException) -> bool:
    """Return whether `error` comes from what was to be written: never true of a connection's error."""
    if isinstance(error, (PletError, OSError, MemoryError)) or not isinstance(error, Exception):
        return False
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, OperationalError):
            return False
        # sqlite3 says InterfaceError or ProgrammingError of a value it cannot bind; a lost PostgreSQL
        # connection is an InterfaceError.
        return not isinstance(error, InterfaceError) or isinstance(error.orig, sqlite3.Error)
    return True


@contextmanager
def opened(
    url: URL, engine: Callable[[], Engine], kind: Callable[[Engine], AbstractContextManager[Connection]]
) -> Iterator[Connection]:
    """Open a transaction whose errors are translated."""
    with translated(url), kind(engine()) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a write transaction: it commits at the end, an exception rolls it back."""
    with engine.connect().execution_options(plet_writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a read transaction: all statements inside see one state on SQLite."""
    with engine.connect() as connection, connection.begin():
        yield connection


def store_clock(dialect: str) -> sa.ColumnElement[float]:
    """Return the expression for the database's own clock, seconds since the epoch."""
    texts = {
        "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
        "postgresql": "extract(epoch from clock_timestamp())",
    }
    return sa.literal_column(texts.get(dialect, "unix_timestamp(now(6))"), sa.Double())


def _sqlite_path(url: URL) -> Path:
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise StoreError(
            "plet_database_url needs a SQLite file, as in sqlite:////path/plet.db; "
            "a database in memory is seen by one process only"
        )
    return Path(name).absolute()


def _sqlite_engine(path: Path, *, read_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        if not read_only:
            _make_file(path)
        mode = "ro" if read_only else "rw"
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        if not read_only:
            _use_wal(cursor)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
        cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("plet_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(cursor: sqlite3.Cursor) -> None:
    # SQLite does not wait for a lock here, whatever the time-out is: two first starts met that.
    deadline = time.monotonic() + BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_LOOK_SECONDS)


def _make_file(path: Path) -> None:
    # SQLite gives -wal and -shm the mode of the file itself.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailable(
            f"the store {str(path)!r} cannot be made by uid {os.getuid()} ({error.strerror}); "
            "make its folder writable, or set plet_home or plet_database_url"
        ) from error


def _meaning(error: BaseException | None, where: str, wrapped: DBAPIError | None) -> StoreError | None:
    if isinstance(error, sqlite3.Error):
        return _sqlite_meaning(error, where)
    if wrapped is None:
        return None
    code = getattr(error, "sqlstate", None) or (getattr(error, "args", None) or [None])[0]
    if code in ("42P01", "3F000", 1146):  # no such table or schema
        return SchemaError(f"{where} has no tables of plet; run celery plet migrate")
    if wrapped.connection_invalidated or isinstance(wrapped, (OperationalError, InterfaceError)):
        return StoreUnavailable(f"{where} does not answer ({_first_line(error)}); it is tried again")
    return None


# What sqlite3 says, in the order it is looked for.
_SQLITE: Final[tuple[tuple[str, type[StoreError], str], ...]] = (
    ("no such table", SchemaError, "has no tables of plet yet; start a worker, or run celery plet migrate"),
    ("no such column", SchemaError, "has older tables; run celery plet migrate"),
    ("locked", StoreUnavailable, "is locked by another process for more than 10 s; end that process or wait"),
    ("readonly", StoreUnavailable, "is read-only for this user; make the file and its folder writable"),
    (
        "unable to open",
        StoreUnavailable,
        "cannot be opened; the first worker makes it, or check its path and mode",
    ),
    ("full", StoreUnavailable, "cannot grow, the disk is full; free some space"),
    ("disk i/o", StoreUnavailable, "cannot be read or written; check the disk"),
    ("not a database", StoreError, "is no SQLite database; restore a backup or move the file away"),
    ("malformed", StoreError, "is damaged; restore a backup or move the file away"),
)


def _sqlite_meaning(error: sqlite3.Error, where: str) -> StoreError | None:
    said = str(error).lower()
    for words, kind, way_out in _SQLITE:
        if words in said:
            return kind(f"{where} {way_out} ({error})")
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(f"{where} does not answer ({error})")
    return None


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
