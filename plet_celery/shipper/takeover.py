"""Take the lock of a holder that is frozen and cannot be seen from here (another pid namespace).

Nothing is killed. The lock file is replaced by a new one that is already locked: the old holder, once
it runs again, finds that its file is no longer the one at that path and steps down before its next
batch. What it had begun is fenced where it lands: the store by the lease's epoch, the log files by
the lengths they must have before each append.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from plet_celery import presence
from plet_celery.election import ShipLock

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SeizedLock(ShipLock):
    """The right to ship, held by a new file in the place of the frozen holder's."""

    def seize(self) -> bool:
        """Replace the lock file; of two that do it at once, the later one stays.

        Raises:
            OSError: the journal's folder cannot be written.
        """
        fresh = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        self._fd = os.open(fresh, _FLAGS, 0o600)
        try:
            # Locked before it has the name: nobody ever finds it free.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._describe()
            fresh.replace(self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            self.close()
            raise
        return self.still_mine()


def seize(directory: Path, beat: Mapping[str, Any] | None) -> ShipLock | None:
    """Take the lock from a frozen holder; None if it has shown a sign of life since.

    Args:
        beat: the newest beat as the one who found the holder frozen had seen it.
    """
    lock = SeizedLock(directory)
    if lock.acquire():
        return lock
    frozen = msgspec.convert(beat, presence.Beat) if beat is not None else None
    if presence.read_beat(directory) != frozen or not lock.seize():
        lock.close()
        return None
    return lock
