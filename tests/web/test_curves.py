"""Curves of measures: where their points lie, what is left out of a long one, and what is said of it."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timelines import T0, render

from plet_celery.store.records import Measure, MeasurePoint
from plet_celery.web.drawing.axis import Axis
from plet_celery.web.drawing.curves import HEIGHT, POINTS, WIDTH, curves, number, reduced

AXIS = Axis((T0, T0 + 100), [(T0, T0 + 100)], zero=T0)


def series(*values: float, name: str = "gap", attempt: str = "a1", start: float = 0.0) -> Measure:
    """One value a second."""
    points = [MeasurePoint(at=T0 + start + n, value=value, number=n + 1) for n, value in enumerate(values)]
    return Measure(run_id="r", attempt_id=attempt, name=name, points=points)


def test_a_value_lies_at_its_time_and_between_the_lowest_and_the_highest() -> None:
    (drawn,) = curves([series(0.0, 10.0, 5.0)], axis=AXIS)

    assert drawn.lines == (((0.0, 94.0), (10.0, 6.0), (20.0, 50.0)),)
    assert (drawn.low, drawn.high, drawn.last, drawn.count) == (0.0, 10.0, 5.0, 3)
    assert drawn.text == "3 values over 2.0 s: from 0 to 5, lowest 0, highest 10"


def test_a_constant_series_is_a_line_in_the_middle() -> None:
    (drawn,) = curves([series(7.0, 7.0)], axis=AXIS)

    assert {y for line in drawn.lines for _, y in line} == {50.0}


def test_one_point_is_a_dot() -> None:
    html = render("measures.html", curves=curves([series(3.5)], axis=AXIS))

    assert 'd="M0.0 50.0h0"' in html
    assert "<polyline" not in html
    assert "3.5 at 0" in html


def test_what_is_no_number_is_a_gap_and_counted() -> None:
    (drawn,) = curves([series(1.0, 2.0, math.nan, 3.0, math.inf)], axis=AXIS)

    assert [len(line) for line in drawn.lines] == [2, 1]
    assert (drawn.count, drawn.gaps, drawn.last) == (4 - 1, 2, 3.0)


def test_a_series_without_a_number_says_so() -> None:
    html = render("measures.html", curves=curves([series(math.nan)], axis=AXIS))

    assert "no numbers · 1 not a number" in html


def test_attempts_are_lines_of_their_own_and_names_are_curves() -> None:
    found = curves(
        [series(1.0, 2.0), series(3.0, name="loss"), series(4.0, 5.0, attempt="a2", start=50)], axis=AXIS
    )

    assert [(one.name, len(one.lines)) for one in found] == [("gap", 2), ("loss", 1)]


def test_a_long_series_keeps_its_ends_and_extremes() -> None:
    values = [math.sin(n / 30) for n in range(1000)]
    values[333], values[777] = 50.0, -50.0

    (drawn,) = curves([series(*values)], axis=Axis((T0, T0 + 999), [], zero=T0))

    (line,) = drawn.lines
    assert len(line) <= POINTS
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert {94.0, 6.0} <= {y for _, y in line}
    assert line[0][0] == 0.0
    assert line[-1][0] == WIDTH


@pytest.mark.parametrize(
    ("value", "shown"), [(0.03, "0.03"), (48_112.0, "48 112"), (1e15, "1e+15"), (2e-9, "2e-09"), (None, "–")]
)
def test_values_are_said_for_people(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_hostile_names_stay_text_and_nothing_is_inline() -> None:
    html = render("measures.html", curves=curves([series(1.0, 2.0, name='<b>"\u202e')], axis=AXIS))

    assert "<b>" not in html
    assert "\u202e" not in html
    assert not re.search(r"\s(style|on\w+)=", html)


POINT = st.builds(MeasurePoint, at=st.floats(), value=st.floats(), number=st.integers(0, 9))


@given(st.lists(st.lists(POINT, max_size=40), max_size=4))
def test_any_points_are_drawn_within_the_picture(found: list[list[MeasurePoint]]) -> None:
    measures = [Measure(run_id="r", attempt_id="a", name="m", points=points) for points in found]

    for drawn in curves(measures, axis=AXIS):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in drawn.lines for x, y in line)
        assert drawn.text


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500), st.integers(4, 60))
def test_what_is_left_of_a_line_has_its_ends_and_extremes(values: list[float], limit: int) -> None:
    points = [(float(n), value) for n, value in enumerate(values)]

    kept = reduced(points, limit)

    assert len(kept) <= limit
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert min(value for _, value in kept) == min(values)
    assert max(value for _, value in kept) == max(values)
