"""What the holder of a journal's lock calls for: to leave it alone, to end it, or to take its place.

Decisions by plain facts, for whoever wants a journal served: a worker that would spawn a shipper, and
`celery plet ship` that waits for its turn. Nothing here acts.
"""

from __future__ import annotations

import enum
from typing import Final

from plet_celery import presence

LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks of whoever watches a journal."""
# A newer app's worker gets this long to spawn its shipper before another one may.
YIELD_SECONDS: Final = 10.0
# A shipper with other settings has stepped down by then, if it will.
STRANGE_SECONDS: Final = 10.0


class Action(enum.Enum):
    """What a look at the journal calls for."""

    NOTHING = "nothing"
    SPAWN = "spawn"
    END_FROZEN = "end_frozen"
    """SIGKILL the frozen holder of the lock; the next look finds the lock free."""
    SEIZE = "seize"
    """Spawn a shipper that replaces the lock file: the frozen holder cannot be seen from here."""


def decide(
    *,
    held: bool,
    starting: bool,
    frozen: bool,
    visible: bool,
    beat: presence.Beat | None,
    key: str,
    wall: float,
) -> Action:
    """Decide by plain facts.

    Args:
        held: somebody holds `ship.lock`.
        starting: a shipper of our own was spawned and has not ended.
        frozen: the holder has shown no sign of life for `plet_lease_stale`.
        visible: exactly the process of the beat runs in our sight.
        key: what tells the shipper that we would spawn from others.
    """
    if held:
        if not frozen:
            return Action.NOTHING
        # A process that only flushes is somebody's web server or script: never killed.
        if beat is not None and beat.role == "shipper" and visible:
            return Action.END_FROZEN
        return Action.SEIZE
    if starting:
        return Action.NOTHING
    if beat is not None and beat.yields_to not in ("", key) and 0 <= wall - beat.wall < YIELD_SECONDS:
        return Action.NOTHING
    return Action.SPAWN


class Stillness:
    """Tells how long a journal's beat has not changed while we kept looking.

    Only what was seen in an unbroken row of looks counts: after a pause of our own (a stopped
    container, a blocked main process) the shipper has a full period to beat again.
    """

    def __init__(self) -> None:
        self._seen: object = None
        self._since = self._looked = float("-inf")

    def seconds(self, beat: presence.Beat | None, now: float) -> float:
        """Take note of the beat seen at `now` (monotonic); return how long it has stood still."""
        seen = beat and (beat.process, beat.mono)
        if seen != self._seen or now - self._looked > 5 * LOOK_INTERVAL:
            self._seen, self._since = seen, now
        self._looked = now
        return now - self._since


class Strangers:
    """Tells, once each, of shippers with other settings that serve our journal and stay."""

    def __init__(self) -> None:
        self._seen, self._since = "", 0.0
        self._told: set[str] = set()

    def seen(self, beat: presence.Beat | None, mine: str, now: float) -> str:
        """Return the fingerprint of another app's shipper, or an older worker's, if that is to be told now.

        Args:
            beat: of the holder of the lock; None where nobody holds it.
            mine: the fingerprint of our settings.
        """
        theirs = beat.fingerprint if beat is not None and beat.role == "shipper" else mine
        if theirs != self._seen:
            self._seen, self._since = theirs, now
        if theirs == mine or theirs in self._told or now - self._since < STRANGE_SECONDS:
            return ""
        self._told.add(theirs)
        return theirs
