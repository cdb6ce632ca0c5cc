"""One attempt of a run, as the code inside the task sees it: what it says becomes events."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, overload

import msgspec

from plet_celery import events, resources
from plet_celery.failure import describe_error
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.metadata import Metadata
from plet_celery.progress import MetaWriter
from plet_celery.redaction import Redactor, safe_repr
from plet_celery.runlog import RunLogger, level_number
from plet_celery.sampling import Thinned
from plet_celery.stagebook import StageBook
from plet_celery.stages import Stage, as_number
from plet_celery.tracking import follow, guess_total

T = TypeVar("T")


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
        hard_limit_strikes: bool = True,
        usage_of: str = resources.PROCESS,
    ) -> None:
        """Start an attempt.

        Args:
            store_meta: puts a result meta into the backend.
            hard_limit_strikes: the pool ends the task at its hard limit.
            usage_of: what is measured for this run: `resources.PROCESS`, `THREAD` or `NOTHING`.
        """
        self.facts = facts
        self.id = facts.id
        self.attempt = facts.attempt
        self.ended = False
        self.started_wall = time.time()
        self.started = time.monotonic()
        self._usage_of = usage_of
        self.usage = resources.snapshot(usage_of)
        self._writer = writer
        self._redactor = redactor
        self._limits = limits
        self._declared = declared
        self._store_meta = store_meta
        self._hard_limit = facts.hard_limit if hard_limit_strikes else None
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._body_over = False
        self._measures = 0
        # Made when first used: most runs have no stages, no metadata and no log.
        self._book: StageBook | None = None
        self._metadata: Metadata | None = None
        self._logger: RunLogger | None = None

    # What a task calls; each passes the guard.

    def stage(self, name: str, total: Any = None, unit: str = "") -> Stage:
        """Return a stage to enter with `with`.

        Args:
            name: as declared in the task's `stages`, or any other.
            total: how much there is to do, in `unit`s; None when unknown.
        """
        try:
            return self._stages().make(name, total, unit)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "run.stage")
            return lone_stage(name, total, unit)

    @overload
    def track(self, iterable: Iterable[T], name: str, total: Any = None, unit: str = "") -> Iterator[T]: ...

    @overload
    def track(
        self, iterable: AsyncIterable[T], name: str, total: Any = None, unit: str = ""
    ) -> AsyncIterator[T]: ...

    def track(self, iterable: Any, name: str, total: Any = None, unit: str = "") -> Any:
        """Iterate over `iterable` inside a stage that advances by one after each item.

        An async iterable is iterated by `async for`.

        Args:
            total: by default what the iterable's `len()` says.
        """
        return follow(iterable, self.stage(name, guess_total(iterable) if total is None else total, unit))

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
        return self._book.percent if self._book is not None else None

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller runs in the thread in which the task's body does."""
        return threading.get_ident() == self._thread

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
        if self._logger is None:
            self._logger = RunLogger(self, self._writer, self._redactor, self._limits)
        stage = self._innermost()
        self._logger.write(
            level,
            text.rstrip("\n"),
            logger=logger,
            stream=stream,
            stage=stage.number if stage is not None else None,
            context=context,
        )

    def complain(self, text: str) -> None:
        """Tell the developer about misuse of this API, in the run's own log."""
        self.write_log(30, text, logger="plet_celery", stream="task")

    def close_body(self, error: BaseException | None = None) -> None:
        """The task's body is over: no more result meta; open stages end as the body did."""
        self._body_over = True
        if self._book is not None:
            self._book.close(error)

    def finish(self, kind: str, data: dict[str, Any], error: BaseException | None = None) -> None:
        """Write the attempt's end; whatever comes later from this object is ignored."""
        if self.ended:
            return
        try:
            self.close_body(error)
            if self._logger is not None:
                self._logger.tell_dropped()
        except PASS_THROUGH:
            raise
        except Exception as failure:  # the end is the last thing that may be missing
            contain(failure, "run.finish")
        if kind == events.RUN_SUCCEEDED and self.percent is not None:
            data["percent"] = 100.0
        self.emit(kind, self._end_facts() | data)
        self.ended = True

    def keep(self) -> None:
        """Record this run, whatever share of its task is recorded."""
        if isinstance(self._writer, Thinned):
            self._writer.keep()

    def forked(self) -> None:
        """This process is a fork of the task's: count apart, write no meta."""
        if isinstance(self._writer, Thinned):
            self._writer.forked()
        self._store_meta = None
        self._thread = threading.get_ident()
        if self._book is not None:
            self._book.forked()
        if self._logger is not None:
            self._logger.forked()

    def _stages(self) -> StageBook:
        if self._book is None:
            limits, facts = self._limits, self.facts
            meta = None
            if self._store_meta is not None and not self._body_over:
                meta = MetaWriter(
                    self._store_meta,
                    now=self.started,
                    rate=limits.meta_rate,
                    hard_limit=self._hard_limit,
                    thread=self._thread,
                )
            self._book = StageBook(
                self,
                self._redactor,
                declared=self._declared,
                rate=limits.progress_rate,
                stage_max=limits.stage_max,
                meta=meta,
                attempt=facts.retries + 1,
                thread=self._thread,
            )
            if os.getpid() != self._pid:
                self._book.forked()
        return self._book

    def _innermost(self) -> Stage | None:
        """The stage that what happens now belongs to; trailing progress is written on the way."""
        if self._book is None:
            return None
        self._book.flush(time.monotonic())
        return self._book.innermost

    def _record_measure(self, values: dict[str, float]) -> None:
        if self.ended:
            return
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

    def _end_facts(self) -> dict[str, Any]:
        facts = self.facts
        data: dict[str, Any] = {
            "by": "child",
            "task": facts.task,
            "worker": facts.worker,
            "host": facts.host,
            "pid": self._pid,
            "started": self.started_wall,
            "runtime": round(time.monotonic() - self.started, 6),
            "usage": resources.used_since(self.usage, self._usage_of),
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


def _text(value: Any) -> str:
    return value if type(value) is str else safe_repr(value, events.STRING_MAX)


def lone_stage(name: str, total: Any = None, unit: str = "") -> Stage:
    """Return a stage that counts, and tells nobody."""
    return Stage(_NOBODY, 0, name, unit=unit, total=as_number(total))


class _Nobody:
    progress_every = float("inf")

    def stage_started(self, stage: Stage) -> None:
        pass

    def stage_progressed(self, stage: Stage, now: float) -> None:
        pass

    def stage_ended(self, stage: Stage, error: BaseException | None) -> None:
        pass

    def stage_left(self, stage: Stage) -> None:
        pass

    def complain(self, text: str) -> None:
        pass


_NOBODY: Final = _Nobody()
