"""What is removed when: every table has a bound in time, and the passes that keep it.

A pass is bounded in work and takes small transactions; what it did not reach is left for the next.
Only ended runs expire by their age. One that never ended (its message was purged, its host is gone)
goes after `open_days`, unless a host that lives still has an attempt of it.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.settings import Settings
from plet_celery.store import clockwatch, removal
from plet_celery.store.removal import EXPIRED, Plan, delete_some, now_of
from plet_celery.store.schema import Tables
from plet_celery.store.settle import DAY, OPEN
from plet_celery.store.store import Store

MARKS_AT_ONCE: Final = 500
TASKS_KEPT: Final = 1000
"""Task names that are kept without any run."""
COUNT_MAX: Final = 100_000
"""A dry run counts so far."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How long things are kept, in seconds."""

    runs: float = 30 * DAY
    failed: float = 90 * DAY
    rollups: float = 400 * DAY
    patience: float = 7 * DAY
    tombstone: float = DAY
    mirror: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Return the bounds that the settings give."""
        return cls(
            runs=settings.retention_days * DAY,
            failed=settings.retention_failed_days * DAY,
            rollups=settings.rollup_days * DAY,
            # A segment may be read again as long as it is kept.
            tombstone=max(DAY, 2 * settings.journal_keep),
            mirror=settings.mirror is not None,
        )

    @property
    def open(self) -> float:
        """How long a run without an end is kept."""
        return 2 * max(self.runs, self.failed)

    @property
    def facts(self) -> float:
        """How long facts of hosts and workers and dead letters are kept."""
        return max(self.runs, self.failed)

    @property
    def journals(self) -> float:
        """How long a journal that nobody ships is remembered."""
        return max(self.rollups, self.open) + self.patience

    def plan(self) -> Plan:
        """Return how expired runs go."""
        return Plan(reason=EXPIRED, patience=self.patience, tombstone=self.tombstone, mirror=self.mirror)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which runs go: by default those whose time is over."""

    older_than: float | None = None
    """Ended runs of this age in seconds, whatever their outcome."""
    task: str | None = None
    """Only of tasks whose name matches this pattern (`*`, `?`)."""


@dataclass
class Report:
    """What a pass did, or would do."""

    paused: str | None = None
    """Why nothing was removed."""
    busy: bool = False
    """Another process prunes."""
    marked: int = 0
    """Runs that are being removed from now on."""
    removed: int = 0
    """Runs whose rows went."""
    waiting: int = 0
    """Marked runs whose hosts have not removed their folders yet."""
    oldest: float | None = None
    """When the oldest of the marked runs was created."""
    unseen: list[tuple[str, float]] = field(default_factory=list)
    """Hosts that are not asked to remove their folders, and when they were last heard of."""
    rows: dict[str, int] = field(default_factory=dict)
    """Other rows that went, by table."""
    complete: bool = True
    """Nothing was left for the next pass."""


