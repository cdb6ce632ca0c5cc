"""The channel `signals`: Celery-style signals in a process that has the user's app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from plet_celery.alertsignals import AlertMessage, alert_fired, alert_resolved
from plet_celery.terminal.text import counted

_ENDS: Final = frozenset({"resolved", "ended"})


@dataclass(frozen=True, kw_only=True)
class SignalsChannel:
    """Sends `alert_fired` and `alert_resolved`.

    As ever with Celery's signals, what a receiver raises is logged by Celery and sent to nobody again:
    repeating it would tell the other receivers twice.
    """

    name: str
    app: Any = field(default=None, repr=False)
    """The sender; None in a process without it, which sends nothing."""
    timeout: float = 10.0
    kind: str = "signals"
    needs_app: bool = True

    @property
    def target(self) -> str:
        """The signals' names."""
        return "alert_fired, alert_resolved"

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Send the signal; say how many received it."""
        name, signal = (
            ("alert_resolved", alert_resolved) if message.kind in _ENDS else ("alert_fired", alert_fired)
        )
        answers = signal.send(sender=self.app, message=message)
        failed = sum(isinstance(answer, Exception) for _, answer in answers)
        received = f"{name}: {counted(len(answers), 'receiver')}"
        return f"{received}, {failed} of them raised" if failed else received
