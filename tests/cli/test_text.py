"""Text for terminals: what controls a terminal is shown, never sent; times and spans read well."""

from __future__ import annotations

import unicodedata
from datetime import UTC

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.terminal.text import (
    Clock,
    escape_json,
    printable,
    printable_lines,
    short_span,
    shorten,
    shorten_left,
    span,
)

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\x7f\x08", r"abc\x7f\x08"),
        ("real\rfake", r"real\rfake"),
        ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\u0085c", r"a\u2028b\x85c"),
        ("\ud800", r"\ud800"),
        ("tab\tstays, ünïcode ✔ too", "tab\tstays, ünïcode ✔ too"),
    ],
)
def test_controls_are_shown_not_sent(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


@given(st.text(st.characters(), max_size=200))
def test_no_text_keeps_a_control(text: str) -> None:
    shown = printable(text)

    bidi = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "BN"}
    for character in shown:
        assert character == "\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert ord(character) in range(0x2000) or unicodedata.bidirectional(character) not in bidi - {"BN"}
    shown.encode()


def test_only_lf_ends_a_line() -> None:
    assert printable_lines("a\r\nb\u2028c\x0bd\n") == ["a", r"b\u2028c\x0bd"]


@given(st.text(max_size=100))
def test_escaped_json_is_the_same_value(text: str) -> None:
    encoded = escape_json(msgspec.json.encode({"text": text}).decode())

    assert msgspec.json.decode(encoded) == {"text": text}
    assert encoded == printable(encoded)


@pytest.mark.parametrize(
    ("seconds", "words", "short"),
    [
        (0.0004, "0 ms", "0.0s"),
        (0.31, "310 ms", "0.3s"),
        (0.9999, "1.0 s", "1.0s"),
        (9.84, "9.8 s", "9.8s"),
        (19.2, "19.2 s", "19s"),
        (59.96, "1 m 00 s", "1m00s"),
        (192, "3 m 12 s", "3m12s"),
        (3729, "1 h 02 m 09 s", "1h02m"),
        (183_600, "2 d 03 h", "2d03h"),
        (-3, "0 ms", "0.0s"),
        (None, "", ""),
    ],
)
def test_a_duration_reads_well(seconds: float | None, words: str, short: str) -> None:
    assert span(seconds) == words
    assert short_span(seconds) == short


def test_a_growing_duration_shows_whole_seconds() -> None:
    assert span(12.7, whole=True) == "12 s"
    assert span(0.2, whole=True) == "0 s"
    assert span(65.0, whole=True) == "1 m 05 s"


@pytest.mark.parametrize(
    ("before", "words"),
    [(0.4, "now"), (12, "12s ago"), (150, "2m ago"), (3700, "1h ago"), (200_000, "2d ago"), (-4, "in 4s")],
)
def test_a_point_in_time_is_told_from_now(before: float, words: str) -> None:
    assert Clock(NOW).ago(NOW - before) == words


def test_a_clock_shows_the_date_only_of_another_day() -> None:
    clock = Clock(NOW, UTC)

    assert clock.time(NOW - 60) == "11:05:40"
    assert clock.time(NOW - 86_400) == "2026-11-17 11:06:40"
    assert clock.both(NOW - 180) == "3m ago · 11:03:40 UTC"
    assert clock.full(NOW) == "2026-11-18 11:06:40 UTC"


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e300])
def test_a_damaged_time_breaks_no_listing(at: float) -> None:
    assert Clock(NOW, UTC).time(at) == "1970-01-01 00:00:00"


def test_a_cut_is_marked() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten_left("shop.tasks.load", 6) == "….load"
    assert shorten("abc", 3) == shorten_left("abc", 3) == "abc"
