"""Due times of crontabs in a zone, against Celery's own reading of them and across the jumps of a clock."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from celery.schedules import crontab
from scenes import DAY, at, shown

from plet_celery.monitor.schedule import Calendar

BERLIN = "Europe/Berlin"
TEXTS = [
    *("0 2 * * *", "*/15 8-17 * * mon-fri", "30 6 1 * *", "0 0 * * sun"),
    *("5,35 */3 * 3,4 *", "0 12 13 * fri"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_times_are_those_that_celery_would_send_at(text: str) -> None:
    start = at("2031-03-03 00:00")
    ours = Calendar(text, "UTC").between(start, start + 60 * DAY, limit=5000)

    now = datetime.fromtimestamp(start, UTC)
    theirs: list[float] = []
    schedule: Any = crontab.from_string(text)
    schedule.nowfun = lambda: now
    while True:
        left = schedule.remaining_estimate(now)
        now = (now + left).replace(second=0, microsecond=0)
        if now.timestamp() > start + 60 * DAY:
            break
        theirs.append(now.timestamp())

    assert ours == theirs


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("day", ["2031-03-29 12:00", "2031-10-25 12:00", "2031-06-01 00:00"])
def test_the_previous_and_the_next_time_are_neighbours(text: str, day: str) -> None:
    calendar, now = Calendar(text, BERLIN), at(day, BERLIN)
    times = calendar.between(now - 60 * DAY, now + 60 * DAY, limit=50_000)
    for number, one in list(enumerate(times))[1:-1]:
        assert calendar.previous(one) == one
        assert calendar.previous(one - 1) == times[number - 1]
        assert calendar.next(one) == times[number + 1]
        assert calendar.next(one - 1) == one


@pytest.mark.parametrize(
    ("text", "day", "times"),
    [
        ("30 2 * * *", "2031-03-30", ["03-30 03:30 +0200"]),
        ("30 2 * * *", "2031-10-26", ["10-26 02:30 +0200"]),
        ("30 1-3 * * *", "2031-03-30", ["03-30 01:30 +0100", "03-30 03:30 +0200"]),
        ("30 1-3 * * *", "2031-10-26", ["10-26 01:30 +0200", "10-26 02:30 +0200", "10-26 03:30 +0100"]),
        ("0 3 * * *", "2031-03-30", ["03-30 03:00 +0200"]),
    ],
)
def test_a_clock_time_on_the_day_of_a_jump(text: str, day: str, times: list[str]) -> None:
    start = at(f"{day} 00:00", BERLIN)

    found = Calendar(text, BERLIN).between(start, at(f"{day} 23:59", BERLIN), limit=50)

    assert [shown(one, BERLIN) for one in found] == times


def test_a_crontab_for_every_hour_goes_on_evenly_through_a_jump() -> None:
    calendar = Calendar("*/15 * * * *", BERLIN)
    for day in ("2031-03-30 00:00", "2031-10-26 00:00"):
        start = at(day, BERLIN)
        found = calendar.between(start, start + DAY, limit=500)
        assert {later - one for one, later in itertools.pairwise(found)} == {900.0}


def test_a_day_that_is_rare_is_found() -> None:
    found = Calendar("0 0 29 2 *", "UTC").next(at("2096-03-01 00:00"))

    assert found is not None
    assert shown(found) == "02-29 00:00 +0000"
    assert datetime.fromtimestamp(found, UTC).year == 2104


def test_no_more_than_the_limit_is_returned() -> None:
    now = at("2031-03-03 00:00")

    assert len(Calendar("* * * * *", "UTC").between(now, now + 365 * DAY, limit=100)) == 100
