"""Bars of runs that ended: what stands on top, that one failure is seen, and what is said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from timelines import T0, render

from plet_celery.web.drawing.bars24 import ends_chart

HOUR = 3600.0
NOW = T0 // HOUR * HOUR + 100.0


@dataclass
class Bucket:
    at: float
    succeeded: int = 0
    failed: int = 0
    other: int = 0


def test_what_failed_stands_on_top_and_the_newest_hour_at_the_right() -> None:
    chart = ends_chart([Bucket(NOW - 100, succeeded=6, failed=2, other=2)], now=NOW, step=HOUR)

    (bar,) = chart.bars
    assert [(part.kind, part.y, part.height) for part in bar.parts] == [
        ("other", 80.0, 20.0),
        ("succeeded", 20.0, 60.0),
        ("failed", 0.0, 20.0),
    ]
    assert bar.x + bar.width <= 100
    assert bar.x > 95
    assert bar.text == "until now: 2 failed, 6 succeeded, 2 other"


def test_one_failure_among_thousands_is_seen() -> None:
    chart = ends_chart([Bucket(NOW - 100, succeeded=10_000, failed=1)], now=NOW, step=HOUR)

    assert chart.bars[0].parts[-1].height > 2.5


def test_buckets_of_one_time_are_summed_and_those_outside_left_out() -> None:
    found = [
        Bucket(NOW - 100, 1),
        Bucket(NOW - 90, 2, 1),
        Bucket(NOW - 25 * HOUR, 50),
        Bucket(NOW + HOUR, 50),
    ]

    chart = ends_chart(found, now=NOW, step=HOUR)

    assert (chart.totals, chart.peak) == ({"other": 0, "succeeded": 3, "failed": 1}, 4)
    assert chart.text == (
        "Runs that ended in the last 24 hours: 1 failed, 3 succeeded, 0 other; at most 4 in 60 minutes"
    )


def test_the_chart_stays_the_same_within_a_bucket() -> None:
    found = [Bucket(NOW - 100, 1)]

    assert ends_chart(found, now=NOW, step=HOUR) == ends_chart(found, now=NOW + 3000, step=HOUR)


def test_the_page_says_what_the_bars_show_and_has_nothing_inline() -> None:
    html = render("ends.html", ends=ends_chart([Bucket(NOW - HOUR, 1204, 3)], now=NOW, step=HOUR))

    text = " ".join(re.sub("<[^>]*>", " ", html).split())
    assert text.startswith("Ended in the last 24 h: 3 failed · 1 204 succeeded at most 1 207 in 60 m")
    assert "−24 h −18 h −12 h −6 h now" in text
    assert not re.search(r"\s(style|on\w+)=", html)


def test_where_nothing_ended_there_is_an_axis_and_a_sentence() -> None:
    html = render("ends.html", ends=ends_chart([], now=NOW, step=HOUR))

    assert "0 failed · 0 succeeded" in html
    assert "−24 h" in html


BUCKETS = st.builds(
    Bucket, st.floats() | st.floats(NOW - 30 * HOUR, NOW + HOUR), *[st.integers(-5, 10**6)] * 3
)


@given(st.lists(BUCKETS, max_size=60), st.floats(60.0, 7200.0))
def test_any_buckets_are_drawn_within_the_picture(found: list[Bucket], step: float) -> None:
    for bar in ends_chart(found, now=NOW, step=step).bars:
        assert 0 <= bar.x <= bar.x + bar.width <= 100.001
        assert sum(part.height for part in bar.parts) <= 100.01
        assert all(0 <= part.y <= 100 for part in bar.parts)
