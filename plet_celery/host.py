"""Which machine this is and since when: machine id, boot id, start of this process.

Not for measuring (that is `resources.py`): these facts only tell one host, boot and process from another.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import time
from pathlib import Path
from typing import Final

from plet_celery.interrupts import from_system

_MACHINE_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
# About when this program began: a fork child was made later, a program that was replaced knows nothing of it.
_LOADED: Final = time.time()
# Field 22 of /proc/self/stat, counted behind the command name, which may hold blanks.
_START_FIELD: Final = 19


@functools.cache
def machine_id() -> str:
    """Return 16 hex digits that stand for this machine; a hash, because the machine id itself is private.

    Without a machine id (many containers) the host's name takes its place. `PLET_MACHINE_ID` wins over
    both: containers of one image may have one machine id in common.
    """
    chosen = os.environ.get("PLET_MACHINE_ID", "").strip()
    if chosen:
        return hashlib.sha256(f"plet-machine:{chosen}".encode()).hexdigest()[:16]
    for file in _MACHINE_ID_FILES:
        text = _content(file)
        if text:
            return hashlib.sha256(f"plet:{text}".encode()).hexdigest()[:16]
    return hashlib.sha256(f"plet-host:{socket.gethostname()}".encode()).hexdigest()[:16]


@functools.cache
def boot_id() -> str:
    """Return the kernel's id of this boot, or an empty text where there is none."""
    return _content(_BOOT_ID_FILE)


def process_started() -> float:
    """Return the wall time at which this process was made, seconds since the epoch; now where unknown.

    A worker that restarts itself (SIGHUP) stays the same process with a new program: then, the time at
    which that one began.
    """
    now = time.time()
    fields = _content(Path("/proc/self/stat")).rpartition(")")[2].split()
    if len(fields) <= _START_FIELD:
        return now
    since_boot = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
    made = now - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    return max(made, _LOADED)


def busy_seconds() -> float:
    """Return for how long the threads of this process have computed, or stood in line for a processor.

    What is missing between two calls, they were blocked: by a disk, a lock, or because they wanted to sleep.
    """
    waited = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            fields = _content(thread / "schedstat").split()
            waited += int(fields[1]) if len(fields) == 3 else 0
    except FileNotFoundError:
        pass  # Not Linux: only the computing counts.
    return time.process_time() + waited / 1e9


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        if not from_system(error):
            raise
        return ""
