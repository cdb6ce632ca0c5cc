"""What a pass knows of runs and promises at one moment: read here, judged in `promises.py`.

Every question is bounded, and none is asked about each run on record: open runs by their index, ends from
the rollups of the newest hours, due times since the last pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.engine import Connection

from plet_celery.monitor import dues
from plet_celery.monitor.counting import count_ends, last_pass
from plet_celery.monitor.dues import Asked, Window
from plet_celery.objectives import (
    FinishBy,
    Freshness,
    MaxRuntime,
    MaxWait,
    Objective,
    StartBy,
    as_seconds,
)
from plet_celery.store import canvases, evidence, promiserows, tallies
from plet_celery.store.canvases import EndedCanvas, Happened, OpenCanvas
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.evidence import Ended, LateRun, OpenRun, OpenRuns
from plet_celery.store.promiserows import Due, Promise
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.store.tallies import Tally

BRIEF_AGAIN: Final = 120.0
"""So far back canvases are looked for again: a host may tell late, and its clock be wrong a little."""
BRIEF_MAX: Final = 500
"""So many runs of a task in a state are looked at for them."""
NEWEST_LIMIT: Final = 50
"""So many of the first runs of a due time are looked at for what met it first."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was seen; by promise ids where there is no other word. Times by the store's clock."""

    at: float
    promises: tuple[Promise, ...] = ()
    heard_at: float | None = None
    """When a shipper last wrote."""
    known: frozenset[str] = frozenset()
    """Tasks of which a run was ever seen."""
    open: Mapping[str, tuple[OpenRun, ...]] = field(default_factory=dict)
    """Open runs by task, oldest first."""
    more: frozenset[tuple[str, str]] = frozenset()
    """(task, state) of which more are open than these."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """How many wait for too long, where more are open than are here; up to 1,000."""
    canvases: Mapping[str, tuple[OpenCanvas, ...]] = field(default_factory=dict)
    """Open canvases by the task that began them."""
    done: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    """Canvases (key, end) that were open at the last pass."""
    brief: Mapping[str, tuple[EndedCanvas, ...]] = field(default_factory=dict)
    """Canvases that began and ended since the last pass."""
    looked: Mapping[str, float] = field(default_factory=dict)
    """Up to which time of creation those are all."""
    counted: Mapping[tuple[int, str], Tally] = field(default_factory=dict)
    """What is kept of the hours in which those ended."""
    windows: Mapping[str, tuple[Asked, ...]] = field(default_factory=dict)
    """Due times, in order: those to be decided, the last one that is over, and those after it."""
    watched: Mapping[str, float] = field(default_factory=dict)
    """Up to which due time all are among them, or decided."""
    ends: Mapping[str, tuple[Ended, ...]] = field(default_factory=dict)
    """The newest successes, by their ends; of promises by interval."""
    missed: Mapping[str, tuple[Due, ...]] = field(default_factory=dict)
    """Due times of a day that were missed."""
    sums: Mapping[str, Tally] = field(default_factory=dict)
    """Of shares: what ended within their windows."""
    late: Mapping[str, int] = field(default_factory=dict)
    """How many have ended since the last pass that were late: by their end, or by their start."""
    late_runs: Mapping[str, tuple[LateRun, ...]] = field(default_factory=dict)
    """By name, those of them that are known; of `MaxWait` those whose time was over since the last pass."""
    tallies: Mapping[tuple[int, str], Tally] = field(default_factory=dict)
    """Hours that were counted, and are not what is kept of them."""
    filled: Mapping[str, int] = field(default_factory=dict)
    """From which hour on all are counted."""


def take_snapshot(store: Store, *, now: float) -> Snapshot:
    """Return what the store knows that the promises in it ask for.

    Args:
        now: seconds since the epoch, by the store's clock.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    with store.reading() as connection:
        return read_snapshot(connection, store.tables, now=now)


def read_snapshot(connection: Connection, tables: Tables, *, now: float) -> Snapshot:
    """Return what `take_snapshot` does, within a transaction."""
    promises = tuple(promiserows.promises(connection, tables))
    if not promises:
        return Snapshot(at=now)
    reader = _Reader(connection, tables, promises, now)
    reader.open_runs()
    reader.dues()
    reader.intervals()
    ends = count_ends(connection, tables, promises, now)
    reader.late_runs(ends.get("late", {}))
    return Snapshot(
        at=now,
        promises=promises,
        heard_at=evidence.heard_at(connection, tables),
        known=evidence.known(connection, tables, {one.task for one in promises}),
        **reader.found,
        **ends,
    )


