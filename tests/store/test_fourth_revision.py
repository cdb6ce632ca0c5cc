"""Revision 0004: the index of runs by time gets their ids; a migration that was interrupted goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper

from plet_celery.store import Store, migrate, open_store, probing, queries

RUN = "0a0a0a0a-0000-4000-8000-00000000000a"


def _as_before(store: Store, *, halfway: bool) -> None:
    """Bring the tables back to revision 0003; halfway: what MariaDB keeps of an interrupted migration."""
    run, schema = store.tables.run, store.tables.metadata.schema
    version = f"{schema}.plet_alembic_version" if schema else "plet_alembic_version"
    (newest,) = [one for one in run.indexes if one.name == f"ix_{run.name}_newest"]
    with store.writing() as connection:
        if not halfway:
            connection.execute(sa.schema.DropIndex(newest))
        connection.exec_driver_sql(f"CREATE INDEX ix_{run.name}_created ON {run.fullname} (created_at)")
        connection.exec_driver_sql(f"UPDATE {version} SET version_num = '0003'")


def _indexes(store: Store) -> dict[str | None, list[str | None]]:
    run = store.tables.run
    found = sa.inspect(store.engine).get_indexes(run.name, schema=run.schema)
    return {one["name"]: one["column_names"] for one in found}


@pytest.mark.parametrize("halfway", [False, True], ids=["whole", "interrupted"])
def test_the_index_by_time_is_made_anew(database_url: str, halfway: bool) -> None:
    store = open_store(database_url)
    store.ensure_schema()
    declared, name = _indexes(store), store.tables.run.name
    _as_before(store, halfway=halfway)
    assert f"ix_{name}_created" in _indexes(store)

    assert migrate(store).is_current

    assert _indexes(store) == declared
    assert declared[f"ix_{name}_newest"] == ["created_at", "id"]
    store.close()


_STATISTICS = {
    "ix_run_worker": "9998286 416596 46289 1",
    "ix_run_tenant": "1236331 38636 4385 1",
    "ix_run_task": "10000000 200000 22223 1",
    "ix_run_state": "10000000 1111112 1",
    "ix_run_queue": "10000000 2500000 277778 1",
    "ix_run_newest": "10000000 1 1",
    "ix_run_canvas": "1913600 4 1",
    "sqlite_autoindex_run_1": "10000000 1",
}
_LED = [
    {"states": ["running"]},
    {"states": ["running", "retrying"]},
    {"worker": "celery@a", "states": ["running"]},
    {"queue": "imports", "states": ["running"]},
    {"task": "shop.import", "states": ["failed"]},
]


@pytest.mark.parametrize("wanted", _LED, ids=str)
@pytest.mark.parametrize("knows", [False, True], ids=["kept", "control"])
def test_the_index_by_time_does_not_lead_to_the_few_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], knows: bool
) -> None:
    """Found in ten million runs: SQLite read them all, in order, for those in a state that few have."""
    url = f"sqlite:///{tmp_path / 'plet.db'}"
    writer = open_store(url)
    writer.ensure_schema()
    teller = Teller()
    teller.start(teller.writer(JOURNALS[0]), RUN, "a1", worker="celery@a", queue="imports")
    assert Shipper(writer).ship(teller.told) == 0
    _say_that_there_are_many(writer)
    if knows:
        monkeypatch.setattr(probing, "tie_breaker", lambda run_id, dialect: run_id)
    probing._statements.cache_clear()
    store = open_store(url, read_only=True)
    asked: list[tuple[str, Any]] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    queries.list_runs(store, **wanted)

    with store.reading() as connection:
        plans = [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            for text, values in tuple(asked)
            if "ORDER BY created_at DESC" in text or "ORDER BY run.created_at DESC" in text
        ]
    probing._statements.cache_clear()
    assert plans
    read_in_order = any("SCAN run USING INDEX ix_run_newest" in step for plan in plans for step in plan)
    assert read_in_order is (knows and "states" in wanted and len(wanted) == 1)
    store.close()
    writer.close()


def _say_that_there_are_many(store: Store) -> None:
    """Have SQLite believe what it found of ten million runs."""
    with store.writing() as connection:
        connection.exec_driver_sql("ANALYZE").close()
        connection.exec_driver_sql("DELETE FROM sqlite_stat1 WHERE tbl = 'run'")
        for name, numbers in _STATISTICS.items():
            row = f"('run', '{name}', '{numbers}')"
            connection.exec_driver_sql(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES {row}")
