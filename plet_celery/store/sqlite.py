"""SQLite as a store: a file of one user on one host.

WAL, synchronous=FULL, and a write transaction takes the lock at its beginning (a read lock that is
upgraded later fails at once when another process writes).
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from plet_celery.errors import StoreError, StoreMissing, StoreUnavailable
from plet_celery.store.patience import Patience

BUSY_SECONDS: Final = 10.0
"""How long a statement waits for another process's lock."""
_LOCK_LOOK_SECONDS: Final = 0.02
_WAL_LIMIT_BYTES: Final = 64 << 20
_CACHE_KIB: Final = 32 << 10


def path_of(url: URL) -> Path:
    """Return the file that a URL names.

    Raises:
        StoreError: it names none.
    """
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise StoreError(
            "plet_database_url needs a SQLite file, as in sqlite:////path/plet.db; "
            "a database in memory is seen by one process only"
        )
    return Path(name).absolute()


def make_engine(path: Path, *, read_only: bool, patience: Patience) -> Engine:
    """Return an engine; nothing is opened yet, except that a new file is made (0600)."""

    def connect() -> sqlite3.Connection:
        if not read_only:
            _make_file(path)
        elif _is_missing(path):
            raise StoreMissing(
                f"the store {str(path)!r} is not there; the first worker makes it, "
                "or set plet_home or plet_database_url"
            )
        mode = "ro" if read_only else "rw"
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=patience.within(BUSY_SECONDS),
            isolation_level=None,
            check_same_thread=False,
        )

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=sa.QueuePool,
        pool_use_lifo=True,
        hide_parameters=True,
        **patience.pool,
    )

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


def _is_missing(path: Path) -> bool:
    try:
        return not path.exists()
    except OSError:  # a folder that may not be looked into: SQLite says what is wrong
        return False


def _make_file(path: Path) -> None:
    # SQLite gives -wal and -shm the mode of the file itself.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        owner = path.stat().st_uid
        if owner != os.getuid():
            # What one user's SQLite makes beside the file, another user's cannot open.
            raise StoreError(
                f"the SQLite store {str(path)!r} belongs to uid {owner}, this process is uid {os.getuid()}; "
                "SQLite serves one user: set plet_database_url to PostgreSQL or MariaDB, or plet_home to a "
                "folder of this user"
            ) from None
    except FileNotFoundError as error:
        raise StoreUnavailable(
            f"the store {str(path)!r} cannot be made: there is no folder {str(path.parent)!r}; "
            "make it, start a worker, or set plet_home or plet_database_url"
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"the store {str(path)!r} cannot be made by uid {os.getuid()} ({error.strerror}); "
            "make its folder writable, or set plet_home or plet_database_url"
        ) from error
