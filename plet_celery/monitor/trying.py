"""A test of a channel that a person asks for; one that was disabled is enabled by it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from plet_celery.monitor import texts
from plet_celery.monitor.persistence import after_success, described
from plet_celery.monitor.routing import Channels
from plet_celery.monitor.sending import sent
from plet_celery.store import channelstates, outbox
from plet_celery.store.channelstates import ChannelState
from plet_celery.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a test of a channel came to."""

    channel: str
    target: str
    ok: bool
    status: str
    was_disabled: bool = False


def try_out(store: Store, channels: Channels, name: str, *, now: float) -> Tried:
    """Send a test message now; a disabled channel that takes it is enabled, and what waited is tried soon.

    Raises:
        KeyError: there is no such channel.
        StoreError: the message was tried, and its outcome could not be written down.
    """
    channel = channels.by_name[name]
    message = texts.trial(name, key=os.urandom(16).hex(), now=now)
    ok, status = sent(channel, message, channels, now)
    was_disabled = False
    tables = store.tables

    def step(state: ChannelState) -> ChannelState:
        nonlocal was_disabled
        was_disabled = state.disabled_at is not None
        if ok:
            worked = after_success(state, status=status, channel=channel, now=now)
            return replace(worked, disabled_at=None)
        # A person who tries again and again disables nothing.
        return replace(state, doc=replace(described(state, channel, status, now), next_at=state.doc.next_at))

    with store.writing() as connection:
        channelstates.change(connection, tables, name, step)
        if ok:
            outbox.hurry(connection, tables, name, now=now)
    return Tried(channel=name, target=channel.target, ok=ok, status=status, was_disabled=was_disabled)
