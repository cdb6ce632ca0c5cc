"""Runs that were put together for one answer and serve the next, as long as their rows are the same.

A run's row counts its changes and those of all below it: of rows with the same count everything is the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from plet_celery.store.records import Run

Place = tuple[Any, ...]
"""journal_id, change_seq and version of a run's row."""
Made = tuple[Run, str | None]
"""A run as its rows tell, and the journal that a running one runs in."""

_KEPT_MAX: Final = 1000


class KeptRuns:
    """The runs that one reader listed last; safe in any thread."""

    def __init__(self, most: int = _KEPT_MAX) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Place, Made]] = OrderedDict()

    def among(self, places: Mapping[str, Place]) -> dict[str, Made]:
        """Return those of these runs that are kept and have not changed, by the key of their row."""
        with self._lock:
            found = {}
            for run, place in places.items():
                kept = self._kept.get(run)
                if kept is not None and kept[0] == place:
                    found[run] = kept[1]
                    self._kept.move_to_end(run)
        return found

    def keep(self, run: str, place: Place, made: Made) -> None:
        """Keep a run, and forget the one that was listed longest ago."""
        with self._lock:
            self._kept[run] = (place, made)
            self._kept.move_to_end(run)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)
