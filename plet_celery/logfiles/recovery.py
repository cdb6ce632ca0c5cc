"""Brings the files back to the checkpoint at start: longer ones are cut, shorter ones reported."""

from __future__ import annotations

import contextlib
import enum
import os
from pathlib import Path

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logfiles import index
from plet_celery.logfiles.folders import open_to_write, opened_folder, remove_ours
from plet_celery.logfiles.state import Run
from plet_celery.logfiles.volumes import INDEX, LOG, TRACE, part_names


def cut_back(root: Path, folder: str, name: str, size: int) -> None:
    """Undo what a batch that did not finish wrote to a file: cut it to `size`; 0 removes it."""
    try:
        with opened_folder(root, folder) as descriptor:
            if size == 0:
                remove_ours(descriptor, name)
            else:
                _cut(descriptor, name, size)
        if size == 0:
            _remove_empty(root, folder)
    except (LogNotFound, FileNotFoundError, HomeError):
        return  # never made, gone since, or refused while the batch was written


class Found(enum.Enum):
    """What is left of a run's files."""

    WHOLE = enum.auto()
    SHORT = enum.auto()
    GONE = enum.auto()
    """The folder itself is not there."""


def examine(root: Path, run: Run, *, thorough: bool) -> Found:
    """Cut a run's files to the checkpoint; tell whether they hold all that it says.

    Args:
        thorough: look at the last bytes, too; a file system may leave zeros after a power cut.
    """
    try:
        with opened_folder(root, run.folder or "") as folder:
            for name, size in _sizes(run).items():
                if size and _cut(folder, name, size) < size:
                    return Found.SHORT
            return Found.SHORT if thorough and not _ends_well(folder, run) else Found.WHOLE
    except LogNotFound:
        return Found.GONE
    except FileNotFoundError:
        return Found.SHORT
    except HomeError:
        return Found.WHOLE  # not ours to judge; the next batch that writes there is refused


def _remove_empty(root: Path, folder: str) -> None:
    """Remove the folder of a run that the undone batch began; tenant folders stay."""
    tenant, _, name = folder.rpartition("/")
    with opened_folder(root, tenant) as descriptor, contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=descriptor)  # fails where other files are


def _sizes(run: Run) -> dict[str, int]:
    sizes = {LOG: run.log, INDEX: run.entries * index.SIZE, TRACE: run.trace, **run.stages}
    for attempt in run.attempts:
        for volume in attempt.volumes:
            log, entries = part_names(attempt.number, volume.number)
            sizes[log], sizes[entries] = volume.log, volume.entries * index.SIZE
    return sizes


def _cut(folder: int, name: str, size: int) -> int:
    """Cut a file to at most `size`; return the length that it had."""
    descriptor = open_to_write(folder, name, new=False)
    try:
        found = os.fstat(descriptor).st_size
        if found > size:
            os.ftruncate(descriptor, size)
        return found
    finally:
        os.close(descriptor)


def _ends_well(folder: int, run: Run) -> bool:
    for name, size in ((LOG, run.log), (TRACE, run.trace)):
        if size and _read(folder, name, size - 1, 1) != b"\n":
            return False
    if not run.entries:
        return True
    last = index.unpack(_read(folder, INDEX, (run.entries - 1) * index.SIZE, index.SIZE))
    return last.end == run.log and bool(last.flags & index.VALID)


def _read(folder: int, name: str, offset: int, length: int) -> bytes:
    descriptor = open_to_write(folder, name, new=False)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)
