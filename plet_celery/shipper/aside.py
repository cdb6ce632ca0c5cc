"""What a shipper does beside shipping, in threads nobody waits for: copies, removals, the monitor's pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plet_celery.journal_place import JournalInfo
from plet_celery.mirror import Mirror
from plet_celery.mirror_copies import Origin
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.crew import Crew
from plet_celery.shipper.passing import Passing
from plet_celery.shipper.removal import Removal, Remover

STOP_SECONDS: Final = 2.0
"""All of them together may hold up the end of a shipper for so long."""


@dataclass(frozen=True)
class Aside:
    """The threads."""

    removal: Removal
    passing: Passing
    mirror: Mirror | None

    def start(self) -> None:
        """Begin."""
        if self.mirror is not None:
            self.mirror.start()
        self.removal.start()
        self.passing.start()

    def stop(self, *, finish: bool) -> None:
        """End; a thread that hangs (in a mirror, say) is left behind.

        Args:
            finish: let the mirror have what was written last, if it takes it in time.
        """
        deadline = time.monotonic() + STOP_SECONDS
        self.removal.stop(STOP_SECONDS / 4)
        self.passing.stop(STOP_SECONDS / 4)
        if self.mirror is not None:
            self.mirror.stop(max(0.1, deadline - time.monotonic()), finish=finish)

    def facts(self) -> dict[str, Any]:
        """Return what the beat says of the mirror; nothing where there is none."""
        return self.mirror.facts() if self.mirror is not None else {}


def make_aside(
    config: ShipperConfig, journal: JournalInfo, crew: Crew, host: str, fence: Callable[[], bool]
) -> Aside:
    """Prepare the threads; nothing is opened."""
    settings = config.settings
    mirror = None
    if settings.mirror is not None:
        origin = Origin(journal.journal_id, host)
        mirror = Mirror(Path(settings.mirror), config.runs, config.journal, origin)
        crew.log_sink.on_touched = mirror.note
    remover = Remover(
        journal_id=journal.journal_id, runs=config.runs, folders=crew.log_sink, mirror=mirror, fence=fence
    )
    return Aside(Removal(config.database_url, settings, remover), Passing(config), mirror)
