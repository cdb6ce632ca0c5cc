"""The channel `log`: a line in the log of whichever process runs the pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from plet_celery.alertsignals import AlertMessage

log = logging.getLogger("plet_celery.alerts")

_LEVELS: Final = {"critical": logging.ERROR, "warning": logging.WARNING}
_CALM: Final = frozenset({"resolved", "ended", "test"})
_OF_HEADLINE: Final = frozenset({"What", "With"})


@dataclass(frozen=True, kw_only=True)
class LogChannel:
    """Writes alerts to the logger `plet_celery.alerts`: critical ones as ERROR, the end as INFO."""

    name: str
    timeout: float = 10.0
    kind: str = "log"
    needs_app: bool = False

    @property
    def target(self) -> str:
        """The logger's name."""
        return f"logger {log.name}"

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Log one line."""
        level = logging.INFO if message.kind in _CALM else _LEVELS.get(message.severity, logging.WARNING)
        # The lines of the text are safe each: joined they are one line of the log.
        headline, *lines = message.text.split("\n")
        log.log(level, "%s", " | ".join([headline, *(line for line in lines if not _is_in(headline, line))]))
        return "logged"


def _is_in(headline: str, line: str) -> bool:
    """Tell whether the headline says it already; one that had to be cut may not."""
    name, _, words = line.partition(": ")
    return name in _OF_HEADLINE and words in headline
