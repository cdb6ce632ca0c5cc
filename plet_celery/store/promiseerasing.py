"""Erasure in promises: ids of runs that are gone, in due times and in what a pass remembers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk
from plet_celery.store.load import batched
from plet_celery.store.promiserows import Memory, memory_of
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store


def forget_absent_runs(store: Store) -> None:
    """Take the ids of runs and canvases that are gone out of promises; what came of them stays."""
    tables = store.tables
    due, run = tables.watching.due, tables.run
    gone = ~sa.exists().where(run.c.id == due.c.run_id)
    with store.writing() as connection:
        connection.execute(due.update().where(due.c.run_id.is_not(None), gone).values(run_id=None))
        _loosen(connection, tables)


def _loosen(connection: Connection, tables: Tables) -> None:
    table = tables.watching.objective
    rows = list(connection.execute(sa.select(table).with_for_update()))
    memories = {row.id: memory_of(row.doc) for row in rows}
    known = _known(connection, tables, {one for memory in memories.values() for one in _named(memory)})
    changed = []
    for row in rows:
        memory = memories[row.id]
        if not known.issuperset(_named(memory)):
            doc = msgspec.json.encode(_without(memory, known)).decode()
            changed.append((*row[:-1], doc))
    bulk.update(connection, table, changed)


def _named(memory: Memory) -> Iterator[str]:
    if memory.met is not None and memory.met[2]:
        yield memory.met[2]
    if memory.success is not None and memory.success[1]:
        yield memory.success[1]
    yield from memory.canvases
    yield from memory.counted


def _without(memory: Memory, known: set[str]) -> Memory:
    met, success = memory.met, memory.success
    return msgspec.structs.replace(
        memory,
        met=met and (*met[:2], met[2] if met[2] in known else ""),
        success=success and (success[0], success[1] if success[1] in known else ""),
        canvases={one: until for one, until in memory.canvases.items() if one in known},
        counted={one: at for one, at in memory.counted.items() if one in known},
    )


def _known(connection: Connection, tables: Tables, named: Iterable[str]) -> set[str]:
    """Return those of these ids that are a run's or its canvas's."""
    run, known = tables.run.c, set[str]()
    for some in batched(sorted(named)):
        for column in (run.id, run.canvas):
            known.update(connection.execute(sa.select(column).where(column.in_(some)).distinct()).scalars())
    return known
