"""The life of an alert in virtual time: every pass is a monitor that has just been started."""

from __future__ import annotations

import pytest
from monitoring import INTERVAL, START, Watch, broken, critical, kept, no_data

from plet_celery.monitor.life import FLAP_SECONDS, GONE_AFTER
from plet_celery.watchfacts import AlertState, Severity

# Pending, firing, resolved


def test_what_is_kept_makes_no_alert() -> None:
    watch = Watch()

    assert watch.at(0, kept()) == []
    assert watch.rows == {}


def test_without_a_wait_it_fires_in_the_pass_that_sees_it() -> None:
    watch = Watch()

    assert watch.at(0, broken()) == ["pending", "fired"]
    assert (watch.alert.state, watch.alert.fired_at, watch.told) == (AlertState.FIRING, START, ["fired"])


def test_it_fires_once_however_long_it_is_broken() -> None:
    watch = Watch()

    for number in range(50):
        watch.at(number * INTERVAL, broken(value=f"{number} min"))

    assert watch.kinds == ["pending", "fired"]
    assert watch.told == ["fired"]
    assert watch.alert.doc.value == "49 min"


def test_it_is_pending_for_its_time_and_then_fires() -> None:
    watch = Watch()
    slow = broken(pending_for=90)

    seen = [watch.at(at, slow) for at in (0, 30, 60, 89)]
    fired = watch.at(90, slow)

    assert seen == [["pending"], [], [], []]
    assert fired == ["fired"]
    assert watch.alert.pending_at == START


@pytest.mark.parametrize("since", [START - 86_400, START + 900])
def test_it_waits_from_when_a_pass_saw_it_whatever_its_evidence_says(since: float) -> None:
    watch = Watch()

    assert watch.at(0, broken(pending_for=60, since=since)) == ["pending"]
    assert watch.at(59, broken(pending_for=60, since=since)) == []
    assert watch.at(60, broken(pending_for=60, since=since)) == ["fired"]
    assert watch.alert.doc.since == since


def test_pending_and_kept_again_ends_and_nobody_is_told() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=90))

    assert watch.at(30, kept()) == ["ended"]
    assert (watch.alert.state, watch.alert.fired_at, watch.told) == (AlertState.RESOLVED, None, [])


def test_broken_again_after_it_ended_waits_anew() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=90))
    watch.at(60, kept())

    assert watch.at(90, broken(pending_for=90)) == ["pending"]
    assert watch.at(150, broken(pending_for=90)) == []
    assert watch.at(180, broken(pending_for=90)) == ["fired"]


def test_a_shorter_wait_from_a_new_setting_holds_at_once() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=3600))

    assert watch.at(30, broken(pending_for=30)) == ["fired"]


def test_kept_again_it_resolves_and_is_told() -> None:
    watch = Watch()
    watch.at(0, broken())

    assert watch.at(30, kept(value="2 %")) == ["resolved"]
    assert watch.told == ["fired", "resolved"]
    assert (watch.alert.resolved_at, watch.alert.doc.value) == (START + 30, "2 %")


def test_it_goes_on_firing_until_it_was_kept_for_its_time() -> None:
    watch = Watch()
    watch.at(0, broken())
    calm = kept(keep_firing_for=120)

    assert [watch.at(at, calm) for at in (30, 60, 149)] == [[], [], []]
    assert watch.at(150, calm) == ["resolved"]


def test_broken_in_between_it_has_to_be_kept_anew() -> None:
    watch = Watch()
    calm = kept(keep_firing_for=120)
    watch.at(0, broken())
    watch.at(30, calm)
    watch.at(90, broken())

    assert [watch.at(at, calm) for at in (120, 160, 239)] == [[], [], []]
    assert watch.at(240, calm) == ["resolved"]
    assert watch.told == ["fired", "resolved"]


