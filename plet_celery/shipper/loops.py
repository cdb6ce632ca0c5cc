"""One sink's reading loop: its own cursor, its own pace, its own back-off.

Whatever a sink raises, only its own loop waits. After a failure the sink is closed, opened anew and
asked for its checkpoint again, so that a commit whose answer was lost is neither repeated nor skipped.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plet_celery.errors import JournalError, SchemaError, StaleWrite
from plet_celery.journal_reader import Batch, Reader
from plet_celery.shipper.notes import Notes
from plet_celery.sinks import Sink

log = logging.getLogger(__name__)

_BACKOFF_FIRST: Final = 0.5
BACKOFF_MAX: Final = 30.0
EASED_MAX: Final = 2.0
# Far beyond any batch, and beyond the time-outs of drivers and servers, which say more of the cause.
HANG_SECONDS: Final = 120.0
_RETRY_FLOOR: Final = 1.0
# One line per incident, then one for every so many failures.
_LOG_EVERY: Final = 20

Position = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much a loop takes at once, and how long it gathers."""

    gather: float
    max_records: int
    max_bytes: int


@dataclass(frozen=True)
class Hooks:
    """What else happens around a pass through the journal."""

    before: Callable[[], Any] = lambda: None
    """Called before the journal is read; its value is given to `after`."""
    after: Callable[[Mapping[str, Position], Any], None] = lambda positions, seen: None
    """Called when a read has left nothing; what it raises counts as a failure of the sink."""
    failed: Callable[[], None] = lambda: None
    """Called when the sink, or a hook, has failed."""
    last: Callable[[], None] = lambda: None
    """Called when the loop was told to end, before its sink is closed; what it raises is only logged."""


