"""Alerts in the store: what a pass keeps is kept whole or not at all, and who may see what."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from histories import Teller
from monitoring import START, broken, critical, kept
from plans import faults
from storing import Shipper, dump

from plet_celery.errors import AlertNotFound, PletError, SilenceNotFound, StaleWrite
from plet_celery.monitor import alarms, life
from plet_celery.store import Store, alerterasing, alerting, bulk, erasing, outbox, watching
from plet_celery.store.alertrows import values_of
from plet_celery.store.engine import prefer_indexes
from plet_celery.watchfacts import (
    Alert,
    AlertState,
    Change,
    Judgement,
    Route,
    Severity,
    Verdict,
    WatchLease,
)

DAY = 86_400.0
Routes = Callable[[Alert, Change], Sequence[Route]]


def to_two(alert: Alert, change: Change) -> Sequence[Route]:
    return [Route(channel="log", needs_app=False), Route(channel="ops", needs_app=True)]


@pytest.fixture
def lease(store: Store) -> WatchLease:
    found = watching.take(store, "tests", seconds=60)
    assert found is not None
    return found


def settle(
    store: Store, lease: WatchLease, at: float, *judgements: Judgement, route: Routes = to_two
) -> list[str]:
    """Pass so many seconds after the start; return the kinds of the transitions."""
    changes = alarms.settle(store, lease, judgements, route=route, now=START + at)
    return [change.kind for change in changes if change.kind]


def only(store: Store) -> Alert:
    (found,) = alerting.list_alerts(store).items
    return found


def rows(store: Store, name: str) -> list[Any]:
    with store.reading() as connection:
        table = getattr(store.tables.watching, name)
        return list(connection.execute(sa.select(table).order_by(*table.primary_key)))


def takes_over(store: Store) -> WatchLease:
    table = store.tables.watching.watch
    with store.writing() as connection:
        connection.execute(table.update().values(held_until=1.0))
    found = watching.take(store, "another", seconds=60)
    assert found is not None
    return found


# Keeping


def test_an_alert_is_read_as_it_was_written(store: Store, lease: WatchLease) -> None:
    said = broken(
        task="shop.import", queue="q", tenant="acme/north", since=START - 5, runs=("a", "ü" * 50), count=7
    )

    assert settle(store, lease, 0, said) == ["pending", "fired"]

    (alert,) = alerting.open_alerts(store)
    assert (alert.rule, alert.subject, alert.state) == ("failure_rate", "shop.import", AlertState.FIRING)
    assert (alert.task, alert.queue, alert.tenant) == ("shop.import", "q", "acme/north")
    assert (alert.pending_at, alert.fired_at, alert.transitions) == (START, START, 2)
    assert (alert.doc.since, alert.doc.runs, alert.doc.count) == (START - 5, ("a", "ü" * 50), 7)
    assert alerting.get_alert(store, alert.id) == alert


def test_each_transition_has_its_row_and_each_that_is_told_one_message_a_channel(
    store: Store, lease: WatchLease
) -> None:
    settle(store, lease, 0, broken(pending_for=30))
    settle(store, lease, 30, broken(pending_for=30))
    settle(store, lease, 60, critical())
    settle(store, lease, 90, kept())

    alert = only(store)
    steps = alerting.transitions(store, alert.id)
    assert [(one.number, one.kind, one.is_told) for one in steps] == [
        (1, "pending", False),
        (2, "fired", True),
        (3, "worse", True),
        (4, "resolved", True),
    ]
    assert [one.at - START for one in steps] == [0, 30, 60, 90]
    sent = alerting.deliveries_of(store, alert.id)
    assert [(one.number, one.channel, one.state) for one in sent] == [
        (number, channel, "waiting") for number in (2, 3, 4) for channel in ("log", "ops")
    ]
    assert {one.id for one in sent} == {
        outbox.delivery_id(alert.id, number, channel) for number in (2, 3, 4) for channel in ("log", "ops")
    }
    assert [row.needs_app for row in rows(store, "delivery") if row.channel == "ops"] == [1, 1, 1]


def test_a_pass_without_changes_writes_nothing(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    before = dump(store)

    assert settle(store, lease, 0, broken()) == []
    assert dump(store) == before


def test_a_channel_that_is_named_twice_is_told_once(store: Store, lease: WatchLease) -> None:
    twice = [Route(channel="log", needs_app=False)] * 2

    settle(store, lease, 0, broken(), route=lambda alert, change: twice)

    assert len(rows(store, "delivery")) == 1


@pytest.mark.parametrize("fields", [{"tenant": "acme"}, {"task": "shop.import"}])
def test_who_was_told_hears_the_end_though_it_spoke_of_others_since(
    store: Store, lease: WatchLease, fields: dict[str, str]
) -> None:
    def to_its_own(alert: Alert, change: Change) -> Sequence[Route]:
        mine = all(getattr(alert, name) == value for name, value in fields.items())
        return [Route(channel="acme" if mine else "rest", needs_app=False)]

    settle(store, lease, 0, broken(value="2 late", runs=("a",), **fields), route=to_its_own)
    settle(store, lease, 30, broken(value="9 late", runs=("a", "b")), route=to_its_own)
    settle(store, lease, 60, kept(), route=to_its_own)

    sent = alerting.deliveries_of(store, only(store).id)
    assert [(one.number, one.channel) for one in sent] == [(2, "acme"), (3, "acme"), (3, "rest")]
    with store.reading() as connection:
        last = outbox.last_told(connection, store.tables, only(store).id)
    assert {one.state for one in last.values()} == {AlertState.RESOLVED}
    assert {one.resolved_at for one in last.values()} == {START + 60}
    assert last["rest"].doc.runs == ("a", "b")
    # Nothing of what it was not told of before.
    assert (last["acme"].doc.value, last["acme"].doc.runs) == ("2 late", ("a",))


def test_what_an_alert_says_when_it_is_told_stays_in_its_message(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken(value="30 %"))
    settle(store, lease, 30, broken(value="90 %"))

    (waits,) = outbox.waiting(store, "log", now=START + 30, limit=10)
    assert waits.told is not None
    assert (waits.told.kind, waits.told.alert.doc.value) == ("fired", "30 %")
    assert only(store).doc.value == "90 %"


def test_many_alerts_are_kept_at_once(store: Store, lease: WatchLease) -> None:
    said = [broken(subject=f"task-{number:04}") for number in range(700)]

    settle(store, lease, 0, *said)
    settle(store, lease, 30, *(replace(one, verdict=Verdict.KEPT) for one in said))

    assert {row.state for row in rows(store, "alert")} == {"resolved"}
    assert len(rows(store, "transition")) == 3 * 700
    assert len(rows(store, "delivery")) == 2 * 2 * 700


def test_words_that_no_column_holds_still_have_one_alert(store: Store, lease: WatchLease) -> None:
    strange = {
        "rule": "objective:" + "ü" * 90,
        "subject": "a\0b\ud800😀" * 100,
        "title": "\0\ud800",
        "queue": "q" * 300,
    }

    kinds = [settle(store, lease, at, broken(**strange)) for at in (0, 30, 60)]

    assert kinds == [["pending", "fired"], [], []]


# One transaction, fenced


def test_who_has_lost_the_lease_writes_nothing(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    newer = takes_over(store)
    before = dump(store)

    with pytest.raises(StaleWrite):
        settle(store, lease, 30, kept(), broken(subject="another"))
    assert dump(store) == before

    # The same by who has it.
    assert settle(store, newer, 30, kept(), broken(subject="another")) == ["resolved", "pending", "fired"]


def test_without_the_fence_two_monitors_write(
    store: Store, lease: WatchLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    takes_over(store)
    monkeypatch.setattr(watching, "fence", lambda *given: None)

    assert settle(store, lease, 30, broken()) == ["pending", "fired"]


class Killed(Exception):
    """The process dies here."""


@contextmanager
def dying_at(store: Store, place: int, *, half_done: bool = False) -> Iterator[None]:
    """Die before the write with this number, from 0; `half_done`: what was written before it is committed."""
    count = itertools.count()

    def die(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        is_write = statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "COPY"))
        if is_write and next(count) == place:
            if half_done:
                connection.connection.commit()
            raise Killed

    sa.event.listen(store.engine, "before_cursor_execute", die)
    try:
        yield
    finally:
        sa.event.remove(store.engine, "before_cursor_execute", die)


def worse_better_and_new(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 30, critical(), kept(subject="b"), broken(subject="c"))


def test_a_crash_between_any_two_writes_leaves_nothing_half(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken(), broken(subject="b"))
    before = dump(store)
    cut = 0

    for place in itertools.count():
        with dying_at(store, place):
            try:
                worse_better_and_new(store, lease)
            except Killed:
                assert dump(store) == before
                cut += 1
            else:
                break

    # Rows, transitions and messages are written by several statements.
    assert cut >= 4
    assert {row.subject: row.state for row in rows(store, "alert")} == {
        "shop.import": "firing",
        "b": "resolved",
        "c": "firing",
    }


def test_a_store_that_commits_in_between_is_noticed(store: Store, lease: WatchLease) -> None:
    """The negative control of the test above."""
    settle(store, lease, 0, broken(), broken(subject="b"))
    before = dump(store)

    with dying_at(store, 2, half_done=True), pytest.raises(Killed):
        worse_better_and_new(store, lease)

    assert dump(store) != before


def test_a_commit_whose_answer_was_lost_is_not_written_twice(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    changes = life.advance(
        alerting.open_alerts(store),
        [critical(), broken(subject="b")],
        now=START + 30,
        new_id=lambda: "b" * 32,
        recent={},
    )
    alerting.keep(store, lease, changes, route=to_two, now=START + 30)
    before = dump(store)

    again = alerting.keep(store, lease, changes, route=to_two, now=START + 30)

    assert again == []
    assert dump(store) == before


def test_the_lost_answer_is_known_even_after_somebody_has_acknowledged(
    store: Store, lease: WatchLease
) -> None:
    settle(store, lease, 0, broken())
    changes = life.advance(
        alerting.open_alerts(store), [critical()], now=START + 30, new_id=lambda: "b" * 32, recent={}
    )
    alerting.keep(store, lease, changes, route=to_two, now=START + 30)
    alerting.acknowledge(store, only(store).id, by="kim", now=START + 31)
    before = dump(store)

    assert alerting.keep(store, lease, changes, route=to_two, now=START + 30) == []
    assert dump(store) == before


def test_a_route_that_raises_keeps_nothing(store: Store, lease: WatchLease) -> None:
    def wrong(alert: Alert, change: Change) -> Sequence[Route]:
        raise ZeroDivisionError

    before = dump(store)
    with pytest.raises(ZeroDivisionError):
        settle(store, lease, 0, broken(), route=wrong)
    assert dump(store) == before


# Flapping across episodes, by what the store remembers


def test_a_new_monitor_knows_how_often_it_turned_of_late(store: Store, lease: WatchLease) -> None:
    kinds = [settle(store, lease, number * 30, kept() if number % 2 else broken()) for number in range(6)]

    assert kinds == [["pending", "fired"], ["resolved"], ["pending", "fired"], ["flapping"], [], []]
    assert len(rows(store, "alert")) == 2


def test_what_turned_longer_ago_is_not_remembered(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    settle(store, lease, 30, kept())

    assert alerting.recent_transitions(store, START) == {("failure_rate", "shop.import"): (START, START + 30)}
    assert alerting.recent_transitions(store, START + 31) == {}


# People


def test_an_acknowledgement_is_a_transition_of_its_own(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())

    alert = alerting.acknowledge(store, only(store).id, by="kim", note="on it", now=START + 10)

    assert (alert.acknowledged_at, alert.doc.acknowledged_by, alert.doc.note) == (START + 10, "kim", "on it")
    (*_, last) = alerting.transitions(store, alert.id)
    assert (last.number, last.kind, last.by, last.note, last.is_told) == (
        3,
        "acknowledged",
        "kim",
        "on it",
        False,
    )
    assert len(rows(store, "delivery")) == 2


def test_to_say_the_same_again_changes_nothing(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    alerting.acknowledge(store, only(store).id, by="kim", now=START + 10)
    before = dump(store)

    alerting.acknowledge(store, only(store).id, by="kim", now=START + 20)
    assert dump(store) == before

    alerting.acknowledge(store, only(store).id, by="lee", now=START + 30)
    assert only(store).doc.acknowledged_by == "lee"


def test_an_acknowledgement_within_a_pass_is_not_lost(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    changes = life.advance(
        alerting.open_alerts(store), [critical()], now=START + 30, new_id=lambda: "b" * 32, recent={}
    )
    alerting.acknowledge(store, only(store).id, by="kim", note="on it", now=START + 29)

    alerting.keep(store, lease, changes, route=to_two, now=START + 30)

    alert = only(store)
    assert (alert.doc.acknowledged_by, alert.acknowledged_at, alert.severity) == (
        "kim",
        START + 29,
        "critical",
    )
    steps = alerting.transitions(store, alert.id)
    assert [(one.number, one.kind) for one in steps] == [
        (1, "pending"),
        (2, "fired"),
        (3, "acknowledged"),
        (4, "worse"),
    ]
    sent = {(one.number, one.channel): one.id for one in alerting.deliveries_of(store, alert.id)}
    assert sent[4, "log"] == outbox.delivery_id(alert.id, 4, "log")


def test_what_is_over_cannot_be_acknowledged(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken())
    settle(store, lease, 30, kept())

    with pytest.raises(PletError, match="is over"):
        alerting.acknowledge(store, only(store).id, by="kim", now=START + 31)


def test_a_silence_holds_until_its_end_and_then_the_alert_is_told_once(
    store: Store, lease: WatchLease
) -> None:
    alerting.silence(store, rule="failure_*", until=START + 600, reason="deployment", by="kim", now=START)

    assert settle(store, lease, 0, broken()) == ["pending", "fired"]
    assert rows(store, "delivery") == []
    assert only(store).doc.is_silenced
    assert settle(store, lease, 599, broken()) == []
    assert settle(store, lease, 600, broken()) == ["unsilenced"]
    assert settle(store, lease, 630, broken()) == []
    assert [one.number for one in alerting.deliveries_of(store, only(store).id)] == [3, 3]


def test_many_silences_that_end_earlier_hide_none(store: Store, lease: WatchLease) -> None:
    made = alerting.silence(
        store, rule="failure_rate", until=START + 7200, reason="deployment", by="kim", now=START
    )
    table = store.tables.watching.silence
    with store.writing() as connection:
        row = dict(connection.execute(sa.select(table)).mappings().one())
        others = [row | {"id": f"{number:032x}", "until": START + 3600} for number in range(600)]
        doc = row["doc"].replace("failure_rate", "another_rule")
        connection.execute(table.insert(), [one | {"doc": doc} for one in others])

    assert made in alerting.silences(store, now=START)
    settle(store, lease, 0, broken())
    assert rows(store, "delivery") == []


def test_one_alert_is_silenced_by_its_own_words_whatever_they_are(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken(subject="a[1]*"), broken(subject="a1x"))
    found = {one.subject: one for one in alerting.list_alerts(store).items}

    alerting.silence_alert(store, found["a[1]*"].id, until=START + 60, reason="known", by="kim", now=START)
    settle(store, lease, 30, broken(subject="a[1]*"), broken(subject="a1x"))

    found = {one.subject: one for one in alerting.list_alerts(store).items}
    assert (found["a[1]*"].doc.is_silenced, found["a1x"].doc.is_silenced) == (True, False)


def test_a_silence_can_be_ended_and_says_by_whom(store: Store) -> None:
    made = alerting.silence(store, until=START + 600, reason="deployment", by="kim", now=START)
    assert alerting.silences(store, now=START + 1) == [made]

    ended = alerting.end_silence(store, made.id, by="lee", now=START + 60)

    assert (ended.ended_at, ended.ended_by, ended.reason) == (START + 60, "lee", "deployment")
    assert alerting.silences(store, now=START + 61) == []
    assert alerting.silences(store, now=START + 61, ended=True) == [ended]
    assert alerting.end_silence(store, made.id, by="someone", now=START + 70) == ended


def test_one_whose_time_is_over_has_ended(store: Store) -> None:
    made = alerting.silence(store, until=START + 600, reason="deployment", by="kim", now=START)

    assert alerting.silences(store, now=START + 600) == []
    assert alerting.silences(store, now=START + 600, ended=True) == [made]
    with pytest.raises(SilenceNotFound, match="no silence 'nope'"):
        alerting.end_silence(store, "nope", by="kim", now=START)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"reason": " "}, "say why"),
        ({"until": START}, "Z is over before it begins; let it end within the next 366 days"),
        ({"until": START - 60}, "is over before it begins"),
        ({"until": START + 400 * DAY}, "Z is too long; let it end within the next 366 days"),
        ({"until": float("inf")}, "within the next 366 days"),
        ({"until": float("nan")}, "until nan has no end; let it"),
        ({"subject": "x" * 2000}, "has 2000 characters"),
    ],
)
def test_a_silence_that_cannot_be_says_why(store: Store, fields: dict[str, Any], text: str) -> None:
    asked: dict[str, Any] = {"until": START + 60, "reason": "deployment", "by": "kim"} | fields

    with pytest.raises(PletError, match=text):
        alerting.silence(store, now=START, **asked)
    assert rows(store, "silence") == []


# Readers


def test_lists_go_from_what_changed_last_and_page_by_key(store: Store, lease: WatchLease) -> None:
    for number in range(7):
        settle(store, lease, number * 30, broken(subject=f"s{number}"), broken(subject="first"))

    found, after = [], None
    while True:
        page = alerting.list_alerts(store, limit=3, after=after)
        assert len(page.items) <= 3
        found += [one.subject for one in page.items]
        after = page.next
        if after is None:
            break

    assert sorted(found) == sorted(["first", *(f"s{number}" for number in range(7))])
    assert found[-1] == "s0"
    with pytest.raises(PletError, match="is no cursor"):
        alerting.list_alerts(store, after="nonsense")


def test_lists_are_filtered(store: Store, lease: WatchLease) -> None:
    run = "12345678-0000-4000-8000-000000000001"
    settle(
        store,
        lease,
        0,
        broken(subject="a", task="t"),
        broken(subject="b"),
        broken(subject="c", pending_for=60),
    )
    settle(store, lease, 30, broken(subject="a", task="t", runs=(run,)), kept(subject="b"), kept(subject="c"))

    def subjects(**filters: Any) -> list[str]:
        return sorted(one.subject for one in alerting.list_alerts(store, **filters).items)

    # One that never fired is nothing that anybody looks for.
    assert subjects() == ["a", "b"]
    assert subjects(states=["firing"]) == ["a"]
    assert subjects(states=["resolved", "pending"]) == ["b"]
    assert subjects(rule="failure_rate", subject="a") == ["a"]
    assert subjects(task="t") == ["a"]
    assert subjects(run=run) == ["a"]
    assert subjects(run=run[:-1] + "2") == []
    with pytest.raises(PletError, match="'silent' is no state of an alert"):
        subjects(states=["silent"])


def test_lists_and_what_a_pass_reads_have_an_index(store: Store, lease: WatchLease) -> None:
    alert = replace(
        Alert(
            id="",
            rule="r",
            subject="",
            state=AlertState.RESOLVED,
            severity=Severity.WARNING,
            pending_at=0.0,
            updated_at=0.0,
        ),
        fired_at=1.0,
    )
    made = [
        replace(
            alert,
            id=f"{number:032x}",
            subject=f"s{number}",
            updated_at=START + number,
            resolved_at=START + number,
        )
        for number in range(20_000)
    ]
    table = store.tables.watching.alert
    with store.writing() as connection:
        bulk.insert(connection, table, [tuple(values_of(one)[c.name] for c in table.columns) for one in made])
    settle(store, lease, 30_000, broken(), broken(subject="b", pending_for=60))
    with store.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        mysql = store.url.get_backend_name() in ("mariadb", "mysql")
        connection.exec_driver_sql(f"ANALYZE TABLE {table.name}" if mysql else "ANALYZE")
    seen: list[Any] = []

    def note(connection: Any, clause: Any, *rest: Any) -> None:
        if isinstance(clause, sa.Select) and "doc" in str(clause) and "alert" in str(clause):
            seen.append(clause)

    sa.event.listen(store.engine, "before_execute", note)
    page = alerting.list_alerts(store, limit=50)
    assert page.next is not None
    alerting.list_alerts(store, limit=50, after=page.next)
    alerting.list_alerts(store, states=["resolved", "firing"])
    alerting.list_alerts(store, tenants=["acme"], states=["firing"])
    alerting.open_alerts(store)
    alerting.recent_transitions(store, START + 19_900)
    alerting.count_alerts(store)
    sa.event.remove(store.engine, "before_execute", note)

    assert len(seen) >= 8
    with store.reading() as connection:
        prefer_indexes(connection)
        assert [faults(connection, query) for query in seen] == [[]] * len(seen)


def test_open_alerts_are_counted(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken(subject="a"), critical(subject="b"), broken(subject="c", pending_for=60))
    alerting.silence(store, subject="a", until=START + 900, reason="known", by="kim", now=START)
    settle(store, lease, 30, broken(subject="a"), critical(subject="b"))
    alerting.acknowledge(
        store, alerting.list_alerts(store, subject="b").items[0].id, by="kim", now=START + 31
    )

    assert alerting.count_alerts(store) == alerting.AlertCounts(
        firing=2, pending=1, silenced=1, acknowledged=1, no_data=1, critical=1
    )


def test_an_alert_is_named_by_a_unique_start(store: Store, lease: WatchLease) -> None:
    settle(store, lease, 0, broken(), broken(subject="b"))
    first, second = alerting.open_alerts(store)

    assert alerting.resolve_alert(store, first.id[:12].upper()) == first.id
    assert alerting.resolve_alert(store, second.id) == second.id
    for text in ("", "zz", "0" * 32):
        with pytest.raises(AlertNotFound, match="no alert"):
            alerting.resolve_alert(store, text)


def test_a_start_that_fits_several_names_them(store: Store, lease: WatchLease) -> None:
    ids = itertools.count(1)
    said = [broken(subject="a"), broken(subject="b")]
    alarms.settle(store, lease, said, route=to_two, now=START, new_id=lambda: f"abcd{next(ids):028x}")

    with pytest.raises(AlertNotFound, match=r"fits several alerts: abcd.* \(failure_rate, a\)"):
        alerting.resolve_alert(store, "abcd")


# Tenants


@pytest.fixture
def tenants(store: Store, lease: WatchLease) -> dict[str, Alert]:
    """One alert of each of four tenants, the empty one among them."""
    names = ("", "acme", "acme/north", "acme2")
    settle(store, lease, 0, *(broken(subject=f"of {name}", tenant=name, runs=("r",)) for name in names))
    return {one.tenant: one for one in alerting.open_alerts(store)}


def test_a_viewer_of_some_tenants_sees_the_alerts_of_these_alone(
    store: Store, tenants: dict[str, Alert]
) -> None:
    def seen(*paths: str) -> list[str]:
        return sorted(one.tenant for one in alerting.list_alerts(store, tenants=paths).items)

    assert seen() == []
    assert seen("acme") == ["acme", "acme/north"]
    assert seen("acme/north") == ["acme/north"]
    assert seen("") == [""]
    assert seen("acm", "acme_", "%") == []
    assert alerting.count_alerts(store, tenants=["acme"]).firing == 2


def test_a_foreign_alert_is_like_none_at_all(store: Store, tenants: dict[str, Alert]) -> None:
    foreign, absent, mine = tenants["acme2"].id, "0" * 32, ["acme"]
    asks: list[Callable[[str], object]] = [
        lambda one: alerting.get_alert(store, one, tenants=mine),
        lambda one: alerting.resolve_alert(store, one, tenants=mine),
        lambda one: alerting.transitions(store, one, tenants=mine),
        lambda one: alerting.acknowledge(store, one, by="kim", now=START, tenants=mine),
        lambda one: alerting.silence_alert(
            store, one, until=START + 60, reason="no", by="kim", now=START, tenants=mine
        ),
    ]
    before = dump(store)

    for ask in asks:
        texts = []
        for one in (foreign, absent):
            with pytest.raises(AlertNotFound) as caught:
                ask(one)
            texts.append(str(caught.value).replace(one, "ID"))
        assert texts[0] == texts[1]
    assert alerting.deliveries_of(store, foreign, tenants=mine) == []
    assert dump(store) == before


def test_of_the_runs_in_an_alert_a_viewer_sees_their_own(store: Store, tenants: dict[str, Alert]) -> None:
    assert alerting.get_alert(store, tenants["acme"].id).doc.runs == ("r",)
    # There is no such run of theirs.
    assert alerting.get_alert(store, tenants["acme"].id, tenants=["acme"]).doc.runs == ()


def test_a_silence_of_a_viewer_covers_their_alerts_alone(
    store: Store, lease: WatchLease, tenants: dict[str, Alert]
) -> None:
    alerting.silence(store, until=START + 900, reason="night", by="kim", now=START, tenants=["acme"])

    settle(store, lease, 30, *(broken(subject=f"of {name}", tenant=name) for name in tenants))

    silenced = {one.tenant: one.doc.is_silenced for one in alerting.open_alerts(store)}
    assert silenced == {"": False, "acme": True, "acme/north": True, "acme2": False}


def test_silences_of_others_are_not_seen_nor_ended(store: Store) -> None:
    ours = alerting.silence(store, until=START + 9, reason="r", by="kim", now=START, tenants=["acme/north"])
    all_ = alerting.silence(store, until=START + 8, reason="r", by="root", now=START)

    assert alerting.silences(store, now=START) == [all_, ours]
    assert alerting.silences(store, now=START, tenants=["acme"]) == [ours]
    assert alerting.silences(store, now=START, tenants=["acme/south"]) == []
    for tenants in (["acme/south"], []):
        with pytest.raises(SilenceNotFound):
            alerting.end_silence(store, ours.id, by="x", now=START, tenants=tenants)
    with pytest.raises(SilenceNotFound):
        alerting.end_silence(store, all_.id, by="x", now=START, tenants=["acme"])


# Retention


def now_of(store: Store) -> float:
    return watching.last_pass(store).now


def age(store: Store, seconds: float) -> None:
    """Make everything so much older."""
    own = store.tables.watching
    with store.writing() as connection:
        for table, names in (
            (own.alert, ("resolved_at", "fired_at")),
            (own.silence, ("until",)),
        ):
            for name in names:
                connection.execute(table.update().values({name: table.c[name] - seconds}))


def over(store: Store, lease: WatchLease) -> None:
    """Leave an alert that is over, one that fires, one that never fired, and a silence that is over."""
    start = now_of(store) - START
    alerting.silence(store, subject="none", until=START + start + 5, reason="r", by="kim", now=START + start)
    settle(
        store,
        lease,
        start,
        broken(subject="over"),
        broken(subject="open"),
        broken(subject="brief", pending_for=60),
    )
    settle(store, lease, start + 1, kept(subject="over"), broken(subject="open"), kept(subject="brief"))
    with store.writing() as connection:
        connection.execute(store.tables.watching.delivery.update().values(state="delivered"))


def test_what_is_over_goes_after_its_days_with_all_that_was_sent(store: Store, lease: WatchLease) -> None:
    over(store, lease)
    age(store, 91 * DAY)

    assert alerting.forget_alerts(store, lease, now=now_of(store), days=90) == 2

    assert [row.subject for row in rows(store, "alert")] == ["open"]
    assert {row.alert_id for row in rows(store, "transition")} == {rows(store, "alert")[0].id}
    assert {row.alert_id for row in rows(store, "delivery")} == {rows(store, "alert")[0].id}
    assert rows(store, "silence") == []


def test_what_is_younger_stays_but_for_what_never_fired(store: Store, lease: WatchLease) -> None:
    over(store, lease)
    age(store, 89 * DAY)

    assert alerting.forget_alerts(store, lease, now=now_of(store), days=90) == 1

    assert sorted(row.subject for row in rows(store, "alert")) == ["open", "over"]
    assert len(rows(store, "silence")) == 1


def test_nothing_goes_that_waits_to_be_sent(store: Store, lease: WatchLease) -> None:
    over(store, lease)
    age(store, 91 * DAY)
    with store.writing() as connection:
        connection.execute(store.tables.watching.delivery.update().values(state="waiting"))

    alerting.forget_alerts(store, lease, now=now_of(store), days=90)

    assert sorted(row.subject for row in rows(store, "alert")) == ["open", "over"]


def test_nothing_goes_by_a_clock_that_nobody_can_trust(store: Store, lease: WatchLease) -> None:
    over(store, lease)

    assert alerting.forget_alerts(store, lease, now=now_of(store) + 1000 * DAY, days=90) == 0
    assert len(rows(store, "alert")) == 3


def test_who_has_lost_the_lease_removes_nothing(store: Store, lease: WatchLease) -> None:
    over(store, lease)
    age(store, 91 * DAY)
    newer = takes_over(store)

    with pytest.raises(StaleWrite):
        alerting.forget_alerts(store, lease, now=now_of(store), days=90)
    assert len(rows(store, "alert")) == 3
    assert alerting.forget_alerts(store, newer, now=now_of(store), days=90) == 2


# Erasure


@pytest.fixture
def of_two_tenants(store: Store, lease: WatchLease) -> Sequence[str]:
    """Alerts of two tenants and of none, which name one run that is there and one that is gone."""
    there, gone = "there-0001", "gone-0001"
    teller = Teller()
    teller.start(teller.writer(), there, "a1")
    assert Shipper(store).ship(teller.told) == 0
    for tenant in ("", "acme/north", "acme2"):
        alerting.silence(
            store,
            rule="none",
            until=START + 9,
            reason=f"of {tenant}",
            by="kim",
            now=START - 10,
            tenants=[tenant],
        )
    settle(
        store,
        lease,
        0,
        *(
            broken(subject=f"of {one}", tenant=one, runs=(there, gone), title=one)
            for one in ("", "acme/north", "acme2")
        ),
    )
    return there, gone


def test_the_alerts_and_silences_of_an_erased_tenant_are_gone(
    store: Store, of_two_tenants: Sequence[str]
) -> None:
    assert "acme/north" in str(dump(store))

    erasing.erase_tenant(store, "acme", mirror=False)

    assert sorted(row.tenant for row in rows(store, "alert")) == ["", "acme2"]
    ids = {row.id for row in rows(store, "alert")}
    assert {row.alert_id for row in rows(store, "transition")} == ids
    assert {row.alert_id for row in rows(store, "delivery")} == ids
    assert "acme/north" not in str(dump(store))


def test_an_erased_tenant_is_named_in_no_alert_of_others(store: Store, lease: WatchLease) -> None:
    one = {"rule": "objective:1", "subject": "shop.load"}
    settle(store, lease, 0, broken(**one, tenant="acme/north", affected="1 run of acme/north"))
    settle(store, lease, 30, critical(**one, tenant="", affected="3 runs of acme/north, acme2, beta"))
    assert len(rows(store, "delivery")) == 4  # to two channels each

    erasing.erase_tenant(store, "acme", mirror=False)

    assert "acme/north" not in str(dump(store))
    (alert,) = alerting.open_alerts(store)
    assert alert.doc.affected == "3 runs of acme2, beta"
    assert len(rows(store, "delivery")) == 2


@pytest.mark.parametrize(
    ("affected", "tenant", "left"),
    [
        ("2 runs of acme, beta", "acme", "2 runs of beta"),
        ("2 runs of acme/north", "acme", "2 runs"),
        ("2 runs of acme2", "acme", "2 runs of acme2"),
        ("2 runs of acme, inc., beta", "acme, inc.", "2 runs"),
        ("the store of this host", "acme", "the store of this host"),
        ("", "acme", ""),
    ],
)
def test_a_tenant_is_taken_out_of_who_is_affected(affected: str, tenant: str, left: str) -> None:
    assert alerterasing._without(affected, tenant) == left


def test_the_id_of_an_erased_run_is_in_no_alert_and_no_message(
    store: Store, lease: WatchLease, of_two_tenants: Sequence[str]
) -> None:
    there, gone = of_two_tenants
    settle(store, lease, 30, *(critical(subject="of acme2", tenant="acme2", runs=(there, gone)),))
    assert gone in str(dump(store))

    erasing.erase_run(store, "another", mirror=False)

    assert gone not in str(dump(store))
    assert there in str(rows(store, "alert"))
    assert alerting.open_alerts(store)
