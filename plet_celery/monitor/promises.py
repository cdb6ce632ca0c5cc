"""Whether promises hold, while runs go on and where none begins. Pure: a snapshot and `now` give the answer.

A forecast from a learned ETA would be one more fact of an open run, and one more reason in `findings.py`.

No data is never kept: what nobody was heard of about is `no_data`, unless it is broken for certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec

from plet_celery.monitor import dues
from plet_celery.monitor.findings import Finding, finding_of
from plet_celery.monitor.outlook import Outlook as Outlook
from plet_celery.monitor.outlook import outlook as outlook
from plet_celery.monitor.snapshot import BRIEF_AGAIN, Snapshot, watched_from
from plet_celery.monitor.wording import promised
from plet_celery.objectives import (
    P95,
    Freshness,
    MaxRuntime,
    SuccessRate,
    as_seconds,
)
from plet_celery.store.evidence import NEWEST_MAX, Ended
from plet_celery.store.promiserows import Due, Kept, Memory, Promise
from plet_celery.store.tallies import HOUR, NOTHING, Tally, hour_of
from plet_celery.terminal.text import counted
from plet_celery.watchfacts import Judgement, Severity, Verdict

RUNS_MAX: Final = 20
KEPT_EVERY: Final = 300.0
"""Seconds after which what a kept promise says of itself is written, though nothing depends on it."""
_SUBJECT_MAX: Final = 255
_CANVASES_MAX: Final = 500

_TITLES: Final = {
    "max_wait": "runs of {task} wait too long for their start",
    "start_by": "{task} has not started in time",
    "max_runtime": "{whole} of {task} take too long",
    "finish_by": "{task} is not done in time",
    "freshness": "{task} has not succeeded in time",
    "success_rate": "too many runs of {task} fail",
    "p95": "runs of {task} are too slow",
}
_ADVICE: Final = {
    "max_wait": "Look whether a worker consumes the queue, and what its processes are busy with.",
    "start_by": "Look whether it was published (beat, its callers), and whether a worker consumes its queue.",
    "max_runtime": "Open a run: which stage goes on, and what does its log say last?",
    "finish_by": "Open the newest run; if there is none, look whether beat runs and publishes it.",
    "freshness": "Look whether beat runs and publishes it, and how its newest runs ended.",
    "success_rate": "Open the newest failed runs: do they have one error in common?",
    "p95": "Compare the stages of a slow run with those of an older one.",
}


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a pass finds of its promises."""

    judgements: tuple[Judgement, ...]
    """One a promise, by task."""
    kept: Kept
    """What is to be written, see `store.promises.keep`."""


def evaluate(snapshot: Snapshot, *, now: float) -> list[Judgement]:
    """Return one judgement a promise: whether it is kept, broken, or nothing can be said.

    Args:
        now: seconds since the epoch, by the store's clock.
    """
    return list(assess(snapshot, now=now).judgements)


def assess(snapshot: Snapshot, *, now: float) -> Assessment:
    """Return the judgements, and what the next pass has to know."""
    judgements, promises, decided = [], [], []
    extra: dict[tuple[int, str], Tally] = {}
    for one in snapshot.promises:
        finding = finding_of(one, snapshot, now)
        judgements.append(_judgement(one, finding))
        mine = _decided(one, snapshot, now)
        decided += mine
        memory = _memory(one, snapshot, finding, mine, now)
        state, since = finding.verdict.value, one.since
        if state != one.state:
            since = finding.since if finding.since is not None and finding.since > one.begun_at else now
        is_changed = (state, since, memory) != (one.state, one.since, one.memory)
        is_told = state != one.state or finding.verdict is Verdict.BROKEN or bool(mine)
        if (is_changed and (is_told or _has_to_be_kept(one.memory, memory, now))) or _is_old(one, now):
            memory = msgspec.structs.replace(memory, kept_at=now)
            promises.append(_with(one, state, since, memory))
        extra |= _canvas_tallies(one, snapshot, extra)
    tallies = {**snapshot.tallies, **extra}
    return Assessment(
        judgements=tuple(judgements),
        kept=Kept(promises=tuple(promises), dues=tuple(decided), tallies=tallies),
    )


def _judgement(one: Promise, finding: Finding) -> Judgement:
    objective = one.objective
    whole = "canvases" if objective.scope == "canvas" else "runs"
    count = max(finding.number, len(finding.runs))
    tenants = sorted(finding.tenants)
    of = f" of {', '.join(filter(None, tenants[:5]))}" if any(tenants) else ""
    return Judgement(
        rule=f"objective:{one.id}",
        subject=one.task[:_SUBJECT_MAX],
        verdict=finding.verdict,
        severity=Severity(objective.severity),
        pending_for=as_seconds(objective.pending_for),
        keep_firing_for=as_seconds(objective.keep_firing_for),
        since=finding.since if finding.verdict is Verdict.BROKEN else None,
        title=_TITLES[objective.kind].format(task=one.task, whole=whole),
        value=finding.value,
        limit=promised(objective),
        affected=f"{counted(count, finding.noun)}{of}" if count else "",
        advice=objective.advice or _ADVICE[objective.kind],
        task=one.task,
        tenant=tenants[0] if len(tenants) == 1 else "",
        runs=finding.runs[:RUNS_MAX],
        count=count,
    )


def _decided(one: Promise, snapshot: Snapshot, now: float) -> list[Due]:
    """Return the due times that are decided now, or otherwise than before."""
    missed = {due.at: due for due in snapshot.missed.get(one.id, ())}
    objective, start = one.objective, watched_from(one)
    if isinstance(objective, Freshness) and not isinstance(objective.every, str):
        return _decided_intervals(one, objective, snapshot, now)
    found = []
    reach = snapshot.watched.get(one.id, start)
    for asked in snapshot.windows.get(one.id, ()):
        at = asked.window.due_at
        due = dues.decided(one.id, asked, now) if asked.window.deadline < now else None
        if due is None:
            continue
        if (start < at <= reach) or (at in missed and due.state != "missed"):
            found.append(due)
    return found