def prune(
    store: Store,
    bounds: Bounds,
    *,
    holder: str,
    wall: float,
    choice: Choice | None = None,
    trust_clock: bool = False,
    seconds: float = 60.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Do one pass: mark, remove the rows that may go, sweep the other tables.

    Args:
        holder: who asks; only one prunes at a time.
        wall: this host's time.
        seconds: after this time the pass ends, complete or not.
        stopped: asked between transactions.

    Raises:
        StoreUnavailable: the database is down; what was done stays done.
    """
    report = Report()
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        return stopped() or time.monotonic() >= deadline

    if not clockwatch.claim(store, holder):
        report.busy = True
        return report
    try:
        report.paused = clockwatch.check(store, wall=wall, trust=trust_clock)
        if report.paused is None:
            _mark(store, bounds, choice or Choice(), report, is_over)
            _remove(store, report, is_over)
            _sweep(store, bounds, report, is_over)
        _look(store, bounds, report)
    finally:
        clockwatch.release(store, holder)
    return report


def preview(store: Store, bounds: Bounds, *, wall: float, choice: Choice | None = None) -> Report:
    """Return what `prune` would mark, counted up to `COUNT_MAX`; nothing is changed."""
    report = Report(paused=clockwatch.check(store, wall=wall, note=False))
    with store.reading() as connection:
        now = now_of(connection)
        run = store.tables.run
        for where in _conditions(connection, store.tables, bounds, choice or Choice(), now):
            some = (
                sa.select(run.c.created_at).where(where, _unmarked(store.tables)).limit(COUNT_MAX).subquery()
            )
            count, oldest = connection.execute(
                sa.select(sa.func.count(), sa.func.min(some.c.created_at))
            ).one()
            report.marked += count
            report.oldest = min((one for one in (report.oldest, oldest) if one is not None), default=None)
    report.complete = report.marked < COUNT_MAX
    _look(store, bounds, report)
    return report


def _mark(store: Store, bounds: Bounds, choice: Choice, report: Report, is_over: Callable[[], bool]) -> None:
    plan = bounds.plan()
    while not is_over():
        found = list(_candidates(store, bounds, choice))
        if not found:
            return
        oldest = min(created for _, created in found)
        report.oldest = oldest if report.oldest is None else min(report.oldest, oldest)
        report.marked += removal.mark(store, [run for run, _ in found], plan)
    report.complete = False


def _candidates(store: Store, bounds: Bounds, choice: Choice) -> Iterator[tuple[str, float]]:
    run = store.tables.run
    with store.reading() as connection:
        now = now_of(connection)
        left = MARKS_AT_ONCE
        for where in _conditions(connection, store.tables, bounds, choice, now):
            query = sa.select(run.c.id, run.c.created_at).where(where, _unmarked(store.tables))
            rows = connection.execute(query.limit(left)).all() if left else []
            left -= len(rows)
            yield from ((row.id, row.created_at) for row in rows)


def _conditions(
    connection: Connection, tables: Tables, bounds: Bounds, choice: Choice, now: float
) -> list[sa.ColumnElement[bool]]:
    run = tables.run
    if choice.older_than is not None:
        # `expires_at` is set where a run has ended.
        chosen = [sa.and_(run.c.expires_at.is_not(None), run.c.ended_at < now - choice.older_than)]
    else:
        chosen = [run.c.expires_at < now, _forsaken(tables, bounds, now)]
    if choice.task is None:
        return chosen
    names = connection.execute(sa.select(tables.task.c.name)).scalars()
    wanted = sorted(name for name in names if fnmatch.fnmatchcase(name, choice.task))
    return [sa.and_(one, run.c.task.in_(wanted)) for one in chosen] if wanted else []


def _forsaken(tables: Tables, bounds: Bounds, now: float) -> sa.ColumnElement[bool]:
    """Return the condition of a run that will not end any more."""
    run, attempt, journal = tables.run, tables.attempt, tables.journal
    lives = (
        sa.select(attempt.c.id)
        .join(journal, journal.c.journal_id == attempt.c.journal_id)
        .where(
            attempt.c.run_id == run.c.id,
            attempt.c.state == "running",
            journal.c.touched_at >= now - bounds.patience,
        )
    )
    return sa.and_(run.c.state.in_(sorted(OPEN)), run.c.created_at < now - bounds.open, ~lives.exists())


def _unmarked(tables: Tables) -> sa.ColumnElement[bool]:
    mark = tables.removal
    return ~sa.select(mark.c.digest).where(mark.c.run_id == tables.run.c.id).exists()


def _remove(store: Store, report: Report, is_over: Callable[[], bool]) -> None:
    while gone := removal.remove_rows(store):
        report.removed += gone
        if is_over():
            report.complete = False
            return


def _sweep(store: Store, bounds: Bounds, report: Report, is_over: Callable[[], bool]) -> None:
    """Delete what is too old in the tables that belong to no run."""
    with store.reading() as connection:
        now = now_of(connection)
    for table, where in _sweeps(store.tables, bounds, now):
        while not is_over():
            gone = delete_some(store, table, where)
            if gone:
                report.rows[table.name] = report.rows.get(table.name, 0) + gone
            if gone < removal.ROWS_AT_ONCE:
                break
        else:
            report.complete = False
            return
    _sweep_journals(store, bounds, now, report)
    _sweep_tasks(store, report)


def _sweeps(tables: Tables, bounds: Bounds, now: float) -> Iterable[tuple[sa.Table, sa.ColumnElement[bool]]]:
    worker, writer, part, mark = tables.worker, tables.writer, tables.removal_part, tables.removal
    facts = now - bounds.facts
    reads = sa.select(writer.c.writer).where(
        writer.c.journal_id == worker.c.journal_id, writer.c.writer == worker.c.writer
    )
    gone = sa.or_(worker.c.stopped_at.is_not(None), ~reads.exists())
    ended = sa.func.coalesce(worker.c.stopped_at, worker.c.started_at)
    unanswered = sa.and_(part.c.reason == EXPIRED, part.c.marked_at < now - 2 * bounds.patience)
    return (
        (tables.rollup, tables.rollup.c.bucket < now - bounds.rollups),
        (tables.rollup_bin, tables.rollup_bin.c.bucket < now - bounds.rollups),
        (tables.event, sa.and_(tables.event.c.run_id == "", tables.event.c.at < facts)),
        (tables.dead_letter, tables.dead_letter.c.buried_at < facts),
        (worker, sa.and_(gone, ended < facts)),
        (part, sa.or_(unanswered, part.c.marked_at < now - bounds.journals)),
        (mark, sa.and_(mark.c.run_id.is_(None), mark.c.forget_at < now)),
    )


def _sweep_journals(store: Store, bounds: Bounds, now: float, report: Report) -> None:
    """Forget journals that nobody has shipped for very long and no run names."""
    tables = store.tables
    journal, run = tables.journal, tables.run
    named = sa.select(run.c.id).where(run.c.journal_id == journal.c.journal_id)
    silent = journal.c.touched_at < now - bounds.journals
    with store.reading() as connection:
        query = sa.select(journal.c.journal_id).where(silent, ~named.exists()).limit(100)
        found = list(connection.execute(query).scalars())
    for one in found:
        for table in (tables.writer, tables.worker, tables.rollup_tenant, tables.removal_part):
            while delete_some(store, table, table.c.journal_id == one) >= removal.ROWS_AT_ONCE:
                pass
        # Last, and only if it is still silent: its shipper may have come back.
        gone = delete_some(store, journal, journal.c.journal_id == one, silent)
        report.rows[journal.name] = report.rows.get(journal.name, 0) + gone


def _sweep_tasks(store: Store, report: Report) -> None:
    """Forget names of tasks without runs once there are very many: names come with messages."""
    task, run = store.tables.task, store.tables.run
    with store.reading() as connection:
        known = len(connection.execute(sa.select(task.c.name).limit(2 * TASKS_KEPT)).all())
    if known > TASKS_KEPT:
        unused = ~sa.select(run.c.id).where(run.c.task == task.c.name).exists()
        gone = delete_some(store, task, unused, limit=known - TASKS_KEPT)
        report.rows[task.name] = report.rows.get(task.name, 0) + gone


def _look(store: Store, bounds: Bounds, report: Report) -> None:
    """Say what is left, and for whom nobody waits."""
    mark, journal = store.tables.removal, store.tables.journal
    with store.reading() as connection:
        now = now_of(connection)
        some: Any = sa.select(mark.c.digest).where(mark.c.run_id.is_not(None)).limit(COUNT_MAX).subquery()
        report.waiting = int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())
        silent = sa.select(journal.c.host, journal.c.touched_at).where(
            journal.c.touched_at < now - bounds.patience
        )
        rows = connection.execute(silent.order_by(journal.c.touched_at.desc()).limit(20))
        report.unseen = [(row.host, row.touched_at) for row in rows]
