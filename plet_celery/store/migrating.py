"""The schema's version: read it, compare it, bring it up to date.

Reading it imports no Alembic (0.8 s); only a migration does. Concurrent first starts migrate once: the
lock is taken inside the database, and the version is read after it.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from plet_celery.errors import SchemaError
from plet_celery.store.columns import place
from plet_celery.store.engine import reading, writing
from plet_celery.store.schema import HEAD, REVISIONS, VERSION_TABLE, WORKS_FROM, tables_for

if TYPE_CHECKING:
    from alembic.config import Config

# Any number will do, as long as every version of plet_celery uses the same.
_POSTGRES_LOCK: Final = 0x706C6574
_MYSQL_LOCK: Final = "plet_celery.migrate"
_WAIT_SECONDS: Final = 45
"""How long one waits for another's migration: less than a session may be silent."""


@dataclass(frozen=True)
class SchemaStatus:
    """Which revision the tables have, and which one this version needs."""

    current: str | None
    """None: there are no tables yet."""
    head: str
    works_from: str | None = None
    """Of newer tables: the oldest revision whose version may go on with them."""

    @property
    def is_current(self) -> bool:
        """The tables fit this version."""
        return self.current == self.head or (self._is_unknown and self.works_from in REVISIONS)

    @property
    def is_newer(self) -> bool:
        """The tables come from a version that this one does not know, and are not for this one, too."""
        return self._is_unknown and self.works_from not in REVISIONS

    @property
    def _is_unknown(self) -> bool:
        return self.current is not None and self.current not in REVISIONS


def read_status(engine: Engine) -> SchemaStatus:
    """Return the status of the tables; nothing is changed."""
    with reading(engine) as connection:
        return _status(connection, _current(connection))


def check_version(connection: Connection) -> None:
    """Refuse tables of another version, with one small statement.

    Raises:
        SchemaError: they are older or newer, with the way out.
    """
    _, schema = place(connection.dialect.name)
    table = sa.table(VERSION_TABLE, sa.column("version_num", sa.String()), schema=schema)
    status = _status(connection, connection.execute(sa.select(table.c.version_num)).scalar())
    check_not_newer(status)
    if not status.is_current:
        raise SchemaError(
            f"the store has the schema {status.current or 'of an unfinished migration'!r}, "
            f"this plet_celery needs {HEAD!r}; run celery plet migrate"
        )


def migrate(engine: Engine, revision: str = "head") -> SchemaStatus:
    """Bring the tables to `revision`; return what they are then.

    Raises:
        SchemaError: they come from a newer version of plet_celery, or there is no such revision.
    """
    with writing(engine) as connection, _alone(connection):
        # Only what was read behind the lock is true: another process may just have migrated.
        before = _status(connection, _current(connection))
        check_not_newer(before)
        if before.current is None:
            _make_way(connection)
        is_known = before.current is None or before.current in REVISIONS
        if is_known and (not before.is_current or revision not in ("head", HEAD)):
            _upgrade(connection, revision)
        _name_store(connection)
        return _status(connection, _current(connection))


def check_not_newer(status: SchemaStatus) -> None:
    """Refuse tables of a newer version.

    Raises:
        SchemaError: with the way out.
    """
    if status.is_newer:
        raise SchemaError(
            f"the store has the schema {status.current!r} of a newer plet_celery, this one knows {HEAD!r}: "
            "upgrade plet_celery here, or set plet_database_url to another store"
        )


def sql(dialect: str, revision: str = "head") -> str:
    """Return the statements of a migration from nothing to `revision`, for a person to run."""
    from alembic import command
    from alembic.util import CommandError

    out = io.StringIO()
    config = _config()
    config.output_buffer = out
    # Unconnected, SQLAlchemy takes `mysql` for MySQL, and leaves words unquoted that MariaDB reserves.
    config.attributes["dialect"] = "mariadb" if dialect == "mysql" else dialect
    try:
        command.upgrade(config, revision, sql=True)
    except CommandError as error:
        raise SchemaError(f"{error}; known revisions are {', '.join(REVISIONS)}") from error
    return out.getvalue()


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaError(f"{error}; known revisions are {', '.join(REVISIONS)}") from error


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "plet_celery.store:migrations")
    return config


def _current(connection: Connection) -> str | None:
    _, schema = place(connection.dialect.name)
    table = sa.table(VERSION_TABLE, sa.column("version_num", sa.String()), schema=schema)
    if not sa.inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    return connection.execute(sa.select(table.c.version_num)).scalar_one_or_none()


def _status(connection: Connection, current: str | None) -> SchemaStatus:
    if current is None or current in REVISIONS:
        return SchemaStatus(current, HEAD)
    info = tables_for(connection.dialect.name).info
    query = sa.select(info.c.value).where(info.c.name == WORKS_FROM)
    revision, _, works_from = (connection.execute(query).scalar() or "").partition(" ")
    # A migration that says nothing has not said that the one before it is still right.
    return SchemaStatus(current, HEAD, works_from if revision == current else None)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    # SQLite's BEGIN IMMEDIATE is the lock already.
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
    if name not in ("mysql", "mariadb"):
        yield
        return
    if connection.execute(sa.select(sa.func.get_lock(_MYSQL_LOCK, _WAIT_SECONDS))).scalar() != 1:
        raise SchemaError("another process has been migrating the store for long; look at it, try again")
    try:
        yield
    finally:
        connection.execute(sa.select(sa.func.release_lock(_MYSQL_LOCK)))


def _make_way(connection: Connection) -> None:
    """Look whether a first migration can begin here, and clear away what an interrupted one has left.

    MariaDB commits each table by itself: whoever is killed in between leaves tables without a version.
    """
    name = connection.dialect.name
    if name == "postgresql":
        encoding = connection.execute(sa.text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise SchemaError(
                f"the store's database has the encoding {encoding}; "
                "make one WITH ENCODING 'UTF8' TEMPLATE template0"
            )
    if name not in ("mysql", "mariadb"):
        return
    found = set(sa.inspect(connection).get_table_names())
    left = [table for table in tables_for(name).metadata.sorted_tables if table.name in found]
    for table in left:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise SchemaError(
                f"the database has a table {table.name!r} with rows but no {VERSION_TABLE}; "
                "restore that table, or give plet a database of its own"
            )
    for table in left:
        connection.execute(sa.schema.DropTable(table))


def _name_store(connection: Connection) -> None:
    info = tables_for(connection.dialect.name).info
    if connection.execute(sa.select(info.c.value).where(info.c.name == "store_id")).first() is None:
        connection.execute(info.insert().values(name="store_id", value=secrets.token_hex(16)))
