"""Which runs of a thinned task are recorded: by a hash, or because something happened in them.

What is decided here is the same wherever it is asked: by a producer, a worker, for a retry. A run that is
not picked holds its events in memory until a reason to keep it turns up, or until it has ended well.
"""

from __future__ import annotations

import fnmatch
import hashlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from plet_celery import events
from plet_celery.events import END_STATES

_WARNING: Final = 30
# What an unpicked run holds at most, beside its start: the newest events.
HELD_MAX: Final = 200
DROP_REASON: Final = "sampled"


class _Writer(Protocol):
    def append(
        self,
        kind: str,
        run: str | None,
        attempt: str | None,
        data: dict[str, Any],
        at: tuple[float, float] | None = None,
    ) -> bool: ...

    def drop(self, reason: str, count: int = 1) -> None: ...


def share_of(task: str, shares: Mapping[str, float]) -> float:
    """Return the share of a task's runs that is recorded, 0..1; the first pattern that fits decides."""
    for pattern, share in shares.items():
        if fnmatch.fnmatchcase(task, pattern):
            return share
    return 1.0


def is_picked(key: str, share: float) -> bool:
    """Tell whether the runs of a canvas are among the share; what a smaller one picks, a larger does too.

    Args:
        key: the canvas, or the run's id where it has none.
    """
    return share >= 1.0 or _fraction(key, b"plet-pick") < share


def weight_of(attempt: str, share: float) -> int:
    """Return how many runs a picked one stands for: 1 / share, rounded so that it is right on average."""
    if not share:
        return 1
    times = 1.0 / share
    whole = int(times)
    return whole + (_fraction(attempt, b"plet-weight") < times - whole)


def must_keep(message: Any) -> bool:
    """Tell whether the store knows of an earlier attempt: of a retry, a redelivery, a replaced run.

    Args:
        message: a request, or what answers `get` for a message's headers.
    """
    delivery = message.get("delivery_info") or {}
    redelivered = delivery.get("redelivered") if isinstance(delivery, Mapping) else None
    return bool(message.get("retries") or message.get("replaced_task_nesting") or redelivered)


class _Held(NamedTuple):
    kind: str
    run: str | None
    attempt: str | None
    data: dict[str, Any]
    at: tuple[float, float]
    """Wall and monotonic time at which it happened."""


class Thinned:
    """Stands before the journal's writer for one attempt of a thinned task."""

    def __init__(
        self, writer: _Writer, *, is_picked: bool, weight: int, keep_after: float, must_keep: bool = False
    ) -> None:
        """Begin with the attempt.

        Args:
            weight: how many runs it stands for if nothing but the pick keeps it.
            keep_after: seconds after which it is kept for its length.
            must_keep: there is a reason from the start.
        """
        self._writer = writer
        self._is_picked = is_picked
        self._weight = weight
        self._keep_at = time.monotonic() + keep_after
        self._has_reason = must_keep
        self._is_fork = False
        self._start: deque[_Held] = deque()
        self._held: deque[_Held] = deque(maxlen=HELD_MAX)
        self._pushed_out = 0

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        """Write an event, or hold it until it is known whether the run is kept."""
        if not self._has_reason:
            now = time.monotonic()
            if now >= self._keep_at or _is_reason(kind, data):
                self.keep()
            elif self._is_picked:
                if kind == events.RUN_SUCCEEDED and self._weight > 1:
                    data = data | {"weight": self._weight}
            else:
                self._hold(_Held(kind, run, attempt, data, (time.time(), now)))
                return True
        if self._is_fork and not self._is_picked:
            return False
        if self._start or self._held:
            self._release()
        return self._writer.append(kind, run, attempt, data)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that the run did not write; of one that is not kept, nothing is told."""
        if self._has_reason or self._is_picked:
            self._writer.drop(reason, count)

    def keep(self) -> None:
        """There is a reason to record this run, however it ends."""
        self._has_reason = True
        if self._start or self._held:
            self._release()

    def forked(self) -> None:
        """This process is a fork of the task's: what is held is for the other one to write."""
        self._is_fork = not self._has_reason
        self._start.clear()
        self._held.clear()

    def _hold(self, event: _Held) -> None:
        if event.kind == events.RUN_SUCCEEDED:
            self._start.clear()
            self._held.clear()
        elif event.kind == events.RUN_STARTED:
            self._start.append(event)
        else:
            self._pushed_out += len(self._held) == HELD_MAX
            self._held.append(event)

    def _release(self) -> None:
        if self._is_fork:
            return
        for held in (self._start, self._held):
            while held:
                try:
                    event = held.popleft()
                except IndexError:  # another thread was faster
                    break
                self._writer.append(event.kind, event.run, event.attempt, event.data, event.at)
        if self._pushed_out:
            count, self._pushed_out = self._pushed_out, 0
            self._writer.drop(DROP_REASON, count)


def _is_reason(kind: str, data: Mapping[str, Any]) -> bool:
    if kind == events.LOG_WRITTEN:
        return bool(data.get("level", 0) >= _WARNING)
    return kind == events.STAGE_FAILED or (kind in END_STATES and kind != events.RUN_SUCCEEDED)


def _fraction(text: str, salt: bytes) -> float:
    """Return a number in [0, 1) that `text` decides, and that looks random."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7, key=salt).digest()
    return int.from_bytes(digest) / (1 << 56)
