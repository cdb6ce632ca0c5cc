"""One batch of events into rows, inside a transaction that the caller opened.

Sort by run → read what is stored → merge by pure functions → write what differs. Everything here may
be run again with the same events: it then changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.engine import Connection

from plet_celery import events as vocabulary
from plet_celery.events import Event
from plet_celery.store import bulk, eventrows, hosts, merge, rollups, settle
from plet_celery.store.details import Details
from plet_celery.store.gather import Batch, RunBatch, gather
from plet_celery.store.limits import IngestLimits
from plet_celery.store.load import RunWork, load_drops, load_runs, load_states, report_of, select_in
from plet_celery.store.merge import AttemptState
from plet_celery.store.schema import TASK_MAX, Tables, fit
from plet_celery.store.settle import Report, RunRow, View
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

    def apply(self, found: Sequence[Event]) -> list[str]:
        """Write the events; return the ids of the runs that changed."""
        batch = gather(found)
        writes = Writes()
        works = load_runs(self.connection, self.tables, self.journal, batch)
        for run, one in batch.runs.items():
            self._fold(works[run], one)
        details = Details(self.connection, self.tables, self.journal, self.limits, works, writes)
        self._fold_details(details, batch)
        self._count_drops(batch, works)
        delta = rollups.Delta(self.journal)
        settled = [work for work in works.values() if self._settle(work)]
        self._write_attempts(settled, writes, delta)
        self._write_runs(settled, writes)
        details.metadata(batch)
        self._stamp_changes(settled, writes)
        self._write_tasks(found)
        hosts.write_workers(self.connection, self.tables, self.journal, batch, writes)
        writes.flush(self.connection)
        delta.write(self.connection, self.tables)
        return [work.id for work in settled if work.changed]

    def _fold(self, work: RunWork, one: RunBatch) -> None:
        doc = work.doc
        if one.full_id != work.id:
            doc.full_id = one.full_id
        for event in one.queued:
            stamp = merge.stamp_of(event)
            if doc.queued is None or stamp < doc.queued.stamp:
                doc.queued = merge.Start(stamp, event.data)
        for event in one.upstream:
            end = merge.end_of(event)
            if doc.upstream is None or end.stamp > doc.upstream.stamp:
                doc.upstream = end
        if one.reports:
            doc.reports = True
            known = {report.position for report in work.reports}
            for event in one.reports:
                if event.position not in known:
                    known.add(event.position)
                    work.reports.append(report_of(eventrows.row_of(event, work.id, self.journal)))
        for attempt, found in one.attempts.items():
            work.states[attempt] = merge.fold_attempt(work.states.get(attempt), found.all)

    def _fold_details(self, details: Details, batch: Batch) -> None:
        stages: dict[tuple[str, str], Sequence[Event]] = {}
        logs: dict[tuple[str, str], Sequence[Event]] = {}
        measures: dict[tuple[str, str], Sequence[Event]] = {}
        rows: dict[tuple[str, str], Sequence[Event]] = {}
        for run, one in batch.runs.items():
            details.known.update((run, attempt) for attempt in details.works[run].stored)
            if one.rows:
                rows[run, ""] = one.rows
                details.known.add((run, ""))
            for attempt, found in one.attempts.items():
                for owned, of_kind in (
                    (stages, found.stages),
                    (logs, found.logs),
                    (measures, found.measures),
                    (rows, found.rows),
                ):
                    if of_kind:
                        owned[run, attempt] = of_kind
        for merge_kind, found_of in (
            (details.stages, stages),
            (details.logs, logs),
            (details.measures, measures),
            (details.event_rows, rows),
        ):
            if found_of:
                merge_kind(found_of)

    def _count_drops(self, batch: Batch, works: Mapping[str, RunWork]) -> None:
        """Sum what the reports of dropped events count: each report once, however often it comes."""
        told: dict[str, dict[eventrows.Place, int]] = {}
        for run, one in batch.runs.items():
            if works[run].row is None:
                # Reports may have come before anything else of the run.
                told[run] = {}
            for event in [*one.rows, *(event for attempt in one.attempts.values() for event in attempt.rows)]:
                if event.kind == vocabulary.EVENTS_DROPPED:
                    place = (event.wall, event.writer, event.segment, event.offset)
                    told.setdefault(run, {})[place] = merge.integer(event.data.get("count")) or 0
        stored = load_drops(self.connection, self.tables, told)
        for run, counts in told.items():
            if counts or run in stored:
                works[run].dropped = sum((stored.get(run, {}) | counts).values())

    def _settle(self, work: RunWork) -> bool:
        """Give each attempt its end; return whether there is a run at all."""
        for attempt, state in work.states.items():
            self._view(work, attempt, state)
        if work.doc.reports:
            self._match(work)
        return bool(work.views) or work.doc.queued is not None or work.doc.upstream is not None

    def _view(self, work: RunWork, attempt: str, state: AttemptState) -> None:
        known = work.views.get(attempt)
        journal = known.journal_id if known is not None else self.journal
        work.views[attempt] = settle.view_of(attempt, journal, state, merge.effective_end(state))

    def _match(self, work: RunWork) -> None:
        mine = [view for view in work.views.values() if view.journal_id == self.journal]
        reports: list[Report] = [report for report in work.reports if report.journal_id == self.journal]
        matched, placeholders = settle.match(reports, mine)
        for view in mine:
            if view.placeholder:
                if view.id not in placeholders:
                    del work.views[view.id]
                continue
            work.states[view.id].report = matched.get(view.id)
            self._view(work, view.id, work.states[view.id])
        for attempt, state in placeholders.items():
            if attempt in work.states:
                state.counted = work.states[attempt].counted
            work.states[attempt] = state
            self._view(work, attempt, state)

    def _write_attempts(self, works: Sequence[RunWork], writes: Writes, delta: rollups.Delta) -> None:
        ended: list[tuple[RunWork, View, AttemptState, merge.End]] = []
        for work in works:
            for attempt, state in list(work.states.items()):
                view = work.views.get(attempt)
                end = merge.effective_end(state)
                if view is None:
                    self._remove(work, attempt, state, writes, delta)
                elif end is not None:
                    ended.append((work, view, state, end))
                else:
                    delta.replace(state.counted, None)
                    state.counted = None
        self._count(ended, delta)
        for work in works:
            for attempt, state in work.states.items():
                self._write_attempt(work, work.views[attempt], state, writes)

    def _remove(
        self, work: RunWork, attempt: str, state: AttemptState, writes: Writes, delta: rollups.Delta
    ) -> None:
        delta.replace(state.counted, None)
        del work.states[attempt]
        if attempt in work.stored:
            writes.delete(self.tables.attempt, [(work.id, attempt)])
            work.changed = True

    def _count(
        self, ended: Sequence[tuple[RunWork, View, AttemptState, merge.End]], delta: rollups.Delta
    ) -> None:
        if not ended:
            return
        tenants = [merge.tenant_of(state, end) for _, _, state, end in ended]
        known = rollups.known_tenants(
            self.connection, self.tables, self.journal, tenants, self.limits.rollup_tenants_max
        )
        for (_, _, state, end), tenant in zip(ended, tenants, strict=True):
            new = rollups.contribution(state, end, tenant if tenant in known else rollups.OTHER)
            delta.replace(state.counted, new)
            state.counted = new

    def _write_attempt(self, work: RunWork, view: View, state: AttemptState, writes: Writes) -> None:
        row = (
            work.id,
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
        if writes.put(self.tables.attempt, row, work.stored.get(view.id)):
            work.changed = True

    def _write_runs(self, works: Sequence[RunWork], writes: Writes) -> None:
        order = {work.id: settle.by_start(work.views.values()) for work in works}
        shown: dict[str, tuple[RunWork, list[str]]] = {}
        for work in works:
            attempts = order[work.id]
            face = settle.face_of(attempts)
            if face is not None:
                shown[work.id] = (work, [attempts[0].id, face.id])
        load_states(self.connection, self.tables, shown)
        for work in works:
            work.doc.starts = settle.folder_starts(order[work.id])
            row = settle.make_row(
                run=work.id,
                doc=work.doc,
                attempts=order[work.id],
                states=work.states,
                dropped=work.dropped,
                retention=self.limits.retention,
            )
            stored = work.row
            if stored is not None and stored.created_at != row.created_at:
                self._move_metadata(row)
            if stored is not None:
                kept = {name: getattr(stored, name) for name in ("journal_id", "change_seq", "version")}
                row = row._replace(**kept)
            if row != stored:
                work.changed = True
            work.before, work.row = stored, row

    def _move_metadata(self, row: RunRow) -> None:
        table = self.tables.run_metadata
        statement = table.update().where(table.c.run_id == row.id).values(created_at=row.created_at)
        self.connection.execute(statement)

    def _stamp_changes(self, works: Sequence[RunWork], writes: Writes) -> None:
        for work in works:
            if work.changed:
                assert work.row is not None
                row = work.row._replace(
                    journal_id=self.journal, change_seq=self.change_seq, version=work.row.version + 1
                )
                writes.put(self.tables.run, row, work.before)

    def _write_tasks(self, found: Sequence[Event]) -> None:
        # Every name that was told, not those that runs show: these depend on what came first.
        told = {event.data["task"] for event in found if "task" in event.data}
        names = {fit(name, TASK_MAX) for name in told if type(name) is str and name} - self.known_tasks
        if names:
            table = self.tables.task
            stored = {row.name for row in select_in(self.connection, table, table.c.name, names)}
            bulk.insert(self.connection, table, [(name,) for name in sorted(names - stored)])
            self.new_tasks |= names
