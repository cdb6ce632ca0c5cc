"""The schema: made once however many start together, equal to what is declared, never a newer one's."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable
from storing import new_store, url_of

import plet_celery.store
from plet_celery.errors import SchemaError, StoreMissing
from plet_celery.store import check_schema, migrate, migrate_sql, open_store, queries
from plet_celery.store.schema import HEAD, REVISIONS, VERSION_TABLE, tables_for

WAIT_SECONDS = 120
# Prints what it has done; waits for a line first, so that all of them begin together.
STARTER = """
import json, sys
from plet_celery.store import migrating, open_store, servers, sqlite
# Eight share few cores: the last waits longer than one does elsewhere.
migrating._WAIT_SECONDS = servers._SILENCE_SECONDS = sqlite.BUSY_SECONDS = 100
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
status = store.ensure_schema()
print(json.dumps({
    "current": status.is_current, "store": store.store_id(), "migrated": "alembic" in sys.modules
}))
"""
READER = """
import json, sys
from plet_celery.store import open_store, queries
store = open_store(sys.argv[1], read_only=True)
current = store.check_schema().is_current
found = queries.list_runs(store).items
print(json.dumps({"current": current, "runs": len(found), "alembic": "alembic" in sys.modules}))
"""


STARTERS = 8


def test_of_eight_that_start_at_once_one_migrates(database_url: str) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(STARTERS)
    ]
    try:
        for one in starters:
            assert one.stdout is not None and one.stdout.readline() == "ready\n"
        for one in starters:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        told: list[dict[str, Any]] = [
            json.loads(one.communicate(timeout=WAIT_SECONDS)[0]) for one in starters
        ]
    finally:
        for one in starters:
            one.kill()
            one.wait()

    assert [one["current"] for one in told] == [True] * STARTERS
    assert len({one["store"] for one in told}) == 1
    # Who came in time to find no tables waited for the first, and looked again behind the lock.
    assert 1 <= sum(one["migrated"] for one in told) <= STARTERS


def test_sqlite_gets_the_tables_that_are_declared(tmp_path: Path) -> None:
    new_store(tmp_path, "migrated.db").close()
    engine = sa.create_engine(url_of(tmp_path / "declared.db"))
    tables_for("sqlite").metadata.create_all(engine)
    engine.dispose()

    migrated = _schema_of(tmp_path / "migrated.db")
    assert migrated.pop(VERSION_TABLE)
    assert migrated == _schema_of(tmp_path / "declared.db")


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mariadb+pymysql", "mysql+pymysql"])
def test_the_sql_of_a_migration_makes_the_tables_that_are_declared(driver: str) -> None:
    url = f"{driver}://nobody@localhost/x"
    # MariaDB reserves more words: what is quoted for it is right for both.
    dialect = sa.make_url(url.replace("mysql+", "mariadb+")).get_dialect()()
    declared = set()
    for table in tables_for(dialect.name).metadata.sorted_tables:
        declared.add(_words(str(CreateTable(table).compile(dialect=dialect))))
        declared |= {_words(str(CreateIndex(index).compile(dialect=dialect))) for index in table.indexes}

    printed = re.split(r";\s*$", migrate_sql(open_store(url)), flags=re.MULTILINE)
    made = _with_added_columns(_words(re.sub(r"^--.*$", "", one, flags=re.MULTILINE)) for one in printed)

    assert declared - made == set()
    more = {one for one in made - declared if one.startswith("CREATE") and VERSION_TABLE not in one}
    dropped = {found[1] for one in made if (found := re.match(r"DROP INDEX (?:\w+\.)?(\w+)", one))}
    assert dropped
    left = {one for one in more if not dropped & set(one.split())}
    assert all(one.startswith("CREATE SCHEMA") for one in left), left


def test_the_known_revisions_are_those_in_the_package() -> None:
    folder = Path(plet_celery.store.__file__).parent / "migrations" / "versions"
    assert tuple(sorted(file.name.split("_")[0] for file in folder.glob("[0-9]*.py"))) == REVISIONS


def test_a_store_of_a_newer_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    connection = sqlite3.connect(tmp_path / "plet.db")
    with connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    before = list(connection.iterdump())

    assert check_schema(store).is_newer
    for refused in (store.ensure_schema, lambda: migrate(store)):
        with pytest.raises(SchemaError, match=r"'9999' of a newer plet_celery.*upgrade plet_celery here"):
            refused()

    assert list(connection.iterdump()) == before
    connection.close()
    store.close()


def test_reading_loads_no_alembic(tmp_path: Path) -> None:
    new_store(tmp_path).close()

    told = subprocess.run(
        [sys.executable, "-c", READER, url_of(tmp_path / "plet.db")],
        capture_output=True,
        check=True,
        text=True,
        timeout=WAIT_SECONDS,
    )

    assert json.loads(told.stdout) == {"current": True, "runs": 0, "alembic": False}


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "plet.db"), read_only=True)

    with pytest.raises(StoreMissing, match="the first worker makes it"):
        queries.list_runs(store)

    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "plet.db").touch()
    store = open_store(url_of(tmp_path / "plet.db"), read_only=True)

    assert (check_schema(store).current, check_schema(store).head) == (None, HEAD)
    with pytest.raises(SchemaError, match="run celery plet migrate"):
        queries.list_runs(store)
    store.close()


def test_an_unknown_revision_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path)

    with pytest.raises(SchemaError, match=f"known revisions are .*{HEAD}"):
        migrate(store, "8888")

    assert check_schema(store).is_current
    store.close()


def _schema_of(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {name: _words(sql) for name, sql in found}


def _with_added_columns(statements: Iterable[str]) -> set[str]:
    """Return statements, those that add a column put into the one that made its table."""
    made: set[str] = set()
    for one in statements:
        added = re.fullmatch(r"ALTER TABLE (\S+) ADD COLUMN (.+)", one)
        if added is None:
            made.add(one)
            continue
        (table,) = (found for found in made if found.startswith(f"CREATE TABLE {added[1]} ("))
        made.remove(table)
        made.add(table.replace(", CONSTRAINT", f", {added[2]}, CONSTRAINT"))
    return made


def _words(sql: str) -> str:
    return " ".join(sql.split()).replace("( ", "(").replace(" )", ")")
