"""One batch of events into rows, inside a transaction that the caller opened.

Sort by run → read what is stored → merge by pure functions → write what differs. Everything here may
be run again with the same events: it then changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.engine import Connection

from plet_celery.events import Event
from plet_celery.store import bulk, eventrows, hosts, matching, merge, metadata, refusals, rollups, settle
from plet_celery.store.below import Below
from plet_celery.store.columns import TASK_MAX, fit
from plet_celery.store.details import Details
from plet_celery.store.gather import Batch, gather, key_of
from plet_celery.store.limits import IngestLimits
from plet_celery.store.load import (
    AttemptWork,
    RunWork,
    load_drops,
    load_runs,
    load_states,
    report_of,
    select_in,
)
from plet_celery.store.merge import AttemptState
from plet_celery.store.metadata import put_metadata
from plet_celery.store.plain import Plain, as_plain, rows_of
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunRow, View
from plet_celery.store.writes import Writes


@dataclass
class Ingest:
    """One pass of a batch through the store."""

    connection: Connection
    tables: Tables
    journal: str
    limits: IngestLimits
    change_seq: int
    known_tasks: frozenset[str] = frozenset()
    """Task names that surely have a row."""
    new_tasks: set[str] = field(default_factory=set)
    """Names this pass has made sure of."""
    late: set[tuple[str, int, int]] = field(default_factory=set)
    """Positions of events that were refused because their runs are being removed, or are gone."""

    def apply(self, found: Sequence[Event]) -> list[str]:
        """Write the events; return the ids of the runs that changed."""
        batch = gather(found)
        plain = self._plain(batch)
        works = load_runs(self.connection, self.tables, self.journal, batch, plain)
        # Not before: a mark that comes later waits for the rows that are locked now.
        if refused := self._refused(found, batch, works):
            return self.apply([event for event in found if key_of(event) not in refused])
        writes = Writes()
        below = Below(self.connection, self.tables, works, writes)
        self._prepare(works, batch, Details(below, self.journal, self.limits))
        rows = metadata.stored_rows(below, batch.metadata)
        delta = rollups.Delta(self.connection, self.tables, self.journal, self.limits.rollup_tenants_max)
        changed = self._write_plain(plain, works, writes, delta)
        for work in works.values():
            if self._exists(work):
                self._write_attempts(work, writes, delta)
                self._make_row(work)
                if work.id in batch.metadata:
                    put_metadata(below, work, batch.metadata[work.id], rows.get(work.id, {}))
                if self._write_run(work, writes):
                    changed.append(work.id)
        self._write_tasks(found)
        hosts.write_workers(self.connection, self.tables, self.journal, batch, writes)
        writes.flush(self.connection)
        delta.write()
        return changed

    def _refused(self, found: Sequence[Event], batch: Batch, works: Mapping[str, RunWork]) -> Collection[str]:
        """Return the runs of the batch that must not come back; their events are counted."""
        guard = refusals.Refusals(self.connection, self.tables)
        is_needed, has_tenants = guard.any()
        if not is_needed:
            return ()
        refused = guard.of(batch.attempts, _tenants_of(batch, works) if has_tenants else {})
        if refused:
            late: dict[str, int] = {}
            for event in found:
                digest = refused.get(key_of(event) or "")
                if digest is not None and event.position not in self.late:
                    self.late.add(event.position)
                    late[digest] = late.get(digest, 0) + 1
            guard.count(late)
        return refused

    def _plain(self, batch: Batch) -> dict[str, Plain]:
        rich = batch.rich_runs()
        found = {}
        for run, attempts in batch.attempts.items():
            if run not in rich and (one := as_plain(run, attempts)) is not None:
                found[run] = one
        return found

    def _write_plain(
        self,
        plain: Mapping[str, Plain],
        works: Mapping[str, RunWork],
        writes: Writes,
        delta: rollups.Delta,
    ) -> list[str]:
        """Write the runs that need no merge; a stored one does."""
        keep = self.limits.retention.succeeded
        new = [one for run, one in plain.items() if run not in works]
        for one in new:
            run, attempt = rows_of(one, self.journal, self.change_seq, keep, delta)
            writes.put(self.tables.run, run, None)
            writes.put(self.tables.attempt, attempt, None)
        return [one.run for one in new]

    def _prepare(self, works: Mapping[str, RunWork], batch: Batch, details: Details) -> None:
        """Merge what the batch tells of runs and attempts, and read what their rows need besides."""
        for work in works.values():
            self._fold(work, batch.attempts[work.id])
        self._fold_rest(works, batch)
        details.fold(batch)
        for work in works.values():
            self._settle(work)
        shown = [(work, work.views()) for work in works.values() if work.row is not None]
        load_states(
            self.connection,
            self.tables,
            [(work, (views[0].id, face.id)) for work, views in shown if (face := settle.face_of(views))],
        )

    def _fold(self, work: RunWork, attempts: Mapping[str, Sequence[Event]]) -> None:
        for attempt, found in attempts.items():
            one = work.attempts.get(attempt)
            if one is None:
                one = work.attempts[attempt] = AttemptWork(attempt)
            one.state = merge.fold_attempt(one.state, found)

    def _fold_rest(self, works: Mapping[str, RunWork], batch: Batch) -> None:
        for run, full_id in batch.full_ids.items():
            works[run].doc.full_id = full_id
        for run, found in batch.queued.items():
            settle.fold_queued(works[run].doc, found)
        for run, found in batch.upstream.items():
            settle.fold_upstream(works[run].doc, found)
        for run, found in batch.abandoned.items():
            settle.fold_abandoned(works[run].doc, found)
        for run, found in batch.reports.items():
            work = works[run]
            work.doc.reports = True
            known_reports = {report.position for report in work.reports}
            work.reports += [
                report_of(eventrows.row_of(event, run, self.journal))
                for event in {event.position: event for event in found}.values()
                if event.position not in known_reports
            ]
        stored = load_drops(self.connection, self.tables, batch.drops) if batch.drops else {}
        for run, found in batch.drops.items():
            # Each report counts once, however often it comes.
            settle.fold_drops(works[run].doc, found)
            works[run].dropped = sum((stored.get(run, {}) | eventrows.drops_of(found)).values())

    def _settle(self, work: RunWork) -> None:
        """Give each attempt its end."""
        for one in work.attempts.values():
            self._view(one)
        if work.doc.reports:
            self._match(work)

    def _exists(self, work: RunWork) -> bool:
        doc = work.doc
        return bool(work.attempts) or (doc.queued or doc.upstream or doc.abandoned or doc.told_at) is not None

    def _view(self, one: AttemptWork) -> None:
        if one.state is not None:
            journal = one.view.journal_id if one.view is not None else self.journal
            one.outcome = merge.outcome_of(one.state)
            one.view = settle.view_of(one.id, journal, one.state, one.outcome)

    def _match(self, work: RunWork) -> None:
        mine = {view.id: view for view in work.views() if view.journal_id == self.journal}
        reports = [report for report in work.reports if report.journal_id == self.journal]
        matched, placeholders = matching.match(reports, mine.values())
        for attempt, view in mine.items():
            one = work.attempts[attempt]
            if view.placeholder == settle.REAL:
                assert one.state is not None
                one.state.report = matched.get(attempt)
                self._view(one)
            elif attempt not in placeholders:
                one.view = None
        for attempt, state in placeholders.items():
            one = work.attempts.setdefault(attempt, AttemptWork(attempt))
            if one.state is not None:
                state.counted = one.state.counted
            one.state = state
            self._view(one)

    def _write_attempts(self, work: RunWork, writes: Writes, delta: rollups.Delta) -> None:
        table = self.tables.attempt
        for one in list(work.attempts.values()):
            state, outcome = one.state, one.outcome
            # Without an outcome it was only read; that of another journal is its own shipper's.
            if state is None or outcome is None or (one.view and one.view.journal_id != self.journal):
                continue
            new = delta.contribution(outcome) if one.view is not None else None
            delta.replace(state.counted, new)
            state.counted = new
            if one.view is None:
                del work.attempts[one.id]
                if one.stored is not None:
                    writes.delete(table, [(work.id, one.id)])
                    work.changed = True
            elif writes.put(table, attempt_row(work.id, one.view, state), one.stored):
                work.changed = True

    def _make_row(self, work: RunWork) -> None:
        views = work.views()
        face = settle.face_of(views)
        work.doc.starts = settle.folder_starts(views)
        row = settle.make_row(
            work.id,
            work.doc,
            views,
            _outcome(work, views[0]) if views else None,
            _outcome(work, face) if face is not None else None,
            dropped=work.dropped,
            retention=self.limits.retention,
            place=(self.journal, self.change_seq, work.row.version + 1 if work.row is not None else 1),
        )
        work.before, work.row = work.row, row
        if work.before is not None and work.before.created_at != row.created_at:
            self._move_metadata(row)

    def _move_metadata(self, row: RunRow) -> None:
        table = self.tables.run_metadata
        statement = table.update().where(table.c.run_id == row.id).values(created_at=row.created_at)
        self.connection.execute(statement)

    def _write_run(self, work: RunWork, writes: Writes) -> bool:
        before, row = work.before, work.row
        assert row is not None
        if before is None or work.changed or before.facts != row.facts:
            writes.put(self.tables.run, row, before)
            return True
        return False

    def _write_tasks(self, found: Sequence[Event]) -> None:
        # Every name that was told, not those that runs show: these depend on what came first.
        told = {name for event in found if type(name := event.data.get("task")) is str and name}
        names = {fit(name, TASK_MAX) for name in told} - self.known_tasks
        if names:
            table = self.tables.task
            stored = {row.name for row in select_in(self.connection, table, table.c.name, names)}
            bulk.insert(self.connection, table, [(name,) for name in sorted(names - stored)])
            self.new_tasks |= names


def _tenants_of(batch: Batch, works: Mapping[str, RunWork]) -> dict[str, tuple[str, float]]:
    """Return the tenants of runs that are not stored, with the wall time of their first event here."""
    tenants: dict[str, tuple[str, float]] = {}
    for run, attempts in batch.attempts.items():
        if run not in works or works[run].row is None:
            told = [*batch.queued.get(run, ()), *(event for some in attempts.values() for event in some)]
            if (tenant := _tenant_of(told)) is not None:
                tenants[run] = (tenant, min(event.wall for event in told))
    return tenants


def _tenant_of(told: Iterable[Event]) -> str | None:
    for event in told:
        tenant = event.data.get("tenant")
        if tenant and isinstance(tenant, str):
            return tenant
    return None


def _outcome(work: RunWork, view: View) -> merge.Outcome:
    one = work.attempts[view.id]
    if one.outcome is None:
        assert one.state is not None
        one.outcome = merge.outcome_of(one.state)
    return one.outcome


def attempt_row(run: str, view: View, state: AttemptState) -> tuple[object, ...]:
    """Return the row of an attempt, in the order of its columns."""
    return (
        run,
        view.id,
        view.journal_id,
        merge.writer_of(state),
        view.pid,
        view.state,
        view.started_at,
        view.ended_at,
        view.replaced,
        view.placeholder,
        view.log_lines,
        msgspec.json.encode(merge.slim(state)).decode(),
    )
