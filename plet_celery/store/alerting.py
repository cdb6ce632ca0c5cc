"""Alerts in the store: what a pass reads and writes, what people read and do. One name for its parts."""

from __future__ import annotations

from plet_celery.store.alertkeeping import forget_alerts
from plet_celery.store.alertlists import (
    count_alerts,
    deliveries_of,
    get_alert,
    list_alerts,
    resolve_alert,
    transitions,
)
from plet_celery.store.alertrows import AlertCounts, Sent, Transition
from plet_celery.store.alertwriting import RouteOf, keep, open_alerts, recent_transitions
from plet_celery.store.silencing import acknowledge, end_silence, silence, silence_alert, silences

__all__ = [
    "AlertCounts",
    "RouteOf",
    "Sent",
    "Transition",
    "acknowledge",
    "count_alerts",
    "deliveries_of",
    "end_silence",
    "forget_alerts",
    "get_alert",
    "keep",
    "list_alerts",
    "open_alerts",
    "recent_transitions",
    "resolve_alert",
    "silence",
    "silence_alert",
    "silences",
    "transitions",
]
