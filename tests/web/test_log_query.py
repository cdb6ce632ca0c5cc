"""The address of a log view is read without trust, and written back as it was."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.logsources.window import LogFilter
from plet_celery.web.logs.query import COUNT, END, FIRST_ERROR, STREAMS, LogQuery

WHERES = st.one_of(st.none(), st.tuples(st.integers(0, 99_999), st.integers(0, 0xFFFF_FFFF)))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(str.strip).filter(bool)
QUERIES = st.builds(
    LogQuery,
    attempt=st.one_of(st.none(), st.integers(1, 65_535)),
    first=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    to=st.one_of(st.none(), st.just(END), st.integers(0, 2**32 - 1)),
    at=WHERES,
    error=WHERES,
    count=st.integers(1, 10_000),
    level=st.one_of(st.none(), st.integers(0, 255)),
    stage=st.one_of(st.none(), WORDS),
    streams=st.sets(st.sampled_from(STREAMS)).map(lambda some: tuple(one for one in STREAMS if one in some)),
    text=st.one_of(st.just(""), WORDS),
    hit=WHERES,
    after=WHERES,
    times=st.booleans(),
    wrap=st.booleans(),
    plain=st.booleans(),
)


def read(address: str, keep: tuple[str, ...] = ()) -> LogQuery:
    return LogQuery.parse(parse_qs(urlsplit(address).query), keep=keep)


@given(query=QUERIES)
def test_an_address_says_the_whole_view(query: LogQuery) -> None:
    assert read(query.href()) == query


NAMES = ["attempt", "from", "to", "at", "error", "n", "level", "stage", "stream", "q", "hit", "after", "ts"]


@given(arguments=st.dictionaries(st.sampled_from([f"log_{name}" for name in NAMES]), st.lists(st.text())))
def test_any_arguments_give_a_view(arguments: dict[str, list[str]]) -> None:
    query = LogQuery.parse(arguments)

    assert 1 <= query.count <= 10_000
    assert LogQuery.parse(parse_qs(urlsplit(query.href()).query)) == query


def test_nothing_asked_for() -> None:
    query = LogQuery.parse({})

    assert (query.count, query.wanted, query.is_placed, query.notes) == (COUNT, LogFilter(), False, ())
    assert query.href() == "?"


def test_a_view_in_an_address() -> None:
    query = read(
        "?log_attempt=2&log_from=41001&log_n=500&log_level=warning&log_stage=load&log_stream=stdout"
        "&log_stream=stderr&log_q=bad+row&log_hit=a2L7&log_ts=0&log_wrap=0&log_plain=1"
    )

    assert (query.attempt, query.first, query.count, query.text, query.hit) == (
        2,
        41_001,
        500,
        "bad row",
        (2, 7),
    )
    assert query.wanted == LogFilter(30, "load", ("stdout", "stderr"))
    assert (query.times, query.wrap, query.plain, query.is_placed) == (False, False, True, True)


@pytest.mark.parametrize(
    ("address", "note"),
    [
        ("?log_n=10001", "log_n is '10001' and should be a number from 1 to 10000; it is left out"),
        ("?log_n=0", "log_n is '0'"),
        ("?log_from=-5", "log_from is '-5'"),
        ("?log_from=٣", "log_from is '٣'"),
        ("?log_from=" + "9" * 5000, "log_from is '999"),
        ("?log_at=L5", "log_at is 'L5' and should be a line such as a1L123"),
        ("?log_level=loud", "log_level is 'loud' and should be one of debug, info"),
        ("?log_stream=stdin", "log_stream is 'stdin'"),
        ("?log_wrap=yes", "log_wrap is 'yes' and should be 0 or 1"),
        ("?log_n=%E2%80%AE1", r"log_n is '\\u202e1'"),
        ("?log_q=" + "x" * 501, "log_q is longer than 500 characters"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_said(address: str, note: str) -> None:
    query = read(address)

    assert len(query.notes) == 1
    assert query.notes[0].startswith(note)
    assert query.count == COUNT
    assert (query.first, query.at, query.level) == (None, None, None)


def test_another_place_keeps_the_rest() -> None:
    query = read("?tz=utc&log_from=5&log_level=error&log_hit=a1L9&other=1", keep=("tz",))

    assert query.placed(to=END) == "?tz=utc&log_to=end&log_level=error"
    assert query.placed((2, 3), at=(2, 3)) == "?tz=utc&log_at=a2L3&log_level=error#a2L3"
    assert query.placed(error=FIRST_ERROR) == "?tz=utc&log_error=first&log_level=error"
