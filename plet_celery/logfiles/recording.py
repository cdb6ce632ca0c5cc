"""Turns events into records of run log files: what is written where, and in which words.

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
from plet_celery.logfiles.pens import Kind, Pen, small
from plet_celery.logfiles.registry import (
    NAME_MAX,
    STAGES_MAX,
    Registry,
    as_text,
    attempt_of,
    end_before,
    new_attempt,
)
from plet_celery.logfiles.stagefiles import StageFiles
from plet_celery.logfiles.state import Attempt, Run, Stage, State
from plet_celery.logfiles.volumes import TRACE, Mark, Volumes
from plet_celery.paths import run_folder

HELD_MAX: Final = 8

_QUIET: Final = frozenset(
    {events.RUN_QUEUED, events.RUN_STARTED, events.RUN_SUCCEEDED, events.RUN_IGNORED, events.RESOURCE_SAMPLED}
)
"""Kinds that give a run without a folder nothing to say."""
_STAGE_ENDS: Final = frozenset({events.STAGE_SUCCEEDED, events.STAGE_FAILED, events.STAGE_SKIPPED})
_LOST: Final = "a part of this log was lost: the machine stopped before it was on disk"


class Recorder:
    """Applies events to the state and to the files of the batch under way.

    Args:
        refused: folders that cannot be used; their runs get no files.
    """

    def __init__(
        self, state: State, files: Files, limits: LogLimits, existing: Existing, refused: Set[str]
    ) -> None:
        self._state = state
        self._files = files
        self._limits = limits
        self._existing = existing
        self._refused = refused
        self._volumes = Volumes(files, limits, state.removals)
        self._stage_files = StageFiles(files, self._volumes, limits.stage_max_files)
        self._clock = text.Clock()
        self._kinds: dict[Any, Kind] = {}
        self._traces: dict[str, Growing] = {}
        self._pens: dict[str, Pen] = {}
        self._traced = True
        self.runs = Registry(state)

    def begin(self) -> None:
        """Begin a batch."""
        self._volumes.begin()
        self._traces.clear()
        self._pens.clear()

    def take(self, event: Event) -> None:
        """Record one event; what has no run is the store's business."""
        pen = self._pens.get(event.attempt or "")
        if pen is not None and event.kind == LOG_WRITTEN and pen.run.id == event.run:
            pen.write(event)
            return
        if event.run is None:
            return
        run = self.runs.known(event.run)
        if run is not None and self._is_told(run, event):
            return
        if event.kind == events.RUN_STARTED:
            self._start(run, event)
            return
        attempt = attempt_of(run, event) if run is not None else None
        if run is None or attempt is None:
            self.runs.stray(event)
        elif event.kind == LOG_WRITTEN:
            self._log(run, attempt, event)
        else:
            self._fact(run, attempt, event)

    def mend(self, run: Run, given: Iterable[Event]) -> None:
        """Make a run's log again from its trace, then from `given`, each event once.

        Args:
            given: the run's events that the journal still has, in its order. Where they do not make
                up for what is missing, a note says so.
        """
        if run.id in self._state.damaged:
            self._state.damaged.remove(run.id)
        before = run.trace
        known = self._retell(run)
        for event in given:
            if event.position not in known:
                self.take(event)
        if run.attempts and (run.trace < before or any(one.untraced for one in run.attempts)):
            self._gap(run, run.attempts[-1], _LOST, run.micros)

    # Runs

    def _is_told(self, run: Run, event: Event) -> bool:
        if run.id in self._state.damaged:
            self.mend(run, ())
        return run.cold and self._traced and self._existing.holds(run, event)

    def _retell(self, run: Run) -> set[tuple[str, int, int]]:
        """Start the log anew from the trace, which stays as it is; return the events it tells."""
        before, run.attempts = run.attempts, []
        run.log = run.entries = run.attempts_made = run.trace = 0
        run.mixed, run.stages = False, {}
        for attempt in before:
            self._volumes.drop(run, attempt)
        told = set()
        self._traced = False
        self._pens.clear()
        try:
            for event, end in self._existing.events(run):
                if event is not None and event.run == run.id:
                    self.take(event)
                    told.add(event.position)
                    attempt_told = attempt_of(run, event)
                    if attempt_told is not None:
                        attempt_told.trace += end - run.trace
                run.trace = end
        finally:
            self._traced = True
        if not run.attempts:  # nothing is left on disk: go on with what is known
            run.attempts = before
            run.attempts_made = max((attempt.number for attempt in before), default=0)
        return told

    def _start(self, run: Run | None, event: Event) -> None:
        if run is None:
            run = self._existing.find(event) or Run(id=event.run or "")
            self.runs.open(run)
            if run.folder is not None and not self._is_usable(run):
                self._retell(run)
        if not self._is_told(run, event):
            self.runs.open(run)
            self._fact(run, new_attempt(run, event), event)
        if self._traced:  # a log being made again is complete first
            for stray in self.runs.strays_of(run.id):
                self.take(stray)

    def _is_usable(self, run: Run) -> bool:
        """Tell whether the files of a run found on disk can be continued as they are."""
        if run.trace >= self._limits.run_max_log_bytes:
            return True  # the trace has not everything: the log is the better source
        return bool(run.entries) and not run.cold

    # Records

    def _log(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder is None:
            self._speak(run)
        if run.folder in self._refused:
            return
        pen = Pen(
            run,
            attempt,
            self._volumes,
            self._files,
            self._trace_file(run) if self._traced else None,
            self._clock,
            self._kinds,
            self._limits.run_max_log_bytes,
        )
        pen.write(event)
        # Not of an ended attempt: its run may be forgotten within the batch.
        if self._traced and not run.cold and event.attempt and attempt.end is None:
            self._pens[event.attempt] = pen

    def _fact(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder is None and event.kind in _QUIET:
            if len(run.held) < HELD_MAX:
                run.held.append(event)
        else:
            if run.folder is None:
                self._speak(run)
            self._write_fact(run, attempt, event)
        self._follow(run, attempt, event)

    def _speak(self, run: Run) -> None:
        """Give the run its folder and write what was held back."""
        first = run.held[0]
        tenant, trigger = as_text(first.data.get("tenant")), as_text(first.data.get("trigger"))
        run.folder = str(run_folder(tenant or "", first.wall, trigger or "", run.id))
        self._existing.made(run.folder)
        self.runs.spoke(run)
        held, run.held = run.held, []
        for event in held:
            attempt = attempt_of(run, event)
            if attempt is not None:
                self._write_fact(run, attempt, event)

    def _write_fact(self, run: Run, attempt: Attempt, event: Event) -> None:
        if run.folder in self._refused:
            return
        kind, data = event.kind, event.data
        stamp, run.micros = self._clock.at(event.wall)
        number = small(data.get("stage"), 0, 65_535)
        level, words = notes.sentence(event, attempt.number, _stage_name(attempt, event, number))
        if kind == events.EVENTS_DROPPED:
            self._gap(run, attempt, notes.dropped(data), run.micros)
        elif kind == events.RUN_STARTED and attempt.number > 1:
            self._gap(run, attempt, notes.next_attempt(attempt.number, end_before(run, attempt)), run.micros)
        elif kind == events.STAGE_STARTED:
            self._open_stage(run, attempt, number, as_text(data.get("name")) or str(number))
        if kind not in notes.SILENT:
            head = text.head(level, text.component("plet", "", number))
            raw = text.record(stamp, head, words, notes.context(event))
            self._volumes.append(run, attempt, raw, Mark(run.micros, level, number, index.PLET, 0))
        if self._traced:
            line = trace.fact_line(event, stamp, attempt.number, attempt.facts, level, words)
            self._trace(run, attempt, line, KINDS.get(kind, Shed.CUSTOM))

    def _gap(self, run: Run, attempt: Attempt, words: str, micros: int) -> None:
        mark = Mark(micros, 30, 0, index.PLET, index.GAP)
        self._volumes.append(run, attempt, text.note(words), mark)

    def _trace(self, run: Run, attempt: Attempt, raw: bytes, shed: Shed) -> None:
        if shed is not Shed.END and (
            attempt.untraced or attempt.trace + len(raw) > self._limits.run_max_log_bytes
        ):
            attempt.untraced += 1
            return
        file = self._trace_file(run)
        file.pending += raw
        attempt.trace += len(raw)
        run.trace += len(raw)
        self._files.spill(file)

    def _trace_file(self, run: Run) -> Growing:
        file = self._traces.get(run.id)
        if file is None:
            file = self._traces[run.id] = self._files.growing(run.folder or "", TRACE, run.trace)
        return file

    # Stages and ends

    def _open_stage(self, run: Run, attempt: Attempt, number: int, name: str) -> None:
        if not number or len(attempt.stages) >= STAGES_MAX:
            return
        last = attempt.volumes[-1] if attempt.volumes else None
        volume, entry = (last.number, last.entries) if last else (0, run.entries)
        attempt.stages[number] = Stage(name[:NAME_MAX], volume, entry)

    def _follow(self, run: Run, attempt: Attempt, event: Event) -> None:
        """Do what an event brings about besides its record."""
        if event.kind in _STAGE_ENDS:
            number = small(event.data.get("stage"), 0, 65_535)
            stage = attempt.stages.pop(number, None)
            if stage is not None:
                self._stage_files.derive(run, attempt, number, stage)
        elif event.kind in events.END_STATES and attempt.end is None:
            attempt.end = event.kind
            self._pens.pop(attempt.id or "", None)
            if run.folder is not None and run.folder not in self._refused:
                self._close_attempt(run, attempt, event.wall)
            if not run.is_open:
                self.runs.close(run)

    def _close_attempt(self, run: Run, attempt: Attempt, wall: float) -> None:
        stamp, micros = self._clock.at(wall)
        for number, stage in attempt.stages.items():
            self._stage_files.derive(run, attempt, number, stage)
        attempt.stages, attempt.names = {}, {}
        if attempt.volumes:
            self._volumes.merge(run, attempt, micros)
        if attempt.untraced and self._traced:
            self._trace(run, attempt, trace.capped_line(stamp, attempt.untraced), Shed.END)


def _stage_name(attempt: Attempt, event: Event, number: int) -> str | None:
    name = as_text(event.data.get("name"))
    if name is None and number in attempt.stages:
        name = attempt.stages[number].name
    return name or attempt.names.get(number)
