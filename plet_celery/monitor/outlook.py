"""How a run stands to its promises: by when, and how much is left. What its page and the list show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from plet_celery.monitor.schedule import Calendar, clock
from plet_celery.monitor.wording import span
from plet_celery.objectives import (
    DAY,
    Declared,
    FinishBy,
    MaxRuntime,
    MaxWait,
    Objective,
    StartBy,
    as_seconds,
)

_BEFORE_START: Final = frozenset({"queued"})
_OPEN: Final = frozenset({"queued", "running", "retrying"})


class RunFacts(Protocol):
    """What is asked of a run: `store.records.Run` has it."""

    task: str
    state: str
    queued_at: float | None
    not_before: float | None
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A promise that holds for a run."""

    objective_id: str
    kind: str
    severity: str
    due_at: float
    """By when it has to start or to end, seconds since the epoch."""
    left: float
    """Seconds until then; of what has started or ended in time, those that were to spare; negative: late by
    so much."""
    is_open: bool
    """It may still change: what is due has not happened."""
    zone: str = ""
    """Zone of the promise's own clock; empty where it has none."""

    @property
    def is_late(self) -> bool:
        """Whether the promise is broken for this run."""
        return self.left < 0

    def text(self, zone: str = "UTC") -> str:
        """Return it for people: `due 02:30 · 4 min left`, `late by 3 min`, `in time, 4 min to spare`.

        Args:
            zone: the reader's, for promises without a clock of their own.
        """
        if self.is_late:
            return f"late by {span(-self.left)}"
        if not self.is_open:
            return f"in time, {span(self.left)} to spare"
        at = clock(self.due_at, self.zone or zone)
        day = "" if self.left < DAY else f"{at:%a} "
        return f"due {day}{at:%H:%M} · {span(self.left)} left"


def outlook(run: RunFacts, objectives: Iterable[Declared], now: float) -> list[Outlook]:
    """Return how a run stands to the promises of its task, what is nearest to be broken first.

    Promises of a canvas as a whole, of shares and of freshness say nothing about one run.

    Args:
        run: a `store.records.Run`.
        objectives: as `Plet.objectives()` or `store.promises.declared_objectives` has them; those of other
            tasks are passed over.
        now: seconds since the epoch.
    """
    found = []
    for one in objectives:
        if one.task == run.task and one.objective.scope == "run":
            made = _made(run, one, now)
            if made is not None:
                found.append(made)
    return sorted(found, key=lambda made: (not made.is_open, made.left))


def due_of(
    objective: Objective, *, queued_at: float | None, not_before: float | None, started_at: float | None
) -> float | None:
    """Return by when a run has to start or to end; None where the promise does not say."""
    if isinstance(objective, MaxWait):
        publish = max(filter(None, (queued_at, not_before)), default=None)
        return publish + as_seconds(objective.seconds) if publish is not None else None
    if isinstance(objective, MaxRuntime):
        return started_at + as_seconds(objective.seconds) if started_at is not None else None
    if isinstance(objective, (StartBy, FinishBy)):
        begun = max(filter(None, (queued_at, not_before)), default=started_at)
        if begun is None:
            return None
        # A run that was published at the due time itself is in time for it.
        due = Calendar(objective.crontab, objective.zone).next(begun - 0.001)
        return due if due is not None and begun >= due - as_seconds(objective.within) else None
    return None


def _made(run: RunFacts, one: Declared, now: float) -> Outlook | None:
    objective = one.objective
    due = due_of(objective, queued_at=run.queued_at, not_before=run.not_before, started_at=run.started_at)
    if due is None:
        return None
    if isinstance(objective, (MaxWait, StartBy)):
        happened, is_open = run.started_at, run.started_at is None and run.state in _BEFORE_START
    else:
        is_open = run.state in _OPEN
        # An end that is no success does not finish what was promised.
        is_good = run.state == "succeeded" or isinstance(objective, MaxRuntime)
        happened = run.ended_at if is_good else None
    if happened is None and not is_open:
        return None
    return Outlook(
        objective_id=one.id,
        kind=objective.kind,
        severity=objective.severity,
        due_at=due,
        left=due - (now if is_open or happened is None else happened),
        is_open=is_open,
        zone=getattr(objective, "zone", ""),
    )
