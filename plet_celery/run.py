"""The run that is executing now: stages, progress, log, metadata and measures become events.

One `Run` object stands for one attempt. `current_run()` finds it from anywhere below the task; outside
a task, or with recording off, it is a `NullRun` that does nothing.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec
from celery.exceptions import Retry

from plet_celery import events, resources
from plet_celery.failure import describe_error
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.progress import MetaWriter, Percent, describe
from plet_celery.redaction import Redactor, safe_repr
from plet_celery.runlog import RunLogger, level_number
from plet_celery.stages import FoldedStage, Stage, StageState, as_number, guess_total, iterate, state_after

T = TypeVar("T")

_METADATA_KEYS_MAX: Final = 200
# Stages of a forked child must not take the numbers of its parent's: each pid counts in a block of its own.
_FORK_BLOCK: Final = 100_000


class EventWriter(Protocol):
    """Where events go: the journal's `Writer`."""

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        """Write one event; True when it is acknowledged."""

    def drop(self, reason: str, count: int = 1) -> None:
        """Count an event that is not written."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What bounds one attempt; see `Settings` for each."""

    progress_rate: float = 10.0
    meta_rate: float = 1.0
    stage_max: int = 1000
    log_rate: float = 5000.0
    log_burst: int = 20_000
    log_level: int = 20


class RunFacts(msgspec.Struct, frozen=True):
    """What is known of an attempt when it starts."""

    id: str
    attempt: str
    task: str
    worker: str = ""
    host: str = ""
    queue: str | None = None
    tenant: str = ""
    user: str | None = None
    trigger: str = "manual"
    canvas: str | None = None
    queued_at: float | None = None
    retries: int = 0
    soft_limit: float | None = None
    hard_limit: float | None = None


