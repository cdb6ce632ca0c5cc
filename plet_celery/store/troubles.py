"""What a database's error means: try again, migrate, ask for a right, or one row that is at fault.

Each driver says it in its own way: SQLite by words, PostgreSQL by SQLSTATE (its appendix A), MariaDB and
MySQL by numbers (mariadb.com/kb/en/mariadb-error-codes). What is not known to come from a value is never
blamed on one: an event is buried for good, a statement is tried again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from plet_celery.errors import PletError, SchemaError, StoreError, StoreUnavailable

_NO_TABLES: Final = ("42P01", "3F000", 1146)
_NO_COLUMN: Final = ("42703", 1054)
_NO_RIGHT: Final = ("42501", 1044, 1142, 1143, 1227)
_NO_LOGIN: Final = ("28P01", "28000", 1045, 1698)
_NO_DATABASE: Final = ("3D000", 1049)
_NO_CONNECTION: Final = ("53300", 1040, 1203, 1226)
# libpq gives no SQLSTATE for what the server says before a session has begun.
_REFUSALS: Final = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("not permitted to log in", "28000"),
    ("too many", "53300"),
    ("remaining connection slots", "53300"),
    ('role "', "28000"),
    ("does not exist", "3D000"),
)
_READ_ONLY: Final = ("25006", 1290, 1792, 1836)
_FULL: Final = ("53100", 1021, 1114)
_TIME: Final = ("57014", 1969, 3024)
_SQLITE_TIME: Final = ("interrupted", "locked")
_LOCKS: Final = ("40001", "40P01", "55P03", 1020, 1205, 1213)
"""Two transactions were in each other's way: the same one again is likely to pass."""

# Classes 22 (data) and 23 (integrity), and a row that is too large for a page or an index.
_POSTGRES_DATA_CLASSES: Final = ("22", "23")
_POSTGRES_TOO_LARGE: Final = "54000"
# Null, duplicate, truncated, out of range, too long, no such character, no default, row too large.
_MYSQL_DATA: Final = frozenset(
    {1022, 1048, 1062, 1118, 1139, 1263, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1586, 1690, 3140, 4025}
)


def shown(url: URL) -> str:
    """Return a URL for people: neither its password nor its options (they may hold one, too)."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def translated(url: URL, query_seconds: float | None = None) -> Iterator[None]:
    """Turn what the database says into StoreUnavailable, SchemaError or StoreError with a way out.

    Data faults (a value the database refuses) pass through: only the caller knows what to do.

    Args:
        query_seconds: how long a read may take, where that has a limit.
    """
    try:
        yield
    except PletError:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        if query_seconds is not None and _is_out_of_time(error):
            raise out_of_time(shown(url), query_seconds) from error
        found = _meaning(error, url)
        if found is None:
            raise
        raise found from error
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable(f"{shown(url)}: no connection became free; try again later") from error


def out_of_time(where: str, seconds: float) -> StoreUnavailable:
    """Return what a reader gets that has waited for long enough."""
    return StoreUnavailable(
        f"{where}: a query took longer than {seconds:g} s; ask for less (a shorter time, one task), "
        "or try again"
    )


def is_data_fault(error: BaseException) -> bool:
    """Return whether `error` comes from what was to be written: never true of a connection's error."""
    if isinstance(error, (PletError, OSError, MemoryError)) or not isinstance(error, Exception):
        return False
    if not isinstance(error, DBAPIError):
        return True
    if error.connection_invalidated:
        return False
    if isinstance(error.orig, sqlite3.Error):
        # sqlite3 says InterfaceError or ProgrammingError of a value that it cannot bind.
        return not isinstance(error, OperationalError) and _sqlite_meaning(error.orig, "") is None
    code = code_of(error)
    if code is None:  # the driver itself refuses a value before anything is sent
        return not isinstance(error, (OperationalError, InterfaceError, InternalError))
    if isinstance(code, str):
        return code[:2] in _POSTGRES_DATA_CLASSES or code == _POSTGRES_TOO_LARGE
    return code in _MYSQL_DATA


