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
        **_store_tables(make),
        **_run_tables(make),
        **_detail_tables(make),
        **_rollup_tables(make),
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


def _store_tables(make: _Maker) -> dict[str, Table]:
    info = make(
        "info", _required("name", key(WORD_MAX)), _required("value", Text()), primary=("name",), dense=True
    )
    journal = make(
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
    writer = make(
        "writer",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        primary=("journal_id", "writer"),
        dense=True,
    )
    worker = make(
        "worker",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("worker", key(255)),
        _required("started_at", Double()),
        Column("stopped_at", Double()),
        _required("doc", long_text()),
        primary=("journal_id", "writer"),
    )
    task = make("task", _required("name", key(TASK_MAX)), primary=("name",), dense=True)
    dead_letter = make(
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
    return {
        "info": info,
        "journal": journal,
        "writer": writer,
        "worker": worker,
        "task": task,
        "dead_letter": dead_letter,
    }


def _run_tables(make: _Maker) -> dict[str, Table]:
    run = make(
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
    make.index(run, "created", "created_at")
    make.index(run, "state", "state", "created_at")
    make.index(run, "task", "task", "state", "created_at")
    make.index(run, "tenant", "tenant", "state", "created_at", where="tenant <> ''")
    make.index(run, "canvas", "canvas", "created_at", where="canvas IS NOT NULL")
    make.index(run, "parent", "parent_id", "created_at", where="parent_id IS NOT NULL")
    make.index(run, "group", "group_id", "created_at", where="group_id IS NOT NULL")
    make.index(run, "digest", "digest", where="digest IS NOT NULL")
    make.index(run, "expires", "expires_at", where="expires_at IS NOT NULL")
    make.index(run, "change", "journal_id", "change_seq")
    run_metadata = make(
        "run_metadata",
        _required("run_id", key(ID_MAX)),
        _required("key", key(META_KEY_MAX)),
        Column("value", key(META_VALUE_MAX)),
        _required("created_at", Double()),
        _required("doc", long_text()),
        primary=("run_id", "key"),
    )
    make.index(run_metadata, "value", "key", "value", "created_at", "run_id")
    attempt = make(
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
    make.index(attempt, "open", "journal_id", "writer", where="state = 'running'")
    return {"run": run, "run_metadata": run_metadata, "attempt": attempt}


def _detail_tables(make: _Maker) -> dict[str, Table]:
    def owner() -> tuple[Column[Any], Column[Any]]:
        return _required("run_id", key(ID_MAX)), _required("attempt_id", key(WORD_MAX))

    stage = make(
        "stage",
        *owner(),
        _required("number", BigInteger()),
        _required("state", key(16)),
        _required("doc", long_text()),
        primary=("run_id", "attempt_id", "number"),
    )
    event = make(
        "event",
        *owner(),
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
    event_overflow = make(
        "event_overflow",
        *owner(),
        _required("writer", key(32)),
        _required("bits", blob()),
        primary=("run_id", "attempt_id", "writer"),
    )
    log_stream = make(
        "log_stream",
        *owner(),
        _required("writer", key(32)),
        _required("lines", BigInteger()),
        _required("bytes", BigInteger()),
        primary=("run_id", "attempt_id", "writer"),
    )
    log_chunk = make(
        "log_chunk",
        *owner(),
        _required("writer", key(32)),
        _required("number", BigInteger()),
        _required("lines", blob()),
        primary=("run_id", "attempt_id", "writer", "number"),
    )
    measure = make(
        "measure",
        *owner(),
        _required("name", key(255)),
        _required("points", blob()),
        primary=("run_id", "attempt_id", "name"),
    )
    return {
        "stage": stage,
        "event": event,
        "event_overflow": event_overflow,
        "log_stream": log_stream,
        "log_chunk": log_chunk,
        "measure": measure,
    }


def _rollup_tables(make: _Maker) -> dict[str, Table]:
    def series() -> tuple[Column[Any], ...]:
        return (
            _required("journal_id", key(32)),
            _required("bucket", BigInteger()),
            _required("task", key(TASK_MAX)),
            _required("queue", key(QUEUE_MAX)),
            _required("tenant", key(TENANT_MAX)),
            _required("state", key(16)),
        )

    names = ("journal_id", "bucket", "task", "queue", "tenant", "state")
    rollup = make(
        "rollup",
        *series(),
        _required("count", BigInteger()),
        _required("runtime_count", BigInteger()),
        _required("runtime_us", BigInteger()),
        _required("waited_count", BigInteger()),
        _required("waited_us", BigInteger()),
        primary=names,
        dense=True,
    )
    make.index(rollup, "bucket", "bucket")
    rollup_bin = make(
        "rollup_bin",
        *series(),
        _required("measure", key(8)),
        _required("bin", Integer()),
        _required("count", BigInteger()),
        primary=(*names, "measure", "bin"),
        dense=True,
    )
    make.index(rollup_bin, "bucket", "bucket")
    rollup_tenant = make(
        "rollup_tenant",
        _required("journal_id", key(32)),
        _required("tenant", key(TENANT_MAX)),
        primary=("journal_id", "tenant"),
        dense=True,
    )
    return {"rollup": rollup, "rollup_bin": rollup_bin, "rollup_tenant": rollup_tenant}
