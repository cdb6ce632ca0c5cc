"""Removes what has expired or was erased: this journal's log folders, and now and then rows of the store.

In a thread of its own with a connection of its own, one small transaction after the other: the loops
of the sinks never wait for it. Only folders that the store names are removed, and only below the
root of the log folders.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from plet_celery.errors import HomeError, PletError, SchemaError, StoreError
from plet_celery.logfiles.folders import listed
from plet_celery.settings import Settings
from plet_celery.store import Store, clockwatch, open_store, removal, retention
from plet_celery.store.refusals import ERASED
from plet_celery.store.removal import Part
from plet_celery.store.retention import Bounds, Report

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
FIRST_PRUNE_SECONDS: Final = 60.0
PARTS_AT_ONCE: Final = 200
PASS_SECONDS: Final = 30.0
_UNASKED_SECONDS: Final = 3600.0
_LOG_EVERY: Final = 100


class Folders(Protocol):
    """Who may remove log folders: the log files' sink."""

    def remove(self, folder: str, *, for_good: bool) -> bool:
        """See `LogFileSink.remove`."""
        ...


class Copying(Protocol):
    """Who may remove copies of log folders: the mirror."""

    def has_removed(self, journal_id: str, folder: str) -> bool:
        """See `Mirror.has_removed`."""
        ...


class Remover:
    """One journal's part in removals.

    Args:
        journal_id: the journal's.
        runs: the root of the log folders.
        mirror: where copies lie; None when there are none.
        fence: False once another shipper has the lock.
    """

    def __init__(
        self,
        *,
        journal_id: str,
        runs: Path,
        folders: Folders,
        mirror: Copying | None,
        fence: Callable[[], bool],
    ) -> None:
        self.journal_id = journal_id
        self._runs = runs
        self._folders = folders
        self._mirror = mirror
        self._fence = fence
        self._refused: set[str] = set()
        self._after = ("", "")

    def turn(self, store: Store) -> int:
        """Remove what the store asks for, at most `PARTS_AT_ONCE` runs; return how many were done.

        Raises:
            StoreError, OSError: try again later; what was done may be done again.
        """
        found = removal.parts(store, journals=[self.journal_id], after=self._after, limit=PARTS_AT_ONCE)
        # Those that cannot be removed must not keep others from their turn.
        self._after = (found[-1].journal_id, found[-1].digest) if len(found) == PARTS_AT_ONCE else ("", "")
        done = self._here([part for part in found if part.here])
        removal.acknowledge(store, done, mirror=False)
        settled = {part.digest for part in done}
        copies = [part for part in found if part.mirror and (not part.here or part.digest in settled)]
        gone = [part for part in copies if self._has_removed_copy(part)]
        removal.acknowledge(store, gone, here=False)
        return len(done) + len(gone)

    def turn_for_others(self, store: Store, patience: float) -> int:
        """Remove copies of journals that nobody has shipped for `patience` seconds."""
        journals = removal.silent_journals(store, patience) if self._mirror is not None else []
        if not journals:
            return 0
        found = removal.parts(store, journals=journals, mirror_only=True, limit=PARTS_AT_ONCE)
        gone = [part for part in found if self._has_removed_copy(part)]
        removal.acknowledge(store, gone, here=False)
        return len(gone)

    def _here(self, found: list[Part]) -> list[Part]:
        done = []
        names: dict[str, dict[str, list[str]]] = {}
        for part in found:
            if not self._fence():
                return []
            try:
                self._remove(part, names)
            except HomeError as error:
                self._refuse(part, error)
            else:
                done.append(part)
        return done

    def _remove(self, part: Part, names: dict[str, dict[str, list[str]]]) -> None:
        tenant, _, name = part.folder.rpartition("/")
        if tenant not in names:
            names[tenant] = _by_digest(listed(self._runs, tenant))
        # A folder whose time differs, because this host saw another attempt first, has the same digest.
        present = names[tenant].get(name[-11:], [])
        for one in present:
            self._folders.remove(f"{tenant}/{one}", for_good=part.reason == ERASED)
        if not present and part.reason == ERASED:
            self._folders.remove(part.folder, for_good=True)

    def _has_removed_copy(self, part: Part) -> bool:
        return self._mirror is None or self._mirror.has_removed(part.journal_id, part.folder)

    def _refuse(self, part: Part, error: HomeError) -> None:
        """Leave a folder in whose place something strange lies; said once."""
        if part.folder not in self._refused and len(self._refused) < 10_000:
            self._refused.add(part.folder)
            log.error("log folder is not removed: folder=%s reason=%s", part.folder, error)