def is_worth_another_try(error: BaseException) -> bool:
    """Return whether the same transaction, begun anew at once, may pass.

    Two hosts insert the same run, or wait for each other's rows. SQLite has one writer: never there.
    """
    if not isinstance(error, DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    return isinstance(error, IntegrityError) or code_of(error) in _LOCKS


def code_of(error: DBAPIError) -> str | int | None:
    """Return SQLSTATE or error number; None for what the driver says without the server."""
    first: Any = (getattr(error.orig, "args", None) or [None])[0]
    if type(first) is int:  # PyMySQL, whose SQLSTATEs are those of the standard, and coarse
        return first
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_out_of_time(error: DBAPIError | sqlite3.Error) -> bool:
    """Return whether a read was ended because of its time; "locked" is the end of SQLite's own wait."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return any(words in str(cause) for words in _SQLITE_TIME)
    return isinstance(error, DBAPIError) and code_of(error) in _TIME


def _meaning(error: DBAPIError | sqlite3.Error, url: URL) -> StoreError | None:
    if isinstance(error, sqlite3.Error):
        return _sqlite_meaning(error, shown(url))
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_meaning(error.orig, shown(url))
    if is_data_fault(error):
        return None
    return _server_meaning(error, url)


def _server_meaning(error: DBAPIError, url: URL) -> StoreError:
    where, code, said = shown(url), code_of(error), _first_line(error.orig)
    if code is None and isinstance(error, OperationalError):
        code = next((one for words, one in _REFUSALS if words in said), None)
    if code in _NO_LOGIN:
        return StoreUnavailable(
            f"{where} does not let its user in ({said}); set user and password in plet_database_url, "
            "then restart the workers"
        )
    if code in _NO_DATABASE:
        return StoreUnavailable(f"{where} is not there ({said}); create it, or set plet_database_url")
    if code in _NO_CONNECTION:
        return StoreUnavailable(
            f"{where} has no connection left ({said}); it is tried again, or raise the server's limit: "
            "a shipper takes one"
        )
    if code in _NO_TABLES:
        return SchemaError(f"{where} has no tables of plet; run celery plet migrate")
    if code in _NO_COLUMN:
        return SchemaError(f"{where} has older tables ({said}); run celery plet migrate")
    if code in _NO_RIGHT:
        return StoreUnavailable(f"{where} refuses its user ({said}); {_grant(said, url)}")
    if code in _READ_ONLY:
        return StoreUnavailable(f"{where} is read-only ({said}); it is tried again, or name its primary")
    if code in _FULL:
        return StoreUnavailable(f"{where} cannot grow ({said}); free some space")
    if code in _LOCKS:
        return StoreUnavailable(f"{where} is busy ({said}); it is tried again")
    if isinstance(code, str) and code[:2] in ("42", "0A"):
        return StoreError(f"{where} refuses a statement ({said}); docs/stores.md lists the versions it needs")
    return StoreUnavailable(f"{where} does not answer ({said}); it is tried again")


def _grant(said: str, url: URL) -> str:
    """Return the statement that gives a right which is missing."""
    user, database = url.username, url.database
    if url.get_backend_name() != "postgresql":
        rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX"
        return f"a reader needs GRANT SELECT, a writer GRANT {rights} ON `{database}`.* TO '{user}'"
    if "for database" in said:
        return (
            f'GRANT CREATE ON DATABASE "{database}" TO "{user}", or CREATE SCHEMA plet AUTHORIZATION "{user}"'
        )
    if "for schema" in said:
        return f'GRANT USAGE ON SCHEMA plet TO "{user}", and CREATE as well if it is to migrate'
    if "for table" in said:
        return f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA plet TO "{user}"'
    return "docs/stores.md has the grants it needs"


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
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError)):
        return None
    said = str(error).lower()
    for words, kind, way_out in _SQLITE:
        if words in said:
            return kind(f"{where} {way_out} ({error})")
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(f"{where} does not answer ({error})")
    return None


def _first_line(error: BaseException | None) -> str:
    args: tuple[Any, ...] = getattr(error, "args", ())
    # PyMySQL: (number, text).
    said = str(args[1]) if len(args) == 2 and isinstance(args[0], int) else str(error)
    return said.strip().splitlines()[0][:200] if said.strip() else type(error).__name__
