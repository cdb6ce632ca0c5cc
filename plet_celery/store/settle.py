"""How attempts and publish facts make a run: its state and its row.

Pure functions. The truth table of `run_state` is docs/run-states.md, which a test reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from plet_celery.events import Event, RunState
from plet_celery.paths import run_digest, short_id
from plet_celery.store import merge
from plet_celery.store.columns import ID_MAX, QUEUE_MAX, TASK_MAX, TENANT_MAX, WORD_MAX, fit
from plet_celery.store.merge import AttemptState, End, Outcome, Start, text

DAY: Final = 86_400.0
OPEN: Final = frozenset({RunState.QUEUED.value, RunState.RUNNING.value, RunState.RETRYING.value})
"""States of a run that may still change by themselves; every other one is an end."""

_WAITING: Final = frozenset({RunState.QUEUED.value, RunState.RETRYING.value})

REAL: Final = 0
STARTED_UNSEEN: Final = 1
"""A placeholder: its start was told by the main process only."""
NEVER_STARTED: Final = 2
"""A placeholder: revoked, expired or rejected before a start."""


class View(NamedTuple):
    """What a run needs to know of an attempt: the columns of its row."""

    id: str
    journal_id: str
    pid: int | None
    state: str
    started_at: float
    ended_at: float | None
    replaced: int
    placeholder: int
    log_lines: int


class RunDoc(msgspec.Struct, omit_defaults=True):
    """What a run's row keeps beyond its columns."""

    full_id: str | None = None
    """The task id, where it is longer than its column."""
    queued: Start | None = None
    """The earliest `run.queued`."""
    upstream: End | None = None
    """The newest failure of an earlier chain step that ended this run before it ran."""
    queued_by: str | None = None
    """The writer of `queued`: its stamp has the start of the id only."""
    upstream_by: str | None = None
    """The writer of `upstream`."""
    abandoned: End | None = None
    """The newest word that the run waits, and was never heard of again."""
    abandoned_by: str | None = None
    """The writer of `abandoned`."""
    reports: bool = False
    """Ends that name no attempt lie among the events."""
    told_at: float | None = None
    """When dropped events were first told of it: all that may be known of a run."""
    starts: list[float] | None = None
    """The starts that name its log folders, where they are not just the run's own start."""


class RunRow(NamedTuple):
    """A row of `run`, in the order of its columns."""

    id: str
    digest: str | None
    task: str
    state: str
    tenant: str
    trigger: str
    user: str | None
    queue: str | None
    created_at: float
    queued_at: float | None
    started_at: float | None
    ended_at: float | None
    runtime: float | None
    attempts: int
    face: str | None
    replaced: int
    canvas: str | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    log_lines: int
    dropped: int
    expires_at: float | None
    doc: str | None
    journal_id: str
    change_seq: int
    version: int
    worker: str | None
    """Of the attempt that decides the state."""

    @property
    def facts(self) -> tuple[Any, ...]:
        """The row without its place among the changes: what says whether it has changed."""
        return (*self[:-4], self.worker)


@dataclass(frozen=True)
class Retention:
    """How long a run is kept, in seconds after its end."""

    succeeded: float = 30 * DAY
    others: float = 90 * DAY


def view_of(attempt: str, journal: str, state: AttemptState, outcome: Outcome) -> View:
    """Return the view of an attempt."""
    end = outcome.end
    placeholder = REAL
    if state.placeholder:
        told = end is not None and merge.moment(end.data.get("started")) is not None
        placeholder = STARTED_UNSEEN if told else NEVER_STARTED
    return View(
        attempt,
        journal,
        merge.integer(outcome.facts.get("pid")),
        "running" if end is None else end.state,
        outcome.started_at,
        None if end is None else end.stamp[0],
        1 if end is not None and end.data.get("replaced") is True else 0,
        placeholder,
        state.log_lines,
    )


def by_start(views: Iterable[View]) -> list[View]:
    """Return the attempts in the order of their starts: their ordinals are 1, 2, …"""
    return sorted(views, key=_start_order)


