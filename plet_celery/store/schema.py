"""The tables, as this version of plet_celery declares them; `migrations/` brings a database there.

One declaration for all engines: SQLite has plain names, PostgreSQL the schema `plet`, MariaDB the
prefix `plet_`. Ids compare byte by byte. Rows hold plain values; JSON is text that msgspec wrote, and
`doc` columns hold what the merge needs beyond what queries ask.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
)

from plet_celery.store.columns import (
    ID_MAX,
    META_KEY_MAX,
    META_VALUE_MAX,
    QUEUE_MAX,
    TASK_MAX,
    TENANT_MAX,
    WORD_MAX,
    TableMaker,
    blob,
    key,
    long_text,
    place,
    required,
)
from plet_celery.store.rolluptables import rollup_bin_table, rollup_table, rollup_tenant_table
from plet_celery.store.watchtables import WatchTables, watch_tables

VERSION_TABLE: Final = "plet_alembic_version"
REVISIONS: Final = ("0001", "0002", "0003", "0004")
"""Every revision this version knows, oldest first; a test compares it with `migrations/versions`."""
HEAD: Final = REVISIONS[-1]
WORKS_FROM: Final = "works_from"
"""In `info`: `0002 0001`, a revision and the oldest one whose version may go on with its tables."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables on one engine; there is one such object for each."""

    metadata: MetaData
    info: Table
    """Facts of the store itself, such as its id."""
    journal: Table
    """One row per journal: the lease of its shipper, and what its host last told."""
    writer: Table
    """How far the store has read each file of a journal."""
    worker: Table
    task: Table
    """Every task name that was seen."""
    run: Table
    run_metadata: Table
    attempt: Table
    stage: Table
    event: Table
    event_overflow: Table
    """Which events of an attempt have no row, as bits by the writer's counter."""
    log_stream: Table
    log_chunk: Table
    measure: Table
    rollup: Table
    rollup_bin: Table
    rollup_tenant: Table
    dead_letter: Table
    removal: Table
    """Runs that are being removed, then (without their id) those that must not come back."""
    removal_part: Table
    """What a journal's shipper still has to remove of a run: its log folder, the copy in the mirror."""
    watching: WatchTables
    """Those of the monitor."""


@functools.cache
def tables_for(dialect: str) -> Tables:
    """Return the tables as they are named on `dialect` (`sqlite`, `postgresql`, `mariadb`, …)."""
    prefix, schema = place(dialect)
    make = TableMaker(MetaData(schema=schema), prefix)
    return Tables(
        metadata=make.metadata,
        info=_info(make),
        journal=_journal(make),
        writer=_writer(make),
        worker=_worker(make),
        task=_task(make),
        run=_run(make),
        run_metadata=_run_metadata(make),
        attempt=_attempt(make),
        stage=_stage(make),
        event=_event(make),
        event_overflow=_event_overflow(make),
        log_stream=_log_stream(make),
        log_chunk=_log_chunk(make),
        measure=_measure(make),
        rollup=rollup_table(make),
        rollup_bin=rollup_bin_table(make),
        rollup_tenant=rollup_tenant_table(make),
        dead_letter=_dead_letter(make),
        removal=_removal(make),
        removal_part=_removal_part(make),
        watching=watch_tables(make),
    )


def _owner() -> tuple[Column[Any], Column[Any]]:
    return required("run_id", key(ID_MAX)), required("attempt_id", key(WORD_MAX))


def _info(make: TableMaker) -> Table:
    return make(
        "info", required("name", key(WORD_MAX)), required("value", Text()), primary=("name",), dense=True
    )


def _journal(make: TableMaker) -> Table:
    return make(
        "journal",
        required("journal_id", key(32)),
        required("host", key(255)),
        required("machine", key(WORD_MAX)),
        required("boot", key(WORD_MAX)),
        required("pid", BigInteger()),
        required("epoch", BigInteger()),
        required("taken_at", Double()),
        required("touched_at", Double()),
        required("stale_after", Double()),
        Column("left_at", Double()),
        Column("lost_at", Double()),
        Column("skew", Double()),
        required("change_seq", BigInteger()),
        Column("as_of", Double()),
        Column("beat_at", Double()),
        Column("beat", long_text()),
        primary=("journal_id",),
    )


def _writer(make: TableMaker) -> Table:
    return make(
        "writer",
        required("journal_id", key(32)),
        required("writer", key(32)),
        required("segment", BigInteger()),
        required("offset", BigInteger()),
        primary=("journal_id", "writer"),
        dense=True,
    )


def _worker(make: TableMaker) -> Table:
    return make(
        "worker",
        required("journal_id", key(32)),
        required("writer", key(32)),
        required("worker", key(255)),
        required("started_at", Double()),
        Column("stopped_at", Double()),
        required("doc", long_text()),
        primary=("journal_id", "writer"),
    )


def _task(make: TableMaker) -> Table:
    return make("task", required("name", key(TASK_MAX)), primary=("name",), dense=True)


def _dead_letter(make: TableMaker) -> Table:
    table = make(
        "dead_letter",
        required("writer", key(32)),
        required("segment", BigInteger()),
        required("offset", BigInteger()),
        required("journal_id", key(32)),
        required("at", Double()),
        required("buried_at", Double()),
        required("kind", key(WORD_MAX)),
        Column("run_id", key(ID_MAX)),
        required("reason", long_text()),
        required("record", long_text()),
        primary=("writer", "segment", "offset"),
    )
    make.index(table, "buried", "buried_at")
    return table


