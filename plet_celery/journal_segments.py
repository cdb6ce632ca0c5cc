"""The files one process writes, one after the other: the first one, rotation, letting go.

One append at a time changes files, the others go on with what is there (or wait a moment for the first
one). Taking turns is a dictionary, not a lock: it is given back by statements without a call in them,
where no asynchronous exception can strike, so the turn cannot be lost.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from plet_celery import host
from plet_celery.errors import JournalError
from plet_celery.events import FORMAT, WRITER_STARTED
from plet_celery.journal_format import Header, Record, encode, frame
from plet_celery.journal_place import read_journal
from plet_celery.journal_pressure import check_private
from plet_celery.journal_segment import OpenSegment, close_lost_descriptors, sync_file

# How long an append waits for another thread that is just opening the first file.
_WAIT: Final = 0.25
_WAIT_STEP: Final = 0.0005


class Segments:
    """The open files of one writer id; a fork child makes a new one.

    Args:
        limit: size in bytes at which a file is full.
        durable: bring each new file's name to the disk.
        describe: returns the header for a writer id that was just minted.
        numbers: the writer's counter.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int,
        durable: bool,
        describe: Callable[[], Header],
        numbers: Iterator[int],
    ) -> None:
        self._directory = directory
        self._limit = limit
        self._durable = durable
        self._describe = describe
        self._numbers = numbers
        self._header: Header | None = None
        self._next = 1
        self._turn: dict[str, tuple[int, object]] = {}
        self._held: dict[int, OpenSegment] = {}
        self._unbooked = False
        """A descriptor may be open that `_held` does not show."""
        self.writer: str | None = None
        """The writer id: 32 hex digits, minted with the first file."""
        self.current: OpenSegment | None = None
        """The file to append to."""
        self.unswept = False
        """An earlier file still has to be let go of."""

    @property
    def busy(self) -> bool:
        """Somebody is just changing files."""
        return bool(self._turn)

    def change(self) -> None:
        """Open the first file or the next one, and let go of earlier ones, unless another append is at it.

        Raises:
            OSError: no file can be made; `current` is what it was.
        """
        mine = (threading.get_ident(), object())
        turn = self._turn
        try:
            if turn.setdefault("holder", mine) is mine:
                self._change()
        finally:
            # No call in here, see above.
            if "holder" in turn and turn["holder"] is mine:
                del turn["holder"]

    def await_other(self) -> None:
        """Give another thread that is opening the first file the moment it takes.

        Not to the thread that was interrupted in the middle of it by this very append: it cannot go on.
        """
        holder = self._turn.get("holder")
        if holder is None or holder[0] == threading.get_ident():
            return
        deadline = time.monotonic() + _WAIT
        while self._turn.get("holder") is holder and time.monotonic() < deadline:
            time.sleep(_WAIT_STEP)

    def let_go(self, segment: OpenSegment) -> None:
        """Write no more to this file; the next `change` opens another one."""
        if self.current is segment:
            self.current = None
        self.unswept = True

    def forget(self, segment: OpenSegment) -> None:
        """The descriptor was closed by somebody else: its number may be theirs now, and stays untouched."""
        segment.fd = -1
        self.let_go(segment)

    def leave_removed(self) -> None:
        """Write no more to a file that somebody has removed: what goes there, nobody finds.

        Raises:
            OSError: the file cannot be asked.
        """
        current = self.current
        if current is not None and not os.fstat(current.fd).st_nlink:
            self.let_go(current)

    def close_all(self, *, in_child: bool) -> None:
        """Give up all files. In a fork child, this closes its copies; the parent's locks stay.

        Raises:
            OSError: a descriptor could not be closed; the rest was.
        """
        self.current = None
        for number in list(self._held):
            self._held.pop(number).release()
        if in_child and self._unbooked and self.writer is not None:
            close_lost_descriptors(self._directory, self.writer, ())

    def _change(self) -> None:
        if self.current is None or self.current.size >= self.current.limit:
            segment = self._open()
            self.unswept = True
            self.current = segment
        if self.unswept:
            self._sweep()

    def _open(self) -> OpenSegment:
        check_private(self._directory)
        if self.writer is None:
            self._header = self._describe()
            self.writer = os.urandom(16).hex()
        segment = self._create(self.writer)
        try:
            self._write_header(segment)
        except OSError:
            # It holds no event: the number is used again, so that no reader misses a file. Emptied first,
            # for a reader that has it open.
            os.ftruncate(segment.fd, 0)
            segment.path.unlink(missing_ok=True)
            segment.release()
            raise
        self._next = segment.number + 1
        if self._durable:
            sync_file(self._directory)
        return segment

    def _create(self, writer: str) -> OpenSegment:
        if self._unbooked:
            close_lost_descriptors(self._directory, writer, {segment.fd for segment in self._held.values()})
        while True:
            segment = OpenSegment(self._directory, writer, self._next, self._limit)
            # In the books before it exists: whatever strikes from here on, the next sweep closes it.
            self._held[segment.number] = segment
            self.unswept = self._unbooked = True
            try:
                segment.create()
            except FileExistsError:
                # Ours, and abandoned when an asynchronous exception struck.
                self._next += 1
                continue
            self._unbooked = False
            return segment

    def _write_header(self, segment: OpenSegment) -> None:
        header = encode(self._header)
        core = encode(Record(FORMAT, WRITER_STARTED, next(self._numbers), time.time(), time.monotonic()))
        record = frame(b'%b,"d":%b}' % (core[:-1], header), segment.salt)
        if os.write(segment.fd, record) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment.path))
        segment.size = len(record)

    def _sweep(self) -> None:
        for number in list(self._held):
            segment = self._held[number]
            if segment is self.current:
                continue
            self._unbooked = True
            if segment.release():
                del self._held[number]
            self._unbooked = False
        # What has users left is out of their way; it only waits for its number to be free.
        self.unswept = False


def describe_process(directory: Path, *, settings: str, role: str, parent: str | None) -> Header:
    """Return the header of this process for a journal."""
    try:
        journal = read_journal(directory).journal_id
    except JournalError:
        journal = ""  # The record is worth more than its label; readers know the journal from its folder.
    return Header(
        plet=plet_version(),
        settings=settings,
        journal=journal,
        host=socket.gethostname(),
        boot=host.boot_id(),
        pid=os.getpid(),
        started=round(host.process_started(), 3),
        role=role,
        parent=parent,
    )


@functools.cache
def plet_version() -> str:
    """Return the installed version of this package, `0` when it runs without being installed."""
    try:
        return metadata.version("plet-celery")
    except metadata.PackageNotFoundError:
        return "0"
