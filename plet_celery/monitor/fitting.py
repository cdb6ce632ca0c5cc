"""Judgements as their alerts' rows can hold them: widths of columns, lengths of texts, no half characters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from plet_celery.store.columns import ID_MAX, QUEUE_MAX, TASK_MAX, TENANT_MAX, WORD_MAX, asked
from plet_celery.store.watchtables import SUBJECT_MAX
from plet_celery.watchfacts import Judgement, Severity, Verdict

Key = tuple[str, str]
"""Rule and subject."""
TEXT_MAX: Final = 1000
RUNS_MAX: Final = 20
_WEIGHTS: Final = {Verdict.KEPT: 0, Verdict.NO_DATA: 1, Verdict.BROKEN: 2}


def key_of(judgement: Judgement) -> Key:
    """Return rule and subject as a row has them."""
    return (asked(judgement.rule, WORD_MAX), asked(judgement.subject, SUBJECT_MAX))


def fitted(judgement: Judgement) -> Judgement:
    """Return a judgement that every engine can keep."""
    rule, subject = key_of(judgement)
    since = judgement.since
    return replace(
        judgement,
        rule=rule,
        subject=subject,
        since=since if since is not None and math.isfinite(since) else None,
        title=clean(judgement.title),
        value=clean(judgement.value),
        limit=clean(judgement.limit),
        affected=clean(judgement.affected),
        advice=clean(judgement.advice),
        task=asked(judgement.task, TASK_MAX) if judgement.task is not None else None,
        queue=asked(judgement.queue, QUEUE_MAX) if judgement.queue is not None else None,
        tenant=asked(judgement.tenant, TENANT_MAX),
        runs=tuple(asked(run, ID_MAX) for run in judgement.runs[:RUNS_MAX]),
        count=max(0, judgement.count),
    )


def worst(one: Judgement, other: Judgement) -> Judgement:
    """Return the worse of two judgements on one subject."""
    return max(one, other, key=_weight)


def clean(text: str, limit: int = TEXT_MAX) -> str:
    """Return a text without half characters, and not too long."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def _weight(judgement: Judgement) -> tuple[int, bool]:
    return (_WEIGHTS[judgement.verdict], judgement.severity is Severity.CRITICAL)
