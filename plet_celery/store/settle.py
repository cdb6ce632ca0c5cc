"""How attempts and publish facts make a run: its state, its row, and whose end a report tells.

Pure functions. The truth table of `run_state` is docs/run-states.md, which a test reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from plet_celery.events import RunState
from plet_celery.paths import run_digest, short_id
from plet_celery.store import merge
from plet_celery.store.merge import AttemptState, End, Start
from plet_celery.store.schema import ID_MAX, QUEUE_MAX, TASK_MAX, TENANT_MAX, WORD_MAX, fit

DAY: Final = 86_400.0
OPEN: Final = frozenset({RunState.QUEUED.value, RunState.RUNNING.value, RunState.RETRYING.value})
"""States of a run that may still change by themselves; every other one is an end."""

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


class Report(NamedTuple):
    """An end that names no attempt: what a worker's main process saw of a child."""

    journal_id: str
    pid: int | None
    end: End
    position: tuple[str, int, int]


class RunDoc(msgspec.Struct, omit_defaults=True):
    """What a run's row keeps beyond its columns."""

    full_id: str | None = None
    """The task id, where it is longer than its column."""
    queued: Start | None = None
    """The earliest `run.queued`."""
    upstream: End | None = None
    """The newest failure of an earlier chain step that ended this run before it ran."""
    reports: bool = False
    """Ends that name no attempt lie among the events."""
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
    journal_id: str
    change_seq: int
    version: int
    doc: str | None


@dataclass(frozen=True)
class Retention:
    """How long a run is kept, in seconds after its end."""

    succeeded: float = 30 * DAY
    others: float = 90 * DAY


def view_of(attempt: str, journal: str, state: AttemptState, end: End | None) -> View:
    """Return the view of an attempt; `end` is its effective one."""
    pid = merge.integer(merge.fact(state, "pid", end))
    placeholder = REAL
    if state.placeholder:
        told = end is not None and merge.number(end.data.get("started")) is not None
        placeholder = STARTED_UNSEEN if told else NEVER_STARTED
    return View(
        attempt,
        journal,
        pid,
        end.state.value if end is not None else "running",
        merge.started_at(state, end),
        end.stamp[0] if end is not None else None,
        1 if end is not None and end.data.get("replaced") is True else 0,
        placeholder,
        state.log_lines,
    )


def by_start(views: Iterable[View]) -> list[View]:
    """Return attempts in the order of their starts: their ordinals are 1, 2, …"""
    return sorted(views, key=_start_order)


def run_state(queued: bool, attempts: Sequence[View], upstream: float | None) -> str:
    """Return a run's state.

    Args:
        queued: a `run.queued` is known.
        attempts: all of them, by start.
        upstream: when a failure of an earlier chain step ended this run, if one did.

    Any success counts for good; else the last attempt decides. `self.replace` ends its attempt with
    Ignore and the id goes on elsewhere: running. See docs/run-states.md.
    """
    if any(attempt.state == "succeeded" for attempt in attempts):
        return RunState.SUCCEEDED.value
    if upstream is not None and not any(a.state == "running" or a.started_at > upstream for a in attempts):
        return RunState.FAILED.value
    if not attempts:
        return RunState.QUEUED.value
    last = attempts[-1]
    if last.state == "ignored" and last.replaced:
        return RunState.RUNNING.value
    return last.state


def face_of(attempts: Sequence[View]) -> View | None:
    """Return the attempt that a run shows: the last that succeeded, else the last."""
    succeeded = [attempt for attempt in attempts if attempt.state == "succeeded"]
    return (succeeded or attempts)[-1] if attempts else None


def match(
    reports: Iterable[Report], attempts: Iterable[View]
) -> tuple[dict[str, End], dict[str, AttemptState]]:
    """Match reports of one journal to the attempts that ran in it.

    A report belongs to the attempt of the same pid that started last before it. Those of a pid
    without such an attempt make one placeholder attempt, whose id comes from the earliest of them.

    Returns:
        The best report by attempt id; the placeholders by their id.
    """
    real = [attempt for attempt in by_start(attempts) if attempt.placeholder == REAL]
    matched: dict[str, End] = {}
    unmatched: dict[int | None, list[Report]] = {}
    for report in reports:
        owner = _owner(report, real)
        if owner is None:
            unmatched.setdefault(report.pid, []).append(report)
        elif owner not in matched or report.end.order < matched[owner].order:
            matched[owner] = report.end
    return matched, dict(_placeholder(found) for found in unmatched.values())