def run_state(
    queued: bool, attempts: Sequence[View], upstream: float | None, abandoned: float | None = None
) -> str:
    """Return a run's state.

    Args:
        queued: a `run.queued` is known.
        attempts: all of them, by start.
        upstream: when a failure of an earlier chain step ended this run, if one did.
        abandoned: when it was last said that the run waits and was never heard of again.

    Any success counts for good; else the last attempt decides. `self.replace` ends its attempt with
    Ignore and the id goes on elsewhere: running. See docs/run-states.md.
    """
    for attempt in attempts:
        if attempt.state == "succeeded":
            return "succeeded"
    if upstream is not None and not any(a.state == "running" or a.started_at > upstream for a in attempts):
        return "failed"
    state = _last_state(attempts)
    # It says nothing of an attempt that began later, nor of one that is known by now to have gone on.
    waits = state in _WAITING and not any(attempt.started_at > (abandoned or 0.0) for attempt in attempts)
    return "abandoned" if abandoned is not None and waits else state


def _last_state(attempts: Sequence[View]) -> str:
    if not attempts:
        return "queued"
    last = attempts[-1]
    if last.state == "ignored" and last.replaced:
        return "running"
    return last.state


def face_of(attempts: Sequence[View]) -> View | None:
    """Return the attempt that a run shows: the last that succeeded, else the last."""
    if len(attempts) == 1:
        return attempts[0]
    succeeded = [attempt for attempt in attempts if attempt.state == "succeeded"]
    return (succeeded or attempts)[-1] if attempts else None


def make_row(
    run: str,
    doc: RunDoc,
    attempts: Sequence[View],
    first: Outcome | None,
    face: Outcome | None,
    *,
    dropped: int,
    retention: Retention,
    place: tuple[str, int, int],
) -> RunRow:
    """Return a run's row: of all attempts by start, of what the first and the shown one amount to.

    `place` is its place among the changes: journal id, change_seq, version.
    """
    upstream, abandoned = doc.upstream, doc.abandoned
    state = run_state(
        doc.queued is not None,
        attempts,
        upstream.stamp[0] if upstream else None,
        abandoned.stamp[0] if abandoned else None,
    )
    view, facts = face_of(attempts), _facts(doc, first)
    started, ended = started_at(attempts), _ended_at(state, view, upstream, abandoned)
    queued_at = doc.queued.stamp[0] if doc.queued is not None else merge.moment(facts.get("queued_at"))
    return RunRow(
        run,
        None if short_id(run) == run[:8] else run_digest(doc.full_id or run),
        merge.text(facts.get("task"), TASK_MAX) or "",
        state,
        *labels_of(facts),
        _created_at(queued_at, attempts, ended or doc.told_at),
        queued_at,
        started,
        ended,
        _runtime(started, ended, attempts, face),
        len(attempts),
        view.id if view is not None else None,
        max([attempt.replaced for attempt in attempts], default=0),
        *kin_of(facts, run),
        sum([attempt.log_lines for attempt in attempts]),
        dropped,
        _expires_at(state, ended, retention),
        None if doc == _EMPTY else msgspec.json.encode(doc).decode(),
        *place,
        merge.text(face.facts.get("worker"), 255) if face is not None else None,
    )


def journal_starts(attempts: Sequence[View]) -> dict[str, float]:
    """Return the first recorded start by journal: each of them has a log folder."""
    starts: dict[str, float] = {}
    for attempt in attempts:
        if attempt.placeholder == REAL:
            starts.setdefault(attempt.journal_id, attempt.started_at)
    return starts


def folder_starts(attempts: Sequence[View]) -> list[float] | None:
    """Return the starts that name the log folders; None where the run's own start is the only one."""
    if len(attempts) == 1 and attempts[0].placeholder in (REAL, NEVER_STARTED):
        return None
    starts = sorted(set(journal_starts(attempts).values()))
    return starts if starts != [started_at(attempts)] else None


def started_at(attempts: Sequence[View]) -> float | None:
    """Return the first start of a run that did start."""
    for view in attempts:
        if view.placeholder != NEVER_STARTED:
            return view.started_at
    return None


def fold_queued(doc: RunDoc, found: Iterable[Event]) -> None:
    """Keep the earliest `run.queued`."""
    for event in found:
        stamp = merge.stamp_of(event)
        if doc.queued is None or stamp < doc.queued.stamp:
            doc.queued, doc.queued_by = Start(stamp, event.data), event.writer


