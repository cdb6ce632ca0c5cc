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
from plet_celery.monitor.counting import count_ends
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
from plet_celery.store import evidence, promiserows, tallies
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.evidence import Ended, Happened, OpenCanvas, OpenRun, OpenRuns
from plet_celery.store.promiserows import Due, Promise
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.store.tallies import Tally

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
    """How many ended late since the last pass."""
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
    return Snapshot(
        at=now,
        promises=promises,
        heard_at=evidence.heard_at(connection, tables),
        known=evidence.known(connection, tables, {one.task for one in promises}),
        **reader.found,
        **count_ends(connection, tables, promises, now),
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
        for canvas in evidence.open_canvases(self._connection, self._tables, runs.runs):
            by_task.setdefault(canvas.task, []).append(canvas)
        whole = [one for one in self._promises if one.objective.scope == "canvas"]
        tasks = {one.task: asked(one.task, TASK_MAX) for one in whole}
        self.found["canvases"] = {task: tuple(by_task.get(name, ())) for task, name in tasks.items()}
        done = {one.id: self._done(one, by_task.get(tasks[one.task], [])) for one in whole}
        self.found["done"] = done
        hours = {tallies.hour_of(end) for some in done.values() for _, end in some}
        self.found["counted"] = tallies.stored(self._connection, self._tables, hours)

    def _done(self, one: Promise, still: Iterable[OpenCanvas]) -> tuple[tuple[str, float], ...]:
        keys = one.memory.canvases.keys() - {canvas.key for canvas in still}
        ends = ((key, evidence.canvas_end(self._connection, self._tables, key)) for key in sorted(keys))
        return tuple((key, end) for key, end in ends if end is not None)

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
        what = _what(one.objective)
        since, until = windows[0].since, windows[-1].until
        happened, is_all = evidence.happened(
            self._connection,
            self._tables,
            one.task,
            what,
            since=since,
            until=until,
            skews=self._skews,
            limit=NEWEST_LIMIT if from_last else evidence.HAPPENED_MAX,
        )
        if is_all:
            return {
                window.due_at: Asked(window=window, happened=dues.find(window, happened))
                for window in windows
            }
        if from_last:
            return {
                window.due_at: Asked(
                    window=window,
                    happened=dues.find(
                        window,
                        evidence.happened(
                            self._connection,
                            self._tables,
                            one.task,
                            what,
                            since=window.since,
                            until=window.until,
                            skews=self._skews,
                            limit=NEWEST_LIMIT,
                        )[0],
                    ),
                )
                for window in windows[:1] + windows[-1:]
            }
        end = max(one.created_at for one in happened)
        # The first window is answered in any case: what happened first in it is among the first.
        return {
            window.due_at: Asked(window=window, happened=dues.find(window, happened))
            for window in windows
            if window.until <= end or window is windows[0]
        }

    def intervals(self) -> None:
        """Read the newest successes of promises by interval."""
        self.found["ends"] = {
            one.id: tuple(
                evidence.newest_successes(self._connection, self._tables, one.task, skews=self._skews)
            )
            for one in self._of(Freshness)
            if isinstance(one.objective, Freshness) and not isinstance(one.objective.every, str)
        }

    def _of(self, *kinds: type[Objective]) -> list[Promise]:
        return [one for one in self._promises if isinstance(one.objective, kinds)]


def watched_from(promise: Promise) -> float:
    """Return after which time a promise's due times are watched."""
    return promise.memory.watched if promise.memory.watched is not None else begun_at(promise)


def begun_at(promise: Promise) -> float:
    """Return since when it is promised as it is now: what was due before is nobody's fault."""
    return promise.memory.begun if promise.memory.begun is not None else promise.first_seen_at


def _what(objective: Objective) -> str:
    if isinstance(objective, StartBy):
        return "start"
    return "canvas" if objective.scope == "canvas" else "success"
