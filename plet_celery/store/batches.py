"""A batch as one transaction: the fence, the rows, the positions; and what happens to poison.

Poison is an event that the merge or the database refuses. The batch is then halved until the culprit
stands alone; it goes to `dead_letter`, the rest commits. A connection error is never poison.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy.engine import Connection, Engine

from plet_celery.events import Event, safe_text
from plet_celery.store import bulk, lease
from plet_celery.store.columns import ID_MAX, WORD_MAX, fit
from plet_celery.store.engine import writing
from plet_celery.store.ingest import Ingest
from plet_celery.store.lease import Lease
from plet_celery.store.limits import IngestLimits
from plet_celery.store.schema import Tables
from plet_celery.store.troubles import is_data_fault, is_worth_another_try

log = logging.getLogger(__name__)

# Two hosts may insert the same run at once: one of them waits, fails, and finds the row when it tries again.
# A deadlock's victim, too, is likely to pass; after this the caller waits before it tries again.
_TRIES: Final = 4
_REASON_MAX: Final = 2000
_TASKS_MAX: Final = 10_000
_FORGET_EVERY: Final = 1000


@dataclass(frozen=True)
class IngestResult:
    """What a batch did."""

    changed_runs: list[str]
    dead_letters: int
    """Events of this batch that were refused."""
    late: int = 0
    """Events that were dropped because their runs are being removed, or were."""


class Writer:
    """Writes batches, and remembers between them what needs no second look."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known_tasks: frozenset[str] = frozenset()
        self._batches = 0

    def ingest(
        self,
        engine: Engine,
        held: Lease,
        events: Sequence[Event],
        positions: Mapping[str, tuple[int, int]],
        *,
        limits: IngestLimits,
        now: float,
        heard: bool = True,
    ) -> IngestResult:
        """Write one batch; see `Store.ingest`."""
        for left in reversed(range(_TRIES)):
            try:
                return self._once(engine, held, events, positions, limits, now, heard, careful=False)
            except Exception as error:
                if left and is_worth_another_try(error):
                    continue
                if not is_data_fault(error):
                    raise
                fault = error
            break
        log.warning("a batch has events that cannot be stored: events=%d error=%r", len(events), fault)
        return self._once(engine, held, events, positions, limits, now, heard, careful=True)

    def _once(
        self,
        engine: Engine,
        held: Lease,
        events: Sequence[Event],
        positions: Mapping[str, tuple[int, int]],
        limits: IngestLimits,
        now: float,
        heard: bool,
        *,
        careful: bool,
    ) -> IngestResult:
        with writing(engine) as connection:
            row = lease.lock(connection, self._tables, held)
            batch = Ingest(
                connection, self._tables, held.journal_id, limits, row.change_seq + 1, self._known_tasks
            )
            refused: list[tuple[Event, Exception]] = []
            changed = self._bisected(batch, events, refused) if careful else batch.apply(events)
            self._bury(connection, held, refused, now)
            lease.advance(connection, self._tables, held.journal_id, positions)
            known = row.as_of if row.as_of is not None else 0.0
            newest = max((event.wall for event in events), default=known)
            values = {"change_seq": row.change_seq + 1} if changed else {}
            if heard:
                lease.touch(connection, self._tables, held, as_of=max(known, min(newest, now)), **values)
            else:
                lease.keep(connection, self._tables, held, **values)
        self._batches += 1
        if len(self._known_tasks) >= _TASKS_MAX or self._batches % _FORGET_EVERY == 0:
            # Retention may have removed names that had no run.
            self._known_tasks = frozenset()
        self._known_tasks |= batch.new_tasks
        return IngestResult(sorted(set(changed)), len(refused), len(batch.late))

    def _bisected(
        self, batch: Ingest, events: Sequence[Event], refused: list[tuple[Event, Exception]]
    ) -> list[str]:
        """Write what can be written of `events`; the rest is added to `refused`."""
        fault = self._tried(batch, events)
        if isinstance(fault, list):
            return fault
        if len(events) == 1:
            refused.append((events[0], fault))
            return []
        middle = len(events) // 2
        first = self._bisected(batch, events[:middle], refused)
        return first + self._bisected(batch, events[middle:], refused)

    def _tried(self, batch: Ingest, events: Sequence[Event]) -> list[str] | Exception:
        """Write `events`, or return what is wrong with them; one event has several tries."""
        # Another host may insert the same run while we do: that says nothing against the event.
        tries = _TRIES if len(events) == 1 else 1
        for left in reversed(range(tries)):
            try:
                with batch.connection.begin_nested():
                    return batch.apply(events)
            except Exception as error:
                if not is_data_fault(error):
                    raise
                fault = error
                if not (left and is_worth_another_try(error)):
                    break
        return fault

    def _bury(
        self, connection: Connection, held: Lease, refused: Sequence[tuple[Event, Exception]], now: float
    ) -> None:
        table = self._tables.dead_letter
        rows = {event.position: self._letter(event, error, held, now) for event, error in refused}
        for event, error in refused:
            log.warning(
                "event moved to dead_letter: kind=%s at=%s error=%r", event.kind, event.position, error
            )
        bulk.delete(connection, table, rows)
        bulk.insert(connection, table, [rows[place] for place in sorted(rows)])

    def _letter(self, event: Event, error: Exception, held: Lease, now: float) -> tuple[object, ...]:
        return (
            event.writer,
            event.segment,
            event.offset,
            held.journal_id,
            event.wall,
            now,
            fit(event.kind, WORD_MAX),
            fit(event.run, ID_MAX) if event.run else None,
            safe_text(f"{type(error).__name__}: {error}", _REASON_MAX),
            _record_of(event),
        )


def _record_of(event: Event) -> str:
    # The event may be refused because it cannot be encoded.
    try:
        return msgspec.json.encode(event).decode()
    except Exception as error:
        return msgspec.json.encode(
            {"kind": event.kind, "error": repr(error), "repr": ascii(event.data)[:_REASON_MAX]}
        ).decode()
