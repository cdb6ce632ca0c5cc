"""`python -m plet_celery.embedded.watcher TOKEN JOURNAL SINCE [FOLDER…]`: ends a stack whose owner died.

Its standard input is a pipe that only the owner holds: the pid of each part on a line, and a final
`.` when the owner has cleaned up. Without that it was killed, and the parts are ended here. A
process of its own, because neither a thread nor PR_SET_PDEATHSIG survives the owner and reaches
what the parts have spawned.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path


def main() -> None:
    token, journal, since, *folders = sys.argv[1:]
    # It must outlive whatever ends the others; the end of the pipe ends it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from plet_celery.embedded.family import Family

    family = Family(token, journal=Path(journal) if journal else None, since=float(since))
    for line in os.fdopen(0, "r", encoding="ascii"):
        if line == ".":
            return
        family.adopt(int(line))
    family.end(patience=5.0)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
