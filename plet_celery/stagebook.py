"""The stages of one attempt: which are open, how they nest, what percent they make, what meta they give.

Made when a task uses its first stage; a task without stages never pays for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from celery.exceptions import Retry

from plet_celery import events
from plet_celery.events import StageState
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.progress import MetaWriter, Percent, describe
from plet_celery.redaction import Redactor, safe_repr
from plet_celery.stages import FoldedStage, Stage, state_after

# Stages of a forked child must not take the numbers of its parent's: pids count in blocks, which
# repeat after 64 so that a number fits the two bytes it has in a log's index.
_FORK_BLOCK: Final = 1000
_FORK_BLOCKS: Final = 64
_RECENT: Final = 50


# Which stage this code is in: each thread and each asyncio task has its own, which begins as a copy of
# that of the one that started it.
_inside: ContextVar[Stage | None] = ContextVar("plet_stage", default=None)


def inside() -> Stage | None:
    """Return the stage that was entered last in this context; it may be over, or another run's."""
    return _inside.get()


def go_inside(stage: Stage | None) -> None:
    """Go on in this context as one that `stage` encloses."""
    _inside.set(stage)


def _flow() -> int:
    """Return what tells apart flows of control that run side by side: asyncio tasks, else threads."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return id(task)
    return threading.get_ident()


class _Run(Protocol):
    def emit(self, kind: str, data: dict[str, Any]) -> bool: ...

    def plain(self, value: Any) -> Any: ...

    def complain(self, text: str) -> None: ...


class StageBook:
    """Keeps the stages of an attempt, and writes their events and the result meta."""

    def __init__(
        self,
        run: _Run,
        redactor: Redactor,
        *,
        declared: Sequence[tuple[str, float]],
        rate: float,
        stage_max: int,
        meta: MetaWriter | None,
        attempt: int,
        thread: int,
    ) -> None:
        """Start with an attempt's first stage.

        Args:
            declared: names and weights, as the task class gives them.
            rate: progress events per second and stage.
            attempt: the attempt's number for readers, from 1.
            thread: ident of the task's own thread.
        """
        self.progress_every = 1.0 / rate
        self._run = run
        self._redactor = redactor
        self._stage_max = stage_max
        self._meta = meta
        self._attempt = attempt
        self._thread = thread
        self._declared = [Stage(self, n, name, weight=w) for n, (name, w) in enumerate(declared, 1)]
        self._percent = Percent(self._declared)
        self._count = len(self._declared)
        self._base = 0
        self._open: list[Stage] = []
        self._left: list[Stage] = []
        self._recent: list[Stage] = []
        self._other: Stage | None = None

    @property
    def percent(self) -> float | None:
        """Percent of the whole attempt, 0..100, or None without ground."""
        return self._percent.value

    @property
    def innermost(self) -> Stage | None:
        """The innermost open stage of this context; in a thread that does not know its stage, the newest."""
        stage = _inside.get()
        if stage is not None and stage._host is self:
            while stage is not None and not stage.is_open:
                stage = stage._above
            return stage
        return self._open[-1] if self._open and threading.get_ident() != self._thread else None

    def make(self, name: Any, total: Any, unit: Any) -> Stage:
        """Return the declared stage of this name that has not started, else a new one."""
        self.flush(time.monotonic())
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
        if self._count >= self._stage_max:
            return FoldedStage(self, self._fold(), name, total=total, unit=unit)
        self._count += 1
        return Stage(self, self._base + self._count, name, total=total, unit=unit)

    def flush(self, now: float) -> None:
        """Write the values that the rate held back and that are due at `now`."""
        for stage in self._open:
            stage.flush(now)
        if self._other is not None:
            self._other.flush(now)

    def close(self, error: BaseException | None) -> None:
        """The task's body is over: no more meta, and open stages end as the body did."""
        if self._meta is not None:
            self._meta.closed = True
        left, self._left = self._left, []
        stages = [*left, *reversed(self._open)]
        for stage in stages:
            self._end(stage, state_after(error), error)
        if self._other is not None:
            self._end(self._other, StageState.SUCCEEDED, None)
        last = _inside.get()
        if last is not None and last._host is self:
            while last._above is not None:
                last = last._above
            _inside.set(last._before)

    def _end(self, stage: Stage, state: StageState, error: BaseException | None) -> None:
        # One stage that cannot be ended must cost neither the others nor the run their end.
        try:
            stage.end(state, error)
        except PASS_THROUGH:
            raise
        except Exception as failure:
            contain(failure, "stage.end")

    def forked(self) -> None:
        """This process is a fork of the task's: count in a block of its own, write no meta."""
        self._base = (os.getpid() % _FORK_BLOCKS + 1) * _FORK_BLOCK
        self._count = 0
        self._thread = threading.get_ident()
        if self._meta is not None:
            self._meta.closed = True

    def complain(self, text: str) -> None:
        """Tell the developer about misuse, in the run's own log."""
        self._run.complain(text)

    def stage_started(self, stage: Stage) -> None:
        """Write the start of a stage, below the innermost open one of this context."""
        stage._flow = _flow()
        self._settle_left(None)
        parent = self.innermost
        stage.parent = parent.number if parent else None
        if stage is not self._other:
            stage._above = parent
            if parent is None and (before := _inside.get()) is not None and before._host is not self:
                stage._before = before
            self._open.append(stage)
            _inside.set(stage)
        self._recent.append(stage)
        del self._recent[:-_RECENT]
        data: dict[str, Any] = {"stage": stage.number, "name": stage.name}
        if stage.parent is not None:
            data["parent"] = stage.parent
        if stage.unit:
            data["unit"] = stage.unit
        self._add_numbers(data, stage)
        self._run.emit(events.STAGE_STARTED, data)
        self._write_meta(stage.started)

    def stage_progressed(self, stage: Stage, now: float) -> None:
        """Write a stage's numbers."""
        data = {"stage": stage.number, "done": stage.done}
        self._add_numbers(data, stage)
        self._run.emit(events.STAGE_PROGRESSED, data)
        self._write_meta(now)

    def stage_ended(self, stage: Stage, error: BaseException | None) -> None:
        """Write a stage's end."""
        self._settle_left(error)
        data: dict[str, Any] = {
            "stage": stage.number,
            "done": stage.done,
            "elapsed": round(stage.ended - stage.started, 6),
        }
        self._add_numbers(data, stage)
        self._remove(stage)
        if stage.result is not None:
            data["result"] = self._run.plain(stage.result)
        if stage.state is StageState.FAILED and error is not None:
            data["error"] = self._error(error)
        self._run.emit(f"stage.{stage.state.value}", data)
        if error is None:
            self._write_meta(stage.ended)

    def stage_left(self, stage: Stage) -> None:
        """Keep a stage whose loop was left; it ends well if the task goes on, else as the task does."""
        self._remove(stage)
        if isinstance(stage, FoldedStage):
            # One of so many that it only counts: kept, they would be without a bound.
            self._end(stage, StageState.SUCCEEDED, None)
        else:
            self._left.append(stage)

    def _settle_left(self, error: BaseException | None) -> None:
        if not self._left:
            return
        # What goes on elsewhere at the same time says nothing about this one.
        flow = _flow()
        mine = [stage for stage in self._left if stage._flow == flow]
        self._left = [stage for stage in self._left if stage._flow != flow]
        for stage in mine:
            stage.end(state_after(error), error)

    def _remove(self, stage: Stage) -> None:
        if stage in self._open:
            self._open.remove(stage)
        if _inside.get() is stage:
            _inside.set(stage._above or stage._before)

    def _fold(self) -> Stage:
        if self._other is None:
            self.complain(f"more than {self._stage_max} stages: further ones are counted in 'other'")
            self._other = Stage(self, self._base + self._count + 1, "other", unit="stages")
            self._other.advance(0)
        return self._other

    def _error(self, error: BaseException) -> dict[str, Any]:
        cause = error.exc if isinstance(error, Retry) and isinstance(error.exc, BaseException) else error
        return {"type": type(cause).__qualname__, "message": self._redactor.text(safe_repr(cause, 500))}

    def _add_numbers(self, data: dict[str, Any], stage: Stage) -> None:
        if stage.total is not None:
            data["total"] = stage.total
        if stage.message:
            data["message"] = self._redactor.text(events.safe_text(stage.message, 500))
        percent = self._percent.update(self._open)
        if percent is not None:
            data["percent"] = percent

    def _write_meta(self, now: float) -> None:
        if self._meta is None or not self._meta.is_due(now):
            return
        running = [stage for stage in self._open if stage.total is not None] or self._open
        message = next((stage.message for stage in reversed(self._open) if stage.message), "")
        meta = describe(
            [_shown(stage, now) for stage in self._recent],
            _shown(running[0], now) if running else None,
            percent=self.percent,
            message=self._redactor.text(events.safe_text(message, 500)),
            attempt=self._attempt,
            updated_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        try:
            self._meta.write(meta, now)
        except PASS_THROUGH:
            raise
        except Exception as error:  # the result backend is down: the task will meet that itself at its end
            contain(error, "result meta")


def _shown(stage: Stage, now: float) -> dict[str, Any]:
    return {
        "name": stage.name,
        "state": stage.state.value,
        "current": stage.done,
        "total": stage.total,
        "unit": stage.unit,
        "elapsed": round((stage.ended or now) - stage.started, 3),
    }
