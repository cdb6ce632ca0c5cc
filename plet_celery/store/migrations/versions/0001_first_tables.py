"""The first tables: runs with all below them, journals, rollups, dead letters."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, PrimaryKeyConstraint, Text, text

from plet_celery.store.schema import blob, key, long_text, place

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    make = _Maker(op.get_context().dialect.name)
    _store_tables(make)
    _run_tables(make)
    _detail_tables(make)
    _rollup_tables(make)


class _Maker:
    def __init__(self, dialect: str) -> None:
        self._prefix, self._schema = place(dialect)

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> str:
        # A narrow table without SQLite's rowid is one tree instead of two.
        options: dict[str, Any] = {"sqlite_with_rowid": False} if dense else {}
        full = self._prefix + name
        constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
        op.create_table(full, *columns, constraint, schema=self._schema, **options)
        return full

    def index(self, table: str, name: str, *columns: str, where: str | None = None) -> None:
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        options: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        op.create_index(f"ix_{table}_{name}", table, list(columns), schema=self._schema, **options)


def _required(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _store_tables(make: _Maker) -> None:
    make("info", _required("name", key(64)), _required("value", Text()), primary=("name",), dense=True)
    make(
        "journal",
        _required("journal_id", key(32)),
        _required("host", key(255)),
        _required("machine", key(64)),
        _required("boot", key(64)),
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
    make(
        "writer",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        primary=("journal_id", "writer"),
        dense=True,
    )
    make(
        "worker",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("worker", key(255)),
        _required("started_at", Double()),
        Column("stopped_at", Double()),
        _required("doc", long_text()),
        primary=("journal_id", "writer"),
    )
    make("task", _required("name", key(255)), primary=("name",), dense=True)
    make(
        "dead_letter",
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("journal_id", key(32)),
        _required("at", Double()),
        _required("buried_at", Double()),
        _required("kind", key(64)),
        Column("run_id", key(255)),
        _required("reason", Text()),
        _required("record", long_text()),
        primary=("writer", "segment", "offset"),
    )


def _run_tables(make: _Maker) -> None:
    run = make(
        "run",
        _required("id", key(255)),
        Column("digest", key(10)),
        _required("task", key(255)),
        _required("state", key(16)),
        _required("tenant", key(255)),
        _required("trigger", key(64)),
        Column("user", key(255)),
        Column("queue", key(128)),
        _required("created_at", Double()),
        Column("queued_at", Double()),
        Column("started_at", Double()),
        Column("ended_at", Double()),
        Column("runtime", Double()),
        _required("attempts", Integer()),
        Column("face", key(64)),
        _required("replaced", Integer()),
        Column("canvas", key(255)),
        Column("root_id", key(255)),
        Column("parent_id", key(255)),
        Column("group_id", key(255)),
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
        _required("run_id", key(255)),
        _required("key", key(255)),
        Column("value", key(200)),
        _required("created_at", Double()),
        _required("doc", long_text()),
        primary=("run_id", "key"),
    )
    make.index(run_metadata, "value", "key", "value", "created_at", "run_id")
    attempt = make(
        "attempt",
        _required("run_id", key(255)),
        _required("id", key(64)),
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


def _detail_tables(make: _Maker) -> None:
    def owner() -> tuple[Column[Any], Column[Any]]:
        return _required("run_id", key(255)), _required("attempt_id", key(64))

    make(
        "stage",
        *owner(),
        _required("number", BigInteger()),
        _required("state", key(16)),
        _required("doc", long_text()),
        primary=("run_id", "attempt_id", "number"),
    )
    make(
        "event",
        *owner(),
        _required("at", Double()),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("number", BigInteger()),
        _required("journal_id", key(32)),
        _required("kind", key(64)),
        Column("level", Integer()),
        _required("data", long_text()),
        primary=("run_id", "attempt_id", "at", "writer", "segment", "offset"),
    )
    make(
        "event_overflow",
        *owner(),
        _required("writer", key(32)),
        _required("bits", blob()),
        primary=("run_id", "attempt_id", "writer"),
    )
    make(
        "log_stream",
        *owner(),
        _required("writer", key(32)),
        _required("lines", BigInteger()),
        _required("bytes", BigInteger()),
        primary=("run_id", "attempt_id", "writer"),
    )
    make(
        "log_chunk",
        *owner(),
        _required("writer", key(32)),
        _required("number", BigInteger()),
        _required("lines", blob()),
        primary=("run_id", "attempt_id", "writer", "number"),
    )
    make(
        "measure",
        *owner(),
        _required("name", key(255)),
        _required("points", blob()),
        primary=("run_id", "attempt_id", "name"),
    )


def _rollup_tables(make: _Maker) -> None:
    def series() -> tuple[Column[Any], ...]:
        return (
            _required("journal_id", key(32)),
            _required("bucket", BigInteger()),
            _required("task", key(255)),
            _required("queue", key(128)),
            _required("tenant", key(255)),
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
    make(
        "rollup_tenant",
        _required("journal_id", key(32)),
        _required("tenant", key(255)),
        primary=("journal_id", "tenant"),
        dense=True,
    )
