"""Most runs: one attempt that started and succeeded within one batch, and said nothing in between.

Their rows are made here by a short way, for speed alone: half of a shipper's time would go into
merging what needs no merge. `tests/store/test_plain.py` holds this and the merge together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from plet_celery import events
from plet_celery.events import Event
from plet_celery.paths import short_id
from plet_celery.store.merge import FACTS, AttemptState, End, Start, moment, number, text
from plet_celery.store.rollups import Delta
from plet_celery.store.schema import ID_MAX, QUEUE_MAX, TASK_MAX, TENANT_MAX, WORD_MAX

_encode = msgspec.json.Encoder().encode


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


def rows_of(
    plain: Plain, journal: str, change_seq: int, keep: float, delta: Delta
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the rows of `run` and `attempt`, and add the run to the rollups.

    Args:
        keep: seconds until a succeeded run expires.
    """
    run, attempt, start, end, runtime = plain
    facts, told = start.data, end.data
    started, ended, writer, name = start.wall, end.wall, start.writer, start.writer[:8]
    own = End(
        end.kind,
        (ended, name, end.segment, end.offset),
        {key: value for key, value in told.items() if key not in FACTS},
    )
    pid, queued_at = facts.get("pid"), moment(facts.get("queued_at"))
    task, tenant = text(facts.get("task"), TASK_MAX) or "", text(facts.get("tenant"), TENANT_MAX) or ""
    queue = text(facts.get("queue"), QUEUE_MAX)
    waited = started - queued_at if queued_at is not None else None
    counted = delta.made(ended, task, queue, tenant, "succeeded", runtime, waited)
    delta.replace(None, counted)
    percent = number(told.get("percent"))
    state = AttemptState(
        start=Start((started, name, start.segment, start.offset), facts),
        ends=[own],
        seen={writer: (end.segment, end.offset)},
        percent=min(percent, 100.0) if percent is not None else None,
        counted=counted,
    )
    canvas, parent = text(facts.get("canvas"), ID_MAX), text(facts.get("parent"), ID_MAX)
    run_row = (
        run,
        None,
        task,
        "succeeded",
        tenant,
        text(facts.get("trigger"), WORD_MAX) or "",
        text(facts.get("user"), 255),
        queue,
        started if queued_at is None or started < queued_at else queued_at,
        queued_at,
        started,
        ended,
        runtime,
        1,
        attempt,
        0,
        canvas if canvas != run else None,
        text(facts.get("root"), ID_MAX),
        parent if parent != run else None,
        text(facts.get("group"), ID_MAX),
        0,
        0,
        ended + keep,
        None,
        journal,
        change_seq,
        1,
    )
    attempt_row = (
        run,
        attempt,
        journal,
        writer,
        pid if type(pid) is int else None,
        "succeeded",
        started,
        ended,
        0,
        0,
        0,
        _encode(state).decode(),
    )
    return run_row, attempt_row
