"""The files of a journal from outside: which there are, whether one is still written, how one goes.

Only the shipper removes segments; a writer never touches a file that it has let go of.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from plet_celery.journal_format import parse_segment_name

QUARANTINE_NAME: Final = "quarantine"
QUARANTINE_MAX_BYTES: Final = 64 << 20
QUARANTINE_MAX_FILES: Final = 100

# A writer locks a file right after making it; an empty unlocked one is that young, or was abandoned.
_EMPTY_FOR: Final = 10.0
_OURS = re.compile(r"w-.*|.*\.plj")


@dataclass(frozen=True, slots=True)
class Segment:
    """One journal file."""

    writer: str
    number: int
    path: Path
    size: int
    modified: float = 0.0
    """Wall time of the last write."""


@dataclass(slots=True)
class Listing:
    """What lies in a journal's folder."""

    segments: list[Segment] = field(default_factory=list)
    """By writer, then by number."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Names that only look like segments: `name`, `symlink`, `kind`, `owner` or `links` says why."""


def list_journal(directory: Path, sealed: Mapping[str, Segment] = MappingProxyType({})) -> Listing:
    """Return the segments of a journal, and what only looks like one; empty when the folder is missing.

    Args:
        sealed: segments by file name that are known not to change any more; they are not asked again.
    """
    listing = Listing()
    try:
        owner = directory.stat().st_uid
        entries = os.scandir(directory)
    except FileNotFoundError:
        return listing
    with entries:
        for entry in entries:
            known = sealed.get(entry.name)
            if known is not None:
                listing.segments.append(known)
            elif _OURS.fullmatch(entry.name):
                _list_one(listing, directory, entry, owner)
    listing.segments.sort(key=lambda segment: (segment.writer, segment.number))
    return listing


def _list_one(listing: Listing, directory: Path, entry: os.DirEntry[str], owner: int) -> None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    name = parse_segment_name(entry.name)
    reason = _reason_against(found, owner) if name else "name"
    if reason or name is None:
        listing.ignored[entry.name] = reason
    else:
        path = directory / entry.name
        listing.segments.append(Segment(*name, path, found.st_size, found.st_mtime))


def segments(directory: Path) -> list[Segment]:
    """Return the segments of a journal, by writer, then by number."""
    return list_journal(directory).segments


def open_segment(segment: Segment) -> int:
    """Return a read-only descriptor of a segment; the caller closes it.

    Raises:
        OSError: it is gone, or it is not the plain file of the journal's owner that was listed.
    """
    descriptor = os.open(segment.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        reason = _reason_against(os.fstat(descriptor), segment.path.parent.stat().st_uid)
        if reason:
            raise PermissionError(f"{str(segment.path)!r} is no journal file any more ({reason})")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_written(segment: Segment, *, newest: bool = True) -> bool:
    """Say whether a process still has this segment open for writing.

    Args:
        newest: it is its writer's last one. Only then may an empty file be one that is just being locked.
    """
    try:
        descriptor = open_segment(segment)
    except OSError:
        return False
    try:
        # Shared, so that two who ask do not take each other for the writer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        return newest and not found.st_size and time.time() - found.st_mtime < _EMPTY_FOR
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def is_gone(directory: Path, writer: str) -> bool:
    """Say whether a writer will never write again: no segment of it is open for writing, or none is left."""
    while True:
        own = [segment for segment in segments(directory) if segment.writer == writer]
        if any(is_written(segment, newest=segment is own[-1]) for segment in reversed(own)):
            return False
        # It may have rotated while we looked: a new file is there before the old one is let go of.
        later = [segment for segment in segments(directory) if segment.writer == writer]
        if not later or (own and later[-1].number == own[-1].number):
            return True


def retire_segment(segment: Segment) -> int:
    """Remove a segment that is sealed and was passed by every sink; return the bytes freed.

    Removing it twice is no error: 0 bytes.
    """
    try:
        segment.path.unlink()
    except FileNotFoundError:
        return 0
    return segment.size


def quarantine_segment(directory: Path, segment: Segment) -> int:
    """Move a damaged segment that was read to its end to `quarantine/`; return how many older files gave way.

    The folder holds at most 100 files and 64 MiB; the oldest go first. A segment that is gone already is
    no error.
    """
    quarantine = directory / QUARANTINE_NAME
    quarantine.mkdir(mode=0o700, exist_ok=True)
    try:
        segment.path.rename(quarantine / segment.path.name)
    except FileNotFoundError:
        return 0
    return _trim(quarantine)


def _trim(quarantine: Path) -> int:
    found = [(file.stat(), file) for file in quarantine.iterdir()]
    files = sorted(found, key=lambda pair: pair[0].st_mtime_ns)
    total, removed = sum(facts.st_size for facts, _ in files), 0
    while files and (len(files) > QUARANTINE_MAX_FILES or total > QUARANTINE_MAX_BYTES):
        facts, oldest = files.pop(0)
        oldest.unlink()
        total, removed = total - facts.st_size, removed + 1
    return removed


def _reason_against(found: os.stat_result, owner: int) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "symlink"
    if not stat.S_ISREG(found.st_mode):
        return "kind"
    if found.st_uid != owner:
        return "owner"
    return "links" if found.st_nlink > 1 else ""
