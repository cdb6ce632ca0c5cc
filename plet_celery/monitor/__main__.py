"""A pass as a process: `python -m plet_celery.monitor --once`, the configuration as JSON on stdin.

For a shipper, when nobody else passes. It imports no app of the user's. The document is one line; whoever
started it keeps the pipe open, and when that end is closed, because that process is gone, this one ends at
once: a pass may end anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from typing import Final

LATE: Final = 75
"""Exit code: it took longer than it may, or whoever started it is gone."""
UNAVAILABLE: Final = 69
"""Exit code: the store cannot be used."""
INCOMPLETE: Final = 1
"""Exit code: a step failed; the log says which."""
_USAGE: Final = (
    "usage: python -m plet_celery.monitor --once, with the configuration as JSON on stdin; "
    "for people: celery -A proj plet monitor\n"
)


def main() -> int:
    """Do one pass; 0 also where somebody else does."""
    if sys.argv[1:] != ["--once"]:
        sys.stderr.write(_USAGE)
        return 2
    document = json.loads(_read_line())
    _end_with(float(document.get("seconds", 60.0)))

    from plet_celery.errors import StoreError
    from plet_celery.monitor.config import MonitorConfig
    from plet_celery.monitor.output import set_up_logging
    from plet_celery.monitor.passes import Ended
    from plet_celery.monitor.running import pass_once

    set_up_logging()
    log = logging.getLogger("plet_celery.monitor")
    config = MonitorConfig.from_document(document)
    if not config.is_on:
        return 0
    try:
        outcome = pass_once(config, kind="shipper")
    except StoreError as error:
        log.error("no pass: %s", error)
        return UNAVAILABLE
    if outcome.ended is Ended.INCOMPLETE:
        log.warning("pass is not complete: troubles=%s", "; ".join(outcome.troubles))
    return INCOMPLETE if outcome.ended is Ended.INCOMPLETE else 0


def _read_line() -> bytes:
    """Return the document: up to the end of its line, and no byte more."""
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _end_with(seconds: float) -> None:
    """End this process when its time is over, or when the other end of the pipe is closed."""
    deadline = time.monotonic() + seconds
    threading.Thread(target=_watch, args=(deadline,), name="plet-deadline", daemon=True).start()


def _watch(deadline: float) -> None:
    while (rest := deadline - time.monotonic()) > 0:
        if select.select([0], [], [], rest)[0] and not os.read(0, 1 << 16):
            break
    # Not sys.exit: the pass may hang in a library, and another one takes up what is left.
    os._exit(LATE)


if __name__ == "__main__":
    sys.exit(main())
