"""The schema on servers: as declared whatever their defaults are, with few rights, beside other tables."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.operations.ops import DropTableOp
from alembic.runtime.migration import MigrationContext
from services import missing, new_database

from plet_celery.errors import SchemaError, StoreUnavailable
from plet_celery.store import Store, include_name, migrate_sql, open_store, queries
from plet_celery.store.schema import VERSION_TABLE, tables_for

SERVERS = ("postgresql", "mariadb")


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database, once for each server."""
    with new_database(request.param) as url:
        yield url


@contextmanager
def opened(url: str | sa.URL) -> Iterator[Store]:
    """Open a store; close it then."""
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    store = open_store(text)
    try:
        yield store
    finally:
        store.close()


def run(url: str | sa.URL, *statements: str) -> list[Any]:
    """Run statements, each committed by itself; return the rows of the last."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        found: list[Any] = []
        for one in statements:
            result = connection.execution_options(no_parameters=True).exec_driver_sql(one)
            found = list(result) if result.returns_rows else []
        return found


def differences(store: Store) -> list[Any]:
    """Return how the tables differ from the declared ones, as Alembic sees it."""
    metadata = store.tables.metadata

    def ours(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == metadata.schema
        return kind != "table" or name != VERSION_TABLE

    options = {"include_schemas": metadata.schema is not None, "include_name": ours, "compare_type": True}
    with store.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def layout(store: Store) -> dict[str, list[Any]]:
    """Return all columns with their collations, and all indexes, as the server's catalogue has them."""
    if store.url.get_backend_name() == "postgresql":
        columns = "SELECT table_name, column_name, data_type, collation_name, character_maximum_length, is_nullable FROM information_schema.columns WHERE table_schema = 'plet' ORDER BY 1, ordinal_position"  # noqa: E501
        indexes = (
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'plet' ORDER BY 1, 2"
        )
    else:
        columns = "SELECT table_name, column_name, column_type, collation_name, is_nullable FROM information_schema.columns WHERE table_schema = database() ORDER BY 1, ordinal_position"  # noqa: E501
        indexes = "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics WHERE table_schema = database() ORDER BY 1, 2, 3"  # noqa: E501
    found = {"columns": run(store.url, columns), "indexes": run(store.url, indexes)}
    return {kind: [row for row in rows if row[0] != VERSION_TABLE] for kind, rows in found.items()}


def test_a_migration_makes_what_is_declared(server_url: str) -> None:
    with opened(server_url) as store:
        store.ensure_schema()
        migrated = layout(store)

        assert differences(store) == []
        # The comparison sees something: a column that is not declared is one.
        table = store.tables.run.fullname
        run(server_url, f"ALTER TABLE {table} ADD COLUMN more INTEGER")
        assert len(differences(store)) == 1
        for one in reversed(store.tables.metadata.sorted_tables):
            run(server_url, f"DROP TABLE {one.fullname}")
        with store.writing() as connection:
            store.tables.metadata.create_all(connection)
        assert layout(store) == migrated


def test_names_compare_by_bytes_whatever_the_defaults_are(server_url: str) -> None:
    if server_url.startswith("mysql"):
        name = sa.make_url(server_url).database
        run(server_url, f"ALTER DATABASE {name} CHARACTER SET latin1 COLLATE latin1_german1_ci")
    with opened(server_url) as store:
        store.ensure_schema()
        columns = layout(store)["columns"]

    collations = {row[3] for row in columns if re.match("varchar|character varying", row[2])}
    assert collations == ({"utf8mb4_nopad_bin"} if server_url.startswith("mysql") else {"C"})
    if server_url.startswith("mysql"):
        rest = {row[3] for row in columns if "text" in row[2]}
        assert {str(one).split("_")[0] for one in rest} == {"utf8mb4"}
        query = "SELECT DISTINCT engine, row_format FROM information_schema.tables WHERE table_schema = database() AND table_name <> "  # noqa: E501
        assert [tuple(row) for row in run(server_url, f"{query}'{VERSION_TABLE}'")] == [("InnoDB", "Dynamic")]


@pytest.mark.parametrize("by", ["driver", "client"])
def test_the_printed_sql_makes_a_store(server_url: str, by: str, tmp_path: Path) -> None:
    with opened(server_url) as store:
        text = migrate_sql(store)
        if by == "driver":
            statements = re.sub("(?m)^--.*$", "", text).split(";\n")
            plain = [one for one in map(str.strip, statements) if one not in ("", "BEGIN", "COMMIT")]
            run(server_url, *plain)
        else:
            _feed(sa.make_url(server_url), text)
        printed = layout(store)

        status = store.ensure_schema()

        assert status.is_current
        assert len(store.store_id()) == 32
        assert differences(store) == []
        assert queries.list_runs(store).items == []
    with (
        new_database("postgresql" if server_url.startswith("postgresql") else "mariadb") as other,
        opened(other) as migrated,
    ):
        migrated.ensure_schema()
        assert layout(migrated) == printed


