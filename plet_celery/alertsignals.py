"""What a project's own code is told of alerts: two signals, and the message that they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from celery.utils.dispatch import Signal


@dataclass(frozen=True, kw_only=True)
class AlertMessage:
    """What a channel is told. Times are seconds since the epoch; texts hold no control characters.

    A repeat of a message is equal to it: the same id, the same text.
    """

    id: str
    """32 hex digits, one for each transition and channel: whoever has seen it has had this message."""
    kind: str
    """`fired`, `worse` (its severity rose), `flapping`, `unsilenced` (a silence is over, and it still
    fires), `resolved`, or `test`; further kinds may come."""
    at: float
    """When the pass found it."""
    headline: str
    """One line: severity, what is wrong, with what."""
    text: str
    """What, since when, value against limit, who is affected, what to do, link: a line each."""
    alert_id: str
    number: int
    """The transition's number within its alert."""
    rule: str
    subject: str
    state: str
    severity: str
    """`warning` or `critical`."""
    task: str | None = None
    queue: str | None = None
    tenant: str = ""
    title: str = ""
    value: str = ""
    limit: str = ""
    affected: str = ""
    advice: str = ""
    since: float | None = None
    fired_at: float | None = None
    resolved_at: float | None = None
    runs: tuple[str, ...] = ()
    """Run ids, at most 20."""
    count: int = 0
    """How many runs (or hosts, …) are involved, also those not named."""
    is_flapping: bool = False
    link: str = ""
    """The alert's page, where `plet_pages_url` is set."""


alert_fired: Final = Signal(name="alert_fired", providing_args=["message"])
"""An alert fired, or there is more to say of one that fires: `handler(sender, message, **kwargs)`.

The sender is the Celery app; the message is an `AlertMessage`.
"""

alert_resolved: Final = Signal(name="alert_resolved", providing_args=["message"])
"""An alert is over: `handler(sender, message, **kwargs)`."""
