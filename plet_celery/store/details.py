"""What lies below an attempt: stages, measures, event rows, log text.

Reads the rows that a batch touches, merges by the pure functions of `stages`, `series` and `eventrows`,
and hands the new rows on to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from plet_celery.events import Event
from plet_celery.store import eventrows, merge, series, stages
from plet_celery.store.below import Below, encoded
from plet_celery.store.columns import fit
from plet_celery.store.gather import Batch, Owner
from plet_celery.store.limits import IngestLimits
from plet_celery.store.logkeeping import keep_logs

# Columns that are read first, to learn which rows are needed in full.
_STAGE_STATE: Final = ("run_id", "attempt_id", "number", "state")
_EVENT_PLACE: Final = ("run_id", "attempt_id", "at", "writer", "segment", "offset", "number", "kind")
_SHOWN: Final = frozenset({"running", "failed"})
_stage_decoder: Final = msgspec.json.Decoder(stages.StageFacts)


@dataclass
class Details:
    """One pass over the details of a batch."""

    below: Below
    journal: str
    limits: IngestLimits

    def fold(self, batch: Batch) -> None:
        """Merge all that lies below the attempts of a batch."""
        if batch.stages:
            self.stages(batch.stages)
        if batch.logs:
            keep_logs(self.below, batch.logs, self.limits)
        if batch.measures:
            self.measures(batch.measures)
        if batch.rows:
            self.event_rows(batch.rows)

    def stages(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Merge stages, and tell each attempt which one runs and which one failed."""
        below, table = self.below, self.below.tables.stage
        by_stage = {owner: _grouped(events, stages.stage_number) for owner, events in found.items()}
        # Running and failed stages are read, too: one of them is what the run shows.
        keys = [
            (run, attempt, number)
            for run, attempt, number, state in below.rows(table, found, *_STAGE_STATE)
            if state in _SHOWN or number in by_stage[run, attempt]
        ]
        stored = below.with_keys(table, keys)
        known: dict[Owner, dict[int, stages.StageFacts]] = {}
        for (run, attempt, number), row in stored.items():
            known.setdefault((run, attempt), {})[number] = _stage_decoder.decode(row[4])
        for owner, groups in by_stage.items():
            facts = known.get(owner, {})
            for number, events in groups.items():
                facts[number] = stages.fold_stage(facts.get(number), events)
                row = (*owner, number, facts[number].state, encoded(facts[number]))
                below.put(table, row, stored.get((*owner, number)))
            state = below.state(owner)
            state.running, state.failed = stages.glances(facts.values())

    def measures(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Merge the points of each series."""
        table = self.below.tables.measure
        stored = self.below.by_name(table, found)
        for owner, events in found.items():
            rows = stored.get(owner, {})
            points: dict[str, list[series.Point]] = {}
            for event in events:
                for name, point in _points(event):
                    points.setdefault(name, []).append(point)
            kept = set(sorted({*rows, *points})[: series.SERIES_MAX])
            self.below.writes.delete(table, [(*owner, name) for name in rows if name not in kept])
            for name in kept.intersection(points):
                row = rows.get(name)
                known = series.unpack(row[3]) if row is not None else []
                thin = series.thinned([*known, *points[name]], self.limits.measure_max_points)
                self.below.put(table, (*owner, name, series.pack(thin)), row)

    def event_rows(self, found: Mapping[Owner, Sequence[Event]]) -> None:
        """Add event rows, up to the cap of each attempt; count the rest."""
        table = self.below.tables.event
        stored: dict[Owner, dict[eventrows.Place, eventrows.Stored]] = {}
        for run, attempt, *place, number, kind in self.below.rows(table, found, *_EVENT_PLACE):
            at, writer, segment, offset = place
            rows = stored.setdefault((run, attempt), {})
            rows[at, writer, segment, offset] = eventrows.Stored(number, kind)
        dropped: dict[Owner, dict[str, list[int]]] = {}
        for owner, events in found.items():
            new = [eventrows.row_of(event, owner[0], self.journal) for event in events]
            kept = eventrows.capped(stored.get(owner, {}), new, self.limits.run_max_events)
            for one in kept.rows:
                self.below.put(table, one, None)
            self.below.writes.delete(table, [(*owner, *place) for place in kept.evicted])
            if kept.dropped:
                dropped[owner] = kept.dropped
        self._count_dropped(dropped)

    def _count_dropped(self, dropped: Mapping[Owner, Mapping[str, Sequence[int]]]) -> None:
        table = self.below.tables.event_overflow
        stored = self.below.by_name(table, dropped)
        for owner, numbers in dropped.items():
            rows = stored.get(owner, {})
            bits = {writer: row[3] for writer, row in rows.items()}
            for writer, found in numbers.items():
                bits[writer] = eventrows.add_bits(bits.get(writer), found)
                self.below.put(table, (*owner, writer, bits[writer]), rows.get(writer))
            if owner[1]:
                self.below.state(owner).events_dropped = sum(map(eventrows.count_bits, bits.values()))


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
