"""The shipper as a process: `python -m plet_celery.shipper`, the configuration as JSON on stdin.

The lock is taken before anything heavy is loaded, and by this process itself: when another shipper
serves the journal, this one is gone (exit 0) before it cost more than an interpreter's start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plet_celery.election import ShipLock


def main() -> int:
    """Run until there is nothing left to do; 0 also when another shipper serves."""
    document = json.load(sys.stdin.buffer)
    if "foreground" in document:
        from plet_celery.shipper.foreground import serve

        return serve(document)
    directory = Path(document["journal"])
    lock = take_lock(directory, document.get("take_over"))
    if lock is None:
        return 0

    from plet_celery.shipper.bell import Bell
    from plet_celery.shipper.output import Output, set_up_logging

    bell = Bell()
    bell.install()
    output = Output(directory)
    output.open()
    set_up_logging()

    from plet_celery.shipper.config import ShipperConfig
    from plet_celery.shipper.life import Shipper

    Shipper(ShipperConfig.from_document(document), lock, bell, output).run()
    return 0


def take_lock(directory: Path, take_over: Mapping[str, Any] | None) -> ShipLock | None:
    """Return the held lock, or None if another shipper has it.

    Args:
        take_over: `{"beat": …}`, the beat of a frozen holder whose lock is to be replaced.
    """
    if take_over is None:
        lock = ShipLock(directory)
        return lock if lock.acquire() else None
    from plet_celery.shipper.takeover import seize

    return seize(directory, take_over["beat"])


if __name__ == "__main__":
    sys.exit(main())
