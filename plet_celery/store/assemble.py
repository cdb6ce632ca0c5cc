"""Rows into records: what the columns and the `doc` of a row mean to a reader."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from plet_celery.paths import run_folder, short_id
from plet_celery.store import bulk, hoststatus, merge, metadata, settle
from plet_celery.store.keptruns import KeptRuns, Made
from plet_celery.store.load import state_of
from plet_celery.store.merge import AttemptState, End
from plet_celery.store.prepared import Statement, prepared
from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.store.schema import Tables
from plet_celery.store.settle import NEVER_STARTED, OPEN, REAL, RunDoc, RunRow, View
from plet_celery.store.stages import StageFacts

# Fields of a run that are columns of its row.
_SAME: Final = (
    *(
        "task",
        "state",
        "tenant",
        "trigger",
        "user",
        "queue",
        "queued_at",
        "started_at",
        "ended_at",
        "runtime",
    ),
    *("attempts", "root_id", "parent_id", "group_id", "log_lines", "dropped", "version"),
)
_PLACE: Final = ("id", "journal_id", "change_seq", "version")
_run_doc = msgspec.json.Decoder(RunDoc).decode
_stage_facts = msgspec.json.Decoder(StageFacts).decode


def as_of(connection: Connection, tables: Tables) -> float | None:
    """Return the wall time of the newest event that was shipped."""
    ((found,),) = _as_of_query(tables, connection.dialect).rows(connection)
    return float(found) if found is not None else None


def runs_by_id(
    connection: Connection, tables: Tables, ids: Sequence[str], kept: KeptRuns | None = None
) -> list[Run]:
    """Return the runs with these keys, in their order.

    Args:
        kept: what is read of them need not be read again.
    """
    keys, made = [(one,) for one in ids], dict[str, Made]()
    if kept is not None:
        places = {row[0]: row[1:] for row in bulk.fetch(connection, tables.run, keys, columns=_PLACE)}
        made = kept.among(places)
        keys = [(one,) for one in ids if one not in made]
    rows = [RunRow(*row) for row in bulk.fetch(connection, tables.run, keys)]
    for row, one in zip(rows, _made(connection, tables, rows), strict=True):
        made[row.id] = one
        if kept is not None:
            kept.keep(row.id, (row.journal_id, row.change_seq, row.version), one)
    return _told_now(connection, tables, [made[one] for one in ids])


def runs(connection: Connection, tables: Tables, rows: Sequence[RunRow]) -> list[Run]:
    """Return the runs of these rows, in their order."""
    return _told_now(connection, tables, _made(connection, tables, rows))


def _made(connection: Connection, tables: Tables, rows: Sequence[RunRow]) -> list[Made]:
    """Return what these rows and those below them tell, which changes with them alone."""
    faces = [(row.id, row.face) for row in rows if row.face is not None]
    columns = ("run_id", "journal_id", "doc")
    face_rows = bulk.fetch(connection, tables.attempt, faces, columns=columns)
    found = {run: (at, state_of(doc)) for run, at, doc in face_rows}
    values: dict[str, dict[str, Any]] = {}
    for run, key, _, _, doc in bulk.fetch(connection, tables.run_metadata, [(row.id,) for row in rows]):
        value = metadata.decode(doc)
        if not value.removed:
            values.setdefault(run, {})[key] = value.value
    made = []
    for row in rows:
        journal, face = found.get(row.id, (None, None))
        run = _run(row, face, values.get(row.id, {}))
        made.append((run, journal if row.state == "running" else None))
    return made


def _told_now(connection: Connection, tables: Tables, made: Sequence[Made]) -> list[Run]:
    """Return these runs with what changes without them."""
    newest = as_of(connection, tables)
    journals = {journal for _, journal in made if journal is not None}
    silent = hoststatus.silent_since(connection, tables, journals)
    found = []
    for kept, journal in made:
        run = copy(kept)
        run.as_of = newest
        run.unreachable_since = silent.get(journal) if journal is not None else None
        found.append(run)
    return found


@functools.lru_cache
def _as_of_query(tables: Tables, dialect: Dialect) -> Statement:
    return prepared(sa.select(sa.func.max(tables.journal.c.as_of)), dialect)


def attempts(run: RunRow, rows: Iterable[Any]) -> list[Attempt]:
    """Return a run's attempts by their ordinals, from all rows of `attempt` that it has."""
    by_id = {row.id: row for row in rows}
    views = settle.by_start(View(*(getattr(row, name) for name in View._fields)) for row in by_id.values())
    starts = settle.journal_starts(views)
    return [
        _attempt(run, view, state_of(by_id[view.id].doc), number, starts)
        for number, view in enumerate(views, 1)
    ]


