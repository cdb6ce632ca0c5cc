"""What waits in a stack's own broker when that ends: its messages go with it, and somebody has to tell.

A run that is only queued is known to nobody but the broker. Without an end it would wait for ever.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from plet_celery import events
from plet_celery.election import ShipLock
from plet_celery.errors import PletError
from plet_celery.events import RunState
from plet_celery.journal import Writer
from plet_celery.shipper import drain
from plet_celery.store import Store, open_store, queries
from plet_celery.store.records import Run

log = logging.getLogger(__name__)

REASON: Final = "the development stack ended, and the broker that held its message with it"
_WAITING: Final = (RunState.QUEUED.value, RunState.RETRYING.value)
_PAGE: Final = 500
_PAGES_MAX: Final = 200


def cancel_waiting(ship: Mapping[str, Any], *, since: float, timeout: float) -> int:
    """Tell that the runs which wait are cancelled, and have it stored; return how many there are.

    Args:
        ship: what a shipper needs to know, as `plet.shipper_config()` returns it.
        since: of runs that were created at this time or later: others were in another broker.
        timeout: seconds for storing it, where no shipper serves that will; 0: the next one does.
    """
    try:
        store = open_store(ship["database_url"], read_only=True)
        try:
            waiting = list(_waiting(store, since))
        finally:
            store.close()
        if not waiting:
            return 0
        _tell(ship, waiting)
        if timeout > 0 and not ShipLock.held_elsewhere(Path(ship["journal"])):
            drain(ship, timeout)
    except (PletError, OSError) as error:
        log.warning("runs that wait were not cancelled: %s", error)
        return 0
    return len(waiting)


def _waiting(store: Store, since: float) -> Iterator[Run]:
    after = None
    for _ in range(_PAGES_MAX):
        page = queries.list_runs(store, states=_WAITING, since=since, limit=_PAGE, after=after)
        yield from page.items
        after = page.next
        if after is None:
            return


def _tell(ship: Mapping[str, Any], waiting: list[Run]) -> None:
    writer = Writer(Path(ship["journal"]), role="producer", settings_fingerprint=str(ship["fingerprint"]))
    host = socket.gethostname()
    try:
        for run in waiting:
            facts = {"task": run.task, "queue": run.queue, "tenant": run.tenant, "queued_at": run.queued_at}
            data = {name: value for name, value in facts.items() if value is not None}
            data |= {"by": "main", "host": host, "terminated": False, "reason": REASON}
            writer.append(events.RUN_CANCELLED, run.id, None, data)
    finally:
        writer.close()
