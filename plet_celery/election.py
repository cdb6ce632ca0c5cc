"""Who ships a journal: whoever holds the lock on `ship.lock`.

The lock goes with the process, however it ends. The file is never removed: two files of one name would be
two locks. What is written into it is for people who ask who holds it; nothing decides by it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import weakref
from pathlib import Path
from typing import Final

from plet_celery.host import boot_id

log = logging.getLogger(__name__)

LOCK_NAME: Final = "ship.lock"

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# Somebody who only asks (held_elsewhere) holds the lock for microseconds; they do not count as a holder.
_TRIES: Final = 5
_PAUSE: Final = 0.005


class ShipLock:
    """The right to ship one journal, while this process lives. A fork child never has it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._fd = -1
        self._opening = False
        _locks.add(self)

    def acquire(self) -> bool:
        """Take the lock; False, without waiting, when another process has it.

        Raises:
            OSError: the file cannot be opened.
        """
        if self._fd >= 0:
            return self.still_mine()
        self._opening = True
        self._fd = os.open(self.path, _FLAGS, 0o600)
        self._opening = False
        if self._obtain() and self.still_mine():
            self._describe()
            return True
        self.close()
        return False

    def still_mine(self) -> bool:
        """Say whether the file we hold is still the one of that name (somebody may have removed it)."""
        if self._fd < 0:
            return False
        try:
            named = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)

    def close(self) -> None:
        """Give the lock up; nothing, if it is not held."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    @staticmethod
    def held_elsewhere(directory: Path) -> bool:
        """Say whether some process holds the lock of this journal (also this one, by another `ShipLock`)."""
        try:
            fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _obtain(self) -> bool:
        for attempt in range(_TRIES):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if attempt + 1 < _TRIES:
                    time.sleep(_PAUSE)
        return False

    def _describe(self) -> None:
        facts = {"pid": os.getpid(), "created": time.time(), "boot": boot_id()}
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(facts).encode() + b"\n", 0)
        except OSError as error:  # a full disk: the lock is held all the same, it only says less
            log.debug("ship.lock is not described: path=%s error=%s", self.path, error)

    def _close_in_child(self) -> None:
        # Closed, never unlocked: unlocking would take it from the parent.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        elif self._opening:
            _close_descriptors_of(self.path)
        self._opening = False


def _close_descriptors_of(path: Path) -> None:
    """Close what another thread of the parent had opened, but not yet told us, when this child was forked."""
    try:
        wanted = path.stat(follow_symlinks=False)
        numbers = [int(name.name) for name in Path("/proc/self/fd").iterdir()]
    except OSError:
        return
    for number in numbers:
        try:
            found = os.fstat(number)
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                os.close(number)
        except OSError:
            continue  # The descriptor of the listing itself.


_locks: weakref.WeakSet[ShipLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._close_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
