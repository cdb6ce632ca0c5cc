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
from plet_celery.store.schema import HEAD, REVISIONS, VERSION_TABLE, tables_for

if TYPE_CHECKING:
    from alembic.config import Config

# Any number will do, as long as every version of plet_celery uses the same.
_POSTGRES_LOCK: Final = 0x706C6574
_MYSQL_LOCK: Final = "plet_celery.migrate"
_MYSQL_WAIT_SECONDS: Final = 60


@dataclass(frozen=True)
class SchemaStatus:
    """Which revision the tables have, and which one this version needs."""

    current: str | None
    """None: there are no tables yet."""
    head: str

    @property
    def is_current(self) -> bool:
        """The tables fit this version."""
        return self.current == self.head

    @property
    def is_newer(self) -> bool:
        """The tables come from a version that this one does not know."""
        return self.current is not None and self.current not in REVISIONS


def read_status(engine: Engine) -> SchemaStatus:
    """Return the status of the tables; nothing is changed."""
    with reading(engine) as connection:
        return SchemaStatus(_current(connection), HEAD)


def migrate(engine: Engine, revision: str = "head") -> SchemaStatus:
    """Bring the tables to `revision`; return what they are then.

    Raises:
        SchemaError: they come from a newer version of plet_celery, or there is no such revision.
    """
    with writing(engine) as connection, _alone(connection):
        # Only what was read behind the lock is true: another process may just have migrated.
        before = SchemaStatus(_current(connection), HEAD)
        check_not_newer(before)
        if not before.is_current or revision not in ("head", HEAD):
            _upgrade(connection, revision)
        _name_store(connection)
        return SchemaStatus(_current(connection), HEAD)


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
    config.attributes["dialect"] = dialect
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


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    # SQLite's BEGIN IMMEDIATE is the lock already.
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
    if name not in ("mysql", "mariadb"):
        yield
        return
    if connection.execute(sa.select(sa.func.get_lock(_MYSQL_LOCK, _MYSQL_WAIT_SECONDS))).scalar() != 1:
        raise SchemaError("another process has been migrating the store for a minute; look at it, try again")
    try:
        yield
    finally:
        connection.execute(sa.select(sa.func.release_lock(_MYSQL_LOCK)))


def _name_store(connection: Connection) -> None:
    info = tables_for(connection.dialect.name).info
    if connection.execute(sa.select(info.c.value).where(info.c.name == "store_id")).first() is None:
        connection.execute(info.insert().values(name="store_id", value=secrets.token_hex(16)))
