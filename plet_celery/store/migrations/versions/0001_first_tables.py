"""The first tables: runs with all below them, journals, rollups, dead letters."""

from __future__ import annotations

from typing import Any, Final

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, PrimaryKeyConstraint, Text, text

from plet_celery.store.columns import blob, key, long_text, options, place

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    make = _Maker(op.get_context().dialect.name)
    for table in (
        _info,
        _journal,
        _writer,
        _worker,
        _task,
        _dead_letter,
        _run,
        _run_metadata,
        _attempt,
        _stage,
        _event,
        _event_overflow,
        _log_stream,
        _log_chunk,
        _measure,
        _rollup,
        _rollup_bin,
        _rollup_tenant,
        _removal,
        _removal_part,
    ):
        table(make)


class _Maker:
    def __init__(self, dialect: str) -> None:
        self._prefix, self._schema = place(dialect)

    def __call__(self, name: str, *columns: Any, primary: tuple[str, ...], dense: bool = False) -> str:
        full = self._prefix + name
        constraint = PrimaryKeyConstraint(*primary, name=f"pk_{full}")
        op.create_table(full, *columns, constraint, schema=self._schema, **options(dense=dense))
        return full

    def index(self, table: str, name: str, *columns: str, where: str | None = None) -> None:
        # MariaDB has no partial indexes; there the whole column is indexed.
        engines = ("sqlite", "postgresql") if where else ()
        partial: dict[str, Any] = {f"{engine}_where": text(where or "") for engine in engines}
        op.create_index(f"ix_{table}_{name}", table, list(columns), schema=self._schema, **partial)


def _required(name: str, type_: Any) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _owner() -> tuple[Column[Any], Column[Any]]:
    return _required("run_id", key(255)), _required("attempt_id", key(64))


def _series() -> tuple[Column[Any], ...]:
    return (
        _required("journal_id", key(32)),
        _required("bucket", BigInteger()),
        _required("task", key(255)),
        _required("queue", key(128)),
        _required("tenant", key(255)),
        _required("state", key(16)),
    )


_SERIES: Final = ("journal_id", "bucket", "task", "queue", "tenant", "state")


def _info(make: _Maker) -> None:
    make("info", _required("name", key(64)), _required("value", Text()), primary=("name",), dense=True)


def _journal(make: _Maker) -> None:
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
        _required("stale_after", Double()),
        Column("left_at", Double()),
        Column("lost_at", Double()),
        Column("skew", Double()),
        _required("change_seq", BigInteger()),
        Column("as_of", Double()),
        Column("beat_at", Double()),
        Column("beat", long_text()),
        primary=("journal_id",),
    )


def _writer(make: _Maker) -> None:
    make(
        "writer",
        _required("journal_id", key(32)),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        primary=("journal_id", "writer"),
        dense=True,
    )


def _worker(make: _Maker) -> None:
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


def _task(make: _Maker) -> None:
    make("task", _required("name", key(255)), primary=("name",), dense=True)


def _dead_letter(make: _Maker) -> None:
    table = make(
        "dead_letter",
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("journal_id", key(32)),
        _required("at", Double()),
        _required("buried_at", Double()),
        _required("kind", key(64)),
        Column("run_id", key(255)),
        _required("reason", long_text()),
        _required("record", long_text()),
        primary=("writer", "segment", "offset"),
    )
    make.index(table, "buried", "buried_at")


def _removal(make: _Maker) -> None:
    table = make(
        "removal",
        _required("digest", key(32)),
        Column("run_id", key(255)),
        _required("reason", key(8)),
        _required("marked_at", Double()),
        _required("rows_after", Double()),
        _required("forget_at", Double()),
        _required("late", BigInteger()),
        primary=("digest",),
    )
    make.index(table, "rows", "rows_after", where="run_id IS NOT NULL")
    make.index(table, "run", "run_id", where="run_id IS NOT NULL")
    make.index(table, "forget", "forget_at")


def _removal_part(make: _Maker) -> None:
    table = make(
        "removal_part",
        _required("journal_id", key(32)),
        _required("digest", key(32)),
        _required("folder", Text()),
        _required("reason", key(8)),
        _required("marked_at", Double()),
        _required("here", Integer()),
        _required("mirror", Integer()),
        primary=("journal_id", "digest"),
        dense=True,
    )
    make.index(table, "run", "digest")


def _run(make: _Maker) -> None:
    table = make(
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
    _run_indexes(make, table)


def _run_indexes(make: _Maker, table: str) -> None:
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


def _run_metadata(make: _Maker) -> None:
    table = make(
        "run_metadata",
        _required("run_id", key(255)),
        _required("key", key(255)),
        Column("value", key(200)),
        _required("created_at", Double()),
        _required("doc", long_text()),
        primary=("run_id", "key"),
    )
    make.index(table, "value", "key", "value", "created_at", "run_id")


def _attempt(make: _Maker) -> None:
    table = make(
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
    make.index(table, "open", "journal_id", "writer", where="state = 'running'")


def _stage(make: _Maker) -> None:
    make(
        "stage",
        *_owner(),
        _required("number", BigInteger()),
        _required("state", key(16)),
        _required("doc", long_text()),
        primary=("run_id", "attempt_id", "number"),
    )


def _event(make: _Maker) -> None:
    make(
        "event",
        *_owner(),
        _required("at", Double()),
        _required("writer", key(32)),
        _required("segment", BigInteger()),
        _required("offset", BigInteger()),
        _required("number", BigInteger()),
        _required("journal_id", key(32)),
        _required("kind", key(64)),
        Column("level", BigInteger()),
        _required("data", long_text()),
        primary=("run_id", "attempt_id", "at", "writer", "segment", "offset"),
    )


def _event_overflow(make: _Maker) -> None:
    make(
        "event_overflow",
        *_owner(),
        _required("writer", key(32)),
        _required("bits", blob()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_stream(make: _Maker) -> None:
    make(
        "log_stream",
        *_owner(),
        _required("writer", key(32)),
        _required("lines", BigInteger()),
        _required("bytes", BigInteger()),
        primary=("run_id", "attempt_id", "writer"),
    )


def _log_chunk(make: _Maker) -> None:
    make(
        "log_chunk",
        *_owner(),
        _required("writer", key(32)),
        _required("number", BigInteger()),
        _required("lines", blob()),
        primary=("run_id", "attempt_id", "writer", "number"),
    )


def _measure(make: _Maker) -> None:
    make(
        "measure",
        *_owner(),
        _required("name", key(255)),
        _required("points", blob()),
        primary=("run_id", "attempt_id", "name"),
    )


def _rollup(make: _Maker) -> None:
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


def _rollup_bin(make: _Maker) -> None:
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


def _rollup_tenant(make: _Maker) -> None:
    make(
        "rollup_tenant",
        _required("journal_id", key(32)),
        _required("tenant", key(255)),
        primary=("journal_id", "tenant"),
        dense=True,
    )
