"""Copies of the log folders in a shared folder, so that a log outlives its host.

    <plet_mirror>/<host slug>_<8 hex of the journal id>/<tenant slug>/<folder of the run>/…

Each shipper copies its own folders, in a thread of its own that nobody waits for: a mirror that hangs
or is full delays neither store nor log files. The copy is its own checkpoint: a file there is a
prefix of the file here, or is made anew. Nothing is copied through a link.
For who reads or removes copies: `mirror_copies.py`.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logfiles.folders import (
    names_in,
    open_to_read,
    open_to_write,
    opened_folder,
    remove_ours,
    replace_file,
)
from plet_celery.logfiles.index import SIZE
from plet_celery.logfiles.state import open_directory
from plet_celery.mirror_copies import Origin, check_there, place_name, places, remove_copy
from plet_celery.wholewrites import write_whole

log = logging.getLogger(__name__)

CHECKPOINT: Final = "mirror.json"
DIRTY_MAX: Final = 10_000
"""Changed folders that are remembered; with more of them all are looked through."""
_LOOK: Final = 1.0
_LOOK_AGAIN: Final = 30.0
_BACKOFF_MAX: Final = 60.0
_LOG_EVERY: Final = 20
_BLOCK: Final = 1 << 20
_COMPARED: Final = 4096
# Times of files come from the host's clock, which may be put back a little.
_MARGIN: Final = 120.0
_DEPTH_MAX: Final = 9
_RUN = re.compile(r"\d{8}_\d{6}_.+_[0-9a-f]{10}")
_FILE = re.compile(r"run\.log|run\.idx|trace\.jsonl|(stage|tail)_[0-9]+_.*\.(log|idx)")

Key = tuple[str, str]
"""(journal id, folder)"""


class Stopped(Exception):
    """The shipper ends; what is left is copied by the next one."""


class _Checkpoint(msgspec.Struct):
    root: str
    clean_until: float
    """All that was written before this time has been copied."""


class Mirror:
    """Keeps the copies of one journal's log folders.

    Args:
        root: the shared folder; it must exist, or nothing is copied: a share that is not mounted
            must not fill the disk below it.
        runs: the root of the log folders.
        state_directory: the journal's, for the checkpoint.
    """

    def __init__(self, root: Path, runs: Path, state_directory: Path, origin: Origin) -> None:
        self.root = root
        self.failures = 0
        self.error = ""
        self.copied_bytes = 0
        self._runs = runs
        self._directory = state_directory
        self._origin = origin
        self._lock = threading.Lock()
        self._dirty: dict[str, None] = {}
        self._must_look = True
        self._asked: dict[Key, bool] = {}
        """Copies to remove; True once they are gone."""
        self._refused: set[tuple[str, str]] = set()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._stopping = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="plet-mirror", daemon=True)

    # From other threads; none of these touches the mirror

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float, *, finish: bool = False) -> bool:
        """End; a mirror that hangs is not waited for longer than `timeout`. False: it is left behind.

        Args:
            finish: copy first what has changed, if that can be done in time.
        """
        self._stopping = self._stopping or not finish
        self._ending.set()
        self._wake.set()
        self._thread.join(max(0.0, timeout))
        self._stopping = True
        return not self._thread.is_alive()

    def note(self, folders: Collection[str]) -> None:
        """Copy these folders soon."""
        with self._lock:
            self._dirty.update(dict.fromkeys(folders))
            if len(self._dirty) > DIRTY_MAX:
                self._dirty.clear()
                self._must_look = True
        if folders:
            self._wake.set()

    def has_removed(self, journal_id: str, folder: str) -> bool:
        """Ask for the removal of a copy; True once it is gone. Ask again until then."""
        key = (journal_id, folder)
        with self._lock:
            if self._asked.get(key):
                del self._asked[key]
                return True
            if len(self._asked) >= DIRTY_MAX:
                # Those of a silent journal may be answered by another shipper: nobody asks for them again.
                self._asked = {one: done for one, done in self._asked.items() if not done}
            if len(self._asked) < DIRTY_MAX:
                self._asked.setdefault(key, False)
        self._wake.set()
        return False

    def facts(self) -> dict[str, Any]:
        """Return what the beat says of the mirror."""
        with self._lock:
            behind = len(self._dirty)
        since = self._busy_since
        busy = time.monotonic() - since if since is not None else 0.0
        return {
            "behind": behind,
            "failures": self.failures,
            "error": self.error,
            "busy": round(busy, 1),
            "bytes": self.copied_bytes,
        }

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._busy_since = time.monotonic()
            try:
                self.turn()
            except Stopped:
                return
            except Exception as error:
                delay = self._failed(error)
                if self._ending.wait(delay):
                    return
                continue
            finally:
                self._busy_since = None
            self._recovered()
            if self._ending.is_set() and not self._wake.is_set():
                return
            # A run that writes line by line is copied once a second.
            if self._wake.wait(_LOOK_AGAIN):
                self._ending.wait(_LOOK)

    def turn(self) -> None:
        """Copy what has changed and remove what is to go; what fails is tried again later."""
        place = self._place()
        self._remove()
        if self._must_look:
            self._look()
        began = time.time()
        while True:
            with self._lock:
                folder = next(iter(self._dirty), None)
                if folder is None:
                    break
                del self._dirty[folder]
            try:
                self._copy(place, folder)
            except Stopped:
                self.note([folder])
                raise
            except HomeError as error:
                # Something strange in the place of a folder or file: not tried again before it changes.
                self._refuse("log folder is not copied to the mirror: folder=%s reason=%s", folder, error)
            except OSError:
                self.note([folder])
                raise
        self._save(began)

    def _look(self) -> None:
        """Find what has changed since the checkpoint; what does not fit is looked for again."""
        known = self._load()
        since = known.clean_until - _MARGIN if known is not None else 0.0
        self._must_look = False
        for folder in changed_folders(self._runs, since):
            self._check()
            with self._lock:
                if len(self._dirty) >= DIRTY_MAX:
                    self._must_look = True
                    return
                self._dirty[folder] = None

    def _place(self) -> Path:
        check_there(self.root)
        found = places(self.root, self._origin.journal_id)
        place = found[0] if found else self.root / place_name(self._origin)
        if not found:
            place.mkdir(0o700)
            place.chmod(0o700)  # whatever the umask
        return place

    def _copy(self, place: Path, folder: str) -> None:
        try:
            with (
                opened_folder(self._runs, folder) as here,
                opened_folder(place, folder, create=True) as there,
            ):
                names = sorted(
                    filter(_FILE.fullmatch, names_in(here)), key=lambda name: name.endswith(".idx")
                )
                for name in names:
                    self._copy_file(here, there, name)
                for name in set(names_in(there)) - set(names):
                    remove_ours(there, name)
        except LogNotFound:
            return  # removed meanwhile

    def _copy_file(self, here: int, there: int, name: str) -> None:
        try:
            source = open_to_read(here, name)
        except FileNotFoundError:
            return
        try:
            target = open_to_write(there, name, new=True)
            try:
                end = _whole(source, name)
                at = os.fstat(target).st_size
                if at > end or not _same_before(source, target, at):
                    # Rewritten here: readers keep the old copy until the new one is whole.
                    os.close(target)
                    target = -1
                    target = self._anew(there, name)
                    self._append(source, target, 0, end)
                    os.rename(f"{name}.new", name, src_dir_fd=there, dst_dir_fd=there)
                else:
                    self._append(source, target, at, end)
            finally:
                if target >= 0:
                    os.close(target)
        finally:
            os.close(source)

    def _anew(self, there: int, name: str) -> int:
        remove_ours(there, f"{name}.new")
        return open_to_write(there, f"{name}.new", new=True)

    def _append(self, source: int, target: int, at: int, end: int) -> None:
        while at < end:
            self._check()
            block = os.pread(source, min(_BLOCK, end - at), at)
            if not block:
                return
            whole = block.rfind(b"\n") + 1
            if 0 < whole < len(block) and at + len(block) < end:
                block = block[:whole]
            try:
                write_whole(target, block, at)
            except OSError:
                os.ftruncate(target, at)  # a full disk leaves half a line
                raise
            at += len(block)
            self.copied_bytes += len(block)

    def _remove(self) -> None:
        with self._lock:
            asked = [key for key, done in self._asked.items() if not done]
        for journal_id, folder in asked:
            self._check()
            with self._lock:
                self._dirty.pop(folder, None)
            try:
                remove_copy(self.root, journal_id, folder)
            except HomeError as error:
                self._refuse("copy in the mirror is not removed: folder=%s reason=%s", folder, error)
                continue
            with self._lock:
                self._asked[journal_id, folder] = True

    def _refuse(self, message: str, folder: str, error: HomeError) -> None:
        """Say once that a folder is left alone: a run may write to it, or be asked for, every few seconds."""
        if (message, folder) not in self._refused and len(self._refused) < DIRTY_MAX:
            self._refused.add((message, folder))
            log.error(message, folder, error)

    def _failed(self, error: Exception) -> float:
        self.failures += 1
        self.error = f"{type(error).__name__}: {error}"
        delay = min(_BACKOFF_MAX, 0.5 * 2.0 ** min(self.failures - 1, 10)) * (0.5 + random.random() / 2)
        if self.failures % _LOG_EVERY == 1:
            log.warning(
                "mirror failed, nothing else waits for it: failures=%d retry_in=%.1fs error=%s",
                self.failures,
                delay,
                self.error,
                exc_info=None if isinstance(error, OSError | HomeError) else error,
            )
        return delay

    def _recovered(self) -> None:
        if self.failures:
            log.info("mirror works again: failures=%d", self.failures)
            self.failures, self.error = 0, ""

    def _check(self) -> None:
        if self._stopping:
            raise Stopped

    def _load(self) -> _Checkpoint | None:
        try:
            found = msgspec.json.decode((self._directory / CHECKPOINT).read_bytes(), type=_Checkpoint)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if found.root == str(self.root) else None

    def _save(self, clean_until: float) -> None:
        descriptor = open_directory(self._directory)
        try:
            replace_file(
                descriptor, CHECKPOINT, msgspec.json.encode(_Checkpoint(str(self.root), clean_until))
            )
        finally:
            os.close(descriptor)


def changed_folders(runs: Path, since: float) -> Iterator[str]:
    """Yield the run folders (relative) that have a file written since a wall time."""
    yield from _changed(runs, "", since, 0)


def _changed(runs: Path, below: str, since: float, depth: int) -> Iterator[str]:
    try:
        with os.scandir(runs / below) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        relative = f"{below}/{name}" if below else name
        if _RUN.fullmatch(name) and below:
            if _is_newer(runs / relative, since):
                yield relative
        elif depth < _DEPTH_MAX:
            yield from _changed(runs, relative, since, depth + 1)


def _is_newer(folder: Path, since: float) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.stat(follow_symlinks=False).st_mtime >= since for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _whole(source: int, name: str) -> int:
    """Return how much of a file is whole lines, or whole entries of an index."""
    size = os.fstat(source).st_size
    if name.endswith(".idx"):
        return size - size % SIZE
    at = size
    while at > 0:
        first = max(0, at - _BLOCK)
        found = os.pread(source, at - first, first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        at = first
    return 0


def _same_before(source: int, target: int, end: int) -> bool:
    """Tell whether the copy ends as the file does there."""
    first = max(0, end - _COMPARED)
    return os.pread(source, end - first, first) == os.pread(target, end - first, first)
