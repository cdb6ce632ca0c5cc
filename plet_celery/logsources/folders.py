"""The log folders of one run: which of its attempts are in which folder, here or in the mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.logfiles import RunLog, find_folders
from plet_celery.mirror_copies import places
from plet_celery.store import Store
from plet_celery.store.logs import journals_of
from plet_celery.store.records import Attempt

# How long after an end a file that is behind the store is waited for: it may stay so for ever.
_LAST_WORDS_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Folder:
    """A run's folder on one host."""

    key: str
    """Stands for its journal in a position."""
    kind: str
    """`file` or `mirror`."""
    log: RunLog
    attempts: list[int]
    """Ordinals, in the run, of the attempts that this host has seen to start, in their order."""

    def local(self, ordinal: int) -> int:
        """Return what this host counts an attempt of the run as; 0 where it is none of its own."""
        return self.attempts.index(ordinal) + 1 if ordinal in self.attempts else 0

    def ordinal(self, local: int) -> int:
        """Return an attempt's number in the run; the store may not know yet of those that came last."""
        if 0 < local <= len(self.attempts):
            return self.attempts[local - 1]
        return (self.attempts[-1] if self.attempts else 0) + max(0, local - len(self.attempts))


def folders_in(root: Path, names: Sequence[str]) -> list[Path]:
    """Return those of a run's log folders that can be read below a root; none where they cannot be read."""
    try:
        return find_folders(root, names) if root.is_dir() else []
    except (HomeError, OSError):
        return []


def awaits_last_words(folders: Sequence[Folder], attempts: Sequence[Attempt], now: float) -> bool:
    """Say whether the run has just ended, and this host's file is still to get lines that the store knows of.

    A shipper brings events into the store and into the files by a loop each; either may be ahead.

    Args:
        attempts: all of one run, oldest first.
    """
    newest = attempts[-1] if attempts else None
    if newest is None or newest.ended_at is None or not 0 <= now - newest.ended_at < _LAST_WORDS_SECONDS:
        return False
    for folder in folders:
        local = folder.local(newest.number)
        if local and folder.kind == "file":
            try:
                return folder.log.line_count(local) < newest.log_lines
            except (LogNotFound, HomeError, OSError):
                return False  # pruned, or not ours to read
    return False


def find_attempts(runs: Path, mirror: Path | None, store: Store, attempts: Sequence[Attempt]) -> list[Folder]:
    """Return the folders that there are of a run, with the attempts that each has.

    Args:
        runs: the root of this host's log folders.
        mirror: the shared folder with copies of other hosts' folders.
        attempts: all of one run, oldest first.
    """
    if not attempts:
        return []
    journals = journals_of(store, attempts[0].run_id)
    by_journal: dict[str, list[Attempt]] = {}
    for one in attempts:
        if one.log_folder is not None and one.id in journals:
            by_journal.setdefault(journals[one.id][0], []).append(one)

    def named(_: str, name: str) -> list[Path]:
        return [one for one in folders_in(runs, [name]) if one == runs / name]

    def copied(journal: str, name: str) -> list[Path]:
        there = places(mirror, journal) if mirror is not None else []
        return [one for place in there for one in folders_in(place, [name])]

    def similar(_: str, name: str) -> list[Path]:
        return folders_in(runs, [name])

    # A folder of the right name first; one that began with another attempt has another time in its name.
    looks: list[tuple[str, Callable[[str, str], list[Path]]]] = [
        ("file", named),
        ("mirror", copied),
        ("file", similar),
    ]
    found: dict[str, Folder] = {}
    claimed: set[Path] = set()
    for kind, look in looks:
        for journal, own in by_journal.items():
            free = [] if journal in found else look(journal, own[0].log_folder or "")
            path = next((one for one in free if one not in claimed), None)
            if path is not None:
                claimed.add(path)
                found[journal] = Folder(journal[:8], kind, RunLog(path), [one.number for one in own])
    return list(found.values())
