"""How long a reader waits for its queries: a page must not hang because one query does.

A read transaction has a deadline. SQLite is asked every few thousand steps whether it has passed; a server
is told how long a statement may take, waits for locks included, and between statements the deadline is
looked at here. So a read takes at most twice as long as it may, and mostly no longer.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from plet_celery.store.troubles import out_of_time

_DEADLINE: Final = "plet_deadline"
_STEPS: Final = 20_000
"""SQLite's steps between two looks at the clock: some milliseconds."""


@dataclass(frozen=True)
class Patience:
    """What a reader that does not wait for ever asks of its connections."""

    query_seconds: float | None = None
    """How long a read may take; None: as long as it takes."""
    connections: int | None = None
    """How many threads may read at the same time; None: few are kept, some more are opened."""

    @property
    def pool(self) -> dict[str, Any]:
        """What SQLAlchemy's pool is told."""
        found: dict[str, Any] = {}
        if self.connections is not None:
            found |= {"pool_size": self.connections, "max_overflow": 0}
        if self.query_seconds is not None:
            found["pool_timeout"] = self.query_seconds
        return found

    def within(self, seconds: float) -> float:
        """Return a wait that is no longer than this, nor than a read may take."""
        return seconds if self.query_seconds is None else min(seconds, self.query_seconds)

    def silence(self, seconds: int) -> int:
        """Return for how many whole seconds a server may say nothing: a little longer than a read takes."""
        return seconds if self.query_seconds is None else min(seconds, math.ceil(self.query_seconds) + 1)

    @property
    def postgres_beginning(self) -> str:
        """What a read transaction is told besides, on PostgreSQL."""
        return "" if self.query_seconds is None else f"; SET LOCAL statement_timeout = {self._milliseconds}"

    @property
    def mysql_session(self) -> str:
        """What a session is told besides, on MariaDB and MySQL."""
        if self.query_seconds is None:
            return ""
        return (
            f" /*M!100101 , max_statement_time = {self._milliseconds / 1000} */"
            f" /*!80000 , max_execution_time = {self._milliseconds} */"
        )

    @property
    def _milliseconds(self) -> int:
        # 0 would mean for ever.
        return max(1, round((self.query_seconds or 0.0) * 1000))


def keep_deadlines(engine: Engine, patience: Patience, where: str) -> None:
    """End the read transactions of an engine that take too long; `where` names the store in the error."""
    seconds = patience.query_seconds
    if seconds is None:
        return

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.set_progress_handler(lambda: _is_over(record.info), _STEPS)

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.info[_DEADLINE] = time.monotonic() + seconds

    @sa.event.listens_for(engine, "before_cursor_execute")
    def before_execute(connection: Connection, *rest: Any) -> None:
        if _is_over(connection.info):
            raise out_of_time(where, seconds)


def _is_over(info: Any) -> bool:
    deadline: float = info.get(_DEADLINE, math.inf)
    return time.monotonic() > deadline
