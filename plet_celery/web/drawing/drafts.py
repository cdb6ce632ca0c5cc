"""What a row of the timeline says before it is placed: attempts, stages and child runs as spans of time.

Pure. Records may lack any time, run backwards or come from a clock that is off; nothing here raises for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from plet_celery.store.overviews import CanvasRun
from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.terminal.bars import amount, in_order, in_tree_order
from plet_celery.terminal.look import ENDS
from plet_celery.terminal.text import error_line, printable, shorten
from plet_celery.web.drawing.axis import Span, moment

WAITING: Final = "waiting"
"""Kind of a bar: in the queue, or until the next try."""
UNHEARD: Final = "unheard"
"""Kind of a bar: its host is silent, whether it still runs is not known."""
NOTABLE: Final = 5
"""How many failed or running ones of a fold have a row of their own."""
BAD: Final = ENDS - {"succeeded", "ignored"}
_NAME: Final = 120

ChildRun = Run | CanvasRun
"""A child run, whole or in few words."""
_NOTE: Final = 240


@dataclass(slots=True)
class Draft:
    """A row and when what it shows happened."""

    kind: str
    """`queue`, `attempt`, `wait`, `stage`, `stages` (a fold), `run`, `runs` (a fold) or `more`."""
    name: str
    state: str = ""
    depth: int = 0
    spans: list[tuple[float, float, str]] = field(default_factory=list)
    """From, to, and the kind of bar: a state, WAITING or UNHEARD."""
    notches: list[tuple[float, str]] = field(default_factory=list)
    """Retries: when, and why."""
    start: float | None = None
    since: float | None = None
    """Set while it goes on."""
    seconds: float | None = None
    """How long it took, or has taken so far."""
    fraction: float | None = None
    amount: str = ""
    detail: str = ""
    note: str = ""
    attempt: int = 0
    number: int = 0
    run_id: str = ""
    states: dict[str, int] = field(default_factory=dict)
    """How many of what is folded are in which state."""
    p50: float | None = None
    longest: float | None = None
    is_outer: bool = False
    """Rows below are parts of it."""

    @property
    def size(self) -> int:
        """How many things the row stands for."""
        return sum(self.states.values()) or 1


def words(text: object, limit: int = _NOTE) -> str:
    """Return a task's text as one harmless line."""
    shown = text if isinstance(text, str) else str(text)
    return shorten(printable(shown[: 4 * limit].strip().split("\n", 1)[0]), limit)


def note_of(error: Any) -> str:
    """Return an error in a line, or nothing."""
    return words(error_line(error)) if isinstance(error, Mapping) else ""


def span_of(start: Any, end: Any, length: Any, *, is_open: bool, now: float) -> Span | None:
    """Return from when to when something ran, never backwards; None where no time is known.

    The length counts more than the end: it was measured by a clock that does not jump.
    """
    first, last, took = moment(start), moment(end), moment(length)
    if first is None:
        first = last
    if first is None:
        return None
    if is_open:
        last = now
    elif took is not None and took >= 0 and start is not None:
        last = first + took
    return first, max(first, last if last is not None else first)


def queue_draft(run: Run, starts: Sequence[float], now: float) -> Draft | None:
    """Return the wait for the first start; None if the publish is not known."""
    queued = moment(run.queued_at)
    if queued is None:
        return None
    is_waiting = not starts and run.state not in ENDS
    until = now if is_waiting else min(starts, default=moment(run.ended_at) or queued)
    # A publisher's clock that is ahead: it cannot have waited less than nothing.
    queued = min(queued, until) if not is_waiting else queued
    draft = Draft("queue", "In the queue", "queued" if is_waiting else "", start=queued)
    draft.spans = [(queued, max(queued, until), WAITING)]
    draft.seconds = max(0.0, until - queued)
    draft.since = queued if is_waiting else None
    draft.detail = words(run.queue or "", _NAME)
    return draft


def attempt_drafts(run: Run, attempts: Sequence[Attempt], now: float) -> list[Draft]:
    """Return the attempts in their order, each with the wait before it."""
    drafts: list[Draft] = []
    before: float | None = None
    for attempt in attempts:
        draft = _attempt(run, attempt, now)
        if draft.spans and before is not None and draft.spans[0][0] > before:
            draft.spans.insert(0, (before, draft.spans[0][0], WAITING))
        drafts.append(draft)
        if draft.spans:
            before = draft.spans[-1][1]
    if run.state == "retrying" and before is not None and attempts:
        wait = Draft("wait", f"Waiting for attempt {attempts[-1].number + 1}", "retrying", start=before)
        wait.spans = [(before, max(before, now), WAITING)]
        wait.since, wait.seconds = before, max(0.0, now - before)
        drafts.append(wait)
    return drafts


def stage_order(stages: Iterable[Stage], *, by_time: bool) -> list[tuple[Stage, int]]:
    """Return the stages of one attempt in tree order, with their depth; each number once."""
    unique = list({stage.number: stage for stage in stages}.values())
    return in_tree_order(unique, key=_by_start) if by_time else in_tree_order(unique)


def stage_draft(stage: Stage, depth: int, attempt: int, now: float) -> Draft:
    """Return a stage's row."""
    is_open = stage.state == "running"
    span = span_of(stage.started_at, stage.ended_at, stage.elapsed, is_open=is_open, now=now)
    draft = Draft("stage", words(stage.name, _NAME), stage.state, depth, attempt=attempt, number=stage.number)
    if stage.state in ("planned", "skipped"):
        span = None
    draft.note = note_of(stage.error) if stage.state == "failed" else ""
    draft.detail = words(stage.message or "")
    if stage.state != "planned":
        current, total = finite(stage.current), finite(stage.total)
        draft.amount = amount(current, total, words(stage.unit or "", 40))
        if stage.state in ("running", "failed") and total and total > 0:
            draft.fraction = min(1.0, max(0.0, (current or 0.0) / total))
    return _timed(draft, span, is_open)


