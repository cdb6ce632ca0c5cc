"""Words of the clock that are kept say what they would say if they were made anew."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plet_celery.web.clockwords import Words

AT = 1_790_000_000.0
FORMS = ("ago", "next", "both", "time", "full", "for", "now", "due", "hm")
ZONES = [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]
near = st.floats(-3e5, 3e5, allow_nan=False) | st.integers(-200, 200).map(float)


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(
    before=near,
    steps=st.lists(st.floats(-2, 2) | st.sampled_from([0.5, 1.0, 29.5, 60.0, 3600.0]), max_size=20),
)
@example(before=-86_400.0, steps=[1.0] * 5)
@example(before=-60.0, steps=[0.5] * 5)
@example(before=0.0, steps=[0.1] * 3)
@example(before=59.0, steps=[0.5] * 5)
def test_what_is_kept_is_what_would_be_said_anew(
    form: str, zone: timezone, before: float, steps: list[float]
) -> None:
    kept, now, mark = Words(zone), AT - before, f"{form}{AT!r}".encode()
    for step in [0.0, *steps]:
        # A calendar knows no less than a microsecond.
        now = round(now + step, 3)
        assert kept.say(mark, now) == Words(zone).say(mark, now)


@pytest.mark.parametrize("mark", [b"ago1e400", b"what", b"ago", b"", b"ago1.0.0"])
def test_what_is_no_time_is_a_dash(mark: bytes) -> None:
    assert Words(UTC).say(mark, AT).decode() == "–"


@pytest.mark.parametrize("mark", [b"both-1e18", b"full1e17", b"due1e300", b"for-1e300", b"time5e-324"])
def test_what_no_calendar_has_does_no_harm(mark: bytes) -> None:
    assert Words(UTC).say(mark, AT)


def test_words_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plet_celery.web.clockwords._KEPT_MAX", 10)
    words = Words(UTC)
    for number in range(100):
        words.say(f"ago{AT - number!r}".encode(), AT)

    assert len(words._kept) <= 10
