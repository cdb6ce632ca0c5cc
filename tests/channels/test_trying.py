"""A test that a person asks for: what it tells, changes and enables."""

from __future__ import annotations

import pytest
from alerting import NOW, Recorder, an_alert, channels, row_of, told

from plet_celery.monitor import outbox
from plet_celery.monitor.trying import try_out
from plet_celery.store import Store, channelstates
from plet_celery.store.channelstates import ChannelState

HOUR = 3600.0


def disabled(store: Store, name: str = "ops") -> None:
    with store.writing() as connection:
        channelstates.change(
            connection,
            store.tables,
            name,
            lambda state: ChannelState(
                name=name, failures=40, failing_since=NOW - 30 * HOUR, disabled_at=NOW - HOUR
            ),
        )


def test_a_test_sends_a_message_that_says_so(store: Store) -> None:
    ops = Recorder()

    tried = try_out(store, channels(ops, pages_url="https://flower.example.org/plet"), "ops", now=NOW)

    assert (tried.ok, tried.status, tried.was_disabled) == (True, "kept", False)
    assert [one.kind for one in ops.told] == ["test"]
    assert ops.told[0].link == "", "there is no page of a test"
    assert "Link:" not in ops.told[0].text
    assert channelstates.states(store)["ops"].succeeded_at == NOW


def test_a_successful_test_enables_a_channel_and_what_waited_is_sent(store: Store) -> None:
    ops = Recorder()
    (key,) = told(store, an_alert(), "ops", now=NOW - 30 * HOUR)
    ops.fail()
    outbox.deliver(store, channels(ops), owner="t", now=NOW - HOUR, has_app=True, seconds=60)
    disabled(store)
    assert row_of(store, key)["next_at"] > NOW - HOUR
    ops.failure = None
    assert outbox.deliver(store, channels(ops), owner="t", now=NOW, has_app=True, seconds=60).delivered == 0

    tried = try_out(store, channels(ops), "ops", now=NOW + 1)
    done = outbox.deliver(store, channels(ops), owner="t", now=NOW + 1, has_app=True, seconds=60)

    assert (tried.ok, tried.was_disabled, done.delivered) == (True, True, 1)
    assert [one.kind for one in ops.told] == ["test", "fired"]


def test_a_test_that_fails_changes_nothing_but_the_status(store: Store) -> None:
    ops = Recorder()
    disabled(store)
    ops.fail("answered 500")

    tried = try_out(store, channels(ops), "ops", now=NOW)

    assert (tried.ok, tried.status, tried.was_disabled) == (False, "answered 500", True)
    state = channelstates.states(store)["ops"]
    assert (state.failures, state.disabled_at, state.doc.status) == (40, NOW - HOUR, "answered 500")


def test_tests_alone_disable_nothing(store: Store) -> None:
    ops = Recorder()
    ops.fail()
    for hour in range(60):
        try_out(store, channels(ops), "ops", now=NOW + hour * HOUR)

    state = channelstates.states(store)["ops"]
    assert (state.failures, state.disabled_at) == (0, None)


def test_a_channel_that_is_not_there_is_no_channel(store: Store) -> None:
    with pytest.raises(KeyError):
        try_out(store, channels(Recorder()), "nobody", now=NOW)


def test_two_that_test_a_new_channel_at_once_both_count(store: Store) -> None:
    """The row of a channel is made by whoever comes first."""
    import threading

    barrier = threading.Barrier(4)

    class Together(Recorder):
        def send(self, message: object, *, now: float) -> str:
            barrier.wait(60)
            return "kept"

    errors: list[BaseException] = []

    def test() -> None:
        try:
            try_out(store, channels(Together()), "ops", now=NOW)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=test) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert channelstates.states(store)["ops"].succeeded_at == NOW