def stage_fold(name: str, members: Sequence[Stage], depth: int, attempt: int, now: float) -> Draft:
    """Return one row for the stages of one name."""
    draft = Draft("stages", words(name, _NAME), depth=depth, attempt=attempt)
    spans = []
    for stage in members:
        draft.states[stage.state] = draft.states.get(stage.state, 0) + 1
        is_open = stage.state == "running"
        span = span_of(stage.started_at, stage.ended_at, stage.elapsed, is_open=is_open, now=now)
        if span is not None and stage.state not in ("planned", "skipped"):
            spans.append((*span, stage.state))
    return _folded(draft, spans)


def run_draft(run: ChildRun, depth: int, now: float) -> Draft:
    """Return a child run's row."""
    draft = Draft("run", words(run.task or "(unknown task)", _NAME), run.state, depth, run_id=run.id)
    draft.detail = run.short_id
    draft.note = note_of(run.error) if run.state in BAD else ""
    percent = finite(run.percent)
    if percent is not None and run.state not in ENDS:
        draft.fraction = min(1.0, max(0.0, percent / 100))
    span, is_open = run_span(run, now), run.state in ("running", "retrying")
    _timed(draft, span, is_open)
    queued = moment(run.queued_at)
    if queued is not None and (span is None or span[0] > queued):
        until = span[0] if span is not None else max(queued, now)
        if span is not None or run.state not in ENDS:
            draft.spans.insert(0, (queued, until, WAITING))
    return draft


def run_fold(task: str, members: Sequence[ChildRun], depth: int, now: float, *, more: bool = False) -> Draft:
    """Return one row for the child runs of one task."""
    draft = Draft("runs", words(task or "(unknown task)", _NAME), depth=depth)
    draft.detail = "and more" if more else ""
    spans = []
    for run in members:
        draft.states[run.state] = draft.states.get(run.state, 0) + 1
        span = run_span(run, now)
        if span is not None:
            spans.append((*span, run.state))
    return _folded(draft, spans)


def run_span(run: ChildRun, now: float) -> Span | None:
    """Return from when to when a child run was executed; None before its start."""
    if moment(run.started_at) is None:
        return None
    is_open = run.state in ("running", "retrying")
    return span_of(run.started_at, run.ended_at, run.runtime, is_open=is_open, now=now)


def finite(value: Any) -> float | None:
    """Return a number that can be calculated with, or None."""
    return float(value) if isinstance(value, (int, float)) and -1e300 < value < 1e300 else None


def _attempt(run: Run, attempt: Attempt, now: float) -> Draft:
    is_open = attempt.state == "running"
    span = span_of(attempt.started_at, attempt.ended_at, attempt.runtime, is_open=is_open, now=now)
    draft = Draft("attempt", f"Attempt {attempt.number}", attempt.state, attempt=attempt.number)
    is_other = attempt.task not in ("", run.task)
    told = [words(attempt.task, _NAME)] if is_other else []
    told += [words(attempt.worker, _NAME)] if attempt.worker else []
    told += ["redelivered"] if attempt.redelivered else []
    draft.detail = " · ".join(told)
    if attempt.state != "succeeded":
        draft.note = note_of(attempt.error) or words(attempt.reason or "")
    percent = finite(attempt.percent)
    if is_open and percent is not None:
        draft.fraction = min(1.0, max(0.0, percent / 100))
    _timed(draft, span, is_open)
    if span is not None and attempt.state == "retrying":
        draft.notches = [(span[1], draft.note or "retried")]
    return draft


def mark_unheard(draft: Draft, silent: Any) -> None:
    """Of what runs on a host that has been silent since then, nobody knows whether it goes on."""
    since = moment(silent)
    if since is None:
        return
    spans = []
    for start, end, kind in draft.spans:
        if kind == "running" and since < end:
            heard = max(start, since)
            spans += [(start, heard, kind), (heard, end, UNHEARD)]
        else:
            spans.append((start, end, kind))
    draft.spans = spans


def _timed(draft: Draft, span: Span | None, is_open: bool) -> Draft:
    if span is None:
        return draft
    draft.spans = [(*span, draft.state)]
    draft.start, draft.seconds = span[0], span[1] - span[0]
    draft.since = span[0] if is_open else None
    return draft


def _folded(draft: Draft, spans: list[tuple[float, float, str]]) -> Draft:
    draft.spans, draft.states = spans, in_order(draft.states)
    draft.state = attention(draft.states)
    lengths = [end - start for start, end, state in spans if state not in ("running", "retrying")]
    if lengths:
        draft.p50, draft.longest = median(lengths), max(lengths)
    if spans:
        draft.start = min(start for start, _, _ in spans)
        draft.seconds = max(end for _, end, _ in spans) - draft.start
    return draft


def attention(states: Mapping[str, int]) -> str:
    """Return the state that deserves attention first: what failed, what is under way, the rest."""
    bad = [state for state in states if state in BAD]
    under_way = [state for state in ("running", "retrying", "queued", "planned") if states.get(state)]
    return (bad + under_way + list(states) or [""])[0]


def _by_start(stage: Stage) -> tuple[float, int]:
    start = moment(stage.started_at)
    return (start if start is not None else float("inf"), stage.number)
