"""Revision 0002: a store of 0001 keeps its rows, and writers that know no `worker` go on."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper

from plet_celery import events
from plet_celery.errors import SchemaError
from plet_celery.store import Store, migrate, open_store, queries

RUN = "0a0a0a0a-0000-4000-8000-00000000000a"


def _as_before(store: Store) -> None:
    """Bring the tables back to revision 0001."""
    own, info = store.tables.run, store.tables.metadata.schema
    version = f"{info}.plet_alembic_version" if info else "plet_alembic_version"
    dropped = [sa.schema.DropIndex(one) for one in own.indexes if one.name in _names(own)]
    with store.writing() as connection:
        for statement in dropped:
            connection.execute(statement)
        connection.exec_driver_sql(f"ALTER TABLE {own.fullname} DROP COLUMN worker")
        connection.exec_driver_sql(f"UPDATE {version} SET version_num = '0001'")


def _names(run: sa.Table) -> tuple[str, str]:
    return (f"ix_{run.name}_worker", f"ix_{run.name}_queue")


def _ship_one(store: Store, teller: Teller) -> None:
    teller.start(teller.writer(JOURNALS[0], "child"), RUN, "a1", worker="celery@a")
    assert Shipper(store).ship(teller.told) == 0


def test_a_store_of_the_first_revision_keeps_its_runs(database_url: str) -> None:
    store = open_store(database_url)
    store.ensure_schema()
    teller = Teller()
    _ship_one(store, teller)
    _as_before(store)

    assert migrate(store).is_current

    assert [run.id for run in queries.list_runs(store).items] == [RUN]
    # It was recorded before there was a column; the next event of it fills that.
    assert queries.list_runs(store, worker="celery@a").items == []
    ended = teller.end(teller.writer(JOURNALS[0], "child"), events.RUN_SUCCEEDED, RUN, "a1")
    assert Shipper(store).ship([(JOURNALS[0], ended)]) == 0
    assert [run.id for run in queries.list_runs(store, worker="celery@a").items] == [RUN]
    store.close()


def test_a_migration_that_was_killed_halfway_goes_on(mariadb_url: str) -> None:
    store = open_store(mariadb_url)
    store.ensure_schema()
    _as_before(store)
    with store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE plet_run ADD COLUMN worker VARCHAR(255)")

    assert migrate(store).is_current

    found = {one["name"] for one in sa.inspect(store.engine).get_indexes("plet_run")}
    assert set(_names(store.tables.run)) <= found
    store.close()


@pytest.mark.parametrize("batches", [1, 2], ids=["at once", "one by one"])
def test_the_worker_is_that_of_the_attempt_that_decides(store: Store, batches: int) -> None:
    teller = Teller()
    here, there = teller.writer(JOURNALS[0]), teller.writer(JOURNALS[1])
    teller.start(here, RUN, "a1", worker="celery@a")
    teller.end(here, events.RUN_RETRIED, RUN, "a1", retries=0)
    teller.start(there, RUN, "a2", worker="celery@b", retries=1)
    shipper = Shipper(store)
    size = len(teller.told) // batches
    for start in range(0, len(teller.told), size):
        assert shipper.ship(teller.told[start : start + size]) == 0

    assert queries.list_runs(store, worker="celery@a").items == []
    assert [run.worker for run in queries.list_runs(store, worker="celery@b").items] == ["celery@b"]


def test_a_version_goes_on_with_the_tables_of_the_next_one(database_url: str) -> None:
    """The next version's migration says from which revision on its tables may be written."""
    store = open_store(database_url)
    store.ensure_schema()
    teller = Teller()
    _ship_one(store, teller)
    _become_newer(store, works_from="9999 0002")
    store.close()  # and forgets what it has seen

    assert store.ensure_schema().is_current
    assert migrate(store).current == "9999"
    ended = teller.end(teller.writer(JOURNALS[0], "child"), events.RUN_SUCCEEDED, RUN, "a1")
    assert Shipper(store).ship([(JOURNALS[0], ended)]) == 0
    assert [run.state for run in queries.list_runs(store).items] == ["succeeded"]
    store.close()


@pytest.mark.parametrize("works_from", ["9999 9998", "0002 0001", ""])
def test_a_version_stops_at_tables_that_it_may_not_write(database_url: str, works_from: str) -> None:
    store = open_store(database_url)
    store.ensure_schema()
    _become_newer(store, works_from=works_from)
    store.close()

    with pytest.raises(SchemaError, match="newer plet_celery"):
        store.ensure_schema()
    with pytest.raises(SchemaError, match="newer plet_celery"):
        queries.list_runs(store)
    store.close()


def _become_newer(store: Store, *, works_from: str) -> None:
    info, schema = store.tables.info, store.tables.metadata.schema
    version = f"{schema}.plet_alembic_version" if schema else "plet_alembic_version"
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {version} SET version_num = '9999'")
        connection.execute(info.update().where(info.c.name == "works_from").values(value=works_from))
