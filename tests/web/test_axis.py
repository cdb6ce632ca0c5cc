"""The time axis: where a moment lies, which idle gaps are cut, and that the ticks can be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.web.drawing.axis import Axis, moment, offset, steady

HOUR = 3600.0


def test_a_moment_lies_where_its_share_is() -> None:
    axis = Axis((100.0, 200.0), [(100.0, 200.0)], zero=100.0)

    assert [axis.x(at) for at in (0.0, 100.0, 133.3333, 200.0, 999.0)] == [0.0, 0.0, 33.333, 100.0, 100.0]
    assert axis.bar(150.0, 175.0) == (50.0, 25.0)


def test_a_bar_of_no_length_is_seen_and_stays_on_the_axis() -> None:
    axis = Axis((0.0, 1000.0), [(0.0, 1000.0)], zero=0.0)

    assert axis.bar(10.0, 10.0) == (1.0, 0.4)
    assert axis.bar(1000.0, 900.0) == (99.6, 0.4)


def test_a_long_wait_is_cut_so_that_the_work_is_seen() -> None:
    axis = Axis((0.0, 8 * HOUR + 30), [(8 * HOUR, 8 * HOUR + 30)], zero=8 * HOUR)

    (cut,) = axis.cuts
    assert (cut.x, cut.width, cut.seconds, cut.label) == (0.0, 4.0, 8 * HOUR, "8 h")
    assert axis.bar(8 * HOUR, 8 * HOUR + 15) == (4.0, 48.0)
    assert axis.x(4 * HOUR) == 2.0


def test_a_wait_that_is_not_much_longer_than_the_work_is_drawn_in_full() -> None:
    axis = Axis((0.0, 40.0), [(0.0, 10.0), (30.0, 40.0)], zero=0.0)

    assert axis.cuts == ()


def test_of_many_waits_the_longest_are_cut() -> None:
    starts = [sum(2**n * 10 + 4 for n in range(number)) for number in range(10)]
    axis = Axis((0.0, starts[-1] + 4.0), [(at, at + 4.0) for at in starts], zero=0.0)

    assert [cut.seconds for cut in axis.cuts] == [80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0]
    assert sum(cut.width for cut in axis.cuts) <= 30.0


def test_where_nothing_ran_nothing_is_cut() -> None:
    assert Axis((0.0, 9 * HOUR), [], zero=0.0).cuts == ()


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (18.0, ["0", "5 s", "10 s", "15 s"]),
        (0.04, ["0", "10 ms", "20 ms", "30 ms", "40 ms"]),
        (3 * HOUR, ["0", "30 m", "1 h", "1 h 30 m", "2 h", "2 h 30 m", "3 h"]),
        (0.0, ["0"]),
    ],
)
def test_ticks_stand_at_round_distances(length: float, labels: list[str]) -> None:
    axis = Axis((1000.0, 1000.0 + length), [(1000.0, 1000.0 + length)], zero=1000.0)

    assert [tick.label for tick in axis.ticks] == labels


def test_ticks_count_from_zero_to_both_sides() -> None:
    axis = Axis((0.0, 30.0), [(0.0, 30.0)], zero=10.0)

    assert [tick.label for tick in axis.ticks] == ["−10 s", "−5 s", "0", "5 s", "10 s", "15 s", "20 s"]


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), max_size=30), st.floats(0, 1e9))
def test_whatever_ran_positions_ascend_and_stay_on_the_axis(
    ran: list[tuple[float, float]], end: float
) -> None:
    busy = [(start, start + length) for start, length in ran]
    times = sorted([0.0, end, *(at for span in busy for at in span)])

    axis = Axis((times[0], times[-1]), busy, zero=times[0])

    places = [axis.x(at) for at in times]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert all(0 <= tick.x <= 100 for tick in axis.ticks)
    assert len(axis.ticks) <= 40
    assert [cut.x for cut in axis.cuts] == sorted(cut.x for cut in axis.cuts)


@pytest.mark.parametrize("value", [None, "soon", math.nan, math.inf, -math.inf, 1e300, 10**400])
def test_what_is_no_time_has_no_place(value: object) -> None:
    assert moment(value) is None


def test_now_stands_still_within_a_step_that_nobody_sees() -> None:
    assert steady(1000.0 + 3601.0, 1000.0) == steady(1000.0 + 3610.0, 1000.0)
    assert 0 <= 4601.0 - steady(4601.0, 1000.0) <= 3601.0 / 100


def test_distances_are_said_in_whole_units() -> None:
    assert [offset(at) for at in (0, 0.25, 1.5, 150, 10_800, -2)] == [
        "0", "250 ms", "1.5 s", "2 m 30 s", "3 h", "−2 s",
    ]  # fmt: skip
