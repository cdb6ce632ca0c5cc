"""Strikes a tight append loop with asynchronous exceptions; prints what was acknowledged.

Usage: interrupts.py <journal> <writer> <signal|thread> <strikes> <seed>
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plet_celery import journal_delivery
from plet_celery.events import FORMAT
from plet_celery.journal import Writer, WriterLimits
from plet_celery.journal_format import Record, encode, frame


class Struck(Exception):
    """Stands for SoftTimeLimitExceeded: an Exception, raised wherever the loop happens to be."""


class CountsAfterwards(Writer):
    """Negative control: takes its number when the record is written."""

    _last = 0

    def append(
        self, kind: str, run: str | None, attempt: str | None, data: Mapping[str, Any], at: Any = None
    ) -> bool:
        segment = self._delivery.segments.current
        if segment is None:
            return super().append(kind, run, attempt, data)
        number = max(self._last, 100) + 1
        core = encode(Record(FORMAT, kind, number, time.time(), time.monotonic(), run, attempt, dict(data)))
        os.write(segment.fd, frame(core, segment.salt))
        self._last = number
        return True


class Buffers(Writer):
    """Negative control: acknowledges what is in its memory."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._buffer: list[dict[str, Any]] = []

    def append(
        self, kind: str, run: str | None, attempt: str | None, data: Mapping[str, Any], at: Any = None
    ) -> bool:
        self._buffer.append(dict(data))
        if len(self._buffer) >= 20:
            for one in self._buffer:
                super().append(kind, run, attempt, one)
            self._buffer.clear()
        return True


WRITERS = {"Writer": Writer, "CountsAfterwards": CountsAfterwards, "Buffers": Buffers}


def main() -> None:
    directory, name, how, strikes, seed = sys.argv[1:]
    # A busy machine is no slow disk: what is queued is acknowledged before it is written.
    journal_delivery.SLOW_IN_A_ROW = 1_000_000  # type: ignore[attr-defined]
    limits = WriterLimits(segment_max_bytes=24_000, min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
    writer = WRITERS[name](Path(directory), role="child", limits=limits)
    acknowledged: list[int] = []
    arm = _by_signal(int(seed)) if how == "signal" else _by_thread(int(seed))
    ids = itertools.count()
    writer.append("run.started", "run", "attempt", {"i": -10})
    for _ in range(int(strikes)):
        with contextlib.suppress(Struck):
            arm()
            while True:
                i = next(ids)
                if writer.append("log.written", "run", "attempt", {"i": i, "text": "x" * 40}):
                    acknowledged.append(i)
    signal.setitimer(signal.ITIMER_REAL, 0)
    alive = [writer.append("run.succeeded", "run", "attempt", {"i": -k}) for k in (1, 2, 3)]
    facts = {
        "acknowledged": acknowledged,
        "alive": alive,
        "turn_taken": writer._delivery.segments.busy,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "writer": writer.id,
    }
    writer.close()
    json.dump(facts, sys.stdout)


def _by_signal(seed: int) -> Any:
    dice = random.Random(seed)

    def strike(*_: object) -> None:
        raise Struck

    signal.signal(signal.SIGALRM, strike)
    return lambda: signal.setitimer(signal.ITIMER_REAL, _delay(dice))


def _delay(dice: random.Random) -> float:
    # Mostly too short for a rotation, so that many are struck; the rest lets the loop get on.
    return dice.uniform(5e-6, 150e-6) if dice.random() < 0.95 else dice.uniform(0.5e-3, 3e-3)


def _by_thread(seed: int) -> Any:
    dice = random.Random(seed)
    main_thread = ctypes.c_ulong(threading.get_ident())
    armed = threading.Event()

    def strike() -> None:
        while True:
            armed.wait()
            armed.clear()
            time.sleep(_delay(dice))
            ctypes.pythonapi.PyThreadState_SetAsyncExc(main_thread, ctypes.py_object(Struck))

    threading.Thread(target=strike, daemon=True).start()
    return armed.set


if __name__ == "__main__":
    main()