def fold_drops(doc: RunDoc, found: Iterable[Event]) -> None:
    """Keep when dropped events were first told of."""
    for event in found:
        if doc.told_at is None or event.wall < doc.told_at:
            doc.told_at = event.wall


def fold_upstream(doc: RunDoc, found: Iterable[Event]) -> None:
    """Keep the newest failure of an earlier chain step."""
    for event in found:
        end = merge.end_of(event)
        if doc.upstream is None or end.stamp > doc.upstream.stamp:
            doc.upstream, doc.upstream_by = end, event.writer


def fold_abandoned(doc: RunDoc, found: Iterable[Event]) -> None:
    """Keep the newest word that the run was never heard of again; of several who say so, one."""
    for event in found:
        end = merge.end_of(event)
        if doc.abandoned is None or end.stamp > doc.abandoned.stamp:
            doc.abandoned, doc.abandoned_by = end, event.writer


def run_key(run: str) -> str:
    """Return a task id as its column holds it."""
    return fit(run, ID_MAX)


def _facts(doc: RunDoc, first: Outcome | None) -> Mapping[str, Any]:
    """Return what a run is, as its first attempt told it, else its publisher, else who ended it.

    The worker goes first: it caps the tenants that it may record, a publisher may claim any.
    """
    publish = doc.queued.data if doc.queued is not None else {}
    if first is not None and first.is_recorded:
        return {**publish, **first.facts} if publish else first.facts
    upstream = doc.upstream.data if doc.upstream is not None else {}
    return {**upstream, **(first.facts if first is not None else {}), **publish}


def _expires_at(state: str, ended: float | None, retention: Retention) -> float | None:
    if ended is None:
        return None
    return ended + (retention.succeeded if state == "succeeded" else retention.others)


def _start_order(view: View) -> tuple[float, str]:
    return (view.started_at, view.id)


def labels_of(facts: Mapping[str, Any]) -> tuple[str, str, str | None, str | None]:
    """Return tenant, trigger, user and queue."""
    return (
        text(facts.get("tenant"), TENANT_MAX) or "",
        text(facts.get("trigger"), WORD_MAX) or "",
        text(facts.get("user"), 255),
        text(facts.get("queue"), QUEUE_MAX),
    )


def kin_of(facts: Mapping[str, Any], run: str) -> tuple[str | None, str | None, str | None, str | None]:
    """Return canvas, root, parent and group; as canvas or parent a run's own id says nothing."""
    canvas, root, parent = facts.get("canvas"), facts.get("root"), facts.get("parent")
    # Most runs are their own canvas and root: a key needs no fitting.
    return (
        None if canvas == run else _other(text(canvas, ID_MAX), run),
        run if root == run else text(root, ID_MAX),
        None if parent == run else _other(text(parent, ID_MAX), run),
        text(facts.get("group"), ID_MAX),
    )


def _other(kin: str | None, run: str) -> str | None:
    return kin if kin != run else None


def _created_at(queued_at: float | None, attempts: Sequence[View], other: float | None) -> float:
    """Return the time by which lists are ordered: of the publish, or of the start if that is earlier."""
    started = attempts[0].started_at if attempts else other
    if queued_at is None or started is None:
        return queued_at or started or 0.0
    return min(queued_at, started)


def _ended_at(state: str, face: View | None, upstream: End | None, abandoned: End | None) -> float | None:
    if state in OPEN:
        return None
    if state == "abandoned" and abandoned is not None:
        return abandoned.stamp[0]
    if upstream is not None and state == "failed" and (face is None or face.started_at <= upstream.stamp[0]):
        return upstream.stamp[0]
    return face.ended_at if face is not None else None


def _runtime(
    started: float | None,
    ended: float | None,
    attempts: Sequence[View],
    face: Outcome | None,
) -> float | None:
    if started is None or ended is None or face is None:
        return None
    if len(attempts) == 1 and face.runtime is not None:
        return face.runtime
    return max(0.0, ended - started)


_EMPTY: Final = RunDoc()
