"""Other hosts: a shipper looks after those that fell silent, as the monitor does.

Whoever lives may do it: the store lets one of them act. What is lost and how it is written is
`store/hostloss.py`'s subject.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from plet_celery.store import IngestLimits, Store, hostloss
from plet_celery.store.hostloss import View

log = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 10.0


class OpenSink(Protocol):
    """What is needed of the store's sink."""

    @property
    def limits(self) -> IngestLimits: ...
    def store(self) -> Store:
        """Return the open store, the lease taken."""


class Neighbours:
    """Looks at other journals' leases; used by the store sink's loop alone.

    It looks only when its own journal is shipped: a shipper that is behind judges nobody.
    """

    def __init__(
        self, sink: OpenSink, journal_id: str, *, lost_after: float, fence: Callable[[], bool]
    ) -> None:
        self._sink = sink
        self._journal_id = journal_id
        self._lost_after = lost_after
        self._fence = fence
        self._interval = min(LOOK_INTERVAL, lost_after / 3)
        self._view: View | None = None
        self._look_at = float("-inf")

    def broken(self) -> None:
        """The store has not answered: what is silent since may be the store's fault."""
        self._view = None

    def look(self, now: float) -> None:
        """Mark the runs of hosts that are gone for ever, if it is time for a look (`now` is monotonic).

        Raises:
            StoreUnavailable: and the view is broken.
        """
        if now < self._look_at:
            return
        self._look_at = now + self._interval
        store = self._sink.store()
        clock, leases = hostloss.silent(store)
        self._view = hostloss.looked(self._view, store=clock, mono=now)
        others = [one for one in leases if one.journal != self._journal_id]
        for gone in hostloss.lost_hosts(others, self._view, after=self._lost_after):
            if not self._fence():
                return
            done = hostloss.mark_lost(
                store, gone, after=self._lost_after, by=self._journal_id, limits=self._sink.limits
            )
            if done is not None:
                log.warning(
                    "host is lost: host=%s journal=%s silent=%.0fs lost_attempts=%d",
                    gone.host,
                    gone.journal[:8],
                    clock - gone.touched_at,
                    done.attempts,
                )
