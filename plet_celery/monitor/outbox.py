"""Sends what waits in the outbox.

At least once, under one id: a process that dies between sending and writing that down leaves a row that
the next one sends again. Nothing here raises because a channel does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from plet_celery.monitor import texts
from plet_celery.monitor.channels.channel import Channel
from plet_celery.monitor.persistence import GIVE_UP, after_failure, after_success, reason_to_drop, retry_at
from plet_celery.monitor.routing import Channels
from plet_celery.monitor.sending import sent
from plet_celery.store import channelstates, outbox
from plet_celery.store.channelstates import ChannelState
from plet_celery.store.outbox import DELIVERED, DROPPED, Delivery
from plet_celery.store.store import Store

log = logging.getLogger(__name__)

HOLD_SECONDS: Final = 30.0
"""Beyond its time-out, how long a delivery is held: a process that does not end it by then is dead."""
LAST_SECONDS: Final = 2.0
"""What a message that is begun late may take beyond the time of a pass."""
_BATCH: Final = 10
_LOOK: Final = 500


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What a call of `deliver` did."""

    delivered: int = 0
    failed: int = 0
    """Tries that failed; the messages wait for the next one."""
    dropped: int = 0
    disabled: tuple[str, ...] = ()
    """Channels that this call has disabled."""
    waiting: int = 0
    """Messages that are left: for later, for a pass that has the app, for a channel that is disabled."""
    is_complete: bool = True
    """False: time was up before everything had its turn."""


def deliver(
    store: Store,
    channels: Channels,
    *,
    owner: str,
    now: float,
    has_app: bool,
    seconds: float,
    hold: float = HOLD_SECONDS,
) -> Delivered:
    """Send what waits, channel by channel in turns, those that work first.

    Args:
        owner: names this process, for people.
        now: wall time; back-off follows it. Leases follow the store's clock.
        has_app: the user's app is loaded here; without it, what needs it stays in the outbox.
        seconds: no message is begun after so long, and the last one has LAST_SECONDS more.
        hold: see HOLD_SECONDS.

    Raises:
        StoreUnavailable: the store does not answer; what was sent and not written down is sent again.
    """
    turn = _Turn(store, channels, owner=owner, now=now, has_app=has_app, hold=hold)
    deadline = time.monotonic() + seconds
    turn.drop_strangers()
    live = turn.in_order()
    while live and time.monotonic() < deadline:
        live = [channel for channel in live if turn.some(channel, deadline)]
    left = sum(outbox.waiting_channels(store).values())
    return replace(turn.done, waiting=left, is_complete=not live)


