"""Promises of runs as chips, limits of rules in words, and lengths of time."""

from __future__ import annotations

import pytest
from alerting import an_alert

from plet_celery.monitor.book import Entry
from plet_celery.objectives import Declared, FinishBy, MaxRuntime, MaxWait
from plet_celery.rulebook import Rulebook
from plet_celery.store.records import Run
from plet_celery.terminal.text import about, left_or_late
from plet_celery.watchfacts import AlertDoc
from plet_celery.web import alertquery, runquery
from plet_celery.web.moments import Reader, due_html, fill, time_html
from plet_celery.web.promising import chip_of, chips_of
from plet_celery.web.watchrules import limit_of

NOW = 1_795_262_400.0  # 2026-11-21T12:00Z


def run(**facts: object) -> Run:
    return Run(**({"id": "1", "short_id": "1", "task": "t", "state": "running"} | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (240, "4 min"), (3600, "1 h"), (11_400, "3 h 10 min"),
     (86_400, "1 d"), (86_700, "1 d"), (183_600, "2 d 3 h"), (-5, "0 s")],
)  # fmt: skip
def test_a_length_of_time_has_at_most_two_units(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_time_is_left_until_it_is_over() -> None:
    assert [left_or_late(one) for one in (240, 0, -1, -180)] == [
        "4 min left",
        "0 s left",
        "late by 1 s",
        "late by 3 min",
    ]
    assert "4 min left</time>" in fill(due_html(NOW + 240), Reader(NOW)).decode()
    assert "late by 3 min</time>" in fill(due_html(NOW - 180), Reader(NOW)).decode()
    assert ">12:04</time>" in fill(time_html(NOW + 240, "hm"), Reader(NOW)).decode()
    assert fill(due_html(NOW), Reader(NOW)) != fill(due_html(NOW), Reader(NOW + 60))
    assert due_html(NOW) == due_html(NOW)  # the fragment itself does not change by the clock


def test_the_chip_is_of_the_promise_that_is_nearest_to_be_broken() -> None:
    promises = [Declared("t", MaxRuntime(3600)), Declared("t", MaxRuntime(600, name="short"))]
    found = chip_of(run(started_at=NOW - 300), promises, NOW)

    assert found is not None
    assert (found.look, found.due_at, found.is_open) == ("near", NOW + 300, True)
    assert [one.look for one in chips_of(run(started_at=NOW - 900), promises, NOW)] == ["late", ""]


def test_what_was_kept_has_no_chip_in_the_list_and_what_was_not_has_one() -> None:
    promises = [Declared("t", MaxRuntime(100))]

    assert chip_of(run(state="succeeded", started_at=NOW - 90, ended_at=NOW), promises, NOW) is None
    broken = chip_of(run(state="succeeded", started_at=NOW - 300, ended_at=NOW - 100), promises, NOW)
    assert broken is not None
    assert (broken.look, broken.is_open, broken.text) == ("late", False, "late by 100 s")
    assert chip_of(run(started_at=NOW), [Declared("other", MaxRuntime(1))], NOW) is None
    assert chip_of(run(started_at=NOW), [Declared("t", MaxWait(60))], NOW) is None


def test_a_promise_with_a_clock_shows_its_own_zones_time() -> None:
    promises = [Declared("t", FinishBy("14:30", zone="Europe/Berlin"))]
    (found,) = chips_of(run(queued_at=NOW - 60, started_at=NOW - 30), promises, NOW)

    assert (found.clock, found.zone, found.word) == ("14:30", "Europe/Berlin", "end")


def test_a_rule_says_when_it_fires() -> None:
    book = Rulebook({"queue_depth": {"threshold": 5000, "for": 0}, "drops": "off", "check:disk": {"for": 0}})
    said = {one.name: limit_of(one) for one in book.all()}

    assert said["failure_rate"] == "more than 20 % of at least 10 runs in 1 h, for 60 s"
    assert said["queue_depth"] == (
        "more than 5,000 messages, or the oldest run waits longer than plet_queue_max_wait"
    )
    assert said["drops"] == "off"
    assert said["run_lost"] == "any runs in 1 h"
    assert said["killer_task"] == "more than 2 runs in 1 h, at different times"
    assert said["host_lost"] == "not heard of, and no goodbye, for 60 s"
    assert said["stuck"] == "a run tells nothing for plet_stuck_after"
    assert said["missed_schedule"] == (
        "no run within 60 s of its time (an interval: twice the interval), for 2 min"
    )
    assert said["monitor_silent"] == "no pass for 2 × plet_monitor_interval + 10 s"
    assert (said["check"], said["check:disk"]) == ("not ok, for 60 s", "not ok")
    drops = Rulebook().of("drops")
    assert drops is not None and limit_of(drops) == "any events in 1 h"


@pytest.mark.parametrize(
    ("doc", "involved"),
    [
        (AlertDoc(value="2 due times without a success", count=2), 0),
        (AlertDoc(value="no success", count=2), 0),
        (AlertDoc(value="no progress for 14 min", count=1200, runs=("a",)), 1200),
        (AlertDoc(value="1,200 runs wait", count=1200, runs=("a",)), 0),
        (AlertDoc(value="12000 runs wait", count=1200, runs=("a",)), 1200),
    ],
)
def test_runs_involved_are_said_where_runs_are_named_and_the_value_does_not(
    doc: AlertDoc, involved: int
) -> None:
    assert Entry(an_alert(doc=doc), (), False, ()).involved == involved


def test_the_address_holds_what_the_lists_show() -> None:
    late = runquery.parse({"late": ["1"], "task": ["shop.*"]})
    assert late.late
    assert late.is_filtered
    assert late.url(states=("queued",)) == "?state=queued&task=shop.*&late=1"
    assert not runquery.parse({"late": ["0"]}).late

    shown = alertquery.parse({"show": ["resolved"], "q": [" shop. "], "after": ["x"]})
    assert (shown.show, shown.text, shown.after) == ("resolved", "shop.", "x")
    assert shown.url(show="open") == "?q=shop."
    odd = alertquery.parse({"show": ["nothing"], "after": ["x"]})
    assert (odd.show, odd.after, len(odd.notes)) == ("open", "", 1)
