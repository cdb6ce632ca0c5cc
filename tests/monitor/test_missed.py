"""A periodic task that did not run when it was due: from the app's own schedule, whoever looks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule

from plet_celery.celeryfacts import celery_facts
from plet_celery.monitor import missed
from plet_celery.rulebook import Rulebook
from plet_celery.timetables import timetable_of
from plet_celery.watchfacts import Judgement, Severity, Verdict


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def app(timezone: str | None = None, **entries: Any) -> Celery:
    made = Celery("shop", set_as_current=False)
    made.conf.update(timezone=timezone)
    made.conf.beat_schedule = {
        name: {"task": f"shop.{name}", "schedule": when} for name, when in entries.items()
    }
    return made


def judge(
    table: list[dict[str, Any]], now: str, given: Any = None, known: missed.Known | None = None, **newest: str
) -> dict[str, Judgement]:
    ran = {f"shop.{name}": at(text) for name, text in newest.items()}
    found = missed.judge(table, ran, Rulebook(given), now=at(now), known=known)
    return {one.subject.removeprefix("shop."): one for one in found}


NIGHTLY = timetable_of(app(nightly=crontab(minute=0, hour=2)))
EVERY_MINUTE = timetable_of(app(often=60.0))


def test_an_apps_schedule_travels_as_json() -> None:
    made = app(
        "Europe/Berlin",
        number=30,
        delta=timedelta(minutes=5),
        interval=schedule(10.0),
        week=crontab(minute="*/15", hour=[1, 3], day_of_week="mon-fri"),
    )
    made.conf.beat_schedule["ours"] = {"task": "plet.monitor", "schedule": 30}
    # As `solar` is: neither number, nor interval, nor crontab.
    made.conf.beat_schedule["strange"] = {"task": "shop.x", "schedule": object()}

    table = timetable_of(made)

    assert json.loads(json.dumps(table)) == table
    assert {entry.pop("name"): entry for entry in table} == {
        "number": {"task": "shop.number", "every": 30.0},
        "delta": {"task": "shop.delta", "every": 300.0},
        "interval": {"task": "shop.interval", "every": 10.0},
        "week": {"task": "shop.week", "crontab": "*/15 1,3 * * mon-fri", "zone": "Europe/Berlin"},
    }
    assert timetable_of(Celery("empty", set_as_current=False)) == []


def test_a_monitor_without_the_app_is_told_its_schedule() -> None:
    facts = celery_facts(app(nightly=crontab(minute=0, hour=2)))

    assert json.loads(json.dumps(facts))["timetable"] == NIGHTLY


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ("2026-03-03T01:59:59", Verdict.KEPT),
        ("2026-03-03T02:00:59", Verdict.KEPT),
        ("2026-03-03T02:01:00", Verdict.BROKEN),
        ("2026-03-03T12:00:00", Verdict.BROKEN),
    ],
)
def test_a_nightly_task_is_missed_a_minute_after_its_time(now: str, verdict: Verdict) -> None:
    assert judge(NIGHTLY, now, nightly="2026-03-02T02:00:01")["nightly"].verdict is verdict


def test_what_was_missed_says_since_when_and_how_often() -> None:
    found = judge(NIGHTLY, "2026-03-05T03:00:00", nightly="2026-03-02T02:00:01")["nightly"]

    assert (found.since, found.count, found.severity) == (at("2026-03-03T02:00:00"), 3, Severity.CRITICAL)
    assert found.value == "last run 3 d 00 h ago, was due 3 times since"
    assert found.limit == "in the schedule: nightly; 60 s of grace"


def test_a_run_after_its_time_makes_it_kept_again() -> None:
    assert (
        judge(NIGHTLY, "2026-03-03T12:00:00", nightly="2026-03-03T11:00:00")["nightly"].verdict
        is Verdict.KEPT
    )


def test_a_clock_of_beat_that_is_a_little_ahead_misses_nothing() -> None:
    assert (
        judge(NIGHTLY, "2026-03-03T03:00:00", nightly="2026-03-03T01:59:57")["nightly"].verdict
        is Verdict.KEPT
    )


@pytest.mark.parametrize(
    ("now", "verdict"),
    [("2026-03-03T00:02:59", Verdict.KEPT), ("2026-03-03T00:03:01", Verdict.BROKEN)],
)
def test_an_interval_is_missed_after_twice_its_time(now: str, verdict: Verdict) -> None:
    found = judge(EVERY_MINUTE, now, often="2026-03-03T00:00:00")["often"]

    assert (found.verdict, found.count) == (verdict, 2 if verdict is Verdict.BROKEN else 0)


def test_a_task_that_never_ran_says_nothing() -> None:
    assert judge(NIGHTLY, "2026-03-03T12:00:00") == {}


def test_times_follow_the_zone_of_the_app_through_the_change_of_clocks() -> None:
    table = timetable_of(app("Europe/Berlin", nightly=crontab(minute=0, hour=5)))

    # On the 29th of March five o'clock comes an hour earlier by UTC.
    before = judge(table, "2026-03-28T04:02:00", nightly="2026-03-27T04:00:00")["nightly"]
    after = judge(table, "2026-03-29T03:02:00", nightly="2026-03-28T04:00:01")["nightly"]

    assert (before.since, after.since) == (at("2026-03-28T04:00:00"), at("2026-03-29T03:00:00"))


def test_a_day_without_beat_is_one_alert_a_task_however_many_times_were_missed() -> None:
    found = judge(EVERY_MINUTE, "2026-03-04T00:00:00", often="2026-03-03T00:00:00")

    assert {name: one.count for name, one in found.items()} == {"often": 1000}
    assert found["often"].value == "last run 1 d 00 h ago, was due 1000+ times since"


def test_two_entries_of_one_task_are_one_judgement() -> None:
    table = [entry | {"task": "shop.nightly"} for entry in (*NIGHTLY, *EVERY_MINUTE)]

    found = judge(table, "2026-03-03T12:00:00", nightly="2026-03-02T02:00:01")

    assert list(found) == ["nightly"]
    assert found["nightly"].since == at("2026-03-02T02:01:01")


def test_the_rule_can_be_switched_off() -> None:
    assert (
        judge(NIGHTLY, "2026-03-05T03:00:00", {"missed_schedule": "off"}, nightly="2026-03-02T02:00:01") == {}
    )


@pytest.mark.parametrize("table", [NIGHTLY, EVERY_MINUTE])
def test_before_its_entry_came_nothing_was_missed(table: list[dict[str, Any]]) -> None:
    (name,) = (entry["name"] for entry in table)
    known = missed.known_entries({}, table, at("2026-03-03T10:00:00"))
    ran = {name: "2026-02-20T10:00:00"}  # by hand, or by other times

    assert judge(table, "2026-03-03T10:01:30", known=known, **ran)[name].verdict is Verdict.KEPT
    late = judge(table, "2026-03-04T02:01:00", known=known, **ran)[name]

    assert late.verdict is Verdict.BROKEN
    assert late.since == at("2026-03-04T02:00:00" if table is NIGHTLY else "2026-03-03T10:01:00")


def test_an_entry_is_known_since_it_was_first_seen_as_it_is() -> None:
    moved = timetable_of(app(nightly=crontab(minute=0, hour=9)))
    first = missed.known_entries({}, NIGHTLY, 100.0)
    both = missed.known_entries(first, moved, 200.0)

    assert [seen for _, seen in sorted(first.items())] == [(100.0, 100.0)]
    assert {both[missed.entry_id(NIGHTLY[0])], both[missed.entry_id(moved[0])]} == {
        (100.0, 100.0),
        (200.0, 200.0),
    }
    assert missed.known_entries(first, NIGHTLY, 300.0) == {missed.entry_id(NIGHTLY[0]): (100.0, 300.0)}


def test_an_entry_that_was_gone_for_a_day_of_passes_is_new_when_it_comes_back() -> None:
    known = missed.known_entries({}, NIGHTLY, 0.0)
    for hour in range(1, 26):
        known = missed.known_entries(known, EVERY_MINUTE, hour * 3600.0)
    known = missed.known_entries(known, EVERY_MINUTE, 26 * 3600.0)

    assert missed.known_entries(known, NIGHTLY, 1e6)[missed.entry_id(NIGHTLY[0])] == (1e6, 1e6)


def test_a_monitor_that_was_away_for_days_knows_its_entries_all_the_same() -> None:
    known = missed.known_entries({}, NIGHTLY, 0.0)

    assert missed.known_entries(known, NIGHTLY, 1e6) == {missed.entry_id(NIGHTLY[0]): (0.0, 1e6)}


def test_what_was_there_before_anybody_looked_was_always_there() -> None:
    assert missed.known_entries(None, NIGHTLY, 100.0) == {missed.entry_id(NIGHTLY[0]): (0.0, 100.0)}


@pytest.mark.parametrize(("minute", "ran"), [(0, "2026-10-25T00:00:00"), ("*/15", "2026-10-25T00:45:00")])
def test_in_an_hour_that_comes_twice_beat_sends_once(minute: Any, ran: str) -> None:
    table = timetable_of(app("Europe/Berlin", hourly=crontab(minute=minute)))

    assert judge(table, "2026-10-25T01:59:00", hourly=ran)["hourly"].verdict is Verdict.KEPT
    assert judge(table, "2026-10-25T02:02:00", hourly=ran)["hourly"].verdict is Verdict.BROKEN