def make_row(
    *,
    run: str,
    doc: RunDoc,
    attempts: Sequence[View],
    states: Mapping[str, AttemptState],
    dropped: int,
    retention: Retention,
) -> RunRow:
    """Return a run's row, without its place among the changes.

    Args:
        attempts: all of them, by start.
        states: at least of the first and of the face attempt.
    """
    upstream = doc.upstream
    state = run_state(doc.queued is not None, attempts, upstream.stamp[0] if upstream else None)
    first = states[attempts[0].id] if attempts else None
    face = face_of(attempts)
    facts = _Facts(doc, first)
    started = started_at(attempts)
    queued_at = doc.queued.stamp[0] if doc.queued is not None else merge.number(facts.get("queued_at"))
    ended = _ended_at(state, face, upstream)
    known = [
        moment for moment in (queued_at, attempts[0].started_at if attempts else None) if moment is not None
    ]
    canvas, parent = facts.text("canvas", ID_MAX), facts.text("parent", ID_MAX)
    keep = retention.succeeded if state == "succeeded" else retention.others
    return RunRow(
        run,
        None if short_id(run) == run[:8] else run_digest(doc.full_id or run),
        facts.text("task", TASK_MAX) or "",
        state,
        facts.text("tenant", TENANT_MAX) or "",
        facts.text("trigger", WORD_MAX) or "",
        facts.text("user", 255),
        facts.text("queue", QUEUE_MAX),
        min(known) if known else (ended or 0.0),
        queued_at,
        started,
        ended,
        _runtime(started, ended, attempts, face, states),
        len(attempts),
        face.id if face is not None else None,
        1 if any(attempt.replaced for attempt in attempts) else 0,
        # A run's own id says nothing: the index holds members of real canvases only.
        canvas if canvas != run else None,
        facts.text("root", ID_MAX) or None,
        parent if parent != run else None,
        facts.text("group", ID_MAX),
        sum(attempt.log_lines for attempt in attempts),
        dropped,
        ended + keep if ended is not None else None,
        "",
        0,
        0,
        _doc_text(doc),
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
    return next((view.started_at for view in attempts if view.placeholder != NEVER_STARTED), None)


def run_key(run: str) -> str:
    """Return a task id as its column holds it."""
    return fit(run, ID_MAX)


class _Facts:
    """What a run is, as its first attempt told it, else its publisher, else who ended it.

    The worker goes first: it caps the tenants that it may record, a publisher may claim any.
    """

    def __init__(self, doc: RunDoc, first: AttemptState | None) -> None:
        start = first.start.data if first is not None and first.start is not None else None
        publish = doc.queued.data if doc.queued is not None else None
        self._sources = [found for found in (start, publish) if found is not None]
        if start is None:
            end = merge.effective_end(first) if first is not None else None
            self._sources += [found.data for found in (end, doc.upstream) if found is not None]

    def get(self, name: str) -> Any:
        for source in self._sources:
            if name in source:
                return source[name]
        return None

    def text(self, name: str, limit: int) -> str | None:
        value = self.get(name)
        return fit(value, limit) if type(value) is str and value else None


def _start_order(view: View) -> tuple[float, str]:
    return (view.started_at, view.id)


def _owner(report: Report, real: Sequence[View]) -> str | None:
    if report.pid is None:
        return None
    for attempt in reversed(real):
        if attempt.pid == report.pid and attempt.started_at <= report.end.stamp[0]:
            return attempt.id
    return None


def _placeholder(found: Sequence[Report]) -> tuple[str, AttemptState]:
    earliest = min(found, key=lambda report: report.end.stamp)
    best = min(found, key=lambda report: report.end.order)
    writer, segment, offset = earliest.position
    digest = hashlib.sha256(f"{writer}.{segment}.{offset}".encode()).hexdigest()
    state = AttemptState(first=earliest.end.stamp, report=best.end, placeholder=True)
    state.seen[writer] = (segment, offset)
    return f"p{digest[:31]}", state


def _ended_at(state: str, face: View | None, upstream: End | None) -> float | None:
    if state in OPEN:
        return None
    if upstream is not None and state == "failed" and (face is None or face.started_at <= upstream.stamp[0]):
        return upstream.stamp[0]
    return face.ended_at if face is not None else None


def _runtime(
    started: float | None,
    ended: float | None,
    attempts: Sequence[View],
    face: View | None,
    states: Mapping[str, AttemptState],
) -> float | None:
    if started is None or ended is None or face is None:
        return None
    if len(attempts) == 1:
        measured = merge.runtime(states[face.id], merge.effective_end(states[face.id]))
        if measured is not None:
            return measured[0]
    return max(0.0, ended - started)


_EMPTY: Final = RunDoc()


def _doc_text(doc: RunDoc) -> str | None:
    return None if doc == _EMPTY else msgspec.json.encode(doc).decode()