def _decided_intervals(one: Promise, objective: Freshness, snapshot: Snapshot, now: float) -> list[Due]:
    assert not isinstance(objective.every, str)
    every, grace = as_seconds(objective.every), as_seconds(objective.grace)
    ends, watched = snapshot.ends.get(one.id, ()), watched_from(one)
    found = dues.of_interval(
        one.id,
        ends,
        begun=_begun(one, ends, watched),
        every=every,
        grace=grace,
        watched=watched,
        now=now,
    )
    for due in snapshot.missed.get(one.id, ()):
        anew = dues.decided_anew(due, ends, every=every, grace=grace)
        found += [anew] if anew is not None else []
    return found


def _begun(one: Promise, ends: tuple[Ended, ...], watched: float) -> float:
    """Return the success from which on those at hand are all there were."""
    if len(ends) >= NEWEST_MAX and ends[0].at > watched:
        return ends[0].at
    success = one.memory.success
    return success[0] if success is not None else one.begun_at


def _memory(one: Promise, snapshot: Snapshot, finding: Finding, decided: list[Due], now: float) -> Memory:
    objective = one.objective
    changes: dict[str, object] = {"value": finding.value}
    watched = snapshot.watched.get(one.id)
    if isinstance(objective, Freshness) and not isinstance(objective.every, str):
        watched = _watched_intervals(one, objective, decided, now)
    if watched is not None:
        changes["watched"] = watched
    met = [each for each in snapshot.windows.get(one.id, ()) if each.happened is not None]
    if met and met[-1].happened is not None:
        newest = met[-1].happened
        changes["met"] = (met[-1].window.due_at, newest.at, newest.run)
    if finding.success is not None and (one.memory.success or (0.0, "")) < tuple(finding.success):
        changes["success"] = tuple(finding.success)
    if one.id in snapshot.filled:
        changes["filled"] = snapshot.filled[one.id]
    if isinstance(objective, (SuccessRate, P95)):
        tally = snapshot.sums.get(one.id, NOTHING)
        changes["good"], changes["bad"] = tally
    if isinstance(objective, MaxRuntime) and objective.scope == "canvas":
        changes["canvases"] = _deadlines(one, objective, snapshot)
        changes["counted"], changes["looked"] = _looked(one, snapshot)
    return msgspec.structs.replace(one.memory, **changes)


def _watched_intervals(one: Promise, objective: Freshness, decided: list[Due], now: float) -> float:
    start = watched_from(one)
    fresh = [due.at for due in decided if due.at >= start]
    if len(fresh) >= dues.AT_ONCE_MAX:
        # Those behind the last one have their turn in the next pass.
        return math.nextafter(max(fresh), math.inf)
    return max(start, now - as_seconds(objective.grace))


def _is_old(one: Promise, now: float) -> bool:
    """Tell whether the row says since long that it was judged: passes must not seem left out."""
    kept_at = one.memory.kept_at
    return kept_at is None or now - kept_at >= HOUR / 2


def _has_to_be_kept(before: Memory, memory: Memory, now: float) -> bool:
    """Tell whether the next pass needs it, or readers have not seen it for a while."""
    needed = (memory.filled, memory.canvases, memory.counted)
    is_needed = needed != (before.filled, before.canvases, before.counted)
    return is_needed or before.kept_at is None or now - before.kept_at >= KEPT_EVERY


def _deadlines(one: Promise, objective: MaxRuntime, snapshot: Snapshot) -> dict[str, float]:
    """Return by when open canvases have to be done, by their host's clock."""
    return {
        canvas.key: (canvas.started_at or canvas.created_at) + as_seconds(objective.seconds)
        for canvas in snapshot.canvases.get(one.task, ())[:_CANVASES_MAX]
    }


def _looked(one: Promise, snapshot: Snapshot) -> tuple[dict[str, float], float | None]:
    """Return the canvases that were counted and may be seen again, and up to when all were seen."""
    looked = snapshot.looked.get(one.id, one.memory.looked)
    found = one.memory.counted | {canvas.key: canvas.created_at for canvas in snapshot.brief.get(one.id, ())}
    # Those were created at that time or before.
    found |= {key: snapshot.at for key, _ in snapshot.done.get(one.id, ())}
    again = (looked or 0.0) - BRIEF_AGAIN
    return {key: at for key, at in found.items() if at >= again}, looked


def _canvas_tallies(
    one: Promise, snapshot: Snapshot, extra: dict[tuple[int, str], Tally]
) -> dict[tuple[int, str], Tally]:
    found: dict[tuple[int, str], Tally] = {}
    ends = [(end, one.memory.canvases.get(key, end)) for key, end in snapshot.done.get(one.id, ())]
    if isinstance(one.objective, MaxRuntime):
        limit = as_seconds(one.objective.seconds)
        ends += [(each.ended_at, each.begun_at + limit) for each in snapshot.brief.get(one.id, ())]
    for end, deadline in ends:
        place = (hour_of(end), one.id)
        is_good = end <= deadline
        before = found.get(place, extra.get(place, snapshot.counted.get(place, NOTHING)))
        found[place] = before.plus(Tally(int(is_good), int(not is_good)))
    return found


def _with(one: Promise, state: str, since: float | None, memory: Memory) -> Promise:
    return Promise(
        id=one.id,
        task=one.task,
        objective=one.objective,
        first_seen_at=one.first_seen_at,
        seen_at=one.seen_at,
        state=state,
        since=since,
        memory=memory,
    )
