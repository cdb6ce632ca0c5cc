"""What a reader found besides events: damage, gaps, drops, newer formats. Counted, and told once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from plet_celery.journal_reader import Batch

log = logging.getLogger(__name__)


class Notes:
    """The counts of one sink's reader; used by its loop only, read by the beat."""

    def __init__(self, name: str, mark_damaged: Callable[[str, int], None]) -> None:
        """Begin with nothing.

        Args:
            name: the sink's.
            mark_damaged: remembers that this segment of this writer goes to quarantine.
        """
        self._name = name
        self._mark_damaged = mark_damaged
        self._told: set[tuple[str, str, int]] = set()
        self.damaged_bytes = 0
        self.missing_segments = 0
        self.dropped: dict[str, int] = {}
        self.unsupported: dict[str, int] = {}

    def take(self, batch: Batch) -> None:
        """Mark and tell what a batch brings, before its sink takes it: a mark must not be lost by a crash."""
        for damage in batch.damaged:
            self._mark_damaged(damage.writer, damage.segment)
            self._tell_once(
                ("damaged", damage.writer, damage.segment),
                "segment is damaged, the rest of it is shipped: sink=%s writer=%s segment=%d at=%d reason=%s",
                damage.offset,
                damage.reason,
            )
        for writer, count in batch.gaps.items():
            self._tell_once(("gap", writer, count), "segments are missing: sink=%s writer=%s count=%d")
        for writer, version in batch.unsupported.items():
            self.unsupported[writer] = version
            self._tell_once(
                ("format", writer, version),
                "segment of a newer format is kept unread: sink=%s writer=%s format=%d; upgrade plet-celery",
            )

    def count(self, batch: Batch) -> None:
        """Count what a batch brought, once its sink has it: one that fails comes again."""
        self.damaged_bytes += sum(damage.length for damage in batch.damaged)
        self.missing_segments += sum(batch.gaps.values())
        for reasons in batch.drops.values():
            for reason, count in reasons.items():
                self.dropped[reason] = self.dropped.get(reason, 0) + count

    def facts(self) -> dict[str, Any]:
        """Return what the beat says; only what there is."""
        found = {
            "damaged_bytes": self.damaged_bytes,
            "missing_segments": self.missing_segments,
            "dropped": self.dropped,
            "unsupported": len(self.unsupported),
        }
        return {name: value for name, value in found.items() if value}

    def _tell_once(self, what: tuple[str, str, int], message: str, *more: object) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning(message, self._name, what[1], what[2], *more)
