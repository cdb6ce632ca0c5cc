"""How full the disk and the journal are, and what is not written any more because of it.

Near a cap, kinds of events go in the order of `events.Shed`: debug logs, logs, progress, custom events.
Starts and ends are written to the last byte, and then from a reserve file that is given up for them.
A stage's last shed progress is not lost: the event of its end repeats the values.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from plet_celery.events import Shed
from plet_celery.interrupts import from_system

RESERVE_NAME: Final = "reserve"
SIZE_NAME: Final = "journal.size"
DISK_FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

# Seconds between two looks at the disk, and at the sizes of the journal's files (one stat a file).
_LOOK_EVERY: Final = 1.0
_SIZES_EVERY: Final = 5.0
# After a full disk only starts and ends are tried for this long.
_FULL_FOR: Final = 5.0

# Used share of the journal's cap, and free share of the required space, at which a kind goes.
_SHED_AT_USED: Final = ((1.0, Shed.CUSTOM), (0.95, Shed.PROGRESS), (0.9, Shed.LOG), (0.85, Shed.DEBUG_LOG))
_SHED_AT_FREE: Final = ((0.4, Shed.CUSTOM), (0.6, Shed.PROGRESS), (0.8, Shed.LOG), (1.0, Shed.DEBUG_LOG))

REASONS: Final = {
    Shed.DEBUG_LOG: "shed_debug_log",
    Shed.LOG: "shed_log",
    Shed.PROGRESS: "shed_progress",
    Shed.CUSTOM: "shed_custom",
    Shed.END: "disk_full",
}
"""Under which name a shed event is counted."""


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """The caps of a writer; the defaults are those of the settings of the same names."""

    segment_max_bytes: int = 8 << 20
    journal_max_bytes: int = 1 << 30
    min_free_bytes: int = 1 << 30
    min_free_percent: float = 5.0
    durability: Literal["none", "terminal"] = "none"
    """`terminal`: the event that ends an attempt is on the disk when `append` returns."""
    reserve_bytes: int = 8 << 20
    """Disk space set aside for starts and ends; 0 for none."""


class Pressure:
    """The shedding level of one writer; asks the disk at most once a second."""

    def __init__(self, directory: Path, limits: WriterLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._sizes_at = 0.0
        self._journal_bytes = 0
        self._full_until = 0.0
        self._reserve_gone = False
        self.level: int = 0
        """Events whose `Shed` is at most this are dropped."""
        self.next_look = 0.0
        """Monotonic time before which `look` need not be called."""

    def look(self, now: float) -> None:
        """Measure the disk and the journal (monotonic `now`), and set `level`.

        Raises:
            OSError: the folder cannot be asked, or is not ours alone any more.
        """
        self.next_look = now + _LOOK_EVERY
        disk = os.statvfs(self._directory)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        if now >= self._sizes_at:
            check_private(self._directory)
            self._sizes_at = now + _SIZES_EVERY
            self._journal_bytes = shared_journal_bytes(self._directory, time.time())
            self._keep_reserve(free)
        if now < self._full_until or self._reserve_gone:
            self.level = Shed.CUSTOM
            return
        self.level = shed_level(self._limits, used=self._journal_bytes, free=free, total=total)

    def disk_is_full(self, now: float) -> None:
        """Take note of a write that found no space: only starts and ends for a while."""
        self._full_until = now + _FULL_FOR
        self.next_look = now + _LOOK_EVERY
        self._sizes_at = 0.0
        self._reserve_gone = self._limits.reserve_bytes > 0
        self.level = Shed.CUSTOM

    def release_reserve(self) -> bool:
        """Give up the reserve file; True if there was one.

        Raises:
            OSError: it is there and cannot be removed.
        """
        try:
            (self._directory / RESERVE_NAME).unlink()
        except FileNotFoundError:
            return False
        return True

    def _keep_reserve(self, free: int) -> None:
        size = self._limits.reserve_bytes
        file = self._directory / RESERVE_NAME
        if not size or file.exists():
            self._reserve_gone = False
            return
        # As much again stays free, else the new reserve would be the next thing to be given up.
        if free < 2 * size:
            return
        try:
            _allocate(file, size)
        except OSError as error:
            if not from_system(error):
                raise
            return
        self._reserve_gone = False


def shed_level(limits: WriterLimits, *, used: int, free: int, total: int) -> int:
    """Return the highest `Shed` that is dropped, 0 for none.

    Args:
        used: bytes of the journal's segments.
        free: bytes free on its disk.
        total: size of that disk in bytes.
    """
    # Ends may pass the cap by the reserve's size, and no further: the disk stays bounded.
    if used >= limits.journal_max_bytes + max(limits.reserve_bytes, limits.journal_max_bytes // 100):
        return Shed.END
    required = max(limits.min_free_bytes, total * limits.min_free_percent / 100)
    levels = [0]
    levels += [level for share, level in _SHED_AT_USED if used >= share * limits.journal_max_bytes]
    levels += [level for share, level in _SHED_AT_FREE if free < share * required]
    return max(levels)


def shared_journal_bytes(directory: Path, now: float) -> int:
    """Return the size of all segments, as some process measured it in the 5 s before wall `now`, or we do.

    Shared by a file: with a child per task, and thousands of files, each child's measuring would cost
    more than its task.

    Raises:
        OSError: the folder cannot be listed.
    """
    file = directory / SIZE_NAME
    try:
        if 0 <= now - file.stat(follow_symlinks=False).st_mtime < _SIZES_EVERY:
            text = file.read_bytes().strip()
            if text.isdigit():
                return int(text)
        # First, so that of many processes that come now only one measures.
        os.utime(file)
    except OSError as error:
        if not from_system(error):
            raise
    total = journal_bytes(directory)
    note_journal_bytes(directory, total)
    return total


def note_journal_bytes(directory: Path, total: int) -> None:
    """Tell other processes the size of all segments, as it was just measured."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(directory / SIZE_NAME, flags, 0o600)
        try:
            # One width, in place: whoever reads meanwhile reads the old or the new one.
            os.pwrite(descriptor, b"%020d\n" % total, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not from_system(error):
            raise


def journal_bytes(directory: Path) -> int:
    """Return the size of all segments of a journal, whoever wrote them."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith(".plj"):
                continue
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # Its shipper removed it meanwhile.
    return total


def check_private(directory: Path) -> None:
    """Check, before a file is made in it, that a journal's folder is still ours alone.

    Raises:
        OSError: it is missing, no folder, or not ours alone.
    """
    found = os.stat(directory)  # noqa: PTH116 - every task process comes by here
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "belongs to another user or is writable by others", str(directory))


def _allocate(file: Path, size: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
