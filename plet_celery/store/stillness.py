"""Runs that run and tell nothing: when each was last heard of, by stages, log lines, measures, events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk, logtext, merge, series, stages
from plet_celery.store.engine import prefer_indexes, store_clock
from plet_celery.store.load import state_of
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store

RUNS_MAX: Final = 2000
"""So many of the oldest running runs are looked at."""
_stage_of: Final = msgspec.json.Decoder(stages.StageFacts).decode

Key = tuple[str, str]
"""Ids of run and attempt."""


class StillRun(msgspec.Struct, frozen=True, kw_only=True):
    """A running run that was not heard of for long, while its host was."""

    run_id: str
    attempt_id: str
    task: str
    tenant: str
    queue: str | None
    worker: str | None
    host: str | None
    pid: int | None
    pool: str | None
    started_at: float
    heard_at: float
    """When it last told anything: its start, a stage, a line, a measure."""
    silent_for: float
    """Seconds since then, up to the newest thing that its host has told."""
    limit: float
    """How long it may be silent."""
    stage: str | None
    """The stage that it is in."""
    journal: str
    """Id of the journal that tells of it."""


def still_runs(store: Store, *, now: float, limit_of: Callable[[str], float]) -> list[StillRun]:
    """Return the running runs that were silent for longer than they may be, the longest first.

    Only as much silence counts as the store has seen: a host that is not heard of, or whose journal lies
    behind, may have much to tell.

    Args:
        now: seconds since the epoch.
        limit_of: of a task's name, how many seconds it may be silent.
    """
    tables = store.tables
    with store.reading() as connection:
        prefer_indexes(connection)
        rows = _running(connection, tables)
        seen = {row.journal_id: min(now, row.as_of) for row in rows if row.is_heard and row.as_of is not None}
        found = {}
        for row in rows:
            suspect = _suspect(row, limit_of)
            if row.journal_id in seen and seen[row.journal_id] - suspect.heard_at > suspect.limit:
                found[row.run_id, row.id] = suspect
        for look in _LOOKS:
            signs = look(connection, tables, found)
            found = {
                key: msgspec.structs.replace(one, heard_at=max(one.heard_at, signs.get(key, 0.0)))
                for key, one in found.items()
            }
            # The cheap looks first: who was heard of is not looked at any further.
            found = {key: one for key, one in found.items() if seen[one.journal] - one.heard_at > one.limit}
    still = [
        msgspec.structs.replace(one, silent_for=seen[one.journal] - one.heard_at) for one in found.values()
    ]
    return sorted(still, key=lambda one: (-one.silent_for, one.run_id))


def _running(connection: Connection, tables: Tables) -> list[Any]:
    """Return the open attempts of running runs, with how their journal does."""
    run, attempt, journal = tables.run, tables.attempt, tables.journal
    oldest = (
        sa.select(run.c.id, run.c.task, run.c.tenant, run.c.queue)
        .where(run.c.state == "running")
        .order_by(run.c.created_at)
        .limit(RUNS_MAX)
        .subquery()
    )
    clock = store_clock(connection.dialect.name)
    is_heard = sa.and_(journal.c.left_at.is_(None), clock - journal.c.touched_at < journal.c.stale_after)
    query = (
        sa.select(
            attempt.c.run_id,
            attempt.c.id,
            attempt.c.journal_id,
            attempt.c.started_at,
            attempt.c.doc,
            oldest.c.task,
            oldest.c.tenant,
            oldest.c.queue,
            journal.c.as_of,
            is_heard.label("is_heard"),
        )
        .join(oldest, oldest.c.id == attempt.c.run_id)
        .join(journal, journal.c.journal_id == attempt.c.journal_id)
        .where(attempt.c.state == "running")
    )
    return list(connection.execute(query))


def _suspect(row: Any, limit_of: Callable[[str], float]) -> StillRun:
    state = state_of(row.doc)
    facts = state.start.data if state.start is not None else {}
    return StillRun(
        run_id=row.run_id,
        attempt_id=row.id,
        task=row.task,
        tenant=row.tenant,
        queue=row.queue,
        worker=merge.text(facts.get("worker"), 255),
        host=merge.text(facts.get("host"), 255),
        pid=merge.integer(facts.get("pid")),
        pool=merge.text(facts.get("pool"), 64),
        started_at=row.started_at,
        heard_at=max(row.started_at, state.log_at),
        silent_for=0.0,
        limit=merge.number(facts.get("stuck_after")) or limit_of(row.task),
        stage=state.running.name if state.running is not None else None,
        journal=row.journal_id,
    )


def _stage_signs(connection: Connection, tables: Tables, keys: Iterable[Key]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for run, attempt, _, _, doc in bulk.fetch(connection, tables.stage, keys):
        facts = _stage_of(doc)
        told = [facts.planned, facts.begun, facts.ended]
        stamps = [one.stamp[0] for one in told if one is not None]
        stamps += [one[0][0] for one in (facts.done, facts.total, facts.message) if one is not None]
        _later(found, (run, attempt), stamps)
    return found


def _event_signs(connection: Connection, tables: Tables, keys: Iterable[Key]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for run, attempt, at in bulk.fetch(
        connection, tables.event, keys, columns=("run_id", "attempt_id", "at")
    ):
        _later(found, (run, attempt), [at])
    return found


def _measure_signs(connection: Connection, tables: Tables, keys: Iterable[Key]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for run, attempt, _, packed in bulk.fetch(connection, tables.measure, keys):
        _later(found, (run, attempt), [point.at for point in series.unpack(packed)])
    return found


def _log_signs(connection: Connection, tables: Tables, keys: Iterable[Key]) -> dict[Key, float]:
    """Read the newest chunk of each writer's log: an older version has not told when the last line came."""
    columns = ("run_id", "attempt_id", "writer", "number")
    newest: dict[tuple[str, str, str], int] = {}
    for run, attempt, writer, number in bulk.fetch(connection, tables.log_chunk, keys, columns=columns):
        newest[run, attempt, writer] = max(number, newest.get((run, attempt, writer), number))
    found: dict[Key, float] = {}
    wanted = [(*owner, number) for owner, number in newest.items()]
    for run, attempt, _, _, lines in bulk.fetch(connection, tables.log_chunk, wanted):
        _later(found, (run, attempt), [line.at for line in logtext.unpack(lines)])
    return found


_LOOKS: Final = (_stage_signs, _event_signs, _measure_signs, _log_signs)


def _later(found: dict[Key, float], key: Key, stamps: Iterable[float]) -> None:
    found[key] = max([found.get(key, 0.0), *stamps])
