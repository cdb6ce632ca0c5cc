"""Decides when to try again, what is not worth sending any more, and which channel is dead."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from plet_celery.monitor.channels.channel import Channel
from plet_celery.store.channelstates import ChannelDoc, ChannelState
from plet_celery.store.outbox import Delivery
from plet_celery.terminal.text import span

FIRST_DELAY: Final = 10.0
"""Seconds until the second try; each further one waits twice as long."""
DELAY_MAX: Final = 900.0
"""A channel that works again has what waited within a quarter of an hour."""
CHANNEL_DELAY_MAX: Final = 300.0
JITTER: Final = 0.25
FAILURES_MIN: Final = 5
"""Fewer failures disable no channel, however long ago its last success is: it may have had nothing to say."""
GIVE_UP: Final = 7 * 86_400.0
"""The end of an alert is not told after so long, nor anything to a channel that is no longer set."""
_RESOLVED: Final = "resolved"


def retry_at(now: float, tries: int, name: str, *, longest: float = DELAY_MAX) -> float:
    """Return when to try again after `tries` failures: later each time, and spread by name.

    It is the same whenever it is asked for.
    """
    digest = hashlib.sha256(f"{name} {tries}".encode()).digest()
    spread = 1 - JITTER + 2 * JITTER * int.from_bytes(digest[:4], "big") / 2**32
    return now + min(longest, FIRST_DELAY * 2.0 ** min(max(tries, 1) - 1, 30) * spread)


def reason_to_drop(delivery: Delivery, *, now: float, stale_after: float) -> str:
    """Return why a delivery is not worth sending any more; empty where it is."""
    told, age = delivery.told, now - delivery.made_at
    if told is None:
        return "dropped: it was written by another version"
    if told.kind == _RESOLVED:
        if not delivery.was_told:
            return "dropped: this channel was never told that it fired"
        return f"dropped: not sent within {span(GIVE_UP)}" if age > GIVE_UP else ""
    if delivery.is_over and age > stale_after:
        return f"dropped: the alert was over before this could be sent, {span(age)} after it was due"
    return ""


def after_failure(
    state: ChannelState, *, status: str, channel: Channel, now: float, disable_after: float
) -> ChannelState:
    """Return what becomes of a channel that failed."""
    failures = state.failures + 1
    since = state.failing_since if state.failing_since is not None else now
    is_dead = failures >= FAILURES_MIN and now - since >= disable_after
    return replace(
        state,
        failures=failures,
        failing_since=since,
        disabled_at=now if is_dead and state.disabled_at is None else state.disabled_at,
        doc=replace(
            described(state, channel, status, now),
            next_at=retry_at(now, failures, channel.name, longest=CHANNEL_DELAY_MAX),
        ),
    )


def after_success(state: ChannelState, *, status: str, channel: Channel, now: float) -> ChannelState:
    """Return what becomes of a channel that worked; one that was disabled stays so."""
    return replace(
        state, failures=0, failing_since=None, succeeded_at=now, doc=described(state, channel, status, now)
    )


def described(state: ChannelState, channel: Channel, status: str, now: float) -> ChannelDoc:
    """Return what is known of a channel after a try."""
    return replace(
        state.doc, kind=channel.kind, target=channel.target, status=status, tried_at=now, next_at=0.0
    )
