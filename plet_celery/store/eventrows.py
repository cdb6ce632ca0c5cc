"""Which events have a row of their own in the store, and which of those an attempt keeps.

Rows are for facts that no other row holds: ends that name no attempt, failed stages, warnings and
errors, processes, actions, workers, drops, and kinds this version does not know. Starts and ends of an
attempt are in its own row; `queries.run_events` shows both.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from plet_celery import events
from plet_celery.events import CUT, END_STATES, Event
from plet_celery.store.columns import WORD_MAX, fit
from plet_celery.store.merge import attempt_key, integer

WARNING: Final = 30
TEXT_MAX: Final = 1024
"""Characters of a log line in its event row; the log has the whole line."""
_NO_ROW: Final = frozenset(
    {
        events.RUN_QUEUED,
        events.RUN_STARTED,
        events.RUN_ABANDONED,
        events.STAGE_PLANNED,
        events.STAGE_STARTED,
        events.STAGE_PROGRESSED,
        events.STAGE_SUCCEEDED,
        events.STAGE_SKIPPED,
        events.MEASURE_RECORDED,
        events.METADATA_SET,
        events.RESOURCE_SAMPLED,
        events.HOST_BEAT,
        events.WRITER_STARTED,
    }
)
_UNCAPPED: Final = frozenset({*END_STATES, events.EVENTS_DROPPED})

Place = tuple[float, str, int, int]
"""(at, writer, segment, offset): the order of an attempt's rows."""


class Row(NamedTuple):
    """A row of `event`, in the order of its columns."""

    run_id: str
    attempt_id: str
    at: float
    writer: str
    segment: int
    offset: int
    number: int
    journal_id: str
    kind: str
    level: int | None
    data: str

    @property
    def place(self) -> Place:
        """Where it stands in its run."""
        return self[2:6]


class Stored(NamedTuple):
    """What the cap asks of a stored row."""

    number: int
    kind: str


class Kept(NamedTuple):
    """What the cap leaves of an attempt's rows."""

    rows: list[Row]
    """New rows that stay."""
    evicted: list[Place]
    """Places of stored rows that go."""
    dropped: dict[str, list[int]]
    """Counters of the events that have no row, by writer."""


def has_row(event: Event) -> bool:
    """Return whether an event is kept as a row."""
    kind = event.kind
    if kind == events.LOG_WRITTEN:
        return (integer(event.data.get("level")) or 0) >= WARNING
    if kind in END_STATES:
        return not event.attempt and "upstream" not in event.data
    return kind not in _NO_ROW


def drops_of(found: Iterable[Event]) -> dict[Place, int]:
    """Return how many events each report of dropped ones counts, by the report's place."""
    return {
        (event.wall, event.writer, event.segment, event.offset): integer(event.data.get("count")) or 0
        for event in found
    }


def row_of(event: Event, run: str, journal: str) -> Row:
    """Return an event's row."""
    data: dict[str, Any] = event.data
    text = data.get("text")
    if isinstance(text, str) and len(text) > TEXT_MAX:
        data = data | {"text": text[: TEXT_MAX - len(CUT)] + CUT}
    return Row(
        run,
        attempt_key(event.attempt or ""),
        event.wall,
        event.writer,
        event.segment,
        event.offset,
        event.number,
        journal,
        fit(event.kind, WORD_MAX),
        integer(data.get("level")),
        msgspec.json.encode(data).decode(),
    )


def capped(stored: Mapping[Place, Stored], new: Iterable[Row], limit: int) -> Kept:
    """Keep the first `limit` rows of an attempt by their place; ends and drops do not count."""
    fresh = {row.place: row for row in new if row.place not in stored}
    known = {place: Stored(row.number, row.kind) for place, row in fresh.items()} | dict(stored)
    countable = sorted(place for place, row in known.items() if row.kind not in _UNCAPPED)
    beyond = set(countable[limit:])
    dropped: dict[str, list[int]] = {}
    for place in beyond:
        dropped.setdefault(place[1], []).append(known[place].number)
    return Kept(
        [row for place, row in fresh.items() if place not in beyond],
        [place for place in stored if place in beyond],
        dropped,
    )


def add_bits(packed: bytes | None, numbers: Sequence[int]) -> bytes:
    """Return the set of a writer's counters with `numbers`: a set, so that a repeat changes nothing."""
    bits = int.from_bytes(zlib.decompress(packed), "little") if packed else 0
    more = bytearray(max(numbers) // 8 + 1)
    for found in numbers:
        more[found // 8] |= 1 << (found % 8)
    bits |= int.from_bytes(more, "little")
    return zlib.compress(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), 1)


def count_bits(packed: bytes) -> int:
    """Return how many counters the set holds."""
    return int.from_bytes(zlib.decompress(packed), "little").bit_count()
