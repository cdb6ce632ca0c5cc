"""Home, journal and run folders: are they there, whose are they, on what disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plet_celery.doctor.finding import Finding, Level
from plet_celery.errors import JournalError
from plet_celery.journal_place import filesystem_of, refuse_foreign_filesystem
from plet_celery.terminal.text import size

_DOCS: Final = "docs/production.md#files-and-who-may-read-them"
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What the system says of a folder."""

    path: Path
    exists: bool
    is_folder: bool = False
    owner: int = -1
    mode: int = 0
    writable: bool = False
    """By this process."""
    filesystem: str = ""
    refused: str = ""
    """Why a journal cannot lie here, such as a network file system."""
    free_bytes: int = 0
    total_bytes: int = 0


def look_at(path: Path) -> Folder:
    """Return the facts of a folder; of the nearest one above it, where it is missing, those of the disk.

    Raises:
        OSError: the system does not let us look.
    """
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = os.statvfs(place)
    try:
        refuse_foreign_filesystem(path)
        refused = ""
    except JournalError as error:
        refused = str(error)
    facts = Folder(
        path=path,
        exists=place == path,
        filesystem=_filesystem(place),
        refused=refused,
        free_bytes=disk.f_bavail * disk.f_frsize,
        total_bytes=disk.f_blocks * disk.f_frsize,
    )
    if not facts.exists:
        return facts
    found = path.stat()
    return Folder(
        **{
            **vars(facts),
            "is_folder": stat.S_ISDIR(found.st_mode),
            "owner": found.st_uid,
            "mode": stat.S_IMODE(found.st_mode),
            "writable": os.access(path, os.W_OK | os.X_OK),
        }
    )


def decide_folder(name: str, folder: Folder, *, uid: int, private: bool) -> Finding:
    """Say what a folder's facts mean.

    Args:
        name: `home`, `journal` or `runs`.
        uid: of this process.
        private: it must be ours alone, as a journal; else it must only be writable.
    """
    check, path = f"places.{name}", str(folder.path)
    data = {"path": path, "filesystem": folder.filesystem, "mode": f"{folder.mode:o}"}

    def finding(level: Level, text: str, fix: str = "") -> Finding:
        docs = _DOCS if level > Level.NOTE else ""
        return Finding(check=check, level=level, text=text, fix=fix, docs=docs, data=data)

    if folder.refused and private:
        return finding(Level.ERROR, folder.refused, "set plet_home to a folder on a local disk")
    if not folder.exists:
        return finding(Level.NOTE, f"{path} is not there yet: nothing was recorded here")
    if not folder.is_folder:
        return finding(Level.ERROR, f"{path} is a file", "remove it, or set plet_home elsewhere")
    if private and folder.owner != uid:
        fix = "run this as the workers' user, or set plet_home to a folder of this user"
        return finding(Level.ERROR, f"{path} belongs to uid {folder.owner}, this process is uid {uid}", fix)
    if folder.mode & 0o022:
        text = f"{path} is writable by others (mode {folder.mode:o})"
        return finding(Level.ERROR if private else Level.WARNING, text, f"chmod go-w {path}")
    if not folder.writable:
        return finding(
            Level.ERROR, f"{path} is not writable by uid {uid}", "make it writable, or set plet_home"
        )
    if folder.filesystem in _IN_MEMORY and private:
        text = f"{path} lies in memory ({folder.filesystem}): what is not stored is gone after a restart"
        return finding(Level.WARNING, text, "set plet_home to a folder on a disk, or a pod's emptyDir")
    kind = f" · {folder.filesystem}" if folder.filesystem else ""
    return finding(Level.OK, f"{path}{kind}")


def decide_disk(folder: Folder, *, min_free_bytes: int, min_free_percent: float) -> Iterator[Finding]:
    """Say whether recording sheds because the disk is nearly full, or soon will."""
    if not folder.total_bytes:
        return
    floor = max(min_free_bytes, int(folder.total_bytes * min_free_percent / 100))
    free, limit = size(folder.free_bytes), size(floor)
    data = {"free_bytes": folder.free_bytes, "total_bytes": folder.total_bytes, "floor_bytes": floor}
    docs = "docs/production.md#what-to-watch"
    if folder.free_bytes < floor:
        yield Finding(
            check="places.disk",
            level=Level.ERROR,
            text=f"{free} free, below {limit}: recording drops log lines and progress",
            fix="free some space, or lower plet_min_free_bytes and plet_min_free_percent",
            docs=docs,
            data=data,
        )
    elif folder.free_bytes < 2 * floor:
        yield Finding(
            check="places.disk",
            level=Level.WARNING,
            text=f"{free} free; below {limit} recording drops log lines and progress",
            fix="free some space, or keep runs for a shorter time (plet_retention_days)",
            docs=docs,
            data=data,
        )
    else:
        yield Finding(check="places.disk", level=Level.OK, text=f"{free} free", data=data)


def _filesystem(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return filesystem_of(Path(os.path.realpath(path)), mounts)
