"""Files that grow by batches: appended in memory, written once, undone by cutting.

A batch may be killed at any point. Before the first byte of a batch is written, the undo record
names every file it may touch with its length; the checkpoint is replaced after the last byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logfiles.folders import OpenFiles, open_to_write, opened_folder, remove_file
from plet_celery.wholewrites import write_whole

SPILL_BYTES: Final = 8 << 20
"""A file's pending bytes are written before the batch ends when they pass this."""


class Shrunk(Exception):
    """A file is shorter than the checkpoint says (power cut, or somebody cut or removed it)."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(f"log file {folder}/{name} is shorter than its checkpoint")
        self.folder = folder
        self.name = name


class Unusable(Exception):
    """Something strange lies in the place of a folder or file; see `Files.unusable`."""


class Growing:
    """One file of the batch: what is on disk, and what is still to be written."""

    def __init__(self, folder: str, name: str, size: int) -> None:
        self.folder = folder
        self.name = name
        self.start = size
        """Length before the batch."""
        self.written = size
        self.pending = bytearray()

    @property
    def size(self) -> int:
        """Length after the batch, as far as it is known."""
        return self.written + len(self.pending)


class Files:
    """The files touched by the batch under way.

    Args:
        secure: called with the names and lengths before the batch, before anything is written.
    """

    def __init__(self, root: Path, secure: Callable[[list[tuple[str, str, int]]], None]) -> None:
        self._root = root
        self._secure = secure
        self._open = OpenFiles(root)
        self._touched: dict[tuple[str, str], Growing] = {}
        self._secured = 0

    def growing(self, folder: str, name: str, size: int) -> Growing:
        """Return the file as this batch sees it; `size` is its length before the batch."""
        key = (folder, name)
        found = self._touched.get(key)
        if found is None:
            found = self._touched[key] = Growing(folder, name, size)
        return found

    def spill(self, file: Growing) -> None:
        """Write what is pending when it is much."""
        if len(file.pending) >= SPILL_BYTES:
            self._secure_all()
            self._write(file)

    def read(self, file: Growing, offset: int, length: int) -> bytes:
        """Return bytes of a file as this batch sees it."""
        if offset >= file.written:
            at = offset - file.written
            return bytes(file.pending[at : at + length])
        descriptor, _ = self._descriptor(file)
        found = os.pread(descriptor, min(length, file.written - offset), offset)
        if len(found) < length and offset + len(found) == file.written:
            found += bytes(file.pending[: length - len(found)])
        return found

    def discard(self, folder: str, name: str) -> bool:
        """Forget a file that the batch no longer wants; tell whether it may exist on disk."""
        found = self._touched.get((folder, name))
        if found is None:
            return True
        found.pending.clear()
        if found.written == 0:
            del self._touched[folder, name]
            self._secured = -1
            return False
        return True

    def flush(self) -> None:
        """Write everything, one write per file.

        Raises:
            Shrunk: a file is shorter than it was after the last batch; nothing is written to it.
            OSError: the disk is full or broken.
        """
        touched = [file for file in self._touched.values() if file.pending]
        if touched:
            self._secure_all()
        # Folder by folder; the index last, so that what it names is there. (The sort is stable.)
        touched.sort(key=lambda file: file.folder)
        for file in touched:
            self._write(file)

    def unusable(self) -> dict[str, str]:
        """Return the folders of this batch that cannot be used, with the reason."""
        found: dict[str, str] = {}
        for file in list(self._touched.values()):
            try:
                with opened_folder(self._root, file.folder, create=True) as folder:
                    os.close(open_to_write(folder, file.name, new=file.written == 0))
            except HomeError as error:
                found[file.folder] = str(error)
            except FileNotFoundError:
                continue  # removed: that is damage, not refusal
        return found

    def folders(self) -> set[str]:
        """Return the folders of the batch under way."""
        return {folder for folder, _ in self._touched}

    def done(self) -> None:
        """Begin the next batch."""
        self._touched.clear()
        self._secured = 0
        self._open.leave()

    def forget(self, folder: str, name: str) -> None:
        """Close a file that is about to be removed or replaced."""
        self._open.forget(folder, name)

    def remove(self, folder: str, name: str) -> None:
        """Remove a file; it, or its folder, may be gone already."""
        self._open.forget(folder, name)
        try:
            with opened_folder(self._root, folder) as descriptor:
                remove_file(descriptor, name)
        except (LogNotFound, HomeError):
            return

    def close(self) -> None:
        """Close all descriptors."""
        self.done()
        self._open.close()

    def _secure_all(self) -> None:
        if self._secured != len(self._touched):
            self._secure([(file.folder, file.name, file.start) for file in self._touched.values()])
            self._secured = len(self._touched)

    def _write(self, file: Growing) -> None:
        descriptor, size = self._descriptor(file)
        if size < file.written:
            raise Shrunk(file.folder, file.name)
        if size > file.written:
            # Left by a batch that was cut off, or by a stranger: not in the checkpoint, so not ours.
            os.ftruncate(descriptor, file.written)
        write_whole(descriptor, file.pending, file.written)
        file.written += len(file.pending)
        file.pending = bytearray()

    def _descriptor(self, file: Growing) -> tuple[int, int]:
        try:
            return self._open.descriptor(file.folder, file.name, size=file.written)
        except FileNotFoundError:
            raise Shrunk(file.folder, file.name) from None
        except HomeError as error:
            raise Unusable(str(error)) from error
