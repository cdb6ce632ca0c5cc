"""The folder of a journal: who may use it, where it may lie, and what it is called.

    journal.json             {journal_id, created, machine, store_id}; made once
    w-<writer>.<number>.plj  segments
    reserve, journal.size    disk space kept for ends; size of all segments (journal_pressure.py)
    ship.lock                who ships (election.py)
    quarantine/              damaged segments that were read to their end (journal_keeping.py)

Other files may lie here; whoever lists segments passes them over.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from plet_celery.errors import JournalError
from plet_celery.host import machine_id
from plet_celery.interrupts import from_system
from plet_celery.paths import private_directory
from plet_celery.wholewrites import write_whole

FACTS_NAME: Final = "journal.json"

# Locks and appends of another host's cache are not ours to see there, and a hung server would hang tasks.
_FOREIGN_FILESYSTEMS: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "coda", "davfs"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "gfs2"),
        *("fuse", "fuseblk", "virtiofs", "vboxsf", "prl_fs", "hgfs", "drvfs"),
    )
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """A journal folder that was checked."""

    directory: Path
    journal_id: str
    """32 hex digits, minted with the folder."""
    machine: str = ""
    """`host.machine_id()` of the machine that made it."""
    created: float = 0.0
    """Wall time, seconds since the epoch."""
    store_id: str | None = None
    """The store this journal belongs to, once it was shipped there."""


class _Facts(msgspec.Struct):
    journal_id: str
    created: float = 0.0
    machine: str = ""
    store_id: str | None = None


def open_journal(directory: Path) -> JournalInfo:
    """Create the folder of a journal (0700) or check an existing one, and return what it says of itself.

    Raises:
        HomeError: it is not a directory, belongs to another user, is writable by others or not by us.
        JournalError: it lies on a network or FUSE file system, or its `journal.json` is unreadable.
    """
    refuse_foreign_filesystem(directory)
    private_directory(directory)
    refuse_foreign_filesystem(directory)
    facts = directory / FACTS_NAME
    if not facts.exists():
        _write_new(facts, _Facts(secrets.token_hex(16), time.time(), machine_id()))
    return read_journal(directory)


def read_journal(directory: Path) -> JournalInfo:
    """Return what an existing journal says of itself.

    Raises:
        JournalError: there is no `journal.json`, or it is not ours to understand.
    """
    file = directory / FACTS_NAME
    try:
        facts = msgspec.json.decode(file.read_bytes(), type=_Facts)
    except OSError as error:
        if not from_system(error):
            raise
        raise JournalError(f"{str(directory)!r} is no journal ({FACTS_NAME}: {error.strerror})") from None
    except msgspec.MsgspecError as error:
        raise JournalError(
            f"{str(file)!r} is damaged ({error}); move {str(directory)!r} away to start a new journal"
        ) from None
    return JournalInfo(directory, facts.journal_id, facts.machine, facts.created, facts.store_id)


def remember_store(directory: Path, store_id: str) -> None:
    """Bind a journal to its store: at another store its positions mean nothing.

    Raises:
        JournalError: it is bound to another store (says both ids and the way out).
    """
    found = read_journal(directory)
    if found.store_id == store_id:
        return
    if found.store_id is not None:
        raise JournalError(
            f"journal {str(directory)!r} belongs to store {found.store_id}, not to {store_id}; set "
            "plet_database_url back, or set plet_home to a new folder"
        )
    _replace(directory / FACTS_NAME, _Facts(found.journal_id, found.created, found.machine, store_id))


def refuse_foreign_filesystem(path: Path, mounts: str | None = None) -> None:
    """Check that `path`, or the nearest existing folder above it, lies on a local file system.

    Args:
        mounts: the content of /proc/self/mountinfo; read from there by default.

    Raises:
        JournalError: a network or FUSE file system; flock and append are not dependable there.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return  # Not Linux: nothing tells us, and the usual places are local.
    kind = filesystem_of(Path(os.path.realpath(path)), mounts)
    if kind in _FOREIGN_FILESYSTEMS or kind.startswith("fuse."):
        raise JournalError(
            f"{str(path)!r} lies on {kind!r}, where locks and appends are not dependable; "
            "set plet_home to a folder on a local disk"
        )


def filesystem_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds `path` (absolute), or an empty text if unknown."""
    found, best = "", -1
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        # The later of two mounts on one point hides the earlier.
        if len(point) >= best and path.is_relative_to(point):
            found, best = kinds[0], len(point)
    return found


def _write_new(file: Path, facts: _Facts) -> None:
    draft = _draft(file, facts)
    try:
        # link, not rename: of two processes that open a new journal at once, the first one's id stays.
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def _replace(file: Path, facts: _Facts) -> None:
    _draft(file, facts).replace(file)


def _draft(file: Path, facts: _Facts) -> Path:
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, msgspec.json.encode(facts) + b"\n")
        os.fsync(descriptor)
    except BaseException:
        # Whoever cannot write it now, on a full disk, comes again every half minute.
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return draft
