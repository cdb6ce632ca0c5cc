"""Why a run failed, the own code first: what the error card shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from plet_celery.store.records import Run

_WORDS: Final = {
    "timed_out": "It ran into its time limit",
    "lost": "Its process ended without a word",
    "interrupted": "Its worker stopped before it had ended",
    "rejected": "The task rejected it",
    "cancelled": "Somebody cancelled it",
    "expired": "It was not started before it expired",
    "abandoned": "Nothing was ever heard of it again",
}


@dataclass(frozen=True)
class Frame:
    """One call of a traceback."""

    place: str
    """`shop/load.py:12`."""
    function: str
    is_own: bool


@dataclass(frozen=True)
class Frames:
    """Calls in a row that are all the project's own, or all of libraries."""

    is_own: bool
    frames: list[Frame]


@dataclass(frozen=True)
class ErrorCard:
    """What went wrong, in the order of its use."""

    state: str
    type: str
    message: str
    title: str
    """The type; what happened, where no exception tells it."""
    reason: str
    """A sentence about the end, where neither the exception nor the title tells it."""
    own: Frame | None
    """The innermost frame of the project's own code."""
    groups: list[Frames]
    traceback: str
    is_retrying: bool
    """It goes on: this was the last attempt's error."""


def card(run: Run, *, has_traces: bool) -> ErrorCard | None:
    """Return the card of a run that has something to tell of its end, or of the attempt it retries."""
    error = run.error or {}
    reason, words = run.reason or "", _WORDS.get(run.state, "")
    kind = str(error.get("type") or "")
    if not error and run.state not in _WORDS:
        return None
    told = error.get("frames") if has_traces else None
    frames = [_frame(one) for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return ErrorCard(
        state=run.state,
        type=kind,
        message=str(error.get("message") or ""),
        title=kind or words or "It ended without success",
        reason=_sentence(": ".join(part for part in (words if kind else "", reason) if part)),
        own=next((one for one in reversed(frames) if one.is_own), None),
        groups=[Frames(own, list(group)) for own, group in groupby(frames, key=lambda one: one.is_own)],
        traceback=str(error.get("traceback") or "") if has_traces else "",
        is_retrying=run.state in ("retrying", "queued", "running"),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _frame(one: dict[str, Any]) -> Frame:
    file, line = one.get("file") or "?", one.get("line")
    place = f"{file}:{line}" if line is not None else str(file)
    return Frame(place, str(one.get("function") or "?"), one.get("own") is True)
