"""PostgreSQL and MariaDB as a store: what a session is told, so that no server's defaults show.

A shipper must not hang for ever on a server that is gone without a word, nor hold locks while it is
frozen: hence the time-outs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from plet_celery.store.patience import Patience

_CONNECT_SECONDS: Final = 10
_SILENCE_SECONDS: Final = 60
"""A server that acknowledges nothing for so long is gone."""
LOCK_SECONDS: Final = 10
"""How long a statement waits for another transaction's row; then the batch is tried again."""
_IDLE_SECONDS: Final = 60
"""A writer that does nothing in an open transaction for so long is frozen; the server ends it."""


READER: Final = "plet_reader"
"""Execution option: a connection of a store that only reads."""
POSTGRES_BY_INDEX: Final = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off"
POSTGRES_READER_BEGINNING: Final = (
    # One message, where the driver would send BEGIN by itself and wait for the answer.
    f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {POSTGRES_BY_INDEX}"
)
POSTGRES_BEGINNINGS: Final = (
    f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
)
MYSQL_BEGINNINGS: Final = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
)

# Strict, or a value that is too long is cut without a word; none of the modes that change the syntax.
_MODE: Final = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_SESSION: Final = (
    f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_SECONDS}"
    f" /*M!100300 , idle_write_transaction_timeout = {_IDLE_SECONDS} */"
)


def make_postgres(url: URL, patience: Patience, *, read_only: bool) -> Engine:
    """Return an engine for psycopg 3.

    Args:
        read_only: nothing is written: every statement more is a way to the server and back.
    """
    engine = _engine(
        url,
        patience,
        # Its beginning is what a ping would be, see `engine.reading`.
        {"isolation_level": "AUTOCOMMIT", "pool_pre_ping": False} if read_only else {},
        connect_timeout=patience.silence(_CONNECT_SECONDS),
        application_name="plet",
        keepalives_idle=_SILENCE_SECONDS // 2,
        tcp_user_timeout=patience.silence(_SILENCE_SECONDS) * 1000,
        client_encoding="utf8",
    )
    if read_only:
        engine.update_execution_options(**{READER: True})
    return engine


def make_mysql(url: URL, patience: Patience) -> Engine:
    """Return an engine for PyMySQL."""
    # What decides how a value is read is not for the URL to say.
    engine = _engine(
        url.difference_update_query(["charset", "use_unicode", "sql_mode"]),
        patience,
        {},
        connect_timeout=patience.silence(_CONNECT_SECONDS),
        read_timeout=patience.silence(_SILENCE_SECONDS),
        write_timeout=_SILENCE_SECONDS,
        charset="utf8mb4",
        sql_mode=_MODE,
    )

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SESSION + patience.mysql_session)
            cursor.execute("SELECT @@max_allowed_packet")
            connection.plet_packet_bytes = cursor.fetchone()[0]

    return engine


def _engine(url: URL, patience: Patience, options: Mapping[str, Any], **given: Any) -> Engine:
    arguments = {name: value for name, value in given.items() if name not in url.query}
    usual = {"pool_pre_ping": True, "isolation_level": "READ COMMITTED", "pool_size": 2}
    return sa.create_engine(
        url,
        hide_parameters=True,
        # The one that was used last knows the statements already.
        pool_use_lifo=True,
        connect_args=arguments,
        **(usual | patience.pool | dict(options)),
    )
