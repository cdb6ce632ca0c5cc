"""Times, states and numbers as HTML: safe, and the same bytes until something changes."""

from __future__ import annotations

import math

import pytest

from plet_celery.web import moments
from plet_celery.web.moments import Reader

AT = 1_790_000_000.0


def fill(html: str, reader: Reader) -> str:
    return moments.fill(html, reader).decode()


def test_a_fragment_changes_only_when_its_words_are_filled_in() -> None:
    html = moments.time_html(AT) + moments.elapsed_html(AT) + moments.ago_html(AT) + moments.now_html()

    assert (
        html == moments.time_html(AT) + moments.elapsed_html(AT) + moments.ago_html(AT) + moments.now_html()
    )
    early, late = fill(html, Reader(AT + 5)), fill(html, Reader(AT + 200))
    assert "5s ago · 14:13:20 UTC" in early
    assert ">5 s<" in early
    assert "3m ago · 14:13:20 UTC" in late
    assert "3 m 20 s" in late
    assert "\x00" not in early + late


def test_a_time_tells_machines_and_people_when() -> None:
    html = fill(moments.time_html(AT), Reader(AT + 90_000))

    assert 'datetime="2026-09-21T14:13:20.000Z"' in html
    assert 'title="2026-09-21 14:13:20 UTC"' in html
    assert "1d ago · 2026-09-21 14:13:20 UTC" in html


def test_what_comes_next_and_is_overdue_comes_soon() -> None:
    html = moments.time_html(AT, "next")

    assert ">in 4m<" in fill(html, Reader(AT - 250))
    assert ">soon<" in fill(html, Reader(AT))
    assert ">soon<" in fill(html, Reader(AT + 60))


@pytest.mark.parametrize("at", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_time_is_a_dash(at: float | None) -> None:
    assert "–" in moments.time_html(at)
    assert "–" in moments.elapsed_html(at)


@pytest.mark.parametrize("at", [-1e18, -5.0, 0.0, 1e17, 5e-324])
def test_times_that_no_clock_shows_do_no_harm(at: float) -> None:
    fill(moments.time_html(at) + moments.elapsed_html(at), Reader(AT))


def test_a_state_is_a_sign_a_word_and_a_colour() -> None:
    html = moments.state_html("timed_out")

    assert "⧗" in html
    assert "timed out" in html
    assert "plet-is-timed_out" in html
    assert "<img" not in moments.state_html('"><img src=x>')


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (math.nan, ""), (0, "0 %"), (99.99, "99 %"), (100, "100 %"), (250, "100 %")],
)
def test_a_percent_is_rounded_down_so_that_the_end_is_the_end(value: float | None, text: str) -> None:
    assert moments.percent(value) == text


def test_numbers_have_gaps_between_thousands() -> None:
    assert moments.count(48112) == "48\N{NARROW NO-BREAK SPACE}112"
    assert moments.count(2.5) == "2.5"
    assert moments.count(1e300).startswith("1")
    assert moments.count(math.inf) == "–"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (None, "–")]
)
def test_bytes_are_told_in_units(number: int | None, text: str) -> None:
    assert moments.size(number) == text


def test_controls_and_what_turns_text_around_are_shown() -> None:
    assert moments.visible("a\x1b[31mb\u202ec\u200bd\te\nf") == "a\\x1b[31mb\\u202ec\\u200bd\te\nf"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-09-21T14:13:20Z", AT),
        ("2026-09-21T16:13:20+02:00", AT),
        ("2026-09-21 14:13:20", AT),
        ("1790000000", AT),
        ("", None),
        ("yesterday", None),
        ("9" * 400, None),
        ("2026-13-45", None),
    ],
)
def test_a_time_in_a_url_is_read_or_is_none(text: str, at: float | None) -> None:
    assert moments.parse_time(text) == at


@pytest.mark.parametrize("at", [1e300, -1e300, 1e-7, -62_135_596_801.0, 253_402_300_800.0])
def test_a_time_beyond_every_calendar_fails_no_page(at: float) -> None:
    filled = "".join(
        fill(moments.time_html(at, form), Reader(1e9)) for form in ("both", "ago", "time", "full")
    )

    assert "\x00" not in filled + fill(moments.elapsed_html(at), Reader(1e9))


@pytest.mark.parametrize("mark", ["full1e300", "ago5.0", "now0.0"])
def test_a_task_cannot_write_what_the_clock_fills_in(mark: str) -> None:
    text = f"<p>\x00{mark}\x00</p>"

    assert fill(text, Reader(1e9)) == text


def test_a_nul_of_somebody_else_stays_where_it_is() -> None:
    html = f"a\0b{moments.ago_html(AT)}c\0\0d{moments.ago_html(AT)}\0"

    filled = fill(html, Reader(AT + 5))

    assert filled.count("5s ago") == 2
    assert filled.startswith("a\0b<time")
    assert "c\0\0d<time" in filled
    assert filled.endswith("</time>\0")