class _Turn:
    """One call of `deliver`."""

    def __init__(
        self, store: Store, channels: Channels, *, owner: str, now: float, has_app: bool, hold: float
    ) -> None:
        self.store, self.channels = store, channels
        self.owner, self.now, self.has_app, self.hold = owner, now, has_app, hold
        self.states = channelstates.states(store)
        self.done = Delivered()
        self._failed: set[str] = set()

    def in_order(self) -> list[Channel]:
        """Return the channels, those first that have not failed."""

        def failures(channel: Channel) -> int:
            state = self.states.get(channel.name)
            return state.failures if state is not None else 0

        return sorted(self.channels.by_name.values(), key=failures)

    def drop_strangers(self) -> None:
        """Drop what has waited for long for channels that are no longer set, and how these did."""
        # Not at once: two projects with channels of their own may share a store.
        dropped = outbox.drop_strangers(
            self.store,
            list(self.channels.by_name),
            before=self.now - GIVE_UP,
            status="dropped: there is no such channel any more",
            now=self.now,
        )
        self.done = replace(self.done, dropped=self.done.dropped + dropped)
        gone = [name for name, state in self.states.items() if self._is_gone(state)]
        if gone:
            channelstates.forget(self.store, gone)

    def _is_gone(self, state: ChannelState) -> bool:
        moments = (state.disabled_at, state.succeeded_at, state.failing_since)
        newest = max((one for one in moments if one is not None), default=0.0)
        return state.name not in self.channels.by_name and newest < self.now - GIVE_UP

    def some(self, channel: Channel, deadline: float) -> bool:
        """Treat a few messages of a channel; return whether there may be more for it now."""
        may_send = self._may_send(channel)
        # What cannot be sent may be dropped all the same; what stays must not hide it.
        limit = _BATCH if may_send else _LOOK
        found = outbox.waiting(self.store, channel.name, now=self.now, limit=limit)
        moved = False
        for delivery in found:
            reason = reason_to_drop(delivery, now=self.now, stale_after=self.channels.stale_after)
            if reason:
                moved |= self._drop(delivery, reason)
            elif may_send and time.monotonic() < deadline:
                was_taken = self._send(channel, delivery, deadline)
                moved |= was_taken is not None
                if was_taken is False:
                    # The rest waits: one slow failure a pass, not one for each message.
                    may_send = False
        return moved and bool(found)

    def _may_send(self, channel: Channel) -> bool:
        state = self.states.get(channel.name)
        if channel.name in self._failed or (channel.needs_app and not self.has_app):
            return False
        return state is None or (state.disabled_at is None and state.doc.next_at <= self.now)

    def _drop(self, delivery: Delivery, reason: str) -> bool:
        with self.store.writing() as connection:
            is_mine = outbox.end(
                connection, self.store.tables, delivery, state=DROPPED, status=reason, now=self.now
            )
        self.done = replace(self.done, dropped=self.done.dropped + is_mine)
        return is_mine

    def _send(self, channel: Channel, delivery: Delivery, deadline: float) -> bool | None:
        """Send a message; return whether it was taken, None where somebody else sends it."""
        assert delivery.told is not None
        held = outbox.claim(
            self.store,
            delivery,
            owner=self.owner,
            seconds=channel.timeout + self.hold,
            next_at=retry_at(self.now, delivery.tries + 1, delivery.id),
        )
        if held is None:
            return None
        message = texts.message_of(
            delivery.told,
            key=held.id,
            number=held.number,
            redact=self.channels.redactor.text,
            pages_url=self.channels.pages_url,
        )
        seconds = max(deadline - time.monotonic(), LAST_SECONDS)
        ok, status = sent(channel, message, self.channels, self.now, seconds=seconds)
        self._write(channel, held, ok, status)
        return ok

    def _write(self, channel: Channel, held: Delivery, ok: bool, status: str) -> None:
        store, now = self.store, self.now

        def step(state: ChannelState) -> ChannelState:
            if ok:
                return after_success(state, status=status, channel=channel, now=now)
            limit = self.channels.disable_after
            return after_failure(state, status=status, channel=channel, now=now, disable_after=limit)

        with store.writing() as connection:
            if ok:
                outbox.end(connection, store.tables, held, state=DELIVERED, status=status, now=now)
            else:
                next_at = retry_at(now, held.tries, held.id)
                outbox.put_back(connection, store.tables, held, status=status, next_at=next_at)
            before = self.states.get(channel.name, ChannelState(name=channel.name))
            after = channelstates.change(connection, store.tables, channel.name, step)
        self.states[channel.name] = after
        self._count(channel, before, after, ok)

    def _count(self, channel: Channel, before: ChannelState, after: ChannelState, ok: bool) -> None:
        if ok:
            self.done = replace(self.done, delivered=self.done.delivered + 1)
            return
        self._failed.add(channel.name)
        self.done = replace(self.done, failed=self.done.failed + 1)
        if not before.failures:
            log.warning(
                "alerts cannot be sent: channel=%s target=%s reason=%s",
                channel.name,
                channel.target,
                after.doc.status,
            )
        if after.disabled_at is not None and before.disabled_at is None:
            self.done = replace(self.done, disabled=(*self.done.disabled, channel.name))
            log.error(
                "channel is disabled: channel=%s failures=%d; celery plet alerts test %s enables it",
                channel.name,
                after.failures,
                channel.name,
            )