def test_an_outage_of_the_monitor_is_not_time_in_which_it_was_kept() -> None:
    watch = Watch()
    watch.at(0, broken())

    assert watch.at(86_400, kept(keep_firing_for=120)) == []
    assert watch.at(86_520, kept(keep_firing_for=120)) == ["resolved"]


def test_an_episode_after_the_end_is_another_alert() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(30, kept())

    assert watch.at(60, broken()) == ["pending", "fired"]
    assert [one.state for one in watch.alerts] == [AlertState.RESOLVED, AlertState.FIRING]


def test_each_rule_and_subject_has_an_alert_of_its_own() -> None:
    watch = Watch()
    watch.at(0, broken(subject="a"), broken(subject="b"), broken(rule="timeout_rate", subject="a"))

    assert watch.at(30, broken(subject="a"), kept(subject="b"), kept(rule="timeout_rate", subject="a")) == [
        "resolved",
        "resolved",
    ]
    assert {(one.rule, one.subject): one.state.value for one in watch.alerts} == {
        ("failure_rate", "a"): "firing",
        ("failure_rate", "b"): "resolved",
        ("timeout_rate", "a"): "resolved",
    }


def test_of_two_judgements_on_one_subject_the_worse_one_counts() -> None:
    watch = Watch()

    watch.at(0, kept(), critical(value="worst"), broken())

    assert (len(watch.alerts), watch.alert.severity, watch.alert.doc.value) == (1, Severity.CRITICAL, "worst")


def test_many_failures_of_a_task_are_one_alert_with_their_count() -> None:
    watch = Watch()

    watch.at(0, broken(count=40, runs=tuple(f"run-{number}" for number in range(40))))
    watch.at(30, broken(count=55))

    assert (len(watch.alerts), watch.alert.doc.count) == (1, 55)
    assert len(watch.changes[1].alert.doc.runs) == 20


# Severity


def test_a_severity_that_rises_is_told_once() -> None:
    watch = Watch()
    watch.at(0, broken())

    assert watch.at(30, critical()) == ["worse"]
    assert watch.at(60, critical()) == []
    assert watch.told == ["fired", "worse"]


def test_one_that_was_critical_stays_it_until_its_end() -> None:
    watch = Watch()
    watch.at(0, critical())

    assert [watch.at(30, broken()), watch.at(60, critical())] == [[], []]
    assert watch.alert.severity is Severity.CRITICAL


def test_while_pending_the_severity_is_that_of_the_moment() -> None:
    watch = Watch()
    watch.at(0, critical(pending_for=60))
    watch.at(30, broken(pending_for=60))

    assert watch.at(60, broken(pending_for=60)) == ["fired"]
    assert watch.alert.severity is Severity.WARNING


# No data, and what is gone


def test_no_data_makes_no_alert() -> None:
    watch = Watch()

    assert watch.at(0, no_data()) == []


def test_no_data_is_never_the_end() -> None:
    watch = Watch()
    watch.at(0, broken())

    seen = [watch.at(30 + number * 3600, no_data()) for number in range(20)]

    assert seen == [["no_data"], *[[]] * 19]
    assert (watch.alert.state, watch.alert.doc.has_data, watch.told) == (AlertState.FIRING, False, ["fired"])


def test_no_data_does_not_make_a_pending_one_fire() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=60))

    assert watch.at(90, no_data(pending_for=60)) == ["no_data"]
    assert watch.at(120, broken(pending_for=60)) == ["has_data", "fired"]


def test_data_that_are_back_decide() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(30, no_data())

    assert watch.at(60, kept()) == ["has_data", "resolved"]


def test_a_subject_of_which_nobody_speaks_is_over_after_a_while() -> None:
    watch = Watch()
    watch.at(0, broken())

    assert watch.at(30) == ["no_data"]
    assert watch.at(29 + GONE_AFTER) == []
    assert watch.at(30 + GONE_AFTER) == ["resolved"]
    assert (watch.alert.doc.is_gone, watch.told) == (True, ["fired", "resolved"])