class SinkLoop:
    """Reads the journal into one sink; `turn` does one batch, `run` goes on until told to stop."""

    def __init__(
        self,
        sink: Sink,
        directory: Path,
        *,
        pace: Pace,
        fence: Callable[[], bool],
        hooks: Hooks | None = None,
        notes: Notes | None = None,
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            fence: False once another shipper has the lock; asked before each batch.
            notes: counts damage, gaps and drops.
        """
        self.sink = sink
        self.positions: dict[str, Position] = {}
        """The sink's checkpoint; changed by this loop only."""
        self.is_open = False
        self.caught_up = float("-inf")
        """Time (monotonic) of the newest look at the folder that left nothing and is all in the sink."""
        self.fenced = False
        self.refused = False
        """The journal belongs to another store, or this one has no tables: no retry mends that."""
        self.events = 0
        self.failures = 0
        self.error = ""
        self.busy_since: float | None = None
        """Since when (monotonic) it is in one batch; None between two."""
        self._directory = directory
        self._pace = pace
        self._fence = fence
        self._hooks = hooks or Hooks()
        self._notes = notes
        self._reader: Reader | None = None
        # What was seen, and when, before the reader looked at the folder: a read in several batches goes
        # on with the files of that look, and knows nothing of later ones.
        self._look: tuple[Any, float] | None = None
        self._tried = float("-inf")
        self._severed: float | None = None
        self._forgotten: deque[str] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own."""
        # Daemon: a database that hangs must not keep a shipper whose time is up.
        self._thread = threading.Thread(target=self.run, name=f"plet-{self.sink.name}", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Take batches until stopped or fenced."""
        while not self._stopping and not self.fenced:
            wait = self.turn()
            if wait > 0 and self._wake.wait(wait):
                self._wake.clear()
        if not self.fenced and not self.failures:
            try:
                self._hooks.last()
            except Exception as error:
                log.warning("sink has not said goodbye: sink=%s error=%s", self.sink.name, error)
        self.sink.close()

    def wake(self) -> None:
        """Look at once; during a back-off, at most once a second: what is down is not hammered."""
        if not self.failures or time.monotonic() - self._tried >= _RETRY_FLOOR:
            self._wake.set()

    def sever_if_hung(self, now: float, patience: float = HANG_SECONDS) -> bool:
        """End a batch that takes so long that nobody can be there any more; from another thread.

        Args:
            now: monotonic.
            patience: seconds that a batch may take.
        """
        since = self.busy_since
        if since is None or now - since < patience or since == self._severed:
            return False
        self._severed = since
        log.warning("sink hangs, its connections are broken: sink=%s for=%.0fs", self.sink.name, now - since)
        self.sink.sever()
        return True

    def stop(self) -> None:
        """Finish the batch at hand and end."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread; False if it is still busy."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))
        return self._thread is None or not self._thread.is_alive()

    def forget(self, writers: Sequence[str]) -> None:
        """Have the sink forget writers whose files are gone; from any thread."""
        self._forgotten.extend(writers)

    def turn(self) -> float:
        """Take one batch; return the seconds to wait before the next (0: there is more)."""
        cost, self._tried = time.thread_time(), time.monotonic()
        self.busy_since = self._tried
        try:
            more = self._pass()
        except StaleWrite as error:
            log.warning("another shipper holds the lease: sink=%s fact=%s", self.sink.name, error)
            self.fenced = True
        except Exception as error:
            return self._failed(error)
        else:
            self._recovered()
            return 0.0 if more else eased(self._pace.gather, time.thread_time() - cost)
        finally:
            self.busy_since = None
        return 0.0

    def _pass(self) -> bool:
        if not self._fence():
            raise StaleWrite("the lock file was replaced")
        if self._reader is None:
            self._open()
        assert self._reader is not None
        if self._look is None:
            self._look = self._hooks.before(), time.monotonic()
        seen, started = self._look
        batch = self._reader.read(self._pace.max_records, self._pace.max_bytes)
        if batch.positions:
            self._take(batch)
        elif batch.unsupported and self._notes is not None:
            # Also where the checkpoint stands before it since an earlier shipper: it is not waited for.
            self._notes.take(batch)
        if batch.more:
            return True
        self._look = None
        self.caught_up = started
        self._forget()
        self._hooks.after(self.positions, seen)
        return False

    def _take(self, batch: Batch) -> None:
        if not self._fence():
            raise StaleWrite("the lock file was replaced")
        if self._notes is not None:
            self._notes.take(batch)
        self.sink.apply(batch, time.time())
        if self._notes is not None:
            self._notes.count(batch)
        self.positions.update(batch.positions)
        self.events += len(batch.events)

    def _open(self) -> None:
        self.positions = dict(self.sink.positions())
        self._reader, self._look = Reader(self._directory, self.positions), None
        self.is_open = True

    def _forget(self) -> None:
        if self._forgotten:
            writers = list(self._forgotten)
            self.sink.forget(writers)
            if self._reader is not None:
                self._reader.forget(writers)
            for writer in writers:
                self._forgotten.popleft()
                self.positions.pop(writer, None)

    def _failed(self, error: Exception) -> float:
        self.failures += 1
        self.refused = isinstance(error, (JournalError, SchemaError))
        self.error = f"{type(error).__name__}: {error}"
        self._reader = None
        self.sink.close()
        self._hooks.failed()
        delay = backoff(self.failures, random.random())
        if self.failures % _LOG_EVERY == 1:
            # A database that is away is an ordinary fact; anything else is a fault to be found.
            expected = isinstance(error, OSError) or type(error).__module__ == "plet_celery.errors"
            log.warning(
                "sink failed: sink=%s failures=%d retry_in=%.1fs error=%s",
                self.sink.name,
                self.failures,
                delay,
                self.error,
                exc_info=None if expected else error,
            )
        return delay

    def _recovered(self) -> None:
        if self.failures:
            log.info("sink works again: sink=%s failures=%d", self.sink.name, self.failures)
            self.failures, self.error, self.refused = 0, "", False

    @property
    def unreadable(self) -> Collection[str]:
        """Writers whose segments have a format of a newer version: kept, and not waited for."""
        return () if self._notes is None else self._notes.unsupported.keys()

    def facts(self) -> dict[str, Any]:
        """Return what the beat says of this sink."""
        since = self.busy_since
        facts: dict[str, Any] = {
            "events": self.events,
            "failures": self.failures,
            "error": self.error,
            "open": self.is_open,
            "busy": round(time.monotonic() - since, 1) if since is not None else 0.0,
        }
        return facts | (self._notes.facts() if self._notes is not None else {})


def eased(interval: float, cost: float) -> float:
    """Return the interval, longer where a look itself is dear.

    An idle read costs some 15 µs a file; an hour of workers with one task a child leaves thousands.

    Args:
        cost: CPU seconds of one look; it takes a thirtieth of one core, until EASED_MAX ends the easing.
    """
    return max(interval, min(EASED_MAX, 30 * cost))


def backoff(failures: int, chance: float) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, jittered, at most 30.

    Args:
        chance: a random number in [0, 1).
    """
    return min(BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** min(failures - 1, 10)) * (0.5 + chance / 2)