class Run:
    """One attempt of a run, as the code inside the task sees it.

    Attributes:
        id: the run's id, which is the Celery task id.
        attempt: the attempt's random id.
        facts: what was known at the start.
        metadata: a mapping whose top-level keys are kept with the run.
    """

    def __init__(
        self,
        facts: RunFacts,
        *,
        writer: EventWriter,
        redactor: Redactor,
        limits: RunLimits,
        declared: Sequence[tuple[str, float]] = (),
        store_meta: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.facts = facts
        self.id = facts.id
        self.attempt = facts.attempt
        self.progress_every = 1.0 / limits.progress_rate
        self.ended = False
        self.started_wall = time.time()
        self.started = time.monotonic()
        self.usage = resources.snapshot()
        self._writer = writer
        self._redactor = redactor
        self._limits = limits
        self._open: list[Stage] = []
        self._declared = (
            [Stage(self, n, name, weight=w) for n, (name, w) in enumerate(declared, 1)] if declared else []
        )
        self._recent: list[Stage] = []
        self._percent = Percent(self._declared)
        self._count = len(declared)
        self._base = 0
        self._other: Stage | None = None
        self._thread = threading.get_ident()
        self._stacks: dict[int, list[Stage]] = {}
        self._left: list[Stage] = []
        self._metadata: Metadata | None = None
        self._measures = 0
        self._logger: RunLogger | None = None
        self._meta = (
            MetaWriter(store_meta, now=self.started, rate=limits.meta_rate, hard_limit=facts.hard_limit)
            if store_meta
            else None
        )

    # What a task calls; each passes the guard.

    def stage(self, name: str, total: Any = None, unit: str = "") -> Stage:
        """Return a stage to enter with `with`.

        Args:
            name: as declared in the task's `stages`, or any other.
            total: how much there is to do, in `unit`s; None when unknown.
        """
        try:
            return self._make_stage(name, total, unit)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.stage")
            return NULL_RUN.stage(name, total, unit)

    def track(self, iterable: Iterable[T], name: str, total: Any = None, unit: str = "") -> Iterator[T]:
        """Iterate over `iterable` inside a stage that advances by one after each item.

        Args:
            total: by default what the iterable's `len()` says.
        """
        return iterate(iterable, self.stage(name, guess_total(iterable) if total is None else total, unit))

    def log(self, level: int | str, message: str, **context: Any) -> None:
        """Write a line into the run's log.

        Args:
            level: as in `logging`: 20, logging.INFO or "info".
            context: values shown behind the message, redacted by name.
        """
        try:
            self.write_log(
                level_number(level), _text(message), logger=self.facts.task, stream="task", context=context
            )
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.log")

    @property
    def metadata(self) -> MutableMapping[str, Any]:
        """What the task says about itself, by top-level key; each assignment is kept with the run."""
        if self._metadata is None:
            self._metadata = Metadata(self)
        return self._metadata

    def measure(self, **values: float) -> None:
        """Record a point of one or several time series: `measure(gap=0.03)`."""
        try:
            self._record_measure(values)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.measure")

    # What signals, capture and stages call.

    @property
    def percent(self) -> float | None:
        """Percent of the whole attempt, 0..100, or None without ground."""
        return self._percent.value

    def emit(self, kind: str, data: dict[str, Any]) -> bool:
        """Append one event of this attempt; after its end, none."""
        if self.ended:
            return False
        return self._writer.append(kind, self.id, self.attempt, data)

    def plain(self, value: Any) -> Any:
        """Return `value` as redacted, bounded JSON."""
        return self._redactor.value(events.plain(value, safe_repr))

    def describe_error(self, error: BaseException) -> dict[str, Any]:
        """Return an event's `error` field."""
        return describe_error(error, self._redactor)

    def write_log(
        self, level: int, text: str, *, logger: str, stream: str, context: dict[str, Any] | None = None
    ) -> None:
        """Write one captured or own line; below the level that is recorded, nothing.

        Printed lines have no level of their own, so the level does not hold them back.
        """
        if self.ended or (level < self._limits.log_level and stream in ("log", "task")):
            return
        self._flush_stages(time.monotonic())
        if self._logger is None:
            self._logger = RunLogger(self, self._writer, self._redactor, self._limits)
        stage = self._innermost()
        self._logger.write(
            level,
            text.rstrip("\n"),
            logger=logger,
            stream=stream,
            stage=stage and stage.number,
            context=context,
        )

    def complain(self, text: str) -> None:
        """Tell the developer about misuse of this API, in the run's own log."""
        self.write_log(30, text, logger="plet_celery", stream="task")

    def close_body(self, error: BaseException | None = None) -> None:
        """The task's body is over: no more result meta; open stages end as the body did."""
        if self._meta is not None:
            self._meta.closed = True
        self._settle_left(error)
        for stage in reversed(self._open.copy()):
            stage.end(state_after(error), error)

    def finish(self, kind: str, data: dict[str, Any], error: BaseException | None = None) -> None:
        """Write the attempt's end; whatever comes later from this object is ignored."""
        if self.ended:
            return
        self.close_body(error)
        if self._other is not None:
            self._other.end(StageState.SUCCEEDED)
        if self._logger is not None:
            self._logger.tell_dropped()
        if kind == events.RUN_SUCCEEDED and self.percent is not None:
            data["percent"] = 100.0
        self.emit(kind, self._end_facts() | data)
        self.ended = True

    def forked(self) -> None:
        """This process is a fork of the task's: count in a block of its own, write no meta."""
        self._base = (os.getpid() % 20_000 + 1) * _FORK_BLOCK
        self._count = 0
        self._thread = threading.get_ident()
        if self._logger is not None:
            self._logger.forked()
        if self._meta is not None:
            self._meta.closed = True

    # StageHost

    def stage_started(self, stage: Stage) -> None:
        """Write the start of a stage, below the innermost open one of this thread."""
        self._settle_left(None)
        parent = self._innermost()
        stage.parent = parent.number if parent else None
        self._open.append(stage)
        if (ident := threading.get_ident()) != self._thread:
            self._stacks.setdefault(ident, []).append(stage)
        self._recent.append(stage)
        del self._recent[:-50]
        data: dict[str, Any] = {"stage": stage.number, "name": stage.name}
        if stage.parent is not None:
            data["parent"] = stage.parent
        self._add_numbers(data, stage)
        if stage.unit:
            data["unit"] = stage.unit
        self.emit(events.STAGE_STARTED, data)
        self._write_meta(stage.started)

    def stage_progressed(self, stage: Stage, now: float) -> None:
        """Write a stage's numbers."""
        data = {"stage": stage.number, "done": stage.done}
        self._add_numbers(data, stage)
        self.emit(events.STAGE_PROGRESSED, data)
        self._write_meta(now)

    def stage_ended(self, stage: Stage, error: BaseException | None) -> None:
        """Write a stage's end."""
        self._settle_left(error)
        data = {"stage": stage.number, "done": stage.done, "elapsed": round(stage.ended - stage.started, 6)}
        self._add_numbers(data, stage)
        self._remove(stage)
        if stage.result is not None:
            data["result"] = self.plain(stage.result)
        if stage.state is StageState.FAILED and error is not None:
            cause = error.exc if isinstance(error, Retry) and isinstance(error.exc, BaseException) else error
            data["error"] = {
                "type": type(cause).__qualname__,
                "message": self._redactor.text(safe_repr(cause, 500)),
            }
        self.emit(f"stage.{stage.state.value}", data)
        if error is None:
            self._write_meta(stage.ended)

    def stage_left(self, stage: Stage) -> None:
        """Keep a stage whose loop was left; it ends well if the task goes on, else as the task does."""
        self._remove(stage)
        self._left.append(stage)

    def _settle_left(self, error: BaseException | None) -> None:
        left, self._left = self._left, []
        for stage in left:
            stage.end(state_after(error), error)

    def _remove(self, stage: Stage) -> None:
        for stack in (self._open, self._stacks.get(threading.get_ident(), [])):
            if stage in stack:
                stack.remove(stage)

    def _add_numbers(self, data: dict[str, Any], stage: Stage) -> None:
        if stage.total is not None:
            data["total"] = stage.total
        if stage.message:
            data["message"] = self._redactor.text(events.safe_text(stage.message, 500))
        percent = self._percent.update(self._open)
        if percent is not None:
            data["percent"] = percent

    def _make_stage(self, name: str, total: Any, unit: str) -> Stage:
        now = time.monotonic()
        self._flush_stages(now)
        name = events.safe_text(name if type(name) is str else safe_repr(name, 100), 200)
        unit = events.safe_text(unit, 20) if type(unit) is str else ""
        for declared in self._declared:
            if declared.name == name and declared.state is StageState.PLANNED:
                declared.unit = unit
                if total is not None:
                    declared.total = total
                return declared
        if not name:
            name = "unnamed"
            self.complain("a stage needs a name; it is shown as 'unnamed'")
        if self._count >= self._limits.stage_max:
            return FoldedStage(self, self._fold(), name, total=total, unit=unit)
        self._count += 1
        return Stage(self, self._base + self._count, name, total=total, unit=unit)

    def _fold(self) -> Stage:
        if self._other is None:
            self.complain(f"more than {self._limits.stage_max} stages: further ones are counted in 'other'")
            self._other = Stage(self, self._base + self._count + 1, "other", unit="stages")
            self._other.advance(0)
            self._open.remove(self._other)
        return self._other

    def _record_measure(self, values: dict[str, float]) -> None:
        if self.ended:
            return
        self._flush_stages(time.monotonic())
        numbers = {name: as_number(value) for name, value in values.items()}
        kept = {events.safe_text(name, 100): number for name, number in numbers.items() if number is not None}
        if len(kept) < len(values):
            self.complain(f"measure {sorted(set(values) - set(kept))}: no finite number, not recorded")
        if kept:
            self._measures += 1
            data: dict[str, Any] = {"values": kept, "i": self._measures}
            if (stage := self._innermost()) is not None:
                data["stage"] = stage.number
            self.emit(events.MEASURE_RECORDED, data)

    def _innermost(self) -> Stage | None:
        stack = self._stacks.get(threading.get_ident()) if self._stacks else None
        stack = stack or self._open
        return stack[-1] if stack else None

    def _flush_stages(self, now: float) -> None:
        for stage in self._open:
            stage.flush(now)
        if self._other is not None:
            self._other.flush(now)

    def _write_meta(self, now: float) -> None:
        if self._meta is None or not self._meta.is_due(now):
            return
        stages = [_stage_meta(stage, now) for stage in self._recent]
        running = [stage for stage in self._open if stage.total is not None] or self._open
        current = _stage_meta(running[0], now) if running else None
        message = next((s.message for s in reversed(self._open) if s.message), "")
        meta = describe(
            stages,
            current,
            percent=self.percent,
            message=self._redactor.text(events.safe_text(message, 500)),
            attempt=self.facts.retries + 1,
            updated_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        try:
            self._meta.write(meta, now)
        except PASS_THROUGH:
            raise
        except Exception as error:  # the result backend is down: the task will meet that itself at its end
            contain(error, "result meta")

    def _end_facts(self) -> dict[str, Any]:
        facts = self.facts
        data: dict[str, Any] = {
            "by": "child",
            "task": facts.task,
            "worker": facts.worker,
            "host": facts.host,
            "pid": os.getpid(),
            "started": self.started_wall,
            "runtime": round(time.monotonic() - self.started, 6),
            "usage": resources.used_since(self.usage),
        }
        if facts.queue:
            data["queue"] = facts.queue
        if facts.tenant:
            data["tenant"] = facts.tenant
        if facts.queued_at is not None:
            data["queued_at"] = facts.queued_at
        if self.percent is not None:
            data["percent"] = self.percent
        return data


class Metadata(MutableMapping[str, Any]):
    """A run's metadata: assigning a top-level key records it; changes inside a value are not seen."""

    def __init__(self, run: Run | None) -> None:
        self._run = run
        self._values: dict[str, Any] = {}
        self._changes = 0

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        try:
            self._record(key, value)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.metadata")

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        try:
            self._record(key, None, removed=True)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.metadata")

    def _record(self, key: Any, value: Any, *, removed: bool = False) -> None:
        if self._run is None or self._run.ended:
            return
        if len(self._values) > _METADATA_KEYS_MAX:
            self._run.complain(
                f"metadata has more than {_METADATA_KEYS_MAX} keys: {safe_repr(key, 50)} is not kept"
            )
            return
        self._changes += 1
        text = events.safe_text(key if type(key) is str else safe_repr(key, 100), 100)
        data: dict[str, Any] = {"key": text, "i": self._changes}
        if not removed:
            # By its key's name too: metadata["token"] = … must not reach the disk.
            data["value"] = self._run.plain({text: value})[text]
        self._run.emit(events.METADATA_SET, data)


class NullRun(Run):
    """Stands where no run is: every call does nothing, and costs next to nothing."""

    def __init__(self) -> None:
        self.id = ""
        self.attempt = ""
        self.facts = RunFacts("", "", "")
        self.ended = True
        self.progress_every = float("inf")

    def stage(self, name: str, total: Any = None, unit: str = "") -> Stage:
        """Return a stage that counts, and tells nobody."""
        return Stage(self, 0, name, unit=unit, total=as_number(total))

    def log(self, level: int | str, message: str, **context: Any) -> None:
        """Do nothing."""

    def measure(self, **values: float) -> None:
        """Do nothing."""

    def complain(self, text: str) -> None:
        """Do nothing."""

    @property
    def metadata(self) -> MutableMapping[str, Any]:
        """A mapping that is recorded nowhere, so that a task called as a function finds what it put there."""
        values: dict[str, Any] = _outside.__dict__
        if len(values) > _METADATA_KEYS_MAX:
            values.clear()
        return values

    @property
    def percent(self) -> float | None:
        """None."""
        return None

    def stage_started(self, stage: Stage) -> None:
        """Do nothing."""

    def stage_progressed(self, stage: Stage, now: float) -> None:
        """Do nothing."""

    def stage_ended(self, stage: Stage, error: BaseException | None) -> None:
        """Do nothing."""

    def stage_left(self, stage: Stage) -> None:
        """Do nothing."""


_outside = threading.local()
NULL_RUN: Final = NullRun()

_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("plet_run", default=None)
# In a process that executes one run at a time (prefork, solo) threads without our context belong to it.
_of_process: list[Run] = []


def active_run() -> Run | None:
    """Return the attempt that this code runs in, or None."""
    run = _current.get()
    if run is not None:
        return None if run.ended else run
    return _of_process[-1] if _of_process else None


def current_run() -> Run:
    """Return the attempt that this code runs in; outside a task one that does nothing."""
    return active_run() or NULL_RUN


def stage(name: str, total: Any = None, unit: str = "") -> Stage:
    """Return a stage of the current run; see `Run.stage`."""
    return current_run().stage(name, total, unit)


def track(iterable: Iterable[T], name: str, total: Any = None, unit: str = "") -> Iterator[T]:
    """Iterate inside a stage of the current run; see `Run.track`."""
    return current_run().track(iterable, name, total, unit)


class Binding:
    """Makes a run the current one from `task_prerun` to `task_postrun`."""

    __slots__ = ("_owns_process", "_token", "run")

    def __init__(self, run: Run, *, owns_process: bool) -> None:
        self.run = run
        self._owns_process = owns_process
        self._token = _current.set(run)
        if owns_process:
            _of_process.append(run)

    def release(self) -> None:
        """Give the place back to whoever had it."""
        if self._owns_process and self.run in _of_process:
            _of_process.remove(self.run)
        try:
            _current.reset(self._token)
        except ValueError:  # postrun came in another context (a greenlet, an eager task in asyncio)
            _current.set(None)


def _after_fork() -> None:
    run = active_run()
    if run is not None:
        run.forked()


os.register_at_fork(after_in_child=_after_fork)


def _stage_meta(stage: Stage, now: float) -> dict[str, Any]:
    return {
        "name": stage.name,
        "state": stage.state.value,
        "current": stage.done,
        "total": stage.total,
        "unit": stage.unit,
        "elapsed": round((stage.ended or now) - stage.started, 3),
    }


def _text(value: Any) -> str:
    return value if type(value) is str else safe_repr(value, events.STRING_MAX)