def _feed(url: sa.URL, text: str) -> None:
    client = "psql" if url.get_backend_name() == "postgresql" else "mariadb"
    if shutil.which(client) is None:
        missing(client, "apt install postgresql-client mariadb-client")
    name, host, port = str(url.database), str(url.host or url.query.get("host")), str(url.port or 5432)
    if client == "psql":
        command = [
            "psql",
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-p",
            port,
            "-U",
            str(url.username),
            name,
        ]
    else:
        command = [
            "mariadb",
            "--protocol=tcp",
            "-h",
            host,
            "-P",
            str(url.port or 3306),
            "-u",
            str(url.username),
            name,
        ]
    password = {"PGPASSWORD": url.password, "MYSQL_PWD": url.password} if url.password else {}
    done = subprocess.run(
        command,
        input=text,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **{name: str(value) for name, value in password.items()}},
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def new_user(url: str) -> Iterator[sa.URL]:
    """Make a user without rights; yield the URL with it."""
    made = sa.make_url(url)
    name, word = f"plet_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    if made.get_backend_name() == "postgresql":
        run(url, f"CREATE ROLE {name} LOGIN PASSWORD '{word}'")
        forget = [f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
    else:
        run(url, f"CREATE USER '{name}'@'%' IDENTIFIED BY '{word}'")
        forget = [f"DROP USER '{name}'@'%'"]
    try:
        yield made.set(username=name, password=word)
    finally:
        run(url, *forget)


def test_a_schema_that_is_there_needs_no_right_to_make_one(postgres_url: str) -> None:
    with new_user(postgres_url) as user, opened(user) as store:
        with pytest.raises(StoreUnavailable, match="permission denied for database") as found:
            store.ensure_schema()
        assert f'GRANT CREATE ON DATABASE "{user.database}" TO "{user.username}"' in str(found.value)
        assert str(user.password) not in str(found.value)

        run(postgres_url, f"CREATE SCHEMA plet AUTHORIZATION {user.username}")
        store.ensure_schema()

        assert queries.list_runs(store).items == []


def test_a_reader_needs_to_be_let_in(postgres_url: str) -> None:
    with opened(postgres_url) as store:
        store.ensure_schema()
    with new_user(postgres_url) as user, opened(user) as reader:
        with pytest.raises(StoreUnavailable, match="GRANT USAGE ON SCHEMA plet"):
            queries.list_runs(reader)
        run(postgres_url, f"GRANT USAGE ON SCHEMA plet TO {user.username}")
        with pytest.raises(StoreUnavailable, match="GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"):
            queries.list_runs(reader)
        run(postgres_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA plet TO {user.username}")

        assert queries.list_runs(reader).items == []
        with pytest.raises(StoreUnavailable, match="refuses its user"):
            reader.take_lease("1" * 32, host="a", machine="m", boot="b", pid=1, now=0.0)


def test_missing_grants_are_named_on_mariadb(mariadb_url: str) -> None:
    with new_user(mariadb_url) as user, opened(user) as store:
        with pytest.raises(StoreUnavailable, match=f"GRANT SELECT, .*INDEX ON `{user.database}`"):
            store.ensure_schema()
        rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX"
        run(mariadb_url, f"GRANT {rights} ON `{user.database}`.* TO '{user.username}'@'%'")

        assert store.ensure_schema().is_current


def test_a_first_migration_that_was_killed_begins_anew(mariadb_url: str) -> None:
    table = tables_for("mariadb").run
    with opened(mariadb_url) as store:
        store.ensure_schema()
        # As MariaDB leaves it when the process is killed between two tables: each is committed by itself.
        run(mariadb_url, f"DELETE FROM {VERSION_TABLE}", "DELETE FROM plet_info", "DROP TABLE plet_worker")

        assert store.ensure_schema().is_current
        assert differences(store) == []

        run(mariadb_url, f"DELETE FROM {VERSION_TABLE}")
        before = run(mariadb_url, "SELECT * FROM plet_info")
        with pytest.raises(SchemaError, match=r"'plet_info' with rows but no plet_alembic_version"):
            store.ensure_schema()
        assert run(mariadb_url, "SELECT * FROM plet_info") == before
        assert table.name in sa.inspect(store.engine).get_table_names()


def test_autogenerate_drops_our_tables_unless_it_is_told_to_leave_them(server_url: str) -> None:
    own = sa.MetaData()
    sa.Table("customer", own, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("gone", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True)).create(
        engine := sa.create_engine(server_url)
    )
    own.create_all(engine)
    with opened(server_url) as store:
        store.ensure_schema()

    def dropped(**options: Any) -> set[str]:
        with engine.connect() as connection:
            # PostgreSQL's way to see more than one's own schema; MariaDB would show the server's, too.
            more = {"include_schemas": engine.dialect.name == "postgresql"}
            context = MigrationContext.configure(connection, opts=more | options)
            upgrade = produce_migrations(context, own).upgrade_ops
            assert upgrade is not None
            return {one.table_name for one in upgrade.ops if isinstance(one, DropTableOp)}

    ours = {table.name for table in tables_for(engine.dialect.name).metadata.sorted_tables}
    # Without it: all of ours. With it: only what the user has given up.
    assert dropped() >= {*ours, VERSION_TABLE, "gone"}
    assert dropped(include_name=include_name) == {"gone"}
    engine.dispose()
