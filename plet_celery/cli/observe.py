"""Looking at runs again and again: snapshots from the store, steady while it is away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, TypeVar

from plet_celery.errors import LogNotFound, RunNotFound, StoreUnavailable
from plet_celery.logsources.source import LogSource
from plet_celery.places import Places
from plet_celery.store import Store, queries
from plet_celery.store.records import LogLine, Run
from plet_celery.terminal.look import ENDS
from plet_celery.terminal.picture import Snapshot

T = TypeVar("T")

EVERY: Final = 0.5
_GIVE_UP: Final = 30.0
_APPEAR: Final = 3.0
CHILDREN_MAX: Final = 200
_LINES: Final = 8
# Looks between two full ones though no run has changed: the log files have a pace of their own.
_LOOK_ANYWAY: Final = 4


def resolve_soon(store: Store, text: str) -> str:
    """Return the run's id; a full id that was called this moment is given time to reach the store.

    Raises:
        RunNotFound: it has not come within three seconds, or `text` is no full id and fits none.
    """
    return _soon(lambda: queries.resolve_run(store, text), patient=len(text) >= 32)


def newest_of(store: Store, task: str) -> str:
    """Return the id of the task's newest run, waiting three seconds for a first one.

    Raises:
        RunNotFound: none of this task has been recorded.
    """

    def find() -> str:
        found = queries.list_runs(store, task=task, limit=1).items
        if not found:
            raise RunNotFound(f"no run of task {task!r} is recorded; look at: plet runs")
        return found[0].id

    return _soon(find, patient=True)


def follow(store: Store, places: Places, run_id: str, *, with_lines: bool = True) -> Iterator[Snapshot]:
    """Yield what is known of a run, now and every half second, until it has ended.

    While the store is away the last snapshot comes again, with its trouble.

    Raises:
        StoreUnavailable: the store was away for half a minute.
    """
    observer = _Observer(store, places, run_id, with_lines=with_lines)
    lost_at: float | None = None
    ended = False
    while True:
        try:
            last, lost_at = observer.look(), None
        except StoreUnavailable as error:
            lost_at = lost_at or time.monotonic()
            if observer.last is None or time.monotonic() - lost_at > _GIVE_UP:
                raise
            last = replace(observer.last, trouble=str(error).split("\n")[0])
        yield last
        if ended:
            return
        # One more look after the end: the log files are written by a loop of their own.
        ended = last.run.state in ENDS and not last.trouble
        time.sleep(EVERY)


class _Observer:
    """Looks at one run; cheaply while nothing in the store has changed."""

    def __init__(self, store: Store, places: Places, run_id: str, *, with_lines: bool) -> None:
        self.last: Snapshot | None = None
        self._store = store
        self._places = places
        self._run_id = run_id
        self._with_lines = with_lines
        self._cursor: str | None = None
        self._unseen = 0

    def look(self) -> Snapshot:
        """Return what is known now."""
        # The cursor before the look: a change in between is looked at twice, never missed.
        found = queries.changes(self._store, self._cursor)
        self._cursor = found.next
        self._unseen += 1
        is_over = self.last is not None and self.last.run.state in ENDS
        if self.last is None or found.items or is_over or self._unseen >= _LOOK_ANYWAY:
            self.last = self._look()
            self._unseen = 0
        else:
            self.last = replace(self.last, as_of=queries.as_of(self._store))
        return self.last

    def _look(self) -> Snapshot:
        run = queries.get_run(self._store, self._run_id)
        attempts = queries.attempts(self._store, self._run_id)
        family = queries.children(self._store, self._run_id, limit=CHILDREN_MAX)
        return Snapshot(
            run=run,
            stages=queries.stages(self._store, self._run_id, attempts[-1].id) if attempts else [],
            children=child_runs(run, family),
            more_children=len(family) >= CHILDREN_MAX,
            lines=_last_lines(self._store, self._places, run) if self._with_lines else [],
            as_of=queries.as_of(self._store),
        )


def child_runs(run: Run, family: list[Run]) -> list[Run]:
    """Return of a run's canvas what runs below it: all, where it is the one that began the canvas."""
    if run.canvas in (None, run.id):
        return family
    return [one for one in family if one.parent_id == run.id]


def _last_lines(store: Store, places: Places, run: Run) -> list[LogLine]:
    try:
        # Notes about stages (stream `plet`) say what the bars show.
        lines = LogSource(places.runs, store, run, mirror=places.settings.mirror).tail(3 * _LINES)
        return [line for line in lines if line.stream != "plet"][-_LINES:]
    except LogNotFound:
        return []


def _soon(find: Callable[[], T], *, patient: bool) -> T:
    deadline = time.monotonic() + (_APPEAR if patient else 0.0)
    while True:
        try:
            return find()
        except RunNotFound:
            if time.monotonic() >= deadline:
                raise
        time.sleep(EVERY / 2)
