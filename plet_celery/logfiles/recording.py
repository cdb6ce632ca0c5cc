"""Turns events into records of run log files: which run, which attempt, which words.

What is decided here depends on the order of the events only, never on how they came in batches, so
that a replay after a crash writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any, Final

from plet_celery import events
from plet_celery.events import KINDS, LOG_WRITTEN, Event, Shed
from plet_celery.logfiles import index, notes, text, trace
from plet_celery.logfiles.existing import Existing
from plet_celery.logfiles.growing import Files, Growing
from plet_celery.logfiles.limits import LogLimits
from plet_celery.logfiles.stagefiles import StageFiles
from plet_celery.logfiles.state import Attempt, Run, Stage, State
from plet_celery.logfiles.volumes import TRACE, Mark, Volumes
from plet_celery.paths import run_folder

RUNS_MAX: Final = 20_000
ENDED_MAX: Final = 256
STRAYS_MAX: Final = 4096
ATTEMPTS_KEPT: Final = 20
HELD_MAX: Final = 8
STAGES_MAX: Final = 1000
# A line number far beyond the last one is damage, not a count of lines that were dropped.
_JUMP_MAX: Final = 1_000_000
_NAME_MAX: Final = 200

LOST: Final = "a part of this log was lost: the machine stopped before it was on disk"

_QUIET: Final = frozenset(
    {events.RUN_QUEUED, events.RUN_STARTED, events.RUN_SUCCEEDED, events.RUN_IGNORED, events.RESOURCE_SAMPLED}
)
"""Kinds that give a run without a folder nothing to say."""
_STAGE_ENDS: Final = frozenset({events.STAGE_SUCCEEDED, events.STAGE_FAILED})


class Recorder:
    """Applies events to the state and to the files of the batch under way."""

    def __init__(
        self, state: State, files: Files, limits: LogLimits, existing: Existing, refused: Set[str]
    ) -> None:
        self._state = state
        self._refused = refused
        self._files = files
        self._limits = limits
        self._existing = existing
        self._volumes = Volumes(files, limits, state.removals)
        self._stage_files = StageFiles(files, self._volumes, limits.stage_max_files)
        self._clock = text.Clock()
        self._components: dict[tuple[Any, ...], str] = {}
        self._traces: dict[str, Growing] = {}
        self._stray_runs = {event.run for event in state.strays}
        self.traces = True
        """Off while a log is made again from its own trace."""

    def begin(self) -> None:
        """Begin a batch."""
        self._volumes.begin()
        self._traces.clear()

    def take(self, event: Event) -> None:
        """Record one event; what has no run is the store's business."""
        run_id = event.run
        if run_id is None:
            return
        run = self.known(run_id)
        if run is not None and self._is_told(run, event):
            return
        if event.kind == events.RUN_STARTED:
            self._start(run, event)
            return
        attempt = self._attempt_of(run, event) if run is not None else None
        if run is None or attempt is None:
            self._stray(event)
        elif event.kind == LOG_WRITTEN:
            self._log(run, attempt, event)
        else:
            self._fact(run, attempt, event)

    def known(self, run_id: str) -> Run | None:
        """Return the run if it has started here and may still say something."""
        return self._state.runs.get(run_id) or self._state.ended.get(run_id)

    def mend(self, run: Run, given: Iterable[Event]) -> None:
        """Make a run's log again from its trace, then from `given`, each event once.

        Args:
            given: the run's events that the journal still has, in its order. When they tell nothing
                new, a note says that something is missing.
        """
        if run.id in self._state.damaged:
            self._state.damaged.remove(run.id)
        known = self._retell(run)
        new = [event for event in given if event.position not in known]
        for event in new:
            self.take(event)
        if not new and run.attempts:
            self.gap(run, run.attempts[-1], LOST, text.micros_of(0.0))

    def gap(self, run: Run, attempt: Attempt, words: str, micros: int) -> None:
        """Append a note that something is missing."""
        self._volumes.append(run, attempt, text.note(words), Mark(micros, 30, 0, index.PLET, index.GAP))

    # Runs and attempts

    def _is_told(self, run: Run, event: Event) -> bool:
        if run.id in self._state.damaged:
            self.mend(run, ())
        return run.cold and self.traces and self._existing.holds(run, event)

    def _retell(self, run: Run) -> set[tuple[str, int, int]]:
        """Start the log anew from the trace, which stays as it is; return the events it tells."""
        run.log = run.entries = run.attempts_made = run.trace = 0
        before, run.attempts = run.attempts, []
        run.mixed, run.goes_on, run.stages = False, False, {}
        for attempt in before:
            self._volumes.drop(run, attempt)
        told = set()
        self.traces = False
        try:
            for event, end in self._existing.events(run):
                if event is not None and event.run == run.id:
                    self.take(event)
                    told.add(event.position)
                run.trace = end
        finally:
            self.traces = True
        if not run.attempts:  # nothing left on disk: go on with what is known
            run.attempts = before
            run.attempts_made = max((attempt.number for attempt in before), default=0)
        return told

    def _open(self, event: Event) -> Run:
        found = self._existing.find(event)
        if found is None:
            return Run(id=event.run or "")
        if found.cold or not found.entries:
            self._state.runs[found.id] = found
            self._retell(found)
        return found

    def _start(self, run: Run | None, event: Event) -> None:
        if run is None:
            run = self._open(event)
            if self._is_told(run, event):
                return
        self._state.ended.pop(run.id, None)
        self._state.runs[run.id] = run
        while len(self._state.runs) > RUNS_MAX:
            del self._state.runs[next(iter(self._state.runs))]
        attempt = self._new_attempt(run, event)
        self._fact(run, attempt, event)
        if run.id in self._stray_runs:
            self._retake(run.id)

    def _new_attempt(self, run: Run, event: Event) -> Attempt:
        data = event.data
        run.goes_on = False
        run.attempts_made += 1
        pid = data.get("pid")
        facts = trace.Facts(
            task=_text(data.get("task")),
            tenant=_text(data.get("tenant")),
            canvas=_text(data.get("canvas")),
            host=_text(data.get("host")),
            worker=_text(data.get("worker")),
            pid=pid if isinstance(pid, int) else None,
        )
        attempt = Attempt(id=event.attempt, number=run.attempts_made, facts=facts, names=_declared(data))
        run.attempts.append(attempt)
        if len(run.attempts) > ATTEMPTS_KEPT:
            run.attempts.pop(0)
        return attempt

    def _attempt_of(self, run: Run, event: Event) -> Attempt | None:
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

    def _stray(self, event: Event) -> None:
        if event.kind == events.RUN_QUEUED:
            return
        strays = self._state.strays
        strays.append(event)
        self._stray_runs.add(event.run)
        if len(strays) > STRAYS_MAX:
            del strays[0]
            self._state.strays_dropped += 1

    def _retake(self, run_id: str) -> None:
        own = [event for event in self._state.strays if event.run == run_id]
        self._state.strays[:] = [event for event in self._state.strays if event.run != run_id]
        self._stray_runs.discard(run_id)
        for event in own:
            self.take(event)

    # Records

    def _log(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder is None:
            self._speak(run)
        if run.folder in self._refused:
            return
        data = event.data
        micros = text.micros_of(event.wall)
        stamp = self._clock.stamp(micros)
        level, stage = _small(data.get("level"), 20, 255), _small(data.get("stage"), 0, 65_535)
        stream, logger, part = data.get("stream", "log"), data.get("logger") or "", data.get("part")
        component = self._component(stream, logger, stage, part)
        given = data.get("i")
        line = attempt.line + 1
        if type(given) is int and line < given <= line + _JUMP_MAX:
            line = given
        attempt.line = line
        raw = text.record(stamp, level, component, _text(data.get("text")) or "", data.get("context"))
        code = index.STREAM_CODES.get(stream, index.OTHER_STREAM)
        self._volumes.append(run, attempt, raw, Mark(micros, level, stage, code, index.NUMBERED))
        if stage and stage in attempt.stages:
            attempt.stages[stage].lines += 1
        if self.traces:
            self._trace(run, attempt, trace.log_line(event, stamp, attempt.number, attempt.facts), Shed.LOG)

    def _fact(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder is None:
            if event.kind in _QUIET:
                if len(run.held) < HELD_MAX:
                    run.held.append(event)
                self._follow(run, attempt, event)
                return
            self._speak(run)
        self._write_fact(run, attempt, event)
        self._follow(run, attempt, event)

    def _speak(self, run: Run) -> None:
        """Give the run its folder and write what was held back."""
        first = run.held[0]
        folder = run_folder(
            _text(first.data.get("tenant")) or "", first.wall, _text(first.data.get("trigger")) or "", run.id
        )
        run.folder = str(folder)
        self._existing.made(run.folder)
        held, run.held = run.held, []
        for event in held:
            attempt = self._attempt_of(run, event)
            if attempt is not None:
                self._write_fact(run, attempt, event)

    def _write_fact(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder in self._refused:
            return
        micros = text.micros_of(event.wall)
        number = _small(event.data.get("stage"), 0, 65_535)
        level, words = notes.sentence(event, attempt.number, self._stage_name(attempt, event, number))
        stamp = self._clock.stamp(micros)
        if event.kind == events.EVENTS_DROPPED:
            self.gap(run, attempt, notes.dropped(event.data), micros)
        elif event.kind == events.RUN_STARTED and attempt.number > 1:
            self.gap(run, attempt, notes.next_attempt(attempt.number, _end_before(run, attempt)), micros)
        if event.kind == events.STAGE_STARTED:
            self._open_stage(run, attempt, number, _text(event.data.get("name")) or str(number))
        if event.kind not in notes.SILENT:
            component = self._component("plet", "", number, None)
            raw = text.record(stamp, level, component, words, notes.context(event))
            self._volumes.append(run, attempt, raw, Mark(micros, level, number, index.PLET, 0))
        if self.traces:
            shed = KINDS.get(event.kind, Shed.CUSTOM)
            facts = attempt.facts
            self._trace(
                run, attempt, trace.fact_line(event, stamp, attempt.number, facts, level, words), shed
            )

    def _trace(self, run: Run, attempt: Attempt, raw: bytes, shed: Shed) -> None:
        if shed is not Shed.END and attempt.trace + len(raw) > self._limits.run_max_log_bytes:
            attempt.untraced += 1
            return
        file = self._traces.get(run.id)
        if file is None:
            file = self._traces[run.id] = self._files.growing(run.folder or "", TRACE, run.trace)
        file.pending += raw
        attempt.trace += len(raw)
        run.trace += len(raw)
        self._files.spill(file)

    def _component(self, stream: str, logger: str, stage: int, part: Any) -> str:
        key = (stream, logger, stage)
        if part is not None:
            pair = (part[0], part[1]) if isinstance(part, list) and len(part) == 2 else None
            if pair and type(pair[0]) is int and type(pair[1]) is int:
                return text.component(stream, logger, stage, pair)
        found = self._components.get(key)
        if found is None:
            if len(self._components) >= 1024:
                self._components.clear()
            found = self._components[key] = text.component(stream, logger, stage)
        return found

    # Stages and ends

    def _stage_name(self, attempt: Attempt, event: Event, number: int) -> str | None:
        name = _text(event.data.get("name"))
        if name is None and number in attempt.stages:
            name = attempt.stages[number].name
        return name or attempt.names.get(number)

    def _open_stage(self, run: Run, attempt: Attempt, number: int, name: str) -> None:
        if not number or len(attempt.stages) >= STAGES_MAX:
            return
        last = attempt.volumes[-1] if attempt.volumes else None
        volume, entry = (last.number, last.entries) if last else (0, run.entries)
        attempt.stages[number] = Stage(name[:_NAME_MAX], volume, entry)

    def _follow(self, run: Run, attempt: Attempt, event: Event) -> None:
        """Do what an event brings about besides its record."""
        if event.kind in _STAGE_ENDS:
            number = _small(event.data.get("stage"), 0, 65_535)
            stage = attempt.stages.pop(number, None)
            if stage is not None and attempt.end is None:
                self._stage_files.derive(run, attempt, number, stage)
        elif event.kind in events.END_STATES and attempt.end is None:
            attempt.end = event.kind
            run.goes_on = bool(event.kind == events.RUN_IGNORED and event.data.get("replaced"))
            if run.folder is not None and run.folder not in self._refused:
                self._close_attempt(run, attempt, text.micros_of(event.wall))
            if not run.is_open:
                self._close_run(run)

    def _close_attempt(self, run: Run, attempt: Attempt, micros: int) -> None:
        for number, stage in attempt.stages.items():
            self._stage_files.derive(run, attempt, number, stage)
        attempt.stages, attempt.names = {}, {}
        if attempt.volumes:
            self._volumes.merge(run, attempt, micros)

    def _close_run(self, run: Run) -> None:
        self._state.runs.pop(run.id, None)
        if run.folder is None:
            return
        ended = self._state.ended
        ended.pop(run.id, None)
        ended[run.id] = run
        while len(ended) > ENDED_MAX:
            del ended[next(iter(ended))]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None if value is None else str(value)


def _small(value: Any, default: int, most: int) -> int:
    return max(0, min(most, value)) if type(value) is int else default


def _end_before(run: Run, attempt: Attempt) -> str | None:
    before = [one for one in run.attempts if one.number < attempt.number]
    return before[-1].end if before else "unknown"


def _declared(data: dict[str, Any]) -> dict[int, str]:
    stages = data.get("stages")
    if not isinstance(stages, list):
        return {}
    named = (one[0] if isinstance(one, list) and one else one for one in stages[:STAGES_MAX])
    return {number: str(name)[:_NAME_MAX] for number, name in enumerate(named, 1)}
