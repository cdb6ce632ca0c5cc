"""All runs of one canvas, light: what a tree of thousands shows, from columns and few fields of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.paths import short_id
from plet_celery.store import assemble, bulk, merge, tenancy
from plet_celery.store.finding import FAILED_STATES, run_row
from plet_celery.store.load import state_of
from plet_celery.store.overviews import CanvasRun, CanvasRuns
from plet_celery.store.schema import Tables
from plet_celery.store.settle import OPEN, RunRow
from plet_celery.store.store import Store

_MESSAGE_MAX: Final = 200
_MAY_HAVE_ERROR: Final = frozenset({*FAILED_STATES, "retrying"})


class _Links(msgspec.Struct):
    # Whatever a worker wrote there: the types are looked at later.
    group_index: Any = None
    chord: Any = None
    chain_left: Any = None


class _Start(msgspec.Struct):
    data: _Links


class _Light(msgspec.Struct):
    """What is needed of an attempt's `doc`; the rest is skipped, which is most of the time saved."""

    start: _Start | None = None
    percent: float | None = None


_light = msgspec.json.Decoder(_Light).decode
_NOTHING: Final = _Light()


def canvas_runs(
    store: Store, run_id: str, *, limit: int = 2000, tenants: Sequence[str] | None = None
) -> CanvasRuns:
    """Return the runs of a run's canvas, itself among them, in the order of their creation.

    They are facts, not a tree: a parent may be missing, and parents may lead in a circle.

    Args:
        limit: of more, those that were created first, and the run itself.
        tenants: paths that the viewer may see, each with what lies below it; None: all.

    Raises:
        RunNotFound: there is no such run that the viewer may see.
    """
    tables = store.tables
    with store.reading() as connection:
        own = run_row(connection, tables, run_id, tenants)
        rows = _rows(connection, tables, own, limit + 1, tenants)
        truncated = len(rows) > limit
        if truncated:
            rows = rows[:limit] if own in rows[:limit] else [*rows[: max(0, limit - 1)], own]
        faces = [(row.id, row.face) for row in rows if row.face is not None]
        found = bulk.fetch(connection, tables.attempt, faces, columns=("run_id", "doc"))
        docs = {row[0]: row[1] for row in found}
    return CanvasRuns(items=[_canvas_run(row, docs.get(row.id)) for row in rows], truncated=truncated)


def _rows(
    connection: Connection, tables: Tables, own: RunRow, limit: int, tenants: Sequence[str] | None
) -> list[RunRow]:
    table = tables.run
    canvas = own.canvas or own.id
    rows = {own.id: own}
    for mine in (table.c.id == canvas, table.c.canvas == canvas):
        where = (mine, *tenancy.visible(table.c.tenant, tenants))
        query = sa.select(table).where(*where).order_by(table.c.created_at, table.c.id).limit(limit)
        rows.update((row[0], RunRow(*row)) for row in connection.execute(query))
    return sorted(rows.values(), key=lambda row: (row.created_at, row.id))


def _canvas_run(row: RunRow, doc: str | None) -> CanvasRun:
    full_id = assemble.run_id_of(row) if row.doc is not None else row.id
    light = _light(doc) if doc is not None else _NOTHING
    links = light.start.data if light.start is not None else _Links()
    error = _error(row, doc) if row.state in _MAY_HAVE_ERROR else {}
    return CanvasRun(
        id=full_id,
        short_id=short_id(full_id),
        task=row.task,
        state=row.state,
        percent=light.percent if row.state in OPEN else None,
        parent_id=row.parent_id,
        root_id=row.root_id,
        group_id=row.group_id,
        group_index=merge.integer(links.group_index),
        chord=merge.text(links.chord, 255),
        chain_left=merge.integer(links.chain_left),
        queued_at=row.queued_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        runtime=row.runtime,
        attempts=row.attempts,
        error_type=merge.text(error.get("type"), 255),
        error_message=_first_line(error.get("message")),
    )


def _error(row: RunRow, doc: str | None) -> dict[str, Any]:
    face = state_of(doc) if doc is not None else None
    return assemble.error_of(row, assemble.doc_of(row), face) or {}


def _first_line(message: Any) -> str | None:
    if not isinstance(message, str) or not message.strip():
        return None
    return message.strip().split("\n", 1)[0].rstrip()[:_MESSAGE_MAX]
