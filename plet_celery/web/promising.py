"""How runs stand to the promises of their tasks, as pages show it: a chip with the time that is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plet_celery.monitor.outlook import Outlook, outlook
from plet_celery.monitor.schedule import clock
from plet_celery.objectives import Declared
from plet_celery.store.promises import declared_objectives
from plet_celery.store.records import Run
from plet_celery.web.handler import PletHandler

_NEAR_SECONDS: Final = 900.0
"""With less time left than that a promise is shown as near."""
_DECLARED_SECONDS: Final = 10.0
WORDS: Final = {
    "max_wait": "start",
    "start_by": "start",
    "max_runtime": "end",
    "finish_by": "end",
}
"""What a promise is about."""


@dataclass(frozen=True)
class Chip:
    """A promise of one run, as it is shown."""

    look: str
    """`late`, `near`, or empty."""
    word: str
    """What is promised: a start or an end."""
    due_at: float
    clock: str
    """Time of day in the promise's own zone; empty: in the reader's."""
    zone: str
    is_open: bool
    """What is due may still happen: time goes on."""
    text: str
    """What is known for good, where it may not."""
    severity: str


class PromisingHandler(PletHandler):
    """A page that shows what was promised."""

    right = "runs"

    def objectives(self) -> list[Declared]:
        """Return all promises; in a thread."""
        found: list[Declared] = self.desk.costly.ask(
            ("declared",), lambda: declared_objectives(self.store), most=_DECLARED_SECONDS
        )
        return found


def chip_of(run: Run, objectives: Iterable[Declared], now: float) -> Chip | None:
    """Return the promise of a run that is nearest to be broken, while it is open or was broken; else None."""
    found = [one for one in outlook(run, objectives, now) if one.is_open or one.is_late]
    # What is late comes first, also where that is for good.
    return chip(min(found, key=lambda one: (not one.is_late, not one.is_open, one.left))) if found else None


def chips_of(run: Run, objectives: Iterable[Declared], now: float) -> list[Chip]:
    """Return every promise of a run, also those that were kept; what is nearest to be broken first."""
    return [chip(one) for one in outlook(run, objectives, now)]


def chip(one: Outlook) -> Chip:
    """Return a promise as it is shown."""
    near = one.is_open and 0 <= one.left < _NEAR_SECONDS
    return Chip(
        look="late" if one.is_late else "near" if near else "",
        word=WORDS.get(one.kind, one.kind),
        due_at=one.due_at,
        clock=f"{clock(one.due_at, one.zone):%H:%M}" if one.zone else "",
        zone=one.zone,
        is_open=one.is_open,
        text="" if one.is_open else one.text(),
        severity=one.severity,
    )
