"""The sinks of a journal and their loops, as a configuration wants them; for a shipper and for `drain`."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from plet_celery import host
from plet_celery.journal_place import JournalInfo
from plet_celery.logsink import LogFileSink
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.loops import Hooks, Pace, SinkLoop
from plet_celery.shipper.notes import Notes
from plet_celery.shipper.segments import mark_damaged
from plet_celery.sinks import Holder, Sink, StoreSink


@dataclass(frozen=True)
class Crew:
    """One loop a sink."""

    store_sink: StoreSink
    log_sink: LogFileSink
    store: SinkLoop
    logs: SinkLoop

    @property
    def loops(self) -> tuple[SinkLoop, SinkLoop]:
        """All of them."""
        return (self.store, self.logs)


def make_crew(
    config: ShipperConfig, journal: JournalInfo, fence: Callable[[], bool], store_hooks: Hooks | None = None
) -> Crew:
    """Prepare the loops; nothing is opened.

    Args:
        fence: False once another shipper has the lock.
        store_hooks: what happens around the passes of the store's loop.
    """
    from plet_celery.logfiles import LogLimits
    from plet_celery.store.limits import IngestLimits

    chosen = config.settings
    store_sink = StoreSink(
        config.database_url,
        journal,
        holder=Holder(
            host=socket.gethostname(),
            machine=host.machine_id(),
            boot=host.boot_id(),
            pid=os.getpid(),
            # Two beats may fail to come through.
            stale_after=max(chosen.lease_stale, 3 * chosen.host_beat),
        ),
        limits=IngestLimits.of(chosen),
        migrates=config.is_embedded_store,
        fence=fence,
        now=time.time,
    )
    log_sink = LogFileSink(
        config.runs,
        config.journal,
        limits=LogLimits(run_max_log_bytes=chosen.run_max_log_bytes, stage_max_files=chosen.stage_max_files),
        fence=fence,
    )
    pace = Pace(gather=chosen.gather, max_records=chosen.batch_max_records, max_bytes=chosen.batch_max_bytes)

    def loop(sink: Sink, hooks: Hooks | None = None) -> SinkLoop:
        notes = Notes(sink.name, functools.partial(mark_damaged, config.journal))
        return SinkLoop(sink, config.journal, pace=pace, fence=fence, notes=notes, hooks=hooks)

    return Crew(
        store_sink=store_sink, log_sink=log_sink, store=loop(store_sink, store_hooks), logs=loop(log_sink)
    )