def _removal(make: TableMaker) -> Table:
    table = make(
        "removal",
        required("digest", key(32)),
        Column("run_id", key(ID_MAX)),
        required("reason", key(8)),
        required("marked_at", Double()),
        required("rows_after", Double()),
        required("forget_at", Double()),
        required("late", BigInteger()),
        primary=("digest",),
    )
    make.index(table, "rows", "rows_after", where="run_id IS NOT NULL")
    make.index(table, "run", "run_id", where="run_id IS NOT NULL")
    make.index(table, "forget", "forget_at")
    return table


def _removal_part(make: TableMaker) -> Table:
    table = make(
        "removal_part",
        required("journal_id", key(32)),
        required("digest", key(32)),
        required("folder", Text()),
        required("reason", key(8)),
        required("marked_at", Double()),
        required("here", Integer()),
        required("mirror", Integer()),
        primary=("journal_id", "digest"),
        dense=True,
    )
    make.index(table, "run", "digest")
    return table


def _run(make: TableMaker) -> Table:
    table = make(
        "run",
        required("id", key(ID_MAX)),
        Column("digest", key(10)),
        required("task", key(TASK_MAX)),
        required("state", key(16)),
        required("tenant", key(TENANT_MAX)),
        required("trigger", key(WORD_MAX)),
        Column("user", key(255)),
        Column("queue", key(QUEUE_MAX)),
        required("created_at", Double()),
        Column("queued_at", Double()),
        Column("started_at", Double()),
        Column("ended_at", Double()),
        Column("runtime", Double()),
        required("attempts", Integer()),
        Column("face", key(WORD_MAX)),
        required("replaced", Integer()),
        Column("canvas", key(ID_MAX)),
        Column("root_id", key(ID_MAX)),
        Column("parent_id", key(ID_MAX)),
        Column("group_id", key(ID_MAX)),
        required("log_lines", BigInteger()),
        required("dropped", BigInteger()),
        Column("expires_at", Double()),
        Column("doc", long_text()),
        required("journal_id", key(32)),
        required("change_seq", BigInteger()),
        required("version", BigInteger()),
        Column("worker", key(255)),
        primary=("id",),
    )
    _run_indexes(make, table)
    return table


def _run_indexes(make: TableMaker, table: Table) -> None:
    make.index(table, "newest", "created_at", "id")
    make.index(table, "state", "state", "created_at")
    make.index(table, "task", "task", "state", "created_at")
    make.index(table, "tenant", "tenant", "state", "created_at", where="tenant <> ''")
    make.index(table, "worker", "worker", "state", "created_at", where="worker IS NOT NULL")
    make.index(table, "queue", "queue", "state", "created_at", where="queue IS NOT NULL")
    make.index(table, "canvas", "canvas", "created_at", where="canvas IS NOT NULL")
    make.index(table, "parent", "parent_id", "created_at", where="parent_id IS NOT NULL")
    make.index(table, "group", "group_id", "created_at", where="group_id IS NOT NULL")
    make.index(table, "digest", "digest", where="digest IS NOT NULL")
    make.index(table, "expires", "expires_at", where="expires_at IS NOT NULL")
    make.index(table, "change", "journal_id", "change_seq")


def _run_metadata(make: TableMaker) -> Table:
    table = make(
        "run_metadata",
        required("run_id", key(ID_MAX)),
        required("key", key(META_KEY_MAX)),
        Column("value", key(META_VALUE_MAX)),
        required("created_at", Double()),
        required("doc", long_text()),
        primary=("run_id", "key"),
    )
    make.index(table, "value", "key", "value", "created_at", "run_id")
    return table


def _attempt(make: TableMaker) -> Table:
    table = make(
        "attempt",
        required("run_id", key(ID_MAX)),
        required("id", key(WORD_MAX)),
        required("journal_id", key(32)),
        required("writer", key(32)),
        Column("pid", BigInteger()),
        required("state", key(16)),
        required("started_at", Double()),
        Column("ended_at", Double()),
        required("replaced", Integer()),
        required("placeholder", Integer()),
        required("log_lines", BigInteger()),
        required("doc", long_text()),
        primary=("run_id", "id"),
    )
    make.index(table, "open", "journal_id", "writer", where="state = 'running'")
    return table


def _stage(make: TableMaker) -> Table:
    return make(
        "stage",
        *_owner(),
        required("number", BigInteger()),
        required("state", key(16)),
        required("doc", long_text()),
        primary=("run_id", "attempt_id", "number"),
    )


def _event(make: TableMaker) -> Table:
    return make(
        "event",
        *_owner(),
        required("at", Double()),
        required("writer", key(32)),
        required("segment", BigInteger()),
        required("offset", BigInteger()),
        required("number", BigInteger()),
        required("journal_id", key(32)),
        required("kind", key(WORD_MAX)),
        Column("level", BigInteger()),
        required("data", long_text()),
        primary=("run_id", "attempt_id", "at", "writer", "segment", "offset"),
    )


def _event_overflow(make: TableMaker) -> Table:
    return make(
        "event_overflow",
        *_owner(),
        required("writer", key(32)),
        required("bits", blob()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_stream(make: TableMaker) -> Table:
    return make(
        "log_stream",
        *_owner(),
        required("writer", key(32)),
        required("lines", BigInteger()),
        required("bytes", BigInteger()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_chunk(make: TableMaker) -> Table:
    return make(
        "log_chunk",
        *_owner(),
        required("writer", key(32)),
        required("number", BigInteger()),
        required("lines", blob()),
        primary=("run_id", "attempt_id", "writer", "number"),
    )


def _measure(make: TableMaker) -> Table:
    return make(
        "measure",
        *_owner(),
        required("name", key(255)),
        required("points", blob()),
        primary=("run_id", "attempt_id", "name"),
    )
