"""The tables, as this version of plet_celery declares them; `migrations/` brings a database there.

One declaration for all engines: SQLite has plain names, PostgreSQL the schema `plet`, MariaDB the
prefix `plet_`. Ids compare byte by byte. Rows hold plain values; JSON is text that msgspec wrote, and
`doc` columns hold what the merge needs beyond what queries ask.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import mysql

VERSION_TABLE: Final = "plet_alembic_version"
REVISIONS: Final = ("0001",)
"""Every revision this version knows, oldest first; a test compares it with `migrations/versions`."""
HEAD: Final = REVISIONS[-1]

ID_MAX: Final = 255
TASK_MAX: Final = 255
TENANT_MAX: Final = 255
QUEUE_MAX: Final = 128
WORD_MAX: Final = 64
META_KEY_MAX: Final = 255
META_VALUE_MAX: Final = 200


def fit(value: str, limit: int) -> str:
    """Return `value`, or where it is longer than `limit` its start and a hash: still one key per value."""
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{value[: limit - 17]}~{digest}"


def key(limit: int) -> String:
    """Return the type of an id or name: compared by bytes, whatever the database's own collation is."""
    return (
        String(limit)
        .with_variant(String(limit, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(limit, collation="utf8mb4_bin"), "mysql", "mariadb")
    )


def long_text() -> Text:
    """Return the type of a JSON document."""
    return Text().with_variant(mysql.MEDIUMTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


def blob() -> LargeBinary:
    """Return the type of compressed bytes."""
    return LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def place(dialect: str) -> tuple[str, str | None]:
    """Return the tables' name prefix and schema on an engine."""
    if dialect == "postgresql":
        return "", "plet"
    return ("plet_", None) if dialect in ("mysql", "mariadb") else ("", None)


@dataclass(frozen=True)
class Tables:
    """The tables on one engine."""

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


@functools.cache
def tables_for(dialect: str) -> Tables:
    """Return the tables as they are named on `dialect` (`sqlite`, `postgresql`, `mariadb`, …)."""
    prefix, schema = place(dialect)
    make = _Maker(MetaData(schema=schema), prefix)
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
        rollup=_rollup(make),
        rollup_bin=_rollup_bin(make),
        rollup_tenant=_rollup_tenant(make),
        dead_letter=_dead_letter(make),
    )


class _Maker:
    def __init__(self, metadata: MetaData, prefix: str) -> None:
        self.metadata = metadata
        self._prefix = prefix

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> Table:
        # A narrow table without SQLite's rowid is one tree instead of two.
        options: dict[str, Any] = {"sqlite_with_rowid": False} if dense else {}
        full = self._prefix + name
        constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
        return Table(full, self.metadata, *columns, constraint, **options)

    def index(self, table: Table, name: str, *columns: str, where: str | None = None) -> None:
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        options: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        Index(f"ix_{table.name}_{name}", *(table.c[column] for column in columns), **options)


def _required(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _owner() -> tuple[Column[Any], Column[Any]]:
    return _required("run_id", key(ID_MAX)), _required("attempt_id", key(WORD_MAX))


def _series() -> tuple[Column[Any], ...]:
    return (
        _required("journal_id", key(32)),
        _required("bucket", BigInteger()),
        _required("task", key(TASK_MAX)),
        _required("queue", key(QUEUE_MAX)),
        _required("tenant", key(TENANT_MAX)),
        _required("state", key(16)),
    )


_SERIES: Final = ("journal_id", "bucket", "task", "queue", "tenant", "state")


def _info(make: _Maker) -> Table:
    return make(
        "info", _required("name", key(WORD_MAX)), _required("value", Text()), primary=("name",), dense=True
    )


def _journal(make: _Maker) -> Table:
    return make(
        "journal",
        _required("journal_id", key(32)),
        _required("host", key(255)),
        _required("machine", key(WORD_MAX)),
        _required("boot", key(WORD_MAX)),
        _required("pid", BigInteger()),
        _required("epoch", BigInteger()),
        _required("taken_at", Double()),
        _required("touched_at", Double()),
        _required("change_seq", BigInteger()),
        Column("as_of", Double()),
        Column("beat_at", Double()),
        Column("beat", long_text()),
        primary=("journal_id",),
    )


def _writer(make: _Maker) -> Table:
    return make(
        "writer",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        primary=("journal_id", "writer"),
        dense=True,
    )


def _worker(make: _Maker) -> Table:
    return make(
        "worker",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("worker", key(255)),
        _required("started_at", Double()),
        Column("stopped_at", Double()),
        _required("doc", long_text()),
        primary=("journal_id", "writer"),
    )


def _task(make: _Maker) -> Table:
    return make("task", _required("name", key(TASK_MAX)), primary=("name",), dense=True)


def _dead_letter(make: _Maker) -> Table:
    return make(
        "dead_letter",
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("journal_id", key(32)),
        _required("at", Double()),
        _required("buried_at", Double()),
        _required("kind", key(WORD_MAX)),
        Column("run_id", key(ID_MAX)),
        _required("reason", Text()),
        _required("record", long_text()),
        primary=("writer", "segment", "offset"),
    )


def _run(make: _Maker) -> Table:
    table = make(
        "run",
        _required("id", key(ID_MAX)),
        Column("digest", key(10)),
        _required("task", key(TASK_MAX)),
        _required("state", key(16)),
        _required("tenant", key(TENANT_MAX)),
        _required("trigger", key(WORD_MAX)),
        Column("user", key(255)),
        Column("queue", key(QUEUE_MAX)),
        _required("created_at", Double()),
        Column("queued_at", Double()),
        Column("started_at", Double()),
        Column("ended_at", Double()),
        Column("runtime", Double()),
        _required("attempts", Integer()),
        Column("face", key(WORD_MAX)),
        _required("replaced", Integer()),
        Column("canvas", key(ID_MAX)),
        Column("root_id", key(ID_MAX)),
        Column("parent_id", key(ID_MAX)),
        Column("group_id", key(ID_MAX)),
        _required("log_lines", BigInteger()),
        _required("dropped", BigInteger()),
        Column("expires_at", Double()),
        Column("doc", long_text()),
        _required("journal_id", key(32)),
        _required("change_seq", BigInteger()),
        _required("version", BigInteger()),
        primary=("id",),
    )
    _run_indexes(make, table)
    return table


def _run_indexes(make: _Maker, table: Table) -> None:
    make.index(table, "created", "created_at")
    make.index(table, "state", "state", "created_at")
    make.index(table, "task", "task", "state", "created_at")
    make.index(table, "tenant", "tenant", "state", "created_at", where="tenant <> ''")
    make.index(table, "canvas", "canvas", "created_at", where="canvas IS NOT NULL")
    make.index(table, "parent", "parent_id", "created_at", where="parent_id IS NOT NULL")
    make.index(table, "group", "group_id", "created_at", where="group_id IS NOT NULL")
    make.index(table, "digest", "digest", where="digest IS NOT NULL")
    make.index(table, "expires", "expires_at", where="expires_at IS NOT NULL")
    make.index(table, "change", "journal_id", "change_seq")


def _run_metadata(make: _Maker) -> Table:
    table = make(
        "run_metadata",
        _required("run_id", key(ID_MAX)),
        _required("key", key(META_KEY_MAX)),
        Column("value", key(META_VALUE_MAX)),
        _required("created_at", Double()),
        _required("doc", long_text()),
        primary=("run_id", "key"),
    )
    make.index(table, "value", "key", "value", "created_at", "run_id")
    return table


def _attempt(make: _Maker) -> Table:
    table = make(
        "attempt",
        _required("run_id", key(ID_MAX)),
        _required("id", key(WORD_MAX)),
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        Column("pid", BigInteger()),
        _required("state", key(16)),
        _required("started_at", Double()),
        Column("ended_at", Double()),
        _required("replaced", Integer()),
        _required("placeholder", Integer()),
        _required("log_lines", BigInteger()),
        _required("doc", long_text()),
        primary=("run_id", "id"),
    )
    make.index(table, "open", "journal_id", "writer", where="state = 'running'")
    return table


def _stage(make: _Maker) -> Table:
    return make(
        "stage",
        *_owner(),
        _required("number", BigInteger()),
        _required("state", key(16)),
        _required("doc", long_text()),
        primary=("run_id", "attempt_id", "number"),
    )


def _event(make: _Maker) -> Table:
    return make(
        "event",
        *_owner(),
        _required("at", Double()),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("number", BigInteger()),
        _required("journal_id", key(32)),
        _required("kind", key(WORD_MAX)),
        Column("level", Integer()),
        _required("data", long_text()),
        primary=("run_id", "attempt_id", "at", "writer", "segment", "offset"),
    )


def _event_overflow(make: _Maker) -> Table:
    return make(
        "event_overflow",
        *_owner(),
        _required("writer", key(32)),
        _required("bits", blob()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_stream(make: _Maker) -> Table:
    return make(
        "log_stream",
        *_owner(),
        _required("writer", key(32)),
        _required("lines", BigInteger()),
        _required("bytes", BigInteger()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_chunk(make: _Maker) -> Table:
    return make(
        "log_chunk",
        *_owner(),
        _required("writer", key(32)),
        _required("number", BigInteger()),
        _required("lines", blob()),
        primary=("run_id", "attempt_id", "writer", "number"),
    )


def _measure(make: _Maker) -> Table:
    return make(
        "measure",
        *_owner(),
        _required("name", key(255)),
        _required("points", blob()),
        primary=("run_id", "attempt_id", "name"),
    )


def _rollup(make: _Maker) -> Table:
    table = make(
        "rollup",
        *_series(),
        _required("count", BigInteger()),
        _required("runtime_count", BigInteger()),
        _required("runtime_us", BigInteger()),
        _required("waited_count", BigInteger()),
        _required("waited_us", BigInteger()),
        primary=_SERIES,
        dense=True,
    )
    make.index(table, "bucket", "bucket")
    return table


def _rollup_bin(make: _Maker) -> Table:
    table = make(
        "rollup_bin",
        *_series(),
        _required("measure", key(8)),
        _required("bin", Integer()),
        _required("count", BigInteger()),
        primary=(*_SERIES, "measure", "bin"),
        dense=True,
    )
    make.index(table, "bucket", "bucket")
    return table


def _rollup_tenant(make: _Maker) -> Table:
    return make(
        "rollup_tenant",
        _required("journal_id", key(32)),
        _required("tenant", key(TENANT_MAX)),
        primary=("journal_id", "tenant"),
        dense=True,
    )
