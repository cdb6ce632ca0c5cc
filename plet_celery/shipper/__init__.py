"""The shipper: one process per journal that drains it into every sink.

`python -m plet_celery.shipper` with a JSON document on stdin is that process; `drain` does the
same work once, here. Importing this package loads nothing else: a process that finds the lock
held has to end before it loads a database library.

| module | subject |
|---|---|
| `__main__` | the process: document, lock, output, then everything else |
| `foreground` | the shipper of `celery plet ship`: waits, stays, tells by its exit code |
| `notify` | systemd's notify protocol |
| `life` | when to go on, to drain, to step down, to leave |
| `verdict` | the decision behind it |
| `loops` | one sink's reading loop, and its back-off |
| `roster` | who writes into the journal, and who is gone |
| `losses` | attempts whose writer died |
| `neighbours` | other hosts that fell silent |
| `forsaken` | runs that wait for ever |
| `passing` | passes of the monitor, where nobody else does them |
| `segments` | fsync, retirement and quarantine of segments |
| `takeover` | replacing the lock of a frozen holder |
| `draining` | `drain` |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def drain(config: Mapping[str, Any], timeout: float) -> bool:
    """Ship everything that lies in the journal now, here or by the shipper that serves it.

    Args:
        config: what `plet.shipper_config()` returns.
        timeout: seconds to take at most.

    Returns:
        True when all of it is in the store and the log files; False when time ran out.
    """
    from plet_celery.shipper.draining import drain_now

    return drain_now(config, timeout)
