"""What an event other than a log line says in words: level and text of its line in `run.log`.

Progress ticks, resource samples and measures say nothing there: they are in `trace.jsonl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from plet_celery import events
from plet_celery.events import Event

SILENT: Final = frozenset(
    {events.RUN_QUEUED, events.STAGE_PLANNED, events.STAGE_PROGRESSED, events.RESOURCE_SAMPLED}
    | {events.MEASURE_RECORDED, events.EVENTS_DROPPED}
)
"""Kinds without a line of their own in `run.log` (dropped events are a note)."""

_DROPPED_BY: Final = {
    "rate_limit": "by the rate limit",
    "disk_full": "because the disk was full",
    "error": "by an error",
    "shed_debug_log": "near the journal's size limit",
    "shed_log": "near the journal's size limit",
    "shed_progress": "near the journal's size limit",
    "shed_custom": "near the journal's size limit",
}
_ENDED: Final = {
    events.RUN_LOST: "worker lost",
    events.RUN_RETRIED: "retried",
    events.RUN_REJECTED: "rejected",
    events.RUN_INTERRUPTED: "interrupted",
    events.RUN_IGNORED: "replaced",
}


def count(number: int) -> str:
    """Return a count with spaces between thousands: `1 203`."""
    return f"{number:,}".replace(",", " ")


def sentence(event: Event, attempt: int | None, stage: str | None) -> tuple[int, str]:
    """Return level and text of the event's line.

    Args:
        attempt: the attempt's number, where it is known.
        stage: name of the stage that the event is about.
    """
    build = _SENTENCES.get(event.kind)
    if build is None:
        return 20, event.kind.replace(".", " ")
    return build(event.data, attempt, stage)


def context(event: Event) -> dict[str, Any] | None:
    """Return what follows the text in braces."""
    names = _CONTEXT.get(event.kind)
    if names is None:
        return None
    return {name: event.data[name] for name in names if event.data.get(name) is not None} or None


def dropped(data: Mapping[str, Any]) -> str:
    """Return the words of an `events.dropped`."""
    reasons = data.get("reasons")
    named = (
        [_DROPPED_BY.get(str(reason), str(reason)[:40]) for reason in reasons]
        if isinstance(reasons, dict)
        else []
    )
    what = "lines" if isinstance(reasons, dict) and set(reasons) <= {"rate_limit"} else "events"
    number = data.get("count")
    why = " and ".join(dict.fromkeys(named))
    return f"{count(number if isinstance(number, int) else 0)} {what} dropped {why}".rstrip()


def capped(lines: int, limit: int) -> str:
    """Return the words of the gap between the kept head and the kept tail of an attempt."""
    return f"{count(lines)} lines dropped: an attempt's log is kept up to {count(limit)} bytes"


def next_attempt(number: int, previous_end: str | None) -> str:
    """Return the words before a further attempt; `previous_end` is the kind that ended the last one."""
    before = _ENDED.get(previous_end or "")
    if previous_end is None:
        return f"attempt {number} starts while attempt {number - 1} has not ended"
    return f"{before}, attempt {number} starts" if before else f"attempt {number} starts"


def _started(data: Mapping[str, Any], attempt: int | None, _: str | None) -> tuple[int, str]:
    where = f" on {data['worker']}" if data.get("worker") else ""
    return 20, f"attempt {attempt or '?'} of {data.get('task') or 'a task'} started{where}"


def _ended(word: str, level: int) -> Callable[[Mapping[str, Any], int | None, str | None], tuple[int, str]]:
    def build(data: Mapping[str, Any], attempt: int | None, _: str | None) -> tuple[int, str]:
        runtime = data.get("runtime")
        took = f" after {runtime:.3f} s" if isinstance(runtime, float | int) else ""
        why = _why(data)
        which = f"attempt {attempt} " if attempt else ""
        return level, f"{which}{word}{took}{': ' + why if why else ''}"

    return build


def _why(data: Mapping[str, Any]) -> str:
    """First line: what happened; then the traceback, which becomes continuation lines."""
    error = data.get("error")
    if not isinstance(error, Mapping):
        return str(data.get("reason") or "")
    head = str(error.get("type") or "error")
    if error.get("message"):
        head = f"{head}: {error['message']}"
    traceback = str(error.get("traceback") or "").rstrip("\n")
    return f"{head}\n{traceback}" if traceback else head


def _stage(word: str, level: int) -> Callable[[Mapping[str, Any], int | None, str | None], tuple[int, str]]:
    def build(data: Mapping[str, Any], _: int | None, stage: str | None) -> tuple[int, str]:
        elapsed = data.get("elapsed")
        took = f" after {elapsed:.3f} s" if isinstance(elapsed, float | int) else ""
        why = _why(data) if level >= 40 else ""
        return level, f"stage {stage or data.get('stage')} {word}{took}{': ' + why if why else ''}"

    return build


def _metadata(data: Mapping[str, Any], _: int | None, __: str | None) -> tuple[int, str]:
    return 20, f"metadata {data.get('key')} {'set' if 'value' in data else 'removed'}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any], int | None, str | None], tuple[int, str]]]] = {
    events.RUN_STARTED: _started,
    events.RUN_SUCCEEDED: _ended("succeeded", 20),
    events.RUN_FAILED: _ended("failed", 40),
    events.RUN_TIMED_OUT: _ended("timed out", 40),
    events.RUN_RETRIED: _ended("will be retried", 30),
    events.RUN_CANCELLED: _ended("was cancelled", 30),
    events.RUN_EXPIRED: _ended("expired", 30),
    events.RUN_IGNORED: _ended("was ignored", 20),
    events.RUN_REJECTED: _ended("was rejected", 30),
    events.RUN_INTERRUPTED: _ended("was interrupted", 30),
    events.RUN_LOST: _ended("was lost", 40),
    events.STAGE_STARTED: _stage("started", 20),
    events.STAGE_SUCCEEDED: _stage("succeeded", 20),
    events.STAGE_FAILED: _stage("failed", 40),
    events.STAGE_SKIPPED: _stage("skipped", 20),
    events.METADATA_SET: _metadata,
}
_CONTEXT: Final[Mapping[str, tuple[str, ...]]] = {
    events.RUN_STARTED: ("queue", "host", "pid", "retries", "redelivered", "trigger"),
    events.RUN_TIMED_OUT: ("limit", "seconds"),
    events.RUN_RETRIED: ("retries", "max_retries", "when"),
    events.RUN_CANCELLED: ("terminated", "signal"),
    events.RUN_LOST: ("signal", "exitcode", "requeued"),
    events.RUN_REJECTED: ("requeue",),
    events.STAGE_STARTED: ("total", "unit"),
    events.STAGE_SUCCEEDED: ("done", "total", "result"),
    events.STAGE_FAILED: ("done", "total"),
    events.METADATA_SET: ("value",),
    events.PROCESS_STARTED: ("pid", "command"),
    events.PROCESS_EXITED: ("pid", "exitcode", "signal"),
    events.ACTION_TAKEN: ("action", "user"),
}