def test_a_pending_one_that_is_gone_ends_unheard() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=7200))
    watch.at(30)

    assert watch.at(30 + GONE_AFTER) == ["ended"]
    assert watch.told == []


def test_one_that_is_spoken_of_again_is_not_gone() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(30)
    watch.at(600, broken())

    assert watch.at(630) == ["no_data"]
    assert watch.at(30 + GONE_AFTER) == []
    assert watch.alert.state is AlertState.FIRING


def test_a_rule_that_says_it_has_no_data_has_spoken() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(30)
    watch.at(600, no_data())

    assert watch.at(1000) == []
    assert watch.at(999 + GONE_AFTER) == []
    assert watch.at(1000 + GONE_AFTER) == ["resolved"]


def test_a_rule_that_could_not_be_asked_is_not_gone() -> None:
    watch = Watch()
    watch.at(0, broken(rule="objective:a1", subject="shop.report"))

    watch.at(30, blind=["objective:*"])

    assert watch.at(86_400, blind=["objective:*"]) == []
    assert watch.alert.state is AlertState.FIRING
    assert watch.at(86_430) == []
    assert watch.at(86_430 + GONE_AFTER) == ["resolved"]


def test_no_data_that_come_and_go_for_ever_leave_a_bounded_trace() -> None:
    watch = Watch()
    watch.at(0, broken())

    for number in range(1, 1000):
        watch.at(number * 30, broken() if number % 2 else no_data())

    assert watch.alert.transitions == 500
    assert watch.told == ["fired"]


# Flapping


def test_the_fourth_turn_in_an_hour_is_told_as_flapping_and_then_nothing() -> None:
    watch = Watch()

    for number in range(100):
        watch.at(number * INTERVAL, kept() if number % 2 else broken())

    assert watch.kinds == ["pending", "fired", "resolved", "pending", "fired", "flapping"]
    assert watch.told == ["fired", "resolved", "fired", "flapping"]
    assert (len(watch.alerts), watch.alert.state, watch.alert.doc.is_flapping) == (2, AlertState.FIRING, True)


def test_three_turns_in_an_hour_are_no_flapping() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(600, kept())
    watch.at(1200, broken())

    assert watch.at(FLAP_SECONDS + 1, kept()) == ["resolved"]


def test_four_turns_of_which_the_last_one_fires_are_flapping_too() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(1800, kept())
    watch.at(2000, broken())
    watch.at(FLAP_SECONDS + 10, kept())

    assert watch.at(FLAP_SECONDS + 40, broken()) == ["pending", "fired", "flapping"]
    assert watch.told == ["fired", "resolved", "fired", "resolved", "flapping"]


def flapping() -> Watch:
    watch = Watch()
    for number in range(4):
        watch.at(number * INTERVAL, kept() if number % 2 else broken())
    assert watch.alert.doc.is_flapping
    return watch


def test_one_that_flapped_resolves_when_it_was_kept_long_enough() -> None:
    watch = flapping()
    watch.changes.clear()

    for _ in range(200):
        watch.after(INTERVAL, kept())

    assert watch.kinds == ["resolved"]
    assert watch.told == ["resolved"]
    assert watch.alert.doc.is_flapping is False
    assert FLAP_SECONDS - 120 <= (watch.alert.resolved_at or 0) - START <= FLAP_SECONDS + INTERVAL


def test_one_that_flapped_and_stays_broken_is_steady_and_not_told_again() -> None:
    watch = flapping()
    watch.changes.clear()

    for _ in range(200):
        watch.after(INTERVAL, broken())

    assert (watch.kinds, watch.told) == (["steady"], [])
    assert (watch.alert.state, watch.alert.doc.is_flapping) == (AlertState.FIRING, False)


def test_flapping_within_its_own_patience_is_none() -> None:
    watch = Watch()

    for number in range(100):
        watch.at(number * INTERVAL, kept(keep_firing_for=60) if number % 2 else broken())

    assert watch.kinds == ["pending", "fired"]