def stages(attempt: Attempt, state: AttemptState, rows: Iterable[Any]) -> list[Stage]:
    """Return an attempt's stages by number, those that were declared and never begun among them."""
    found = {row.number: _stage_facts(row.doc) for row in rows}
    declared = _declared(state)
    return [
        _stage(attempt, number, found.get(number), declared.get(number))
        for number in sorted({*found, *declared})
    ]


def doc_of(row: RunRow) -> RunDoc:
    """Return what a run's row keeps beyond its columns."""
    return _run_doc(row.doc) if row.doc is not None else RunDoc()


def run_id_of(row: RunRow) -> str:
    """Return the full task id."""
    return doc_of(row).full_id or row.id


def error_of(row: RunRow, doc: RunDoc, face: AttemptState | None) -> dict[str, Any] | None:
    """Return what a run failed with, given the attempt that decides its state."""
    end = merge.outcome_of(face).end if face is not None else None
    return _error(doc.upstream if _is_upstreams(row, doc, end) else end)


def _run(row: RunRow, face: AttemptState | None, values: dict[str, Any]) -> Run:
    doc = doc_of(row)
    full_id = doc.full_id or row.id
    shown = {name: getattr(row, name) for name in _SAME}
    return Run(
        id=full_id,
        short_id=short_id(full_id),
        waited=_waited(row),
        attempt=row.attempts,
        metadata=values,
        canvas=row.canvas or full_id,
        replaced=bool(row.replaced),
        log_folders=_folders(row, full_id, doc, face),
        **shown,
        **_of_face(row, doc, face),
        **_of_stage(row, face),
    )


def _of_face(row: RunRow, doc: RunDoc, face: AttemptState | None) -> dict[str, Any]:
    """Return what a run shows of the attempt that decides its state."""
    outcome = merge.outcome_of(face) if face is not None else None
    end, ran = (outcome.end, outcome.facts) if outcome is not None else (None, {})
    start = face.start.data if face is not None and face.start is not None else {}
    told = start or (doc.queued.data if doc.queued is not None else {})
    upstream = doc.upstream if _is_upstreams(row, doc, end) else None
    return {
        "worker": merge.text(ran.get("worker"), 255),
        "host": merge.text(ran.get("host"), 255),
        "percent": face.percent if face is not None else None,
        "retries": merge.integer(ran.get("retries")) or 0,
        "not_before": merge.iso_moment(told.get("eta")) if row.attempts < 2 else None,
        "tracked": start.get("tracked") is True,
        "weight": merge.weight_of(end.data) if end is not None else 1,
        "error": _error(upstream or end),
        "result": end.data.get("result") if end is not None else None,
        "args": told.get("args"),
        "kwargs": told.get("kwargs"),
        "reason": _reason(row, doc, upstream, end),
    }


def _of_stage(row: RunRow, face: AttemptState | None) -> dict[str, Any]:
    """Return what a run shows of the stage that runs, or in which it ended without success."""
    if face is None or row.state == "succeeded":
        return {}
    is_open = row.state in OPEN and row.state != "retrying"
    glance = face.running if is_open else face.running or face.failed
    if glance is None:
        return {}
    return {
        "stage": glance.name,
        "current": glance.current,
        "total": glance.total,
        "unit": glance.unit,
        "message": glance.message,
    }


def _attempt(
    run: RunRow, view: View, state: AttemptState, number: int, starts: Mapping[str, float]
) -> Attempt:
    outcome = merge.outcome_of(state)
    end, ran = outcome.end, outcome.facts
    start = state.start.data if state.start is not None else {}
    folder = None
    if view.placeholder == REAL:
        folder = str(run_folder(run.tenant, starts[view.journal_id], run.trigger, run_id_of(run)))
    usage = end.data.get("usage") if end is not None else None
    return Attempt(
        id=view.id,
        run_id=run_id_of(run),
        number=number,
        state=view.state,
        task=merge.text(ran.get("task"), 255) or "",
        worker=merge.text(ran.get("worker"), 255),
        host=merge.text(ran.get("host"), 255),
        pid=view.pid,
        pool=merge.text(start.get("pool"), 64),
        queue=merge.text(ran.get("queue"), 255),
        started_at=view.started_at if view.placeholder != NEVER_STARTED else None,
        ended_at=view.ended_at,
        runtime=outcome.runtime,
        retries=merge.integer(ran.get("retries")) or 0,
        redelivered=start.get("redelivered") is True,
        error=_error(end),
        result=end.data.get("result") if end is not None else None,
        reason=merge.reason_of(end),
        percent=state.percent,
        log_lines=view.log_lines,
        log_folder=folder,
        placeholder=view.placeholder != REAL,
        usage=usage if isinstance(usage, dict) else None,
        clock=outcome.clock,
        ended_by=("child", "main", "shipper")[end.rank] if end is not None else None,
        events_dropped=state.events_dropped,
    )


