"""A shipper whose sinks keep their checkpoints apart from their data: the negative control.

The store's positions are committed before its rows, the log files' after their lines. A kill in
between loses rows and doubles lines; a test that does not notice that proves nothing. The time in
between is drawn out, so that a kill at a random point falls into it on any machine.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

from plet_celery import logsink, sinks
from plet_celery.journal_reader import Batch

BETWEEN = 0.05


def positions_first(apply: Any) -> Any:
    def careless(sink: Any, batch: Batch, now: float) -> None:
        apply(sink, replace(batch, events=[]), now)
        time.sleep(BETWEEN)
        apply(sink, replace(batch, positions={}), now)

    return careless


def positions_last(apply: Any) -> Any:
    def careless(sink: Any, batch: Batch, now: float) -> None:
        apply(sink, replace(batch, positions={}), now)
        time.sleep(BETWEEN)
        apply(sink, replace(batch, events=[]), now)

    return careless


if __name__ == "__main__":
    setattr(sinks.StoreSink, "apply", positions_first(sinks.StoreSink.apply))  # noqa: B010
    setattr(logsink.LogFileSink, "apply", positions_last(logsink.LogFileSink.apply))  # noqa: B010
    from plet_celery.shipper.__main__ import main

    sys.exit(main())