def test_one_that_was_never_more_than_pending_does_not_flap() -> None:
    watch = Watch()

    for number in range(100):
        watch.at(number * INTERVAL, kept() if number % 2 else broken(pending_for=60))

    assert set(watch.kinds) == {"pending", "ended"}
    assert watch.told == []


def test_each_subject_flaps_by_itself() -> None:
    watch = Watch()
    for number in range(3):
        watch.at(
            number * INTERVAL, kept(subject="a") if number % 2 else broken(subject="a"), kept(subject="b")
        )

    assert watch.after(INTERVAL, broken(subject="a"), broken(subject="b")) == ["pending", "fired"]


def test_a_flapping_one_that_gets_worse_is_told() -> None:
    watch = flapping()

    assert watch.after(INTERVAL, critical()) == ["worse"]
    assert watch.told[-1] == "worse"


# Silences


def test_a_silenced_alert_lives_and_is_not_told() -> None:
    watch = Watch()
    watch.silence(3600, reason="deployment")

    assert watch.at(0, broken()) == ["pending", "fired"]
    assert (watch.alert.state, watch.alert.doc.is_silenced, watch.told) == (AlertState.FIRING, True, [])


def test_when_the_silence_ends_while_it_fires_it_is_told_once() -> None:
    watch = Watch()
    watch.silence(3600)
    watch.at(0, broken())

    assert watch.at(3599, broken()) == []
    assert watch.at(3600, broken()) == ["unsilenced"]
    assert watch.at(3630, broken()) == []
    assert watch.told == ["unsilenced"]


def test_one_that_was_told_before_its_silence_is_told_again_behind_it() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.silence(600)
    watch.at(30, broken())

    assert watch.at(600, broken()) == ["unsilenced"]
    assert watch.told == ["fired", "unsilenced"]


def test_a_silence_that_a_person_ends_has_ended() -> None:
    watch = Watch()
    watch.silence(3600)
    watch.at(0, broken())
    watch.end_silences()

    assert watch.at(30, broken()) == ["unsilenced"]


def test_what_resolves_within_a_silence_is_never_told() -> None:
    watch = Watch()
    watch.silence(3600)
    watch.at(0, broken())

    assert watch.at(60, kept()) == ["resolved"]
    assert watch.at(3600, kept()) == []
    assert watch.told == []


def test_nobody_hears_the_end_of_what_they_never_heard_of() -> None:
    watch = Watch()
    watch.silence(60)
    watch.at(0, broken())

    assert watch.at(90, kept()) == ["resolved"]
    assert watch.told == []


def test_one_that_fires_behind_its_silence_is_told_as_fired_alone() -> None:
    watch = Watch()
    watch.silence(60)
    watch.at(0, broken(pending_for=90))
    assert watch.alert.doc.is_silenced

    assert watch.at(90, broken(pending_for=90)) == ["fired"]
    assert watch.told == ["fired"]


def test_what_gets_worse_as_its_silence_ends_is_told_once() -> None:
    watch = Watch()
    watch.silence(60)
    watch.at(0, broken())

    assert watch.at(60, critical()) == ["worse"]
    assert watch.told == ["worse"]


def test_while_another_silence_holds_it_is_silenced() -> None:
    watch = Watch()
    watch.silence(60)
    watch.silence(120, rule="failure_*")
    watch.at(0, broken())

    assert watch.at(90, broken()) == []
    assert watch.at(120, broken()) == ["unsilenced"]


def test_no_data_as_its_silence_ends_is_told_as_it_still_fires() -> None:
    watch = Watch()
    watch.silence(60)
    watch.at(0, broken())

    assert watch.at(90, no_data()) == ["no_data", "unsilenced"]


