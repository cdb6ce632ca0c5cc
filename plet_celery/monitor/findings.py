"""What a snapshot says of one promise: kept, broken or unknown, since when, by how much. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from plet_celery.monitor.dues import Asked, calendar_of
from plet_celery.monitor.schedule import clock
from plet_celery.monitor.snapshot import Snapshot
from plet_celery.monitor.wording import share, span
from plet_celery.objectives import (
    P95,
    FinishBy,
    Freshness,
    MaxRuntime,
    MaxWait,
    StartBy,
    SuccessRate,
    as_seconds,
)
from plet_celery.store.canvases import OpenCanvas
from plet_celery.store.evidence import COUNT_MAX, Ended, LateRun, OpenRun
from plet_celery.store.promiserows import Promise
from plet_celery.store.tallies import NOTHING
from plet_celery.terminal.text import counted
from plet_celery.watchfacts import Verdict

BLIND_AFTER: Final = 120.0
"""Seconds without a word of any shipper after which what is known counts as old; each tells every ten."""
BLIND_MAX: Final = 900.0
"""Seconds after which silence is no excuse: what should have been told by then did not happen."""


class Finding(NamedTuple):
    """What is so."""

    verdict: Verdict
    value: str
    since: float | None = None
    """Since when it is broken."""
    runs: tuple[str, ...] = ()
    number: int = 0
    """Runs, canvases or due times that are involved."""
    noun: str = "run"
    tenants: frozenset[str] = frozenset()
    success: Ended | None = None
    """The newest one that was seen."""


class _Late(NamedTuple):
    """An open run or canvas whose time is over."""

    since: float
    over: float
    run: str
    tenant: str


def finding_of(one: Promise, snapshot: Snapshot, now: float) -> Finding:
    """Return what a snapshot says of a promise."""
    return _FINDINGS[one.objective.kind](one, one.objective, snapshot, now)


def is_blind(snapshot: Snapshot, now: float) -> bool:
    """Tell whether no shipper was heard of lately."""
    return snapshot.heard_at is None or now - snapshot.heard_at > BLIND_AFTER


def _max_wait(one: Promise, objective: MaxWait, snapshot: Snapshot, now: float) -> Finding:
    limit = as_seconds(objective.seconds)
    waiting = [run for run in snapshot.open.get(one.task, ()) if run.state == "queued"]
    begun = {run.id: max(run.queued_at or run.created_at, run.not_before or 0.0) for run in waiting}
    found = _of_open(one, snapshot, now, waiting, begun, limit, "waits for")
    is_cut = (one.task, "queued") in snapshot.more
    if found.verdict is Verdict.KEPT and is_cut and any(begun[run.id] > now + run.ahead for run in waiting):
        # The oldest wait longest, but for those whose time has not come: they hide whoever comes behind.
        return Finding(Verdict.NO_DATA, "more wait than are looked at, behind some that must not begin yet")
    return found


def _max_runtime(one: Promise, objective: MaxRuntime, snapshot: Snapshot, now: float) -> Finding:
    limit = as_seconds(objective.seconds)
    if objective.scope == "canvas":
        return _canvas_runtime(one, limit, snapshot, now)
    started = [run for run in snapshot.open.get(one.task, ()) if run.started_at is not None]
    begun = {run.id: run.started_at or 0.0 for run in started}
    return _of_open(one, snapshot, now, started, begun, limit, "has run for")


def _canvas_runtime(one: Promise, limit: float, snapshot: Snapshot, now: float) -> Finding:
    some = snapshot.canvases.get(one.task, ())
    begun = {canvas.key: canvas.started_at or canvas.created_at for canvas in some}
    named = [_as_run(canvas) for canvas in some]
    return _of_open(one, snapshot, now, named, begun, limit, "has run for", noun="canvas")


def _as_run(canvas: OpenCanvas) -> OpenRun:
    return OpenRun(
        id=canvas.key,
        task=canvas.task,
        state="running",
        created_at=canvas.created_at,
        started_at=canvas.started_at,
        tenant=canvas.tenant,
        ahead=canvas.ahead,
        silent_since=canvas.silent_since,
    )


def _of_open(
    one: Promise,
    snapshot: Snapshot,
    now: float,
    runs: Sequence[OpenRun],
    begun: dict[str, float],
    limit: float,
    verb: str,
    noun: str = "run",
) -> Finding:
    """Judge open runs by how long they go on, and those that ended late since the last pass."""
    late, unknown = [], 0
    blind = is_blind(snapshot, now)
    for run in runs:
        over = now + run.ahead - begun[run.id] - limit
        if over <= 0:
            continue
        since = now - over
        # Whether it still goes on when its time is over, only its host can tell.
        heard = run.silent_since if run.silent_since is not None else snapshot.heard_at if blind else now
        if heard is not None and since <= heard:
            late.append(_Late(since, over, run.id, run.tenant))
        else:
            unknown += 1
    named, is_wait = snapshot.late_runs.get(one.id, ()), verb == "waits for"
    # When it ends, whoever was told that a run waits for too long need not hear it once more.
    before = _Before(len(named) if is_wait else snapshot.late.get(one.id, 0), named, is_wait)
    if late or before.number:
        return _late(late, before, max(len(late), snapshot.waiting.get(one.id, 0)), limit, verb, noun, now)
    if unknown or blind:
        return Finding(Verdict.NO_DATA, _silence(snapshot, now, unknown, noun), number=unknown, noun=noun)
    if not runs and one.task not in snapshot.known:
        return Finding(Verdict.NO_DATA, "no run was ever recorded")
    longest = max((now + run.ahead - begun[run.id] for run in runs), default=None)
    if longest is None:
        return Finding(
            Verdict.KEPT, f"no {noun} {verb.split()[0]}" if verb == "waits for" else f"no {noun} is open"
        )
    return Finding(Verdict.KEPT, f"the longest {verb} {span(longest)}")


class _Before(NamedTuple):
    """Runs that have started, or ended, late since the last look."""

    number: int
    runs: Sequence[LateRun]
    is_wait: bool

    def said(self, noun: str) -> str:
        """Return what is said of them."""
        longest = max((run.took for run in self.runs), default=None)
        after = f", after {span(longest)}" if longest is not None else ""
        did = "started" if self.is_wait else "ended"
        return f"{counted(self.number, noun)} {did} late since the last look{after}"


def _late(
    late: list[_Late], before: _Before, count: int, limit: float, verb: str, noun: str, now: float
) -> Finding:
    late.sort()
    parts = []
    if late:
        more = "+" if count >= COUNT_MAX else ""
        parts.append(f"{counted(count, noun)}{more} late, the longest {verb} {span(late[0].over + limit)}")
    if before.number:
        parts.append(before.said(noun))
    since = [run.since for run in late] + [run.at - run.took + limit for run in before.runs]
    return Finding(
        Verdict.BROKEN,
        "; ".join(parts),
        # A host's clock may be ahead.
        since=min([now, *since]),
        runs=tuple(dict.fromkeys([*(run.run for run in late), *(run.run for run in before.runs)])),
        number=count + before.number,
        noun=noun,
        tenants=frozenset([*(run.tenant for run in late), *(run.tenant for run in before.runs)]),
    )


def _silence(snapshot: Snapshot, now: float, unknown: int, noun: str) -> str:
    if snapshot.heard_at is None:
        return "nothing was ever recorded"
    if is_blind(snapshot, now):
        return f"nothing was heard of any host for {span(now - snapshot.heard_at)}"
    return f"the host of {counted(unknown, noun)} is silent"


def _shares(one: Promise, objective: SuccessRate | P95, snapshot: Snapshot, now: float) -> Finding:
    tally, window = snapshot.sums.get(one.id, NOTHING), span(as_seconds(objective.window))
    noun = "end" if isinstance(objective, SuccessRate) else "success"
    if tally.total < objective.min_runs:
        needed = f", {objective.min_runs} are needed" if objective.min_runs > 1 else ""
        said = counted(tally.total, "run") if tally.total else "no run"
        return Finding(Verdict.NO_DATA, f"{said} ended within {window}{needed}")
    kept = tally.good / tally.total
    verb = "succeeded" if noun == "end" else f"took at most {span(as_seconds(_limit(objective)))}"
    value = f"{share(kept)} of {counted(tally.total, 'run')} {verb} within {window}"
    if kept < objective.target:
        return Finding(Verdict.BROKEN, value, number=tally.bad)
    if is_blind(snapshot, now):
        return Finding(Verdict.NO_DATA, _silence(snapshot, now, 0, "run"))
    return Finding(Verdict.KEPT, value)


def _limit(objective: SuccessRate | P95) -> Any:
    return objective.seconds if isinstance(objective, P95) else 0.0


def _freshness(one: Promise, objective: Freshness, snapshot: Snapshot, now: float) -> Finding:
    if isinstance(objective.every, str):
        return _of_calendar(one, objective, snapshot, now)
    every, grace = as_seconds(objective.every), as_seconds(objective.grace)
    success = _newest(one, snapshot.ends.get(one.id, ()))
    base = success.at if success is not None else one.begun_at
    deadline = base + every + grace
    value = _last(one, success, now)
    if now > deadline:
        if _is_excused(snapshot, deadline, now):
            return Finding(Verdict.NO_DATA, _silence(snapshot, now, 0, "run"), success=success)
        missed = int((now - grace - base) // every)
        return Finding(Verdict.BROKEN, value, since=deadline, number=missed, noun="due time", success=success)
    return Finding(Verdict.KEPT if success is not None else Verdict.NO_DATA, value, success=success)


def _of_calendar(
    one: Promise, objective: StartBy | FinishBy | Freshness, snapshot: Snapshot, now: float
) -> Finding:
    asked = snapshot.windows.get(one.id, ())
    over = [each for each in asked if each.window.deadline < now]
    newest = over[-1] if over else None
    came = [Ended(each.happened.at, each.happened.run) for each in asked if each.happened is not None]
    success = _newest(one, came)
    since = newest.window.due_at if newest is not None else now
    if any(each.happened is not None and each.window.due_at >= since for each in asked):
        return Finding(Verdict.KEPT, _met(one, asked, since), success=success)
    if newest is None or newest.window.due_at <= one.begun_at:
        return Finding(Verdict.NO_DATA, "nothing was due yet since it is promised", success=success)
    if _is_excused(snapshot, newest.window.deadline, now):
        return Finding(Verdict.NO_DATA, _silence(snapshot, now, 0, "run"), success=success)
    return _broken(one, objective, snapshot, newest, success, now)


def _broken(
    one: Promise,
    objective: StartBy | FinishBy | Freshness,
    snapshot: Snapshot,
    newest: Asked,
    success: Ended | None,
    now: float,
) -> Finding:
    window = newest.window
    mine = [run for run in _open_of(one, snapshot) if run.created_at >= window.since]
    at = clock(window.due_at, objective.zone)
    was_due = f"was due {at:%a %H:%M}"
    if isinstance(objective, Freshness):
        value = f"{_last(one, success, now)}, {was_due}"
    elif mine:
        states = ", ".join(sorted({run.state for run in mine}))
        value = f"{was_due}, still {states}"
    else:
        value = f"{was_due}, no run is open"
    return Finding(
        Verdict.BROKEN,
        value,
        since=window.deadline,
        runs=tuple(run.id for run in mine),
        number=_missed(one, newest, success),
        noun="due time",
        tenants=frozenset(run.tenant for run in mine),
        success=success,
    )


def _missed(one: Promise, newest: Asked, success: Ended | None) -> int:
    """Return how many times have passed since the last success, up to 1,000."""
    calendar = calendar_of(one.objective)
    assert calendar is not None
    after = max(one.begun_at, success.at if success is not None else 0.0)
    return max(1, len(calendar.between(after, newest.window.due_at, limit=COUNT_MAX)))


def _open_of(one: Promise, snapshot: Snapshot) -> list[OpenRun]:
    if one.objective.scope == "canvas":
        return [_as_run(canvas) for canvas in snapshot.canvases.get(one.task, ())]
    return list(snapshot.open.get(one.task, ()))


def _met(one: Promise, asked: Sequence[Asked], since: float) -> str:
    met = [each for each in asked if each.happened is not None and each.window.due_at >= since]
    found = met[-1].happened
    assert found is not None
    window = met[-1].window
    # What was due before it was promised is no time to be late by.
    late = found.at - window.deadline if window.due_at > one.begun_at else 0.0
    verb = "started" if isinstance(one.objective, StartBy) else "succeeded"
    at = clock(found.at, getattr(one.objective, "zone", ""))
    return f"{verb} {at:%a %H:%M}" + (f", {span(late)} late" if late > 0 else "")


def _newest(one: Promise, came: Sequence[Ended]) -> Ended | None:
    known = [Ended(*one.memory.success)] if one.memory.success is not None else []
    return max([*came, *known], default=None)


def _last(one: Promise, success: Ended | None, now: float) -> str:
    if success is None:
        return f"no success since it is promised, {span(now - one.begun_at)} ago"
    return f"last success {span(now - success.at)} ago"


def _is_excused(snapshot: Snapshot, deadline: float, now: float) -> bool:
    """Tell whether what should have come may only not have been told yet."""
    if snapshot.heard_at is None or not is_blind(snapshot, now):
        return False
    return deadline > snapshot.heard_at and now - snapshot.heard_at < BLIND_MAX


_FINDINGS: Final[dict[str, Callable[..., Finding]]] = {
    "max_wait": _max_wait,
    "max_runtime": _max_runtime,
    "start_by": _of_calendar,
    "finish_by": _of_calendar,
    "freshness": _freshness,
    "success_rate": _shares,
    "p95": _shares,
}
