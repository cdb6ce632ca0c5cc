"""What lies below an attempt: stages, log text, measures, event rows, and a run's metadata.

Reads the rows that a batch touches, merges by the pure functions of `stages`, `logtext`, `series` and
`eventrows`, and hands the new rows to `Writes`. An attempt that is new in this batch has nothing stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.events import Event
from plet_celery.store import eventrows, logtext, merge, series, stages
from plet_celery.store.gather import Batch, Owner
from plet_celery.store.limits import IngestLimits
from plet_celery.store.load import RunWork, batched, select_in
from plet_celery.store.schema import META_KEY_MAX, META_VALUE_MAX, Tables, fit
from plet_celery.store.writes import Writes

METADATA_MAX: Final = 200
"""Keys of a run's metadata; the first by name are kept."""


@dataclass
class Details:
    """One pass over the details of a batch."""

    connection: Connection
    tables: Tables
    journal: str
    limits: IngestLimits
    works: Mapping[str, RunWork]
    writes: Writes

    def fold(self, batch: Batch) -> None:
        """Merge all that lies below the attempts of a batch."""
        if batch.stages:
            self.stages(batch.stages)
        if batch.logs:
            self.logs(batch.logs)
        if batch.measures:
            self.measures(batch.measures)
        if batch.rows:
            self.event_rows(batch.rows)

    def stages(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Merge stages, and tell each attempt which one runs and which one failed."""
        table = self.tables.stage
        by_stage = {owner: _grouped(events, stages.stage_number) for owner, events in found.items()}
        numbers = sorted({number for groups in by_stage.values() for number in groups})
        # The rows of running and failed stages are read, too: one of them is what the run shows.
        shown = table.c.state.in_(["running", "failed"])
        stored: dict[Owner, dict[int, Any]] = {}
        for some in batched(numbers):
            for row in self._rows(table, found, sa.or_(shown, table.c.number.in_(some))):
                stored.setdefault((row.run_id, row.attempt_id), {})[row.number] = row
        for owner, groups in by_stage.items():
            rows = stored.get(owner, {})
            facts = {number: _stage_decoder.decode(row.doc) for number, row in rows.items()}
            for number, events in groups.items():
                facts[number] = stages.fold_stage(facts.get(number), events)
                row = (*owner, number, facts[number].state, _encoded(facts[number]))
                self._put(table, owner, row, rows.get(number))
            state = self._state(owner)
            state.running, state.failed = stages.glances(facts.values())

    def logs(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Merge log text: each stream's counts, and the chunks of its head and tail."""
        streams = self._stored(self.tables.log_stream, found)
        chunks = self._chunk_numbers(found)
        for owner, events in found.items():
            self._log(owner, events, streams.get(owner, {}), chunks.get(owner, set()))

    def _log(
        self, owner: Owner, events: Sequence[Event], stored: dict[Any, Any], chunks: set[tuple[str, int]]
    ) -> None:
        new: dict[tuple[str, int], list[logtext.Line]] = {}
        sizes = {writer: (row.lines, row.bytes) for writer, row in stored.items()}
        for event in events:
            chunk, line, end = logtext.place_of(event)
            lines, size = sizes.get(event.writer, (0, 0))
            sizes[event.writer] = (max(lines, line), max(size, end))
            new.setdefault((event.writer, chunk), []).append(logtext.line_of(event))
        for writer, (lines, size) in sizes.items():
            self._put(self.tables.log_stream, owner, (*owner, writer, lines, size), stored.get(writer))
        self._state(owner).log_lines = sum(lines for lines, _ in sizes.values())
        self._keep_chunks(owner, sizes, new, chunks)

    def _keep_chunks(
        self,
        owner: Owner,
        sizes: Mapping[str, tuple[int, int]],
        new: Mapping[tuple[str, int], list[logtext.Line]],
        chunks: set[tuple[str, int]],
    ) -> None:
        table = self.tables.log_chunk
        keeping = sorted(sizes)[: logtext.STREAMS_MAX]
        head = self.limits.log_head_bytes // len(keeping)
        tail = self.limits.log_tail_bytes // len(keeping)

        def is_kept(place: tuple[str, int]) -> bool:
            writer, chunk = place
            return writer in keeping and logtext.is_kept(chunk, sizes[writer][1], head=head, tail=tail)

        gone = sorted(place for place in chunks if not is_kept(place))
        self.writes.delete(table, [(*owner, *place) for place in gone])
        kept = [place for place in new if is_kept(place)]
        old = self._chunks(owner, [place for place in kept if place in chunks])
        for place in kept:
            row = old.get(place)
            lines = logtext.joined(logtext.unpack(row.lines) if row else [], new[place])
            self._put(table, owner, (*owner, *place, logtext.pack(lines)), row)

    def _chunk_numbers(self, found: Mapping[Owner, Sequence[Event]]) -> dict[Owner, set[tuple[str, int]]]:
        table = self.tables.log_chunk
        columns = [table.c.run_id, table.c.attempt_id, table.c.writer, table.c.number]
        numbers: dict[Owner, set[tuple[str, int]]] = {}
        for run, attempt, writer, number in self._rows(table, found, columns=columns):
            numbers.setdefault((run, attempt), set()).add((writer, number))
        return numbers

    def _chunks(self, owner: Owner, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        if not places:
            return {}
        table = self.tables.log_chunk
        mine = (table.c.attempt_id == owner[1], table.c.number.in_(sorted({number for _, number in places})))
        rows = select_in(self.connection, table, table.c.run_id, [owner[0]], *mine)
        return {(row.writer, row.number): row for row in rows}

    def measures(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Merge the points of each series."""
        table = self.tables.measure
        stored = self._stored(table, found)
        for owner, events in found.items():
            rows = stored.get(owner, {})
            points: dict[str, list[series.Point]] = {}
            for event in events:
                for name, point in _points(event):
                    points.setdefault(name, []).append(point)
            kept = set(sorted({*rows, *points})[: series.SERIES_MAX])
            self.writes.delete(table, [(*owner, name) for name in rows if name not in kept])
            for name in kept.intersection(points):
                row = rows.get(name)
                known = series.unpack(row.points) if row else []
                thin = series.thinned([*known, *points[name]], self.limits.measure_max_points)
                self._put(table, owner, (*owner, name, series.pack(thin)), row)

    def event_rows(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Add event rows, up to the cap of each attempt; count the rest."""
        table = self.tables.event
        stored: dict[Owner, list[eventrows.Row]] = {}
        for row in self._rows(table, found):
            stored.setdefault((row.run_id, row.attempt_id), []).append(eventrows.Row(*row))
        dropped: dict[Owner, dict[str, list[int]]] = {}
        for owner, events in found.items():
            new = [eventrows.row_of(event, owner[0], self.journal) for event in events]
            kept = eventrows.capped(stored.get(owner, []), new, self.limits.run_max_events)
            for one in kept.rows:
                self._put(table, owner, one, None)
            self.writes.delete(table, kept.evicted)
            if kept.dropped:
                dropped[owner] = kept.dropped
        self._count_dropped(dropped)

    def _count_dropped(self, dropped: Mapping[Owner, Mapping[str, Sequence[int]]]) -> None:
        table = self.tables.event_overflow
        stored = self._stored(table, dropped)
        for owner, numbers in dropped.items():
            rows = stored.get(owner, {})
            bits = {writer: row.bits for writer, row in rows.items()}
            for writer, found in numbers.items():
                bits[writer] = eventrows.add_bits(bits.get(writer), found)
                self._put(table, owner, (*owner, writer, bits[writer]), rows.get(writer))
            if owner[1]:
                self._state(owner).events_dropped = sum(map(eventrows.count_bits, bits.values()))

    def metadata(self, work: RunWork, found: Sequence[Event]) -> None:
        """Merge a run's metadata: each key's newest value wins; the row's text is what filters compare."""
        if not found:
            return
        table = self.tables.run_metadata
        stored = select_in(self.connection, table, table.c.run_id, [work.id]) if work.before else ()
        self._set_metadata(work.id, found, {row.key: row for row in stored})

    def _set_metadata(self, run: str, events: Sequence[Event], rows: Mapping[str, Any]) -> None:
        table, work = self.tables.run_metadata, self.works[run]
        docs = {key: METADATA.decode(row.doc) for key, row in rows.items()}
        for event in events:
            key = event.data.get("key")
            if not isinstance(key, str):
                continue
            key = fit(key, META_KEY_MAX)
            one = MetadataValue(merge.stamp_of(event), event.data.get("value"), "value" not in event.data)
            if key not in docs or docs[key].stamp < one.stamp:
                docs[key] = one
        kept = sorted(docs)[:METADATA_MAX]
        self.writes.delete(table, [(run, key) for key in rows if key not in kept])
        assert work.row is not None
        for key in kept:
            row = (run, key, search_text(docs[key].value), work.row.created_at, _encoded(docs[key]))
            stored = rows.get(key)
            if self.writes.put(table, row, tuple(stored) if stored is not None else None):
                work.changed = True

    def _state(self, owner: Owner) -> merge.AttemptState:
        state = self.works[owner[0]].attempts[owner[1]].state
        assert state is not None
        return state

    def _is_stored(self, owner: Owner) -> bool:
        run, attempt = owner
        if not attempt:
            return True
        known = self.works[run].attempts.get(attempt)
        return known is not None and known.stored is not None

    def _put(self, table: Table, owner: Owner, row: tuple[Any, ...], stored: Any) -> None:
        if self.writes.put(table, tuple(row), tuple(stored) if stored is not None else None):
            work = self.works.get(owner[0])
            if work is not None:
                work.changed = True

    def _stored(self, table: Table, found: Iterable[Owner]) -> dict[Owner, dict[Any, Any]]:
        """Return an attempt's rows by the third column of their key."""
        rows: dict[Owner, dict[Any, Any]] = {}
        for row in self._rows(table, found):
            rows.setdefault((row.run_id, row.attempt_id), {})[row[2]] = row
        return rows

    def _rows(
        self,
        table: Table,
        found: Iterable[Owner],
        *where: sa.ColumnElement[bool],
        columns: Sequence[sa.ColumnElement[Any]] | None = None,
    ) -> Iterable[Any]:
        owners = [owner for owner in found if self._is_stored(owner)]
        runs = sorted({run for run, _ in owners})
        for some in batched(sorted({attempt for _, attempt in owners})):
            mine = table.c.attempt_id.in_(some)
            yield from select_in(self.connection, table, table.c.run_id, runs, mine, *where, columns=columns)


class MetadataValue(msgspec.Struct, array_like=True, omit_defaults=True):
    """One key's newest value; the `doc` of its row."""

    stamp: merge.Stamp
    value: Any = None
    removed: bool = False


_stage_decoder = msgspec.json.Decoder(stages.StageFacts)
METADATA = msgspec.json.Decoder(MetadataValue)
"""Reads the `doc` of a metadata row."""


def search_text(value: Any) -> str | None:
    """Return a metadata value as `--meta key=value` compares it: text as it is, else its JSON."""
    if value is None:
        return None
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return fit(shown, META_VALUE_MAX)


def _points(event: Event) -> Iterable[tuple[str, series.Point]]:
    values = event.data.get("values")
    if not isinstance(values, dict):
        return
    call = merge.integer(event.data.get("i")) or 0
    stage = merge.integer(event.data.get("stage"))
    for name, value in values.items():
        found = merge.number(value)
        if found is not None:
            yield fit(name, 255), series.Point(call, event.writer[:8], event.wall, found, stage)


def _grouped(events: Iterable[Event], by: Callable[[Event], int]) -> dict[int, list[Event]]:
    groups: dict[int, list[Event]] = {}
    for event in events:
        groups.setdefault(by(event), []).append(event)
    return groups


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()