@pytest.mark.parametrize(
    ("fields", "is_silenced"),
    [
        ({}, True),
        ({"rule": "failure_rate"}, True),
        ({"rule": "failure_*", "subject": "shop.*"}, True),
        ({"rule": "timeout_rate"}, False),
        ({"subject": "shop"}, False),
        ({"subject": "SHOP.*"}, False),
        ({"tenants": ("acme",)}, True),
        ({"tenants": ("acme/north",)}, True),
        ({"tenants": ("acme/south", "acm")}, False),
        ({"tenants": ("",)}, False),
        ({"tenants": ()}, False),
    ],
)
def test_a_silence_covers_what_its_patterns_and_its_makers_tenants_cover(
    fields: dict[str, str], is_silenced: bool
) -> None:
    watch = Watch()
    watch.silence(60, **fields)

    watch.at(0, broken(tenant="acme/north"))

    assert watch.alert.doc.is_silenced is is_silenced


# Clocks and repeats


@pytest.mark.parametrize("wait", [0, 90])
def test_two_passes_at_one_time_change_nothing(wait: float) -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=wait))
    before = list(watch.changes)

    assert watch.at(0, broken(pending_for=wait)) == []
    assert watch.changes == before


def test_two_passes_at_one_time_may_see_two_things() -> None:
    watch = Watch()
    watch.at(0, broken())

    assert watch.at(0, kept()) == ["resolved"]
    assert watch.at(0, broken()) == ["pending", "fired"]


def test_a_clock_that_was_put_back_makes_a_pending_one_wait_its_own_time_and_no_more() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=60))

    assert watch.at(-7200, broken(pending_for=60)) == []
    assert watch.at(-7140, broken(pending_for=60)) == ["fired"]


def test_a_clock_that_was_put_back_does_not_keep_it_firing_for_ever() -> None:
    watch = Watch()
    watch.at(0, broken())
    watch.at(30, kept(keep_firing_for=60))

    assert watch.at(-7200, kept(keep_firing_for=60)) == []
    assert watch.at(-7140, kept(keep_firing_for=60)) == ["resolved"]
    assert watch.alert.resolved_at == watch.alert.fired_at == START


def test_turns_that_lie_ahead_after_the_clock_was_put_back_are_forgotten_in_an_hour() -> None:
    watch = flapping()
    start = watch.now - START - 86_400
    for number in range(130):
        watch.at(start + number * INTERVAL, kept())

    assert watch.alert.state is AlertState.RESOLVED


def test_a_clock_that_jumps_ahead_fires_what_was_pending_and_nothing_twice() -> None:
    watch = Watch()
    watch.at(0, broken(pending_for=3600))

    assert watch.at(86_400 * 365, broken(pending_for=3600)) == ["fired"]
    assert watch.at(30, broken(pending_for=3600)) == []


# Strange words


def test_words_that_no_column_holds_still_have_one_alert() -> None:
    watch = Watch()
    strange = {"rule": "objective:" + "x" * 100, "subject": "ü\0\ud800" * 200, "title": "\ud800" * 5000}

    watch.at(0, broken(**strange))
    watch.at(30, broken(**strange))

    assert watch.kinds == ["pending", "fired"]
    assert len(watch.alert.doc.title) == 1000


def test_a_since_that_is_no_time_is_none() -> None:
    watch = Watch()

    watch.at(0, broken(since=float("nan")))

    assert watch.alert.doc.since is None


def test_since_when_it_goes_on_is_not_forgotten_while_it_does() -> None:
    """Of one cause the next late run is later: the alert began with the first."""
    watch = Watch()

    watch.at(0, broken(since=START - 100, runs=("a",)))
    watch.at(30, broken(since=START + 20, runs=("b",)))
    watch.at(60, broken(since=START + 60, runs=()))

    assert watch.alert.doc.since == START - 100
    assert watch.alert.doc.runs == ("b",)
    watch.at(90, kept())
    assert watch.alert.state is AlertState.RESOLVED
    watch.at(120, broken(since=START + 110))
    assert watch.alert.doc.since == START + 110