class Removal:
    """The thread: looks every five seconds, prunes every `plet_prune_every`."""

    def __init__(self, database_url: str, settings: Settings, remover: Remover) -> None:
        self._url = database_url
        self._every = settings.prune_every
        self._bounds = Bounds.of(settings)
        self._remover = remover
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._prune_at = self._began + min(FIRST_PRUNE_SECONDS, self._every or FIRST_PRUNE_SECONDS)
        self._look = min(LOOK_SECONDS, max(0.5, self._every or LOOK_SECONDS))
        self._failures = 0
        self._checked = False
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name="plet-removal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the transaction under way; not waited for longer than `timeout`."""
        self._stop.set()
        self._thread.join(max(0.0, timeout))

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # This thread only (Linux): whoever records goes first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            store = open_store(self._url)
        except StoreError as error:
            # For good: only another process has another URL. The store's sink goes on telling it.
            log.warning("nothing can be removed by this shipper: error=%s", error)
            return
        try:
            wait = self._look
            while not self._stop.wait(wait * random.uniform(0.8, 1.2)):
                wait = self._turn(store)
        finally:
            store.close()

    def _turn(self, store: Store) -> float:
        try:
            self._check(store)
            done = self._remover.turn(store)
            if time.monotonic() >= self._prune_at:
                self._prune_at = time.monotonic() + self._prune(store)
        except Exception as error:
            self._checked = False
            self._failures += 1
            if self._failures % _LOG_EVERY == 1:
                expected = isinstance(error, OSError | PletError)
                log.warning(
                    "nothing can be removed now: failures=%d error=%s",
                    self._failures,
                    error,
                    exc_info=None if expected else error,
                )
            return min(60.0, LOOK_SECONDS * self._failures)
        self._failures = 0
        return 0.1 if done >= PARTS_AT_ONCE else self._look

    def _check(self, store: Store) -> None:
        """Leave tables of another version alone, as the store's sink does."""
        if not self._checked:
            status = store.check_schema()
            if not status.is_current:
                raise SchemaError(
                    f"the store's schema is {status.current!r}, this version needs {status.head!r}"
                )
            self._checked = True

    def _prune(self, store: Store) -> float:
        """Do a pass if one is due; return the seconds until the next look."""
        every = self._every or _UNASKED_SECONDS
        ago = clockwatch.seconds_since_last(store)
        if ago is not None and 0 <= ago < every:
            return min(every - ago + 1.0, every)
        self._remover.turn_for_others(store, self._bounds.patience)
        if not self._every:
            # What time it is is left behind all the same: the command asks for it.
            clockwatch.check(store, wall=time.time())
            return every
        report = retention.prune(
            store,
            self._bounds,
            holder=f"shipper {self._remover.journal_id}",
            wall=time.time(),
            seconds=PASS_SECONDS,
            stopped=self._rests,
        )
        self._tell(report)
        return every if report.complete and not report.busy else min(every, 60.0)

    def _rests(self) -> bool:
        """Rest as long as was worked, between two transactions; tell whether to stop."""
        worked = min(time.monotonic() - self._began, 1.0)
        stopped = self._stop.wait(worked)
        self._began = time.monotonic()
        return stopped

    def _tell(self, report: Report) -> None:
        if report.paused != self._said:
            self._said = report.paused
            if report.paused is not None:
                log.warning("nothing expires now: reason=%s", report.paused)
        if report.marked or report.removed:
            log.info(
                "expired runs: marked=%d removed=%d waiting=%d", report.marked, report.removed, report.waiting
            )


def _by_digest(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name[-11:], []).append(name)
    return found
