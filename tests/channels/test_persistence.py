"""Back-off grows, is capped, and is a pure function; a channel's state follows its tries."""

from __future__ import annotations

from itertools import pairwise

from alerting import NOW, Recorder
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.monitor.persistence import (
    CHANNEL_DELAY_MAX,
    DELAY_MAX,
    FIRST_DELAY,
    after_failure,
    after_success,
    retry_at,
)
from plet_celery.store.channelstates import ChannelState

DAY = 86_400.0


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_the_wait_grows_to_its_limit_and_is_the_same_each_time(name: str, now: float) -> None:
    waits = [retry_at(0.0, tries, name) for tries in range(1, 40)]

    assert waits == [retry_at(0.0, tries, name) for tries in range(1, 40)]
    assert all(before < after or after == DELAY_MAX for before, after in pairwise(waits))
    assert FIRST_DELAY * 0.75 <= waits[0] <= FIRST_DELAY * 1.25
    assert waits[-1] == DELAY_MAX
    assert now < retry_at(now, 10**9, name) <= now + DELAY_MAX


def test_deliveries_that_failed_together_are_not_tried_together() -> None:
    assert len({round(retry_at(0.0, 3, f"{number:032x}"), 3) for number in range(100)}) > 90


def test_a_channels_own_wait_is_shorter_than_a_messages() -> None:
    state = ChannelState(name="ops", failures=50, failing_since=NOW)

    after = after_failure(state, status="no", channel=Recorder(), now=NOW, disable_after=DAY)

    assert after.doc.next_at == NOW + CHANNEL_DELAY_MAX


def test_few_failures_far_apart_disable_nothing() -> None:
    state = ChannelState(name="ops")
    for day in range(4):
        state = after_failure(
            state, status="no", channel=Recorder(), now=NOW + day * 2 * DAY, disable_after=DAY
        )

    assert (state.failures, state.failing_since, state.disabled_at) == (4, NOW, None)

    state = after_failure(state, status="no", channel=Recorder(), now=NOW + 9 * DAY, disable_after=DAY)
    assert state.disabled_at == NOW + 9 * DAY


def test_a_success_ends_the_series_but_only_a_test_enables() -> None:
    state = ChannelState(name="ops", failures=9, failing_since=NOW, disabled_at=NOW + DAY)

    after = after_success(state, status="answered 200", channel=Recorder(), now=NOW + 2 * DAY)

    assert (after.failures, after.failing_since, after.succeeded_at) == (0, None, NOW + 2 * DAY)
    assert after.disabled_at == NOW + DAY
    assert after.doc.status == "answered 200" and after.doc.next_at == 0.0