def _stage(
    attempt: Attempt, number: int, facts: StageFacts | None, declared: tuple[str, float | None] | None
) -> Stage:
    facts = facts or StageFacts()
    done = facts.done[1] if facts.done else None
    total = facts.total[1] if facts.total else None
    state, ended_at, elapsed = _stage_end(attempt, facts)
    return Stage(
        run_id=attempt.run_id,
        attempt_id=attempt.id,
        number=number,
        name=facts.name if facts.begun or facts.planned else (declared[0] if declared else facts.name),
        state=state,
        parent=facts.begun.parent if facts.begun else None,
        weight=facts.planned.weight if facts.planned else (declared[1] if declared else None),
        current=done,
        total=total,
        unit=facts.begun.unit if facts.begun else None,
        percent=_share(done, total),
        message=facts.message[1] if facts.message else None,
        result=facts.ended.result if facts.ended else None,
        error=facts.ended.error if facts.ended else None,
        started_at=facts.began,
        ended_at=ended_at,
        elapsed=elapsed,
    )


def _stage_end(attempt: Attempt, facts: StageFacts) -> tuple[str, float | None, float | None]:
    """Return a stage's state, when it ended and how long it took."""
    state, ended_at, elapsed = facts.state, None, None
    if facts.ended is not None and state == facts.ended.state:
        ended_at, elapsed = facts.ended.stamp[0], facts.ended.elapsed
    elif state == "running" and attempt.ended_at is not None:
        # Nobody could end it: its process was killed, or a thread had it open.
        state, ended_at = "succeeded" if attempt.state == "succeeded" else "failed", attempt.ended_at
    if elapsed is None and ended_at is not None and facts.began is not None:
        elapsed = max(0.0, ended_at - facts.began)
    return state, ended_at, elapsed


def _declared(state: AttemptState) -> dict[int, tuple[str, float | None]]:
    told = state.start.data.get("stages") if state.start is not None else None
    found: dict[int, tuple[str, float | None]] = {}
    for number, pair in enumerate(told if isinstance(told, list) else [], 1):
        if isinstance(pair, list) and pair and isinstance(pair[0], str):
            found[number] = (pair[0], merge.number(pair[1]) if len(pair) > 1 else None)
    return found


def _share(done: float | None, total: float | None) -> float | None:
    if done is None or total is None or total <= 0:
        return None
    return min(100.0, max(0.0, 100.0 * done / total))


def _folders(row: RunRow, full_id: str, doc: RunDoc, face: AttemptState | None) -> list[str]:
    starts = doc.starts
    if starts is None:
        starts = [row.started_at] if row.started_at is not None and face is not None else []
    return [str(run_folder(row.tenant, start, row.trigger, full_id)) for start in starts]


def _is_upstreams(row: RunRow, doc: RunDoc, end: End | None) -> bool:
    """Whether an earlier chain step's failure ended the run, rather than an attempt of its own."""
    return doc.upstream is not None and row.state == "failed" and (end is None or end.state != "failed")


def _reason(row: RunRow, doc: RunDoc, upstream: End | None, end: End | None) -> str | None:
    if row.state == "abandoned" and doc.abandoned is not None:
        return merge.reason_of(doc.abandoned)
    if upstream is not None:
        return f"an earlier step failed: {upstream.data.get('upstream')}"[:300]
    return merge.reason_of(end)


def _error(end: End | None) -> dict[str, Any] | None:
    error = end.data.get("error") if end is not None else None
    return error if isinstance(error, dict) else None


def _waited(row: RunRow) -> float | None:
    if row.started_at is None or row.queued_at is None:
        return None
    return max(0.0, row.started_at - row.queued_at)
