"""A stage: a named part of an attempt with its own progress, cheap enough for a tight loop."""

from __future__ import annotations

import math
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from celery.exceptions import Ignore, Reject, Retry

from plet_celery.events import StageState
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.redaction import is_asynchronous, safe_repr

Number = int | float

# advance() looks at the clock every 2**k calls. More than 16 calls would let a value go stale
# for too long when the loop slows down; a call slower than 1 ms is looked at every time.
_K_MAX = 4
_SLOW_CALL = 0.001
_FAST_LOOP = _SLOW_CALL * (1 << _K_MAX)


class StageHost(Protocol):
    """What a stage tells its run; implemented by `Run`."""

    progress_every: float

    def stage_started(self, stage: Stage) -> None:
        """A stage begins."""

    def stage_progressed(self, stage: Stage, now: float) -> None:
        """Its numbers or message changed, and a write is due."""

    def stage_ended(self, stage: Stage, error: BaseException | None) -> None:
        """It has its end state."""

    def stage_left(self, stage: Stage) -> None:
        """Its loop was left before the end; whether by an exception shows later."""

    def complain(self, text: str) -> None:
        """Tell the developer about misuse, in the run's own log."""


class Stage:
    """A part of an attempt: `with self.stage("load", total=668, unit="files") as stage: …`.

    Attributes:
        done: how much is done, in `unit`s.
        total: how much there is to do, or None when unknown; may be set while running.
        message: a sentence for the user of the service, shown beside the bar.
        result: a JSON value kept with the stage.
    """

    __slots__ = (
        "_above",
        "_before",
        "_complained",
        "_done",
        "_flow",
        "_host",
        "_k",
        "_left",
        "_left_at",
        "_looked",
        "_message",
        "_next_write",
        "_total",
        "_written",
        "ended",
        "name",
        "number",
        "parent",
        "result",
        "started",
        "state",
        "unit",
        "weight",
    )

    def __init__(
        self,
        host: StageHost,
        number: int,
        name: str,
        *,
        total: Any = None,
        unit: str = "",
        weight: float | None = None,
    ) -> None:
        self._host = host
        self.number = number
        self.name = name
        self.unit = unit
        self.weight = weight
        self.parent: int | None = None
        self._above: Stage | None = None
        self._before: Stage | None = None
        """Of another run, which called this one's task in the middle of it."""
        self._flow = 0
        self.state = StageState.PLANNED
        self.started = 0.0
        self.ended = 0.0
        self.result: Any = None
        self._done: Any = 0
        self._total: Number | None = None
        self._message = ""
        self._complained = False
        self._k = 0
        self._left = 1
        self._left_at = 0.0
        self._looked = 0.0
        self._next_write = 0.0
        self._written: tuple[Any, ...] = ()
        if total is not None:
            self.total = total

    def advance(self, n: Number = 1) -> None:
        """Add `n` to what is done. Costs about 0.1 µs; written at most ten times a second."""
        try:
            self._done += n
            self._left -= 1
            if self._left <= 0:
                self._look()
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "stage.advance")

    def set(self, done: Number) -> None:
        """Set what is done; it may go back, the run's percent then waits."""
        try:
            number = as_number(done)
            if number is None:
                self._complain(f"progress {_shown(done)} is no number, it is ignored")
                return
            self._done = number
            self._left -= 1
            if self._left <= 0:
                self._look()
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "stage.set")

    @property
    def done(self) -> Number:
        """How much is done."""
        return self._number()

    @property
    def total(self) -> Number | None:
        """How much there is to do, or None."""
        return self._total

    @total.setter
    def total(self, value: Any) -> None:
        try:
            number = as_number(value)
            if value is not None and (number is None or number < 0):
                self._complain(f"total {_shown(value)} is no count, it is treated as unknown")
                number = None
            self._total = number
            self._left = 1
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "stage.total")

    @property
    def message(self) -> str:
        """The sentence beside the bar."""
        return self._message

    @message.setter
    def message(self, value: Any) -> None:
        try:
            self._message = str.__str__(value) if isinstance(value, str) else _shown(value)
            self._look()
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "stage.message")

    @property
    def fraction(self) -> float | None:
        """Share done, 0..1; None without a total."""
        if self.state in (StageState.SUCCEEDED, StageState.SKIPPED):
            return 1.0
        if self._total is None:
            return None
        return min(1.0, max(0.0, self._number() / self._total)) if self._total else 1.0

    def __enter__(self) -> Stage:
        try:
            self._start()
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "stage.enter")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, GeneratorExit):
                # track()'s loop was left by `break` or by an exception: Python tells a generator
                # no difference. What comes next in the task will.
                self._left_at = monotonic()
                self._host.stage_left(self)
            else:
                self.end(state_after(error), error)
        except PASS_THROUGH:
            raise
        except Exception as failure:
            contain(failure, "stage.exit")

    def end(self, state: StageState, error: BaseException | None = None) -> None:
        """Give the stage its end; a second end is ignored."""
        if self.ended:
            return
        if self.state is StageState.PLANNED:
            self._start()
        self.state = state
        self._done = self._number()
        self.ended = self._left_at or monotonic()
        self._left, self._k = 1, 0
        self._host.stage_ended(self, error)

    @property
    def is_open(self) -> bool:
        """Whether what happens now may belong to it: it has neither ended, nor was its loop left."""
        return not self.ended and not self._left_at

    def flush(self, now: float) -> None:
        """Write a value that the rate held back, if it is due at `now`."""
        if now >= self._next_write and self.state is StageState.RUNNING and self._value() != self._written:
            self._write(now)

    def _start(self) -> None:
        if self.state is not StageState.PLANNED:
            return
        self.state = StageState.RUNNING
        self.started = self._looked = monotonic()
        self._next_write = self.started + self._host.progress_every
        self._written = self._value()
        self._host.stage_started(self)

    def _look(self) -> None:
        now = monotonic()
        if self._k == _K_MAX and now < self._next_write and now - self._looked < _FAST_LOOP:
            # The common case of a tight loop: nothing to write, nothing to adapt.
            self._looked = now
            self._left = 1 << _K_MAX
            return
        if self.ended:
            self._left = 1
            self._complain("progress after the stage's end is ignored")
            return
        if self.state is StageState.PLANNED:
            self._start()
        slow = (now - self._looked) > _SLOW_CALL * (1 << self._k)
        self._k = 0 if slow else min(_K_MAX, self._k + 1)
        self._left = 1 << self._k
        self._looked = now
        if now >= self._next_write:
            self._write(now)

    def _write(self, now: float) -> None:
        self._next_write = now + self._host.progress_every
        self._written = self._value()
        self._host.stage_progressed(self, now)

    def _value(self) -> tuple[Any, ...]:
        return (self._number(), self._total, self._message)

    def _number(self) -> Number:
        number = as_number(self._done)
        if number is None:
            self._complain(f"progress {_shown(self._done)} is no number, it is ignored")
            number = self._done = self._written[0] if self._written else 0
        return number

    def _complain(self, text: str) -> None:
        if not self._complained:
            self._complained = True
            self._host.complain(f"stage {self.name!r}: {text}")


