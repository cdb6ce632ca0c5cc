"""Has a pass of the monitor done where nobody else does: beat is dead, or its queue is jammed.

In a thread of its own that now and then asks the store when the last pass was. When that is two intervals
ago, it starts `python -m plet_celery.monitor --once`: a process, so that nothing of it can harm shipping.
There is never more than one, its time is bounded, and it ends with this process, whatever ends it: it
watches the pipe on which it got its configuration. This module imports nothing of the monitor.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plet_celery.errors import PletError
from plet_celery.shipper.config import ShipperConfig
from plet_celery.spawning import hand_over, shipper_environment
from plet_celery.store import open_store, watching
from plet_celery.store.watching import LastPass

log = logging.getLogger(__name__)

SILENT_INTERVALS: Final = 2
"""After so many without a pass, somebody else has to do it."""
LOOK_MAX: Final = 10.0
_REAP: Final = 0.2
CHILD_SECONDS: Final = 60.0
"""A child may take so long, or two intervals, if they are longer."""
_QUERY_SECONDS: Final = 5.0
_BACKOFF_MAX: Final = 8
"""Intervals between two tries, where passes fail again and again."""
_END_SECONDS: Final = 2.0
_LOG_EVERY: Final = 20


@dataclass(frozen=True, kw_only=True)
class Duty:
    """Whether this shipper is to have a pass done; a decision by plain facts."""

    interval: float
    """Seconds between two passes."""
    began: float
    """When (monotonic) this shipper began to look."""

    def due_in(self, last: LastPass, now: float) -> float:
        """Return the seconds until this shipper is to have a pass done; at most 0: now.

        Args:
            now: monotonic. Where nobody ever passed, the time counts since this shipper began.
        """
        idle = now - self.began if last.idle is None else last.idle
        rest = SILENT_INTERVALS * self.interval - idle
        return max(rest, last.held_until - last.now) if last.is_held else rest


class Child:
    """One process that passes once."""

    def __init__(self, document: Mapping[str, Any], seconds: float) -> None:
        """Start it.

        Args:
            document: what `Plet.shipper_config()` returned.
            seconds: how long it may take.

        Raises:
            OSError: it cannot be started.
        """
        self._deadline = time.monotonic() + seconds
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "plet_celery.monitor", "--once"],
            stdin=subprocess.PIPE,
            cwd="/",
            env=shipper_environment(),
        )
        given = {name: value for name, value in document.items() if name not in ("foreground", "take_over")}
        assert self._process.stdin is not None
        # One that does not read it in time is left to its deadline.
        hand_over(self._process.stdin, json.dumps(given | {"seconds": seconds}).encode() + b"\n")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def code(self, now: float) -> int | None:
        """Return its exit code, or None while it runs; one whose time is over is killed."""
        code = self._process.poll()
        if code is None and now >= self._deadline:
            log.warning("a pass takes too long and is ended: pid=%d", self._process.pid)
            self._process.kill()
            code = self._process.wait()
        if code is not None:
            self._close()
        return code

    def end(self) -> None:
        """End it now: a pass may end anywhere."""
        self._close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()


class Passing:
    """The thread: looks, starts a child where one is due, and reaps it."""

    def __init__(self, config: ShipperConfig) -> None:
        settings = config.settings
        self._config = config
        self._interval = settings.monitor_interval
        # One that was started without the app knows neither broker nor promises: it would call both down.
        self._is_on = settings.enabled and settings.monitor and "celery" in config.document
        self._blind_wait = min(LOOK_MAX, self._interval)
        # The store may have no tables yet.
        self._due_in = self._blind_wait
        self._seconds = max(CHILD_SECONDS, SILENT_INTERVALS * self._interval)
        self._child: Child | None = None
        self._failures = 0
        self._not_before = float("-inf")
        self._blind = 0
        self._begun = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plet-passing", daemon=True)

    def start(self) -> None:
        """Begin, unless the monitor is switched off."""
        if self._is_on:
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """End, and end a child that runs; not waited for longer than `timeout`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(max(0.0, timeout))

    def _run(self) -> None:
        duty = Duty(interval=self._interval, began=time.monotonic())
        try:
            while not self._stop.wait(self._wait()):
                self._turn(duty)
        finally:
            if self._child is not None:
                self._child.end()

    def _wait(self) -> float:
        if self._child is not None:
            return _REAP
        # Not all shippers at the same moment: the first one's pass is seen by the others.
        return min(LOOK_MAX, max(_REAP, self._due_in)) + random.uniform(0.0, min(2.0, self._interval / 10))

    def _turn(self, duty: Duty) -> None:
        now = time.monotonic()
        if self._child is not None:
            code = self._child.code(now)
            if code is None:
                return
            self._child = None
            self._note(code, now)
        elif now >= self._not_before:
            self._begin(duty, now)

    def _begin(self, duty: Duty, now: float) -> None:
        try:
            last = self._last_pass()
            self._blind = 0
            self._due_in = duty.due_in(last, now)
            if self._due_in <= 0:
                self._child = Child(self._config.document, self._seconds)
                self._tell(last)
        except (OSError, PletError) as error:
            # A store that is away, or has no tables yet: its own sink tells it, and tries again.
            self._blind, self._due_in = self._blind + 1, self._blind_wait
            if self._blind % _LOG_EVERY == 1:
                log.info("nobody knows when the last pass was: error=%s", error)
        except Exception:
            self._blind, self._due_in = self._blind + 1, self._blind_wait
            if self._blind % _LOG_EVERY == 1:
                log.exception("no pass from here: failures=%d", self._blind)

    def _tell(self, last: LastPass) -> None:
        self._begun += 1
        if self._begun % _LOG_EVERY == 1:
            log.info(
                "nobody passes, so passes are done from here: last=%s pid=%d begun=%d",
                "never" if last.age is None else f"{last.age:.0f}s_ago",
                self._child.pid if self._child else 0,
                self._begun,
            )

    def _last_pass(self) -> LastPass:
        # Opened for each look: a connection for hours would be one of the store's few.
        store = open_store(
            self._config.database_url, read_only=True, query_seconds=_QUERY_SECONDS, connections=1
        )
        try:
            return watching.last_pass(store)
        finally:
            store.close()

    def _note(self, code: int, now: float) -> None:
        if code == 0:
            self._failures = 0
            return
        self._failures += 1
        self._not_before = now + self._interval * min(_BACKOFF_MAX, 2 ** (self._failures - 1))
        if self._failures % _LOG_EVERY == 1:
            log.warning("a pass failed: exit_code=%d failures=%d", code, self._failures)
