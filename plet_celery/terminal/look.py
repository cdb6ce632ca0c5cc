"""State = sign + word + colour, never colour alone.

The signs are those of the pages. Where the terminal's encoding has none of them, ASCII stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plet_celery.events import RunState


@dataclass(frozen=True)
class Look:
    """How one state is shown."""

    sign: str
    ascii_sign: str
    style: str
    """A rich style."""


_LOOKS: Final = {
    "queued": Look("○", "o", "blue"),
    "running": Look("◐", "*", "cyan"),
    "retrying": Look("↻", "r", "yellow"),
    "succeeded": Look("✔", "+", "green"),
    "failed": Look("✖", "x", "red"),
    "timed_out": Look("⧗", "t", "red"),
    "lost": Look("?", "?", "magenta"),
    "interrupted": Look("⏏", "!", "yellow"),
    "cancelled": Look("⊘", "/", "yellow"),
    "expired": Look("⊘", "/", "yellow"),
    "ignored": Look("–", "-", "dim"),
    "rejected": Look("–", "-", "dim"),
    "abandoned": Look("–", "-", "magenta"),
    "planned": Look("○", "o", "dim"),
    "skipped": Look("⤼", ">", "dim"),
    # Of alerts and promises
    "firing": Look("▲", "!", "red"),
    "pending": Look("◔", "o", "yellow"),
    "resolved": Look("✔", "+", "green"),
    "ended": Look("✔", "+", "dim"),
    "silenced": Look("‖", "|", "dim"),
    "broken": Look("✖", "x", "red"),
    "kept": Look("✔", "+", "green"),
    "no_data": Look("?", "?", "magenta"),
    "late": Look("⏰", "!", "red"),
}
_UNKNOWN: Final = Look("·", ".", "dim")

ENDS: Final = frozenset(map(str, RunState)) - {RunState.QUEUED, RunState.RUNNING, RunState.RETRYING}
"""States in which a run stays, unless another attempt re-opens it."""


def look(state: str) -> Look:
    """Return how a state of a run, stage, alert or promise is shown; one of a newer version, neutrally."""
    return _LOOKS.get(state, _UNKNOWN)


def level_style(level: int) -> str:
    """Return the style of a log level, a number as in `logging`."""
    if level >= 40:
        return "red"
    if level >= 30:
        return "yellow"
    return "dim" if level < 20 else ""


def level_name(level: int) -> str:
    """Return `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` for any number: five characters at most."""
    for floor, name in ((50, "FATAL"), (40, "ERROR"), (30, "WARN"), (20, "INFO")):
        if level >= floor:
            return name
    return "DEBUG"
