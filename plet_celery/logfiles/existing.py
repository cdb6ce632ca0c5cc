"""Finds the folder that a run already has on this host, and reads what its files tell.

A retry or redelivery continues the folder of the first attempt; after a start without a trusted
state (the state file was lost, or the machine stopped at once) any run may have one.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.events import Event
from plet_celery.logfiles import index
from plet_celery.logfiles.folders import names_in, open_to_read, opened_folder
from plet_celery.logfiles.state import Run, State
from plet_celery.logfiles.trace import CAPPED, read_event
from plet_celery.logfiles.volumes import INDEX, LOG, TRACE
from plet_celery.paths import run_digest, tenant_folder

TENANTS_MAX: Final = 64
NAMES_MAX: Final = 200_000
"""Folder names remembered per tenant: the newest, for retries follow soon."""
_BLOCK: Final = 1 << 20
_TOLD_MAX: Final = 4
_STAGE_FILE: Final = re.compile(r"stage_[0-9]+_.*\.log")


class Existing:
    """The log folders on disk."""

    def __init__(self, root: Path, state: State) -> None:
        self._root = root
        self._state = state
        self._names: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._told: OrderedDict[str, set[tuple[str, int, int]]] = OrderedDict()

    def find(self, started: Event) -> Run | None:
        """Return the run of a `run.started` as its files have it; None when it has no folder here."""
        data = started.data
        uncertain = started.wall <= self._state.uncertain_until
        if not (uncertain or data.get("retries") or data.get("redelivered")):
            return None
        run = Run(id=started.run or "", cold=uncertain)
        tenant = str(tenant_folder(str(data.get("tenant") or "")))
        try:
            name = self._tenant(tenant).get(run_digest(run.id))
            if name is None:
                return None
            run.folder = f"{tenant}/{name}"
            return run if self.survey(run) else None
        except HomeError:
            return None  # something strange: writing there will be refused

    def made(self, folder: str) -> None:
        """Remember a folder that is about to be made."""
        tenant, _, name = folder.rpartition("/")
        names = self._names.get(tenant)
        if names is not None:
            names[name[-10:]] = name
            while len(names) > NAMES_MAX:
                del names[next(iter(names))]

    def survey(self, run: Run) -> bool:
        """Take the sizes of a run's files from disk; tell whether the folder is there.

        Files that do not fit together, or whose attempts overlap, leave `run.entries` at 0: the log
        must be made again from the trace.
        """
        try:
            with opened_folder(self._root, run.folder or "") as folder:
                sizes = {name: _size(folder, name) for name in (LOG, INDEX, TRACE)}
                run.stages = {
                    name: _size(folder, name) for name in names_in(folder) if _STAGE_FILE.fullmatch(name)
                }
                last = _last_entry(folder, sizes[INDEX])
        except LogNotFound:
            return False
        run.trace = sizes[TRACE]
        if last is not None and last.end == sizes[LOG] and last.flags & index.VALID and not last.is_mixed:
            run.log, run.entries = sizes[LOG], sizes[INDEX] // index.SIZE
            run.attempts_made = last.attempt
        return True

    def events(self, run: Run) -> Iterator[tuple[Event | None, int]]:
        """Yield what the trace tells, with the offset behind each line; ends at the first damaged one.

        None stands for a line of our own that is no event.
        """
        try:
            with opened_folder(self._root, run.folder or "") as folder:
                descriptor = open_to_read(folder, TRACE)
        except (LogNotFound, FileNotFoundError, HomeError):
            return
        with open(descriptor, "rb", buffering=_BLOCK) as file:
            at = 0
            for line in file:
                at += len(line)
                event = read_event(line)
                if not line.endswith(b"\n") or (event is None and not _is_ours(line)):
                    return
                yield event, at

    def holds(self, run: Run, event: Event) -> bool:
        """Tell whether the run's trace already has this event."""
        told = self._told.get(run.id)
        if told is None:
            told = {one.position for one, _ in self.events(run) if one is not None}
            self._told[run.id] = told
            while len(self._told) > _TOLD_MAX:
                self._told.popitem(last=False)
        return event.position in told

    def _tenant(self, tenant: str) -> dict[str, str]:
        names = self._names.get(tenant)
        if names is None:
            names = self._names[tenant] = self._list(tenant)
            while len(self._names) > TENANTS_MAX:
                self._names.popitem(last=False)
        self._names.move_to_end(tenant)
        return names

    def _list(self, tenant: str) -> dict[str, str]:
        try:
            with opened_folder(self._root, tenant) as folder:
                names = [name for name in names_in(folder) if len(name) > 26]
        except LogNotFound:
            return {}
        names.sort()  # names begin with the time
        return {name[-10:]: name for name in names[-NAMES_MAX:]}


def _is_ours(line: bytes) -> bool:
    return f'"event.action":"{CAPPED}"'.encode() in line


def _size(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _last_entry(folder: int, size: int) -> index.Entry | None:
    if size < index.SIZE or size % index.SIZE:
        return None
    descriptor = open_to_read(folder, INDEX)
    try:
        return index.unpack(os.pread(descriptor, index.SIZE, size - index.SIZE))
    finally:
        os.close(descriptor)
