"""Whatever is judged, silenced and acknowledged in whatever order: the lives of alerts keep their rules."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring import START, Watch, judgement
from storing import emptied, examples, new_store

from plet_celery.monitor import alarms
from plet_celery.monitor.life import FLAP_SECONDS
from plet_celery.store import Store, alerting, outbox, watching
from plet_celery.watchfacts import Alert, AlertState, Change, Route, Severity, Verdict

SUBJECTS = ("a", "b")

judgements = st.builds(
    judgement,
    st.sampled_from(Verdict),
    subject=st.sampled_from(SUBJECTS),
    severity=st.sampled_from(Severity),
    pending_for=st.sampled_from((0.0, 45.0)),
    keep_firing_for=st.sampled_from((0.0, 45.0)),
    since=st.sampled_from((None, START - 100, START + 1e6)),
)
# Mostly forward; sometimes not at all, and sometimes back.
waits = st.sampled_from((0.0, 30.0, 30.0, 30.0, 60.0, 600.0, 1000.0, 4000.0, -30.0, -5000.0))
steps = st.lists(
    st.tuples(waits, st.lists(judgements, max_size=3), st.sampled_from(("", "", "", "silence", "end"))),
    min_size=1,
    max_size=40,
)

FIRING = {"fired", "worse", "flapping", "steady", "unsilenced"}
ENDS = {"resolved", "ended"}


def play(watch: Watch, told: Any) -> None:
    for wait, some, silencing in told:
        if silencing == "silence":
            watch.silence(100)
        elif silencing == "end":
            watch.end_silences()
        watch.after(wait, *some)


def lives(watch: Watch) -> list[list[Change]]:
    """Return the transitions of each alert, in order."""
    found: dict[str, list[Change]] = {}
    for change in watch.changes:
        if change.kind:
            found.setdefault(change.alert.id, []).append(change)
    return list(found.values())


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_life_goes_from_pending_to_its_end_and_no_step_is_made_twice(told: Any) -> None:
    watch = Watch()

    play(watch, told)

    for life in lives(watch):
        kinds = [change.kind for change in life]
        assert kinds[0] == "pending"
        assert kinds.count("pending") == 1
        assert kinds.count("fired") <= 1
        assert kinds.count("worse") <= 1
        assert sum(kind in ENDS for kind in kinds) <= 1
        assert not ENDS & set(kinds[:-1])
        assert ("resolved" in kinds) <= ("fired" in kinds)
        assert ("ended" in kinds) <= ("fired" not in kinds)
        before = kinds[: kinds.index("fired")] if "fired" in kinds else kinds
        assert not (FIRING | {"resolved"}) & set(before)
        for pair in (("no_data", "has_data"), ("flapping", "steady")):
            of_pair = [kind for kind in kinds if kind in pair]
            assert all(one != other for one, other in pairwise(of_pair))
            assert of_pair[:1] in ([], [pair[0]])


@settings(max_examples=200, deadline=None)
@given(steps)
def test_numbers_have_no_gaps_and_states_follow_the_transitions(told: Any) -> None:
    watch = Watch()

    play(watch, told)

    for life in lives(watch):
        assert [change.alert.transitions for change in life] == list(range(1, len(life) + 1))
        for change in life:
            fits = {"pending": "pending", "fired": "firing", "resolved": "resolved", "ended": "resolved"}
            assert change.alert.state == fits.get(change.kind, change.alert.state)
            assert change.kind not in FIRING or change.alert.state is AlertState.FIRING


@settings(max_examples=200, deadline=None)
@given(steps)
def test_there_is_one_open_alert_a_subject_and_its_severity_never_falls_while_it_fires(told: Any) -> None:
    watch = Watch()
    severest: dict[str, Severity] = {}

    for step in told:
        play(watch, [step])
        open_ = [one for one in watch.alerts if one.state is not AlertState.RESOLVED]
        assert len({(one.rule, one.subject) for one in open_}) == len(open_)
        for one in open_:
            if one.state is AlertState.FIRING:
                assert (severest.get(one.id), one.severity) != (Severity.CRITICAL, Severity.WARNING)
                severest[one.id] = one.severity


@settings(max_examples=200, deadline=None)
@given(steps)
def test_nothing_is_told_within_a_silence_and_no_end_of_what_was_never_told(told: Any) -> None:
    watch = Watch()
    play(watch, told)

    for life in lives(watch):
        heard = [change.kind for change in life if change.is_told]
        assert "resolved" not in heard[:1]
        assert "ended" not in heard
        assert set(heard) <= {"fired", "worse", "flapping", "unsilenced", "resolved"}
    for change in watch.changes:
        assert not (change.is_told and change.alert.doc.is_silenced)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), min_size=20, max_size=150))
def test_however_it_turns_few_are_told_within_an_hour(turns: list[bool]) -> None:
    watch = Watch()
    times: list[float] = []

    for number, is_broken in enumerate(turns):
        heard = len(watch.told)
        watch.at(number * 30, judgement(Verdict.BROKEN if is_broken else Verdict.KEPT))
        times += [watch.now] * (len(watch.told) - heard)

    for at in times:
        assert sum(at <= one < at + FLAP_SECONDS for one in times) <= 5


@settings(max_examples=150, deadline=None)
@given(steps)
def test_a_pass_that_is_repeated_at_once_changes_nothing(told: Any) -> None:
    watch = Watch()

    for step in told:
        play(watch, [step])
        before = dict(watch.rows)
        play(watch, [(0.0, step[1], "")])
        assert watch.rows == before


@settings(max_examples=200, deadline=None)
@given(steps)
def test_in_the_end_everything_is_over(told: Any) -> None:
    watch = Watch()
    play(watch, told)

    for _ in range(6):
        watch.after(1000, *(judgement(Verdict.KEPT, subject=one) for one in SUBJECTS))

    assert {one.state for one in watch.alerts} <= {AlertState.RESOLVED}


def check_outbox(store: Store, told: Any) -> None:
    """Play steps with a store, where people acknowledge in between, and compare its rows."""
    channels = ("log", "ops")

    def route(alert: Alert, change: Change) -> list[Route]:
        return [Route(channel=name, needs_app=False) for name in channels]

    lease = watching.take(store, "tests", seconds=60)
    assert lease is not None
    now = START
    for wait, some, doing in told:
        now += wait
        if doing == "silence":
            alerting.silence(store, until=now + 100, reason="r", by="kim", now=now)
        elif doing == "end":
            for alert in alerting.open_alerts(store):
                alerting.acknowledge(store, alert.id, by="kim", note=str(now), now=now)
        alarms.settle(store, lease, some, route=route, now=now)
    for id_ in _ids(store):
        kinds = alerting.transitions(store, id_)
        assert [one.number for one in kinds] == list(range(1, len(kinds) + 1))
        wanted = {(one.number, name) for one in kinds if one.is_told for name in channels}
        sent = alerting.deliveries_of(store, id_)
        assert sorted((one.number, one.channel) for one in sent) == sorted(wanted)
        assert all(one.id == outbox.delivery_id(id_, one.number, one.channel) for one in sent)
        assert alerting.get_alert(store, id_).transitions == len(kinds)


def _ids(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.execute(store.tables.watching.alert.select()).scalars())


def test_a_told_transition_has_one_message_a_channel_and_others_have_none(tmp_path: Path) -> None:
    store = new_store(tmp_path)

    @examples(store, 60)
    @given(steps)
    def holds(told: Any) -> None:
        check_outbox(emptied(store), told)

    holds()
    store.close()
