"""Which run and which attempt an event belongs to, and how long a run is remembered.

Open runs are kept until they end; ended ones a while longer, because threads log on, the worker's
main process reports late and retries follow. Files of several writers are read one after the other,
so an event may also come before its run's start: it waits as a stray.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from plet_celery import events
from plet_celery.events import Event
from plet_celery.logfiles.state import Attempt, Run, State
from plet_celery.logfiles.trace import Facts
from plet_celery.paths import run_digest

RUNS_MAX: Final = 20_000
ENDED_MAX: Final = 256
"""Ended runs with a folder that are remembered."""
QUIET_MAX: Final = 128
"""Ended runs that had nothing to say, the same."""
STRAYS_MAX: Final = 4096
STRAY_BYTES_MAX: Final = 2 << 20
"""They are saved with each batch, so their size counts, too (about: as text of Python)."""
ATTEMPTS_KEPT: Final = 20
STAGES_MAX: Final = 1000
NAME_MAX: Final = 200


class Registry:
    """The runs of the state, by id."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._stray_runs = Counter(event.run for event in state.strays)
        self._stray_bytes = sum(map(_size, state.strays))

    def known(self, run_id: str) -> Run | None:
        """Return the run if it has started here and may still say something."""
        state = self._state
        return state.runs.get(run_id) or state.ended.get(run_id) or state.quiet.get(run_id)

    def open(self, run: Run) -> None:
        """Take a run in, or back, because an attempt starts."""
        state = self._state
        state.ended.pop(run.id, None)
        state.quiet.pop(run.id, None)
        state.runs[run.id] = run
        _trim(state.runs, RUNS_MAX)

    def close(self, run: Run) -> None:
        """Remember a run that has ended among the newest of its sort."""
        state = self._state
        for runs in (state.runs, state.ended, state.quiet):
            runs.pop(run.id, None)
        if run.folder is None:
            state.quiet[run.id] = run
            _trim(state.quiet, QUIET_MAX)
        else:
            state.ended[run.id] = run
            _trim(state.ended, ENDED_MAX)

    def forget(self, run: Run) -> None:
        """Forget a run whose files are gone."""
        for runs in (self._state.runs, self._state.ended, self._state.quiet):
            runs.pop(run.id, None)
        if run.id in self._state.damaged:
            self._state.damaged.remove(run.id)

    def forget_digest(self, digest: str) -> bool:
        """Forget all that is kept of a run, its strays too; tell whether there was anything."""
        state = self._state
        every = {**state.quiet, **state.ended, **state.runs}
        found = [run for run in every.values() if _has_digest(run, digest)]
        for run in found:
            self.forget(run)
        strays = [run for run in self._stray_runs if run is not None and run_digest(run) == digest]
        for one in strays:
            self.strays_of(one)
        return bool(found or strays)

    def spoke(self, run: Run) -> None:
        """Move a run that ended in silence, and has got a folder after all."""
        if run.id in self._state.quiet:
            self.close(run)

    def stray(self, event: Event) -> None:
        """Keep an event until its run starts; the oldest gives way."""
        if event.kind == events.RUN_QUEUED:
            return  # run.started says the same; a run may also start on another host
        strays = self._state.strays
        strays.append(event)
        self._stray_runs[event.run] += 1
        self._stray_bytes += _size(event)
        while len(strays) > STRAYS_MAX or self._stray_bytes > STRAY_BYTES_MAX:
            self._drop(strays.pop(0))
            self._state.strays_dropped += 1

    def strays_of(self, run_id: str) -> list[Event]:
        """Take out the strays of a run that has started."""
        if run_id not in self._stray_runs:
            return []
        strays = self._state.strays
        own = [event for event in strays if event.run == run_id]
        strays[:] = [event for event in strays if event.run != run_id]
        self._stray_bytes -= sum(map(_size, own))
        del self._stray_runs[run_id]
        return own

    def _drop(self, oldest: Event) -> None:
        self._stray_bytes -= _size(oldest)
        self._stray_runs[oldest.run] -= 1
        if not self._stray_runs[oldest.run]:
            del self._stray_runs[oldest.run]


def new_attempt(run: Run, started: Event) -> Attempt:
    """Add the attempt that a `run.started` begins; attempts are numbered as they are seen to start."""
    data = started.data
    run.attempts_made += 1
    pid = data.get("pid")
    facts = Facts(
        task=as_text(data.get("task")),
        tenant=as_text(data.get("tenant")),
        canvas=as_text(data.get("canvas")),
        host=as_text(data.get("host")),
        worker=as_text(data.get("worker")),
        pid=pid if type(pid) is int else None,
    )
    attempt = Attempt(id=started.attempt, number=run.attempts_made, facts=facts, names=_declared(data))
    run.attempts.append(attempt)
    if len(run.attempts) > ATTEMPTS_KEPT:
        run.attempts.pop(0)
    return attempt


def attempt_of(run: Run, event: Event) -> Attempt | None:
    """Return the attempt that an event is about.

    An event without an attempt id is a report of the main process: it means the attempt of its pid,
    else the newest open one, else the newest.
    """
    if event.attempt is not None:
        for attempt in reversed(run.attempts):
            if attempt.id == event.attempt:
                return attempt
        return None
    if not run.attempts:
        return None
    pid = event.data.get("pid")
    if pid is not None:
        for attempt in reversed(run.attempts):
            if attempt.facts.pid == pid:
                return attempt
    return next((one for one in reversed(run.attempts) if one.end is None), run.attempts[-1])


def end_before(run: Run, attempt: Attempt) -> str | None:
    """Return the kind that ended the attempt before; None while it is open, `""` when it is not known."""
    before = [one for one in run.attempts if one.number < attempt.number]
    return before[-1].end if before else ""


def as_text(value: Any) -> str | None:
    """Return a value of an event as text."""
    return value if isinstance(value, str) else None if value is None else str(value)


def _declared(data: dict[str, Any]) -> dict[int, str]:
    stages = data.get("stages")
    if not isinstance(stages, list):
        return {}
    named = (one[0] if isinstance(one, list) and one else one for one in stages[:STAGES_MAX])
    return {number: str(name)[:NAME_MAX] for number, name in enumerate(named, 1)}


def _size(event: Event) -> int:
    return 200 + len(str(event.data))


def _has_digest(run: Run, digest: str) -> bool:
    return run.folder[-10:] == digest if run.folder is not None else run_digest(run.id) == digest


def _trim(runs: dict[str, Run], most: int) -> None:
    while len(runs) > most:
        del runs[next(iter(runs))]
