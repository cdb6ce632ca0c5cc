"""Runs that were erased: what the journal still holds of them is not written again.

A small file in the journal's directory, `erased.json`: digests of run ids, none of which can be read back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from plet_celery.events import Event
from plet_celery.logfiles.folders import replace_file
from plet_celery.logfiles.state import open_directory
from plet_celery.paths import run_digest

FILE: Final = "erased.json"
KEPT_SECONDS: Final = 90 * 86_400.0
"""A journal that nobody has read for longer may bring an erased run back into its files."""
ERASED_MAX: Final = 100_000


class Erased:
    """The digests of erased runs, with the time at which each may be forgotten."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._until: dict[str, float] | None = None

    def add(self, folder: str) -> None:
        """Refuse the run of this log folder from now on, also after a crash."""
        known = self._known()
        digest = folder[-10:]
        if digest in known:
            return
        now = time.time()
        known[digest] = now + KEPT_SECONDS
        for one in [one for one, until in known.items() if until < now]:
            del known[one]
        while len(known) > ERASED_MAX:
            del known[next(iter(known))]
        descriptor = open_directory(self._directory)
        try:
            replace_file(descriptor, FILE, msgspec.json.encode(known))
        finally:
            os.close(descriptor)

    def without(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that are not about an erased run."""
        known = self._known()
        if not known:
            return events
        refused = {run for run in {event.run for event in events} if run and run_digest(run) in known}
        return [event for event in events if event.run not in refused] if refused else events

    def _known(self) -> dict[str, float]:
        if self._until is None:
            try:
                self._until = msgspec.json.decode(
                    (self._directory / FILE).read_bytes(), type=dict[str, float]
                )
            except (FileNotFoundError, msgspec.DecodeError):
                self._until = {}
        return self._until