class _Reader:
    """Gathers the parts of a snapshot."""

    def __init__(
        self, connection: Connection, tables: Tables, promises: tuple[Promise, ...], now: float
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._promises = promises
        self._now = now
        self._skews = evidence.skews_of(connection, tables)
        self.found: dict[str, Any] = {}

    def open_runs(self) -> None:
        """Read the open runs and canvases."""
        tasks = {one.task for one in self._of(MaxWait, MaxRuntime, StartBy, FinishBy)}
        if not tasks:
            return
        found = evidence.open_runs(self._connection, self._tables, tasks)
        by_task: dict[str, list[OpenRun]] = {}
        for run in found.runs:
            by_task.setdefault(run.task, []).append(run)
        self.found["open"] = {task: tuple(by_task.get(asked(task, TASK_MAX), ())) for task in tasks}
        self.found["more"] = found.more
        self.found["waiting"] = {
            one.id: evidence.count_waiting(
                self._connection, self._tables, one.task, before=self._now - as_seconds(one.objective.seconds)
            )
            for one in self._of(MaxWait)
            if isinstance(one.objective, MaxWait) and (one.task, "queued") in found.more
        }
        if any(one.objective.scope == "canvas" for one in self._promises):
            self._canvases(found)

    def _canvases(self, runs: OpenRuns) -> None:
        by_task: dict[str, list[OpenCanvas]] = {}
        for canvas in canvases.open_canvases(self._connection, self._tables, runs.runs):
            by_task.setdefault(canvas.task, []).append(canvas)
        whole = [one for one in self._promises if one.objective.scope == "canvas"]
        tasks = {one.task: asked(one.task, TASK_MAX) for one in whole}
        self.found["canvases"] = {task: tuple(by_task.get(name, ())) for task, name in tasks.items()}
        done = {one.id: self._done(one, by_task.get(tasks[one.task], [])) for one in whole}
        self.found["done"] = done
        brief, looked = {}, {}
        for one in (each for each in whole if isinstance(each.objective, MaxRuntime)):
            brief[one.id], looked[one.id] = self._brief(one, by_task.get(tasks[one.task], []))
        self.found["brief"], self.found["looked"] = brief, looked
        hours = {tallies.hour_of(end) for some in done.values() for _, end in some}
        hours |= {tallies.hour_of(canvas.ended_at) for some in brief.values() for canvas in some}
        self.found["counted"] = tallies.stored(self._connection, self._tables, hours)

    def _done(self, one: Promise, still: Iterable[OpenCanvas]) -> tuple[tuple[str, float], ...]:
        keys = one.memory.canvases.keys() - {canvas.key for canvas in still}
        ends = ((key, canvases.canvas_end(self._connection, self._tables, key)) for key in sorted(keys))
        return tuple((key, end) for key, end in ends if end is not None)

    def _brief(self, one: Promise, still: Iterable[OpenCanvas]) -> tuple[tuple[EndedCanvas, ...], float]:
        """Return canvases that no pass saw open, and up to which time of creation they are all."""
        known = {*one.memory.canvases, *one.memory.counted, *(canvas.key for canvas in still)}
        begun = one.begun_at
        looked = one.memory.looked if one.memory.looked is not None else begun
        found, until = list[EndedCanvas](), 0.0
        # Where more ended than one pass reads, there is no time to look again.
        for since in (max(begun, looked - BRIEF_AGAIN), looked):
            if until < self._now:
                found, until = canvases.ended_canvases(
                    self._connection,
                    self._tables,
                    one.task,
                    since=since,
                    until=self._now,
                    but=known,
                    limit=BRIEF_MAX,
                )
        return tuple(found), until

    def dues(self) -> None:
        """Read what happened for due times of calendars."""
        missed = promiserows.missed_lately(self._connection, self._tables, now=self._now)
        self.found["missed"] = {one: tuple(some) for one, some in missed.items()}
        windows, watched = {}, {}
        for one in self._promises:
            if dues.calendar_of(one.objective) is not None:
                windows[one.id], watched[one.id] = self._windows(one, missed.get(one.id, []))
        self.found["windows"], self.found["watched"] = windows, watched

    def _windows(self, one: Promise, missed: list[Due]) -> tuple[tuple[Asked, ...], float]:
        objective, start = one.objective, watched_from(one)
        newest = dues.newest(objective, self._now)
        over = newest[0] if newest and newest[0].deadline < self._now else None
        met = one.memory.met
        known = {}
        if over is not None and met is not None and met[0] == over.due_at:
            known = {over.due_at: Asked(window=over, happened=Happened(over.since, met[1], met[2]))}
            newest = newest[1:]
        found = {**known, **self._asked(one, newest, from_last=True)}
        watched = start
        if over is not None and over.due_at > start:
            behind = dues.unwatched(objective, start, over.due_at)
            answered = self._asked(one, behind)
            found = {**answered, **found}
            # Those that are not answered yet have their turn in the next pass.
            is_complete = len(answered) == len(behind) < dues.AT_ONCE_MAX
            watched = over.due_at if is_complete else max([start, *answered])
        again = [dues.window_at(objective, due.at) for due in sorted(missed, key=lambda due: due.at)]
        found = {**self._asked(one, again), **found}
        return tuple(found[at] for at in sorted(found)), watched

    def _asked(self, one: Promise, windows: list[Window], *, from_last: bool = False) -> dict[float, Asked]:
        """Ask for all windows at once; where too much happened, for the last one or the first ones alone."""
        if not windows:
            return {}
        limit = NEWEST_LIMIT if from_last else evidence.HAPPENED_MAX
        happened, is_all = self._happened(one, windows[0].since, windows[-1].until, limit)
        if is_all:
            return _answered(windows, happened)
        if from_last:
            answered: dict[float, Asked] = {}
            for window in windows[:1] + windows[-1:]:
                mine, _ = self._happened(one, window.since, window.until, NEWEST_LIMIT)
                answered |= _answered([window], mine)
            return answered
        end = max(each.created_at for each in happened)
        # The first window is answered in any case: what happened first in it is among the first.
        known = [window for window in windows if window.until <= end or window is windows[0]]
        return _answered(known, happened)

    def _happened(self, one: Promise, since: float, until: float, limit: int) -> tuple[list[Happened], bool]:
        return evidence.happened(
            self._connection,
            self._tables,
            one.task,
            _what(one.objective),
            since=since,
            until=until,
            skews=self._skews,
            limit=limit,
        )

    def intervals(self) -> None:
        """Read the newest successes of promises by interval."""
        self.found["ends"] = {
            one.id: tuple(
                evidence.newest_successes(self._connection, self._tables, one.task, skews=self._skews)
            )
            for one in self._of(Freshness)
            if isinstance(one.objective, Freshness) and not isinstance(one.objective.every, str)
        }

    def late_runs(self, numbers: Mapping[str, int]) -> None:
        """Read which runs have started or ended late since the last pass."""
        last = last_pass(self._promises)
        found = {}
        for one in self._promises if last else ():
            objective, since = one.objective, max(last, one.begun_at)
            if isinstance(objective, MaxWait):
                found[one.id] = self._started_late(one, as_seconds(objective.seconds), since, numbers)
            elif isinstance(objective, MaxRuntime) and numbers.get(one.id):
                runs = self._ended_late(one, "runtime", as_seconds(objective.seconds), since)
                found[one.id] = tuple(runs[: numbers[one.id]])
        self.found["late_runs"] = found

    def _started_late(
        self, one: Promise, limit: float, since: float, numbers: Mapping[str, int]
    ) -> tuple[LateRun, ...]:
        """Return runs whose time was over since then, and that have started: they go on, or have ended.

        Those whose time was over before were seen waiting, and that was told.
        """
        named = {
            run.id: LateRun(run.started_at - run.ahead, run.started_at - run.queued_at, run.id, run.tenant)
            for run in self.found["open"].get(one.task, ())
            if run.started_at is not None and run.queued_at is not None
            if run.started_at - run.ahead >= since and run.started_at - run.queued_at > limit
        }
        # Of those that have ended the tallies say whether there are any.
        ended = self._ended_late(one, "waited", limit, since) if numbers.get(one.id) else []
        named |= {run.run: run for run in ended}
        etas = evidence.etas_of(self._connection, self._tables, named) if named else {}
        waited = [run._replace(took=min(run.took, run.at - etas.get(run.run, 0.0))) for run in named.values()]
        late = (run for run in waited if run.took > limit and run.at - run.took + limit > since)
        return tuple(sorted(late, reverse=True))

    def _ended_late(self, one: Promise, measure: str, limit: float, since: float) -> list[LateRun]:
        return evidence.late_runs(self._connection, self._tables, one.task, measure, limit=limit, since=since)

    def _of(self, *kinds: type[Objective]) -> list[Promise]:
        return [one for one in self._promises if isinstance(one.objective, kinds)]


def watched_from(promise: Promise) -> float:
    """Return after which time a promise's due times are watched."""
    return promise.memory.watched if promise.memory.watched is not None else promise.begun_at


def _what(objective: Objective) -> str:
    if isinstance(objective, StartBy):
        return "start"
    return "canvas" if objective.scope == "canvas" else "success"


def _answered(windows: Iterable[Window], happened: list[Happened]) -> dict[float, Asked]:
    return {window.due_at: Asked(window=window, happened=dues.find(window, happened)) for window in windows}