class FoldedStage(Stage):
    """A stage past the limit: it counts as one unit of the stage named 'other'."""

    __slots__ = ("_other",)

    def __init__(
        self, host: StageHost, other: Stage, name: str, *, total: Any = None, unit: str = ""
    ) -> None:
        super().__init__(host, other.number, name, total=total, unit=unit)
        self._other = other

    def _start(self) -> None:
        self.state = StageState.RUNNING

    def _write(self, now: float) -> None:
        self._next_write = now + self._host.progress_every

    def end(self, state: StageState, error: BaseException | None = None) -> None:
        if not self.ended:
            self.state = state
            self.ended = monotonic()
            self._other.advance()


def state_after(error: BaseException | None) -> StageState:
    """Return the end of a stage that was left by `error`; Celery's ways to leave are no failures."""
    if error is None:
        return StageState.SUCCEEDED
    if isinstance(error, (Ignore, Reject)) or (isinstance(error, Retry) and error.exc is None):
        return StageState.SKIPPED
    return StageState.FAILED


def as_number(value: Any) -> Number | None:
    """Return `value` as a finite int or float, or None."""
    kind = type(value)
    if kind is int:
        return value if -(1 << 63) <= value < (1 << 63) else None
    if kind is not float:
        if isinstance(value, (str, bytes)) or value is None:
            return None
        try:
            value = float(value)
        except BaseException as failure:  # the user's __float__: even its SystemExit is only no number
            if is_asynchronous(failure):
                raise
            return None
    return value if math.isfinite(value) else None


def _shown(value: Any) -> str:
    # repr() of an int of over 4,300 digits raises; a subclass may do anything.
    return safe_repr(value, 50)
