"""Most runs: one attempt that started and succeeded within one batch, and said nothing in between.

Their rows are made here by a short way, for speed alone: half of a shipper's time would go into
merging what needs no merge. `tests/store/test_plain.py` holds this and the merge together.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from plet_celery import events
from plet_celery.events import Event
from plet_celery.paths import short_id
from plet_celery.store.columns import TASK_MAX
from plet_celery.store.merge import (
    FACTS,
    AttemptState,
    Contribution,
    End,
    Start,
    integer,
    moment,
    number,
    startable_at,
    text,
    weight_of,
)
from plet_celery.store.rollups import Delta
from plet_celery.store.settle import kin_of, labels_of
from plet_celery.store.writes import Row

_encode = msgspec.json.Encoder().encode
_WORDS: Final = ("task", "tenant", "trigger", "user", "queue", "worker")


class Plain(NamedTuple):
    """A run of this kind."""

    run: str
    attempt: str
    start: Event
    end: Event
    runtime: float


def as_plain(run: str, attempts: Mapping[str, Sequence[Event]]) -> Plain | None:
    """Return a run as plain, or None where it takes the merge to know what it is."""
    if len(attempts) != 1:
        return None
    ((attempt, found),) = attempts.items()
    if len(found) != 2:
        return None
    start, end = found
    told = end.data
    if (
        start.kind != events.RUN_STARTED
        or end.kind != events.RUN_SUCCEEDED
        or start.writer != end.writer
        or (start.segment, start.offset) >= (end.segment, end.offset)
        or told.get("by") != "child"
        or "replaced" in told
        or "percent" in start.data
    ):
        return None
    runtime = number(told.get("runtime"))
    # The digest of an id that is no UUID is the merge's business.
    if runtime is None or runtime < 0.0 or short_id(run) != run[:8]:
        return None
    return Plain(run, attempt, start, end, runtime)


def rows_of(plain: Plain, journal: str, change_seq: int, keep: float, delta: Delta) -> tuple[Row, Row]:
    """Return the rows of `run` and `attempt`, and add the run to the rollups.

    Args:
        keep: seconds until a succeeded run expires.
    """
    facts, start, end = plain.start.data, plain.start, plain.end
    try:
        task, tenant, trigger, user, queue, worker = _words(*map(facts.get, _WORDS))
    except TypeError:  # a list or an object, where a word should be
        task, tenant, trigger, user, queue, worker = _words.__wrapped__(*map(facts.get, _WORDS))
    queued_at = moment(facts.get("queued_at"))
    startable = queued_at if facts.get("eta") is None else startable_at(facts)
    waited = start.wall - startable if startable is not None else None
    weight = weight_of(end.data)
    counted = delta.made(end.wall, task, queue, tenant, "succeeded", plain.runtime, waited, weight)
    delta.replace(None, counted)
    row = (
        plain.run,
        None,
        task,
        "succeeded",
        *(tenant, trigger, user, queue),
        start.wall if queued_at is None or start.wall < queued_at else queued_at,
        queued_at,
        start.wall,
        end.wall,
        plain.runtime,
        *(1, plain.attempt, 0),
        *kin_of(facts, plain.run),
        *(0, 0),
        end.wall + keep,
        *(None, journal, change_seq, 1),
        worker,
    )
    return row, _attempt_row(plain, journal, counted)


# Most runs have the words of one before: to look them up is cheaper than to look at six texts.
@functools.lru_cache(maxsize=1024)
def _words(*told: Any) -> tuple[str, str, str, str | None, str | None, str | None]:
    facts = dict(zip(_WORDS, told, strict=True))
    return text(facts["task"], TASK_MAX) or "", *labels_of(facts), text(facts["worker"], 255)


def _attempt_row(plain: Plain, journal: str, counted: Contribution) -> Row:
    start, end, told = plain.start, plain.end, plain.end.data
    name = start.writer[:8]
    own = {key: value for key, value in told.items() if key not in FACTS}
    percent = number(told.get("percent"))
    state = AttemptState(
        start=Start((start.wall, name, start.segment, start.offset), start.data),
        ends=[End(end.kind, (end.wall, name, end.segment, end.offset), own)],
        seen={start.writer: (end.segment, end.offset)},
        percent=min(percent, 100.0) if percent is not None else None,
        counted=counted,
    )
    return (
        plain.run,
        plain.attempt,
        journal,
        start.writer,
        integer(start.data.get("pid")),
        "succeeded",
        start.wall,
        end.wall,
        *(0, 0, 0),
        _encode(state).decode(),
    )
