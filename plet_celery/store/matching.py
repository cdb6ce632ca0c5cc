"""Whose end a report tells: what a worker's main process saw of a child names no attempt, only its process.

Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from plet_celery.store.merge import AttemptState, End
from plet_celery.store.settle import REAL, View, by_start


class Report(NamedTuple):
    """An end that names no attempt: what a worker's main process saw of a child."""

    journal_id: str
    pid: int | None
    end: End
    position: tuple[str, int, int]


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
