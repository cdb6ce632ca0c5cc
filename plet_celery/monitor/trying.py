"""How channels do: a test that a person asks for, and the facts for the health checks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from plet_celery.monitor import texts
from plet_celery.monitor.channels.channel import Channel
from plet_celery.monitor.persistence import after_success, described
from plet_celery.monitor.routing import Channels
from plet_celery.monitor.sending import sent
from plet_celery.store import channelstates, outbox
from plet_celery.store.channelstates import ChannelState
from plet_celery.store.store import Store
from plet_celery.watchfacts import CheckResult, Level


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
    message = texts.trial(name, key=os.urandom(16).hex(), now=now, pages_url=channels.pages_url)
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


def check_channels(store: Store, channels: Channels) -> list[CheckResult]:
    """Return how each channel does, for the health checks: one that fails is a warning, a dead one critical.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    states, waiting = channelstates.states(store), outbox.waiting_channels(store)
    return [
        checked(channel, states.get(name, ChannelState(name=name)), waiting.get(name, 0))
        for name, channel in channels.by_name.items()
    ]


def checked(channel: Channel, state: ChannelState, waiting: int) -> CheckResult:
    """Return how a channel does."""
    level, observation, since = Level.OK, "not used yet", None
    if state.succeeded_at is not None:
        observation = f"last message sent {texts.moment(state.succeeded_at)}"
    if state.failures:
        level, since = Level.WARNING, state.failing_since
        observation = f"{state.failures} failures in a row, the last one: {state.doc.status}"
    if state.disabled_at is not None:
        level, since = Level.CRITICAL, state.disabled_at
        observation = f"disabled: {observation}"
    bad = level is not Level.OK
    return CheckResult(
        name="channel",
        subject=channel.name,
        level=level,
        observation=observation,
        expectation="messages are taken",
        affected=f"who is told by {channel.name} ({channel.target}): {waiting} messages wait" if bad else "",
        advice=(
            f"mend it, then run `celery -A … plet alerts test {channel.name}`, which enables it again"
            if state.disabled_at is not None
            else f"run `celery -A … plet alerts test {channel.name}`"
        )
        if bad
        else "",
        since=since,
        values={
            "kind": channel.kind,
            "target": channel.target,
            "failures": state.failures,
            "waiting": waiting,
            "succeeded_at": state.succeeded_at,
            "disabled_at": state.disabled_at,
        },
    )
