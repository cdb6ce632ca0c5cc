"""Requests to store all that lies in the journal now: answered when every loop has passed it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from plet_celery import presence
from plet_celery.shipper.loops import SinkLoop

_HURRY_SECONDS: Final = 60.0


class Asks:
    """The open requests, each with the time at which it was seen."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[Path, float] = {}
        self.somebody_leaves = False
        """A writer that is going asked: once nobody writes any more, lingering helps nobody."""

    def look(self, loops: Sequence[SinkLoop], now: float) -> None:
        """Take note of new requests (`now` is monotonic), hurry the loops, answer what is done."""
        found = presence.drain_requests(self._directory)
        for path, request in found.items():
            if path not in self._seen:
                self._seen[path] = now
                self.somebody_leaves = self.somebody_leaves or request.leave
        for path in self._seen.keys() - found.keys():
            del self._seen[path]
        for path, seen in list(self._seen.items()):
            # A read that began after the request was seen has read all that the asker had written.
            if all(loop.caught_up > seen for loop in loops):
                presence.withdraw(path)
                del self._seen[path]
        # Whoever asked long ago has given up, or died: its request is answered, but hurries nobody.
        if any(now - seen < _HURRY_SECONDS for seen in self._seen.values()):
            for loop in loops:
                loop.wake()
