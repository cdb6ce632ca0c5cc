"""Runs that wait for ever: a shipper says of each that it is abandoned, whichever host published it.

Whoever lives may do it, and several may: they say the same. What counts as abandoned and how it is written
is `store/abandonment.py`'s subject.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from plet_celery.events import Event
from plet_celery.store import Store, abandonment, clockwatch
from plet_celery.store.abandonment import Place, event_of

log = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 600.0


class TellingSink(Protocol):
    """What is needed of the store's sink."""

    def store(self) -> Store:
        """Return the open store, the lease taken."""

    def tell(self, events: Sequence[Event], now: float) -> None:
        """Store events that are in no journal."""


class ForsakenRuns:
    """Looks for them now and then, a part at a time; used by the store sink's loop alone."""

    def __init__(self, sink: TellingSink, *, after: float, fence: Callable[[], bool]) -> None:
        """Prepare.

        Args:
            after: seconds that a run may wait; 0: for ever.
            fence: False once another shipper has the lock.
        """
        self._sink = sink
        self._after = after
        self._fence = fence
        self._interval = min(LOOK_INTERVAL, after / 3)
        # Not at once: what waits in other journals may tell otherwise.
        self._look_at = time.monotonic() + self._interval
        self._behind: Place | None = None

    def look(self, now: float) -> None:
        """Take the next part, if it is time for a look (`now` is monotonic).

        Raises:
            StaleWrite: another shipper holds the lease.
            StoreUnavailable: the next look begins where this one did.
        """
        if not self._after or now < self._look_at or not self._fence():
            return
        store = self._sink.store()
        if self._behind is None and clockwatch.check(store, wall=time.time(), note=False) is not None:
            # By a clock that has jumped everything has waited for ever.
            self._look_at = now + self._interval
            return
        clock, found, self._behind = abandonment.forsaken(store, after=self._after, behind=self._behind)
        if found:
            self._sink.tell([event_of(one, after=self._after, now=clock) for one in found], clock)
            log.warning("runs are abandoned: count=%d not_heard_of_for=%.0fs", len(found), self._after)
        if self._behind is None:
            self._look_at = now + self._interval
