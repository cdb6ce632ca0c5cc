"""The part of a pass that makes alerts of judgements: read the open ones, decide, write."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from plet_celery.monitor import life
from plet_celery.store import alerting
from plet_celery.store.store import Store
from plet_celery.watchfacts import Change, Judgement, WatchLease

_COUNTED: Final = ("failure_rate", "timeout_rate", "run_lost", "killer_task", "host_lost", "missed_schedule")
_CHECKED: Final = ("check:*", "queue_depth", "stuck", "drops", "monitor_silent")
_BLIND: Final = {
    "check": _CHECKED,
    "promise": ("objective:*",),
    "rule": (*_COUNTED, *_CHECKED),
}
"""Which rules say nothing where a step of a pass has failed."""


def blind_to(failed: Iterable[str]) -> tuple[str, ...]:
    """Return patterns of the rules that say nothing in a pass of which these steps have failed.

    Args:
        failed: any of `check`, `promise`, `rule`.
    """
    return tuple(pattern for name in failed for pattern in _BLIND.get(name, ("*",)))


def settle(
    store: Store,
    lease: WatchLease,
    judgements: Iterable[Judgement],
    *,
    route: alerting.RouteOf,
    now: float,
    blind: Sequence[str] = (),
    new_id: Callable[[], str] = lambda: secrets.token_hex(16),
) -> list[Change]:
    """Bring the alerts to what is judged now, and return what has changed.

    Args:
        judgements: of the whole pass: an alert of which none speaks is on its way to be over.
        route: the channels that are told of a transition.
        now: the pass's time, seconds since the epoch.
        blind: patterns of rules that could not be asked (`objective:*`): their silence means nothing.
        new_id: makes ids of alerts, 32 hex digits.

    Raises:
        StaleWrite: another monitor has taken over; nothing was written.
        StoreUnavailable: the database is down or locked; nothing was written, the next pass decides anew.
    """
    changes = life.advance(
        alerting.open_alerts(store),
        judgements,
        now=now,
        new_id=new_id,
        recent=alerting.recent_transitions(store, now - life.FLAP_SECONDS),
        silences=alerting.silences(store, now=now),
        blind=blind,
    )
    return alerting.keep(store, lease, changes, route=route, now=now) if changes else []
