"""One journal file while its writer has it open: made, locked, let go of.

The lock on the file (flock) is the writer's sign of life: whoever obtains it knows that nothing more will
be written. It goes with the last descriptor, so a fork child must close its copies, and never unlock.

Appends take no lock. Instead each one enters its number in `users` while it holds the descriptor's
number, and looks again whether the segment is still the current one. Letting go of a segment that has
users puts a read-only descriptor in its place: a write that already runs in the kernel ends well and
keeps the lock until then; a late one gets EBADF and goes to the next segment, never into a foreign file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Container
from pathlib import Path
from typing import Final

from plet_celery.interrupts import from_system
from plet_celery.journal_format import salt_of, segment_name

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A reader that probes the lock holds it for microseconds; one that was stopped right then must not stop us.
_LOCK_TRIES: Final = 20
_LOCK_PAUSE: Final = 0.001


class OpenSegment:
    """A file that this process appends to. Reading the descriptor back is only for repairs."""

    __slots__ = ("fd", "limit", "number", "path", "repairing", "salt", "size", "users")

    def __init__(self, directory: Path, writer: str, number: int, limit: int) -> None:
        self.number = number
        self.path = directory / segment_name(writer, number)
        self.salt = salt_of(writer, number)
        self.limit = limit
        self.size = 0
        self.fd = -1
        self.repairing = False
        self.users: dict[int, None] = {}
        """Numbers of the appends that may be about to write: several with threads or signal handlers."""

    def create(self) -> None:
        """Make the file and lock it.

        Raises:
            FileExistsError: this number is taken.
            BlockingIOError: somebody holds the lock of the new file.
            OSError: the folder or the disk does not let us.
        """
        self.fd = os.open(self.path, _FLAGS, 0o600)
        os.fchmod(self.fd, 0o600)
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if attempt + 1 == _LOCK_TRIES:
                    raise
            time.sleep(_LOCK_PAUSE)

    def cut_off(self, record: bytes, written: int) -> bool:
        """Remove the first `written` bytes of a record that did not fit; False if that is not safe.

        Only safe while no other append may stand behind them; then the segment has to be let go of,
        and readers count the piece as damaged.
        """
        if len(self.users) > 1:
            return False
        size = os.fstat(self.fd).st_size
        if os.pread(self.fd, written, size - written) != record[:written]:
            return False
        os.ftruncate(self.fd, size - written)
        return True

    def ends_with(self, record: bytes) -> bool:
        """Say whether the file ends with this record, as far as that can be found out."""
        try:
            size = os.fstat(self.fd).st_size
            return os.pread(self.fd, len(record), max(0, size - len(record))) == record
        except OSError as error:
            if not from_system(error):
                raise
            return False

    def release(self) -> bool:
        """Give up file and lock; True when the descriptor's number is free again.

        Raises:
            OSError: no descriptor is left to put in its place; call it again later.
        """
        if self.fd < 0:
            return True
        if not self.users:
            # The number first: a second call must not close what somebody else opened meanwhile.
            fd, self.fd = self.fd, -1
            os.close(fd)
            return True
        stand_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.dup2(stand_in, self.fd, inheritable=False)
        finally:
            os.close(stand_in)
        return False


def sync_file(path: Path) -> None:
    """Bring a file or a folder to the disk.

    Raises:
        OSError: it is gone, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_lost_descriptors(directory: Path, writer: str, known: Container[int]) -> None:
    """Close every descriptor with which this process could write to a segment of `writer`, but `known` ones.

    One gets lost when an exception strikes right behind the system call that opened it, or when this
    process was forked while another thread was just opening it: that copy would keep the parent's lock
    for as long as the child lives.

    Raises:
        OSError: the folder is gone, or a descriptor could not be closed.
    """
    # Strict: else it takes for a missing file what a user's signal handler raises here, a TimeoutError say.
    prefix = f"{os.path.realpath(directory, strict=True)}/w-{writer}."
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all we need
        fd = int(name)
        if fd in known:
            continue
        try:
            shown = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
            # Readers of this process may have the file open, too: theirs is for reading only.
            if shown.startswith(prefix) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
                os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise
