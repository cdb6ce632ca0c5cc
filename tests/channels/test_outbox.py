"""What waits is sent once, in order, under one key; what fails is tried later; what is stale is dropped."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from alerting import NOW, Recorder, an_alert, channels, row_of, told
from waiting import wait_until

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor import outbox
from plet_celery.monitor.outbox import Delivered
from plet_celery.monitor.routing import Channels
from plet_celery.store import Store, channelstates
from plet_celery.store import outbox as rows_of
from plet_celery.watchfacts import Route

HOUR = 3600.0


def deliver(store: Store, found: Channels, now: float = NOW, **options: Any) -> Delivered:
    given: dict[str, Any] = {"owner": "test", "has_app": True, "seconds": 60.0}
    return outbox.deliver(store, found, now=now, **given | options)


def test_a_transition_is_told_once_to_each_channel(store: Store) -> None:
    ops, team = Recorder("ops"), Recorder("team")
    alert = an_alert()
    keys = told(store, alert, "ops", "team")

    done = deliver(store, channels(ops, team))
    again = deliver(store, channels(ops, team), NOW + HOUR)

    assert (done.delivered, done.failed, done.waiting, done.is_complete) == (2, 0, 0, True)
    assert again == Delivered()
    assert [[one.id for one in channel.told] for channel in (ops, team)] == [[keys[0]], [keys[1]]]
    for key in keys:
        row = row_of(store, key)
        assert (row["state"], row["status"], row["tries"], row["ended_at"]) == ("delivered", "kept", 1, NOW)
        assert row["held_until"] is None and row["owner"] == "test"


def test_the_key_is_of_alert_transition_and_channel(store: Store) -> None:
    alert = an_alert()
    first = told(store, alert, "ops", "team")
    second = told(store, alert, "ops", kind="worse", number=3)

    assert len({*first, *second}) == 3
    assert rows_of.delivery_id(alert.id, 2, "ops") == first[0]
    assert len(first[0]) == 32


def test_a_channel_that_is_named_twice_is_told_once(store: Store) -> None:
    ops = Recorder()
    told(store, an_alert(), "ops", "ops")

    assert deliver(store, channels(ops)).delivered == 1


def test_transitions_of_an_alert_come_in_order_also_after_a_failure(store: Store) -> None:
    ops = Recorder()
    alert = an_alert()
    told(store, alert, "ops")
    ops.fail()
    deliver(store, channels(ops))
    told(store, alert, "ops", kind="resolved", number=3, now=NOW + 1)

    # The first one is not due again, and the second must not overtake it.
    ops.failure = None
    assert deliver(store, channels(ops), NOW + 2).delivered == 0
    assert deliver(store, channels(ops), NOW + 60).delivered == 2

    assert [one.kind for one in ops.told] == ["fired", "resolved"]


def test_another_alert_does_not_wait_for_one_that_failed(store: Store) -> None:
    ops = Recorder()
    told(store, an_alert(), "ops")
    ops.fail()
    deliver(store, channels(ops))
    ops.failure = None
    other = an_alert()
    told(store, other, "ops", now=NOW + 50)

    deliver(store, channels(ops), NOW + 400)

    assert {one.alert_id for one in ops.told} >= {other.id}


def test_a_failure_is_written_down_and_tried_later_under_the_same_key(store: Store) -> None:
    ops = Recorder()
    (key,) = told(store, an_alert(), "ops")
    ops.fail("answered 503")

    done = deliver(store, channels(ops))

    assert (done.delivered, done.failed, done.waiting) == (0, 1, 1)
    row = row_of(store, key)
    assert (row["state"], row["status"], row["tries"]) == ("waiting", "answered 503", 1)
    assert row["next_at"] > NOW and row["held_until"] is None
    assert deliver(store, channels(ops), NOW + 1).failed == 0
    assert ops.tries == 1
    ops.failure = None
    assert deliver(store, channels(ops), NOW + 60).delivered == 1
    assert [one.id for one in ops.told] == [key]
    assert row_of(store, key)["tries"] == 2


def test_a_channel_that_fails_gets_one_try_a_pass_however_much_waits(store: Store) -> None:
    ops = Recorder()
    for _ in range(30):
        told(store, an_alert(), "ops")
    ops.fail()

    deliver(store, channels(ops))
    deliver(store, channels(ops), NOW + 1)

    assert ops.tries == 1
    ops.failure = None
    assert deliver(store, channels(ops), NOW + 300).delivered == 30


def test_one_channel_that_fails_does_not_keep_the_others(store: Store) -> None:
    bad, good = Recorder("bad"), Recorder("good")
    for _ in range(25):
        told(store, an_alert(), "bad", "good")
    bad.fail()

    assert deliver(store, channels(bad, good)).delivered == 25


def test_a_channel_that_hangs_ends_its_try(store: Store) -> None:
    release = threading.Event()

    class Hanging(Recorder):
        def send(self, message: AlertMessage, *, now: float) -> str:
            release.wait(60)
            return "late"

    slow, good = Hanging("a-slow", timeout=0.05), Recorder("good")
    (key, _) = told(store, an_alert(), "a-slow", "good")

    done = deliver(store, channels(slow, good))
    release.set()

    assert (done.delivered, done.failed) == (1, 1)
    assert row_of(store, key)["status"] == "not done within 0.05 s"


def test_a_channel_with_much_patience_does_not_outlast_the_pass(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LAST_SECONDS", 0.1)
    release = threading.Event()

    class Hanging(Recorder):
        def send(self, message: AlertMessage, *, now: float) -> str:
            release.wait(60)
            return "late"

    (key,) = told(sqlite_store, an_alert(), "ops")

    done = deliver(sqlite_store, channels(Hanging(timeout=60)), seconds=3)
    release.set()

    assert done.failed == 1
    status = row_of(sqlite_store, key)["status"]
    assert status.startswith("not done within")
    assert float(status.split()[3]) <= 3


def test_a_channel_that_failed_has_its_turn_behind_those_that_work(store: Store) -> None:
    order: list[str] = []

    class Ordered(Recorder):
        def send(self, message: AlertMessage, *, now: float) -> str:
            order.append(self.name)
            return super().send(message, now=now)

    bad, good = Ordered("a-bad"), Ordered("good")
    bad.fail()
    for minutes in (0, 10):
        told(store, an_alert(), "a-bad", "good", now=NOW + 60 * minutes)
        deliver(store, channels(bad, good), NOW + 60 * minutes)

    assert order == ["a-bad", "good", "good", "a-bad"]


@pytest.mark.parametrize("failure", [ValueError("boom"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_channel_raises_is_a_failure_and_never_leaves(
    sqlite_store: Store, failure: BaseException
) -> None:
    ops = Recorder()
    ops.failure = failure
    (key,) = told(sqlite_store, an_alert(), "ops")

    assert deliver(sqlite_store, channels(ops)).failed == 1

    assert row_of(sqlite_store, key)["status"].startswith(type(failure).__name__)


def test_what_needs_the_app_waits_for_a_pass_that_has_it(store: Store) -> None:
    mine, ops = Recorder("mine", needs_app=True), Recorder("ops")
    told(store, an_alert(), Route(channel="mine", needs_app=True), "ops")

    done = deliver(store, channels(mine, ops), has_app=False)

    assert (done.delivered, done.waiting, mine.tries) == (1, 1, 0)
    assert deliver(store, channels(mine, ops), NOW + 600).delivered == 1
    assert [one.kind for one in mine.told] == ["fired"]


def test_time_that_is_up_leaves_the_rest_for_the_next_pass(store: Store) -> None:
    ops = Recorder()
    told(store, an_alert(), "ops")

    done = deliver(store, channels(ops), seconds=0)

    assert (done.delivered, done.waiting, done.is_complete) == (0, 1, False)
    assert deliver(store, channels(ops)).delivered == 1


# Leases


def test_what_somebody_holds_is_not_taken_and_comes_back_when_they_are_dead(store: Store) -> None:
    ops = Recorder()
    (key,) = told(store, an_alert(), "ops")
    (found,) = rows_of.waiting(store, "ops", now=NOW, limit=10)
    held = rows_of.claim(store, found, owner="dead", seconds=3600, next_at=NOW)
    assert held is not None

    assert rows_of.claim(store, found, owner="other", seconds=60, next_at=NOW) is None
    assert rows_of.claim(store, held, owner="other", seconds=60, next_at=NOW) is None
    assert deliver(store, channels(ops), NOW + HOUR).delivered == 0
    with store.writing() as connection:  # Its hour is over.
        connection.execute(store.tables.watching.delivery.update().values(held_until=0))
    assert deliver(store, channels(ops), NOW + HOUR).delivered == 1

    assert [one.id for one in ops.told] == [key]
    assert row_of(store, key)["tries"] == 2


def test_who_comes_back_after_the_lease_writes_nothing(store: Store) -> None:
    """As a frozen process does: somebody else has sent it again, under the same key."""
    (key,) = told(store, an_alert(), "ops")
    (found,) = rows_of.waiting(store, "ops", now=NOW, limit=10)
    frozen = rows_of.claim(store, found, owner="frozen", seconds=0.0, next_at=NOW)
    assert frozen is not None
    (again,) = wait_until(lambda: rows_of.waiting(store, "ops", now=NOW, limit=10), 60)
    assert rows_of.claim(store, again, owner="other", seconds=60, next_at=NOW) is not None

    with store.writing() as connection:
        ended = rows_of.end(
            connection, store.tables, frozen, state="delivered", status="answered 200", now=NOW
        )
        put_back = rows_of.put_back(connection, store.tables, frozen, status="no", next_at=NOW)

    assert not ended and not put_back
    assert row_of(store, key)["owner"] == "other"
    assert row_of(store, key)["state"] == "waiting"


def test_two_processes_at_once_send_each_message_once(store: Store) -> None:
    """By the lease of each delivery alone: here nobody holds the lease of a pass."""
    ops = Recorder()
    keys = [key for _ in range(40) for key in told(store, an_alert(), "ops")]
    threads = [
        threading.Thread(target=deliver, args=(store, channels(ops)), kwargs={"owner": f"process {number}"})
        for number in range(3)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(one.id for one in ops.told) == sorted(keys)


def test_a_process_that_dies_while_sending_counts_as_a_try(store: Store) -> None:
    """What kills its process (a function with a segfault) is tried ever later, not in each pass."""
    told(store, an_alert(), "ops")
    (found,) = rows_of.waiting(store, "ops", now=NOW, limit=10)
    rows_of.claim(store, found, owner="dead", seconds=0.0, next_at=NOW + 25)

    wait_until(lambda: rows_of.waiting(store, "ops", now=NOW + 25, limit=10), 60)
    assert rows_of.waiting(store, "ops", now=NOW + 24, limit=10) == []


# What is not worth sending any more


def test_what_nobody_got_is_dropped_when_its_alert_is_long_over_and_so_is_the_end(store: Store) -> None:
    mine = Recorder("mine", needs_app=True)
    route = Route(channel="mine", needs_app=True)
    alert = an_alert()
    (fired,) = told(store, alert, route)
    (resolved,) = told(store, alert, route, kind="resolved", number=3, now=NOW + 60)

    early = deliver(store, channels(mine), NOW + 600, has_app=False)
    late = deliver(store, channels(mine), NOW + 2 * HOUR, has_app=False)

    assert (early.dropped, late.dropped, late.waiting) == (0, 2, 0)
    assert row_of(store, fired)["state"] == row_of(store, resolved)["state"] == "dropped"
    assert row_of(store, fired)["status"] == (
        "dropped: the alert was over before this could be sent, 2 h 00 m 00 s after it was due"
    )
    assert row_of(store, resolved)["status"] == "dropped: this channel was never told that it fired"
    assert deliver(store, channels(mine), NOW + 3 * HOUR) == Delivered()


def test_a_short_absence_drops_nothing(store: Store) -> None:
    mine = Recorder("mine", needs_app=True)
    route = Route(channel="mine", needs_app=True)
    alert = an_alert()
    told(store, alert, route)
    told(store, alert, route, kind="resolved", number=3, now=NOW + 60)
    deliver(store, channels(mine), NOW + 90, has_app=False)

    deliver(store, channels(mine), NOW + 600)

    assert [one.kind for one in mine.told] == ["fired", "resolved"]


def test_what_still_fires_is_told_however_late(store: Store) -> None:
    ops = Recorder()
    told(store, an_alert(), "ops")

    assert deliver(store, channels(ops), NOW + 40 * 24 * HOUR).delivered == 1


def test_an_end_is_told_late_to_who_was_told_of_the_beginning_but_not_for_ever(store: Store) -> None:
    ops = Recorder()
    one, other = an_alert(), an_alert()
    for alert in (one, other):
        told(store, alert, "ops")
    deliver(store, channels(ops))
    told(store, one, "ops", kind="resolved", number=3, now=NOW + 60)
    assert deliver(store, channels(ops), NOW + 24 * HOUR).delivered == 1
    (key,) = told(store, other, "ops", kind="resolved", number=3, now=NOW + 60)

    assert deliver(store, channels(ops), NOW + 8 * 24 * HOUR).dropped == 1

    assert row_of(store, key)["status"] == "dropped: not sent within 7 d 00 h"


def test_an_end_alone_is_not_told(store: Store) -> None:
    """As where its beginning was silenced, or the channel is newer than the alert."""
    ops = Recorder()
    told(store, an_alert(), "ops", kind="resolved", number=3)

    done = deliver(store, channels(ops))

    assert (done.dropped, ops.tries) == (1, 0)


def test_a_channel_that_is_no_longer_set_has_its_messages_dropped_after_a_week(store: Store) -> None:
    (key,) = told(store, an_alert(), "gone")

    assert deliver(store, channels(Recorder()), NOW + 6 * 24 * HOUR).waiting == 1
    assert deliver(store, channels(Recorder()), NOW + 8 * 24 * HOUR).dropped == 1

    assert row_of(store, key)["status"] == "dropped: there is no such channel any more"


def test_how_a_removed_channel_did_is_forgotten_after_a_week(store: Store) -> None:
    """Else its failure would be a finding of the health checks for ever."""
    ops, other = Recorder("ops"), Recorder("other")
    told(store, an_alert(), "ops", "other")
    ops.fail()
    deliver(store, channels(ops, other))

    deliver(store, channels(other), NOW + 6 * 24 * HOUR)
    assert set(channelstates.states(store)) == {"ops", "other"}
    deliver(store, channels(other), NOW + 8 * 24 * HOUR)

    assert set(channelstates.states(store)) == {"other"}


def test_a_row_of_another_version_is_dropped_and_keeps_nobody(store: Store) -> None:
    ops = Recorder()
    (strange,) = told(store, an_alert(), "ops")
    table = store.tables.watching.delivery
    with store.writing() as connection:
        connection.execute(table.update().values(doc='{"format": 9}'))
    told(store, an_alert(), "ops", now=NOW + 1)

    done = deliver(store, channels(ops), NOW + 2)

    assert (done.delivered, done.dropped) == (1, 1)
    assert row_of(store, strange)["status"] == "dropped: it was written by another version"


def test_words_of_a_later_version_are_read_over(store: Store) -> None:
    ops = Recorder()
    told(store, an_alert(), "ops")
    table = store.tables.watching.delivery
    with store.writing() as connection:
        doc = connection.execute(sa.select(table.c.doc)).scalar_one()
        connection.execute(table.update().values(doc=doc.replace('{"kind"', '{"later": {"x": 1}, "kind"', 1)))

    assert deliver(store, channels(ops)).delivered == 1


# Dead channels


def failing(store: Store, ops: Recorder, *, until: float, every: float = HOUR) -> Channels:
    """Let a channel fail for a while, one new alert at each pass."""
    found = channels(ops, disable_after=24 * HOUR)
    ops.fail("answered 500")
    now = NOW
    while now <= NOW + until:
        told(store, an_alert(), "ops", now=now)
        deliver(store, found, now)
        now += every
    return found


def test_a_channel_that_fails_for_long_is_disabled_and_says_so(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ops = Recorder()
    with caplog.at_level(logging.WARNING):
        found = failing(store, ops, until=25 * HOUR)

    state = channelstates.states(store)["ops"]
    assert state.disabled_at == NOW + 24 * HOUR
    assert state.failing_since == NOW
    tries = ops.tries
    told(store, an_alert(), "ops", now=NOW + 30 * HOUR)
    ops.failure = None
    done = deliver(store, found, NOW + 31 * HOUR)
    assert (done.delivered, ops.tries) == (0, tries)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "alerts cannot be sent: channel=ops target=recorder ops reason=answered 500",
        "channel is disabled: channel=ops failures=25; celery plet alerts test ops enables it",
    ]


def test_a_channel_that_fails_now_and_then_is_not_disabled(store: Store) -> None:
    ops = Recorder()
    failing(store, ops, until=23 * HOUR)
    ops.failure = None
    deliver(store, channels(ops), NOW + 24 * HOUR)

    found = failing(store, ops, until=2 * HOUR)

    assert channelstates.states(store)["ops"].disabled_at is None
    assert found.by_name["ops"] is ops


def test_a_disabled_channels_stale_messages_are_dropped_behind_those_that_still_fire(store: Store) -> None:
    ops = Recorder()
    found = failing(store, ops, until=25 * HOUR)
    alert = an_alert()
    told(store, alert, "ops", now=NOW + 26 * HOUR)
    told(store, alert, "ops", kind="resolved", number=3, now=NOW + 26 * HOUR)

    assert deliver(store, found, NOW + 40 * HOUR).dropped == 2


def test_leases_and_states_hold_with_odd_clocks(sqlite_store: Store) -> None:
    """A pass with a clock that went back neither sends early nor never."""
    ops = Recorder()
    told(sqlite_store, an_alert(), "ops")
    ops.fail()
    deliver(sqlite_store, channels(ops), NOW)
    ops.failure = None

    assert deliver(sqlite_store, channels(ops), NOW - 10 * HOUR).delivered == 0
    assert deliver(sqlite_store, channels(ops), NOW + 60).delivered == 1


def test_the_outbox_of_a_pass_costs_few_queries_when_nothing_waits(sqlite_store: Store) -> None:
    statements: list[str] = []
    sa.event.listen(
        sqlite_store.engine,
        "before_cursor_execute",
        lambda c, cursor, statement, *rest: statements.append(statement),
    )

    deliver(sqlite_store, channels(Recorder("a"), Recorder("b")))

    assert not any("UPDATE" in one or "INSERT" in one for one in statements)
    assert len([one for one in statements if "SELECT" in one]) <= 8
