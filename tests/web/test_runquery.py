"""The address of the list is its state: read, written, and what makes no sense is said."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.web.runquery import BAD, RunQuery, parse


def asked(url: str) -> RunQuery:
    return parse(parse_qs(url.lstrip("?"), keep_blank_values=True))


def test_an_address_without_arguments_asks_for_the_newest_page() -> None:
    found = asked("")

    assert found == RunQuery()
    assert found.is_first
    assert not found.is_filtered
    assert found.url() == "?"


def test_all_filters_are_read() -> None:
    found = asked(
        "state=failed,lost&task=shop.*&worker=w@a&queue=q&tenant=a/b&q=1f3a&from=2026-09-21T14:13:20Z&to=1790000100"
    )

    assert found.filters() == {
        "states": ("failed", "lost"),
        "task": "shop.*",
        "worker": "w@a",
        "queue": "q",
        "tenant": "a/b",
        "since": 1_790_000_000.0,
        "until": 1_790_000_100.0,
        "meta": None,
        "search": "1f3a",
    }
    assert found.notes == ()


def test_qualifiers_in_the_search_are_filters() -> None:
    found = asked('q=state:failed task:shop.* meta.customer:"acme inc" queue:slow load'.replace(" ", "%20"))

    filters = found.filters()

    assert filters["states"] == ("failed",)
    assert (filters["task"], filters["queue"], filters["search"]) == ("shop.*", "slow", "load")
    assert filters["meta"] == {"customer": "acme inc"}


def test_a_word_with_a_colon_that_is_no_qualifier_is_searched_for() -> None:
    assert asked("q=urn:id:7").filters()["search"] == "urn:id:7"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("state=broken", "broken"),
        ("q=state:brokem", "brokem"),
        ("from=yesterday", "yesterday"),
        ("q=one%20two", "'one'"),
        ("q=customer:acme", "no filter 'customer:'"),
        ("q=task:", "'task:' names nothing"),
        ("q=meta.customer:%20acme", "'meta.customer:' names nothing"),
    ],
)
def test_what_makes_no_sense_is_said_and_left_out(url: str, word: str) -> None:
    found = asked(url)

    assert word in " ".join(found.notes)
    assert found.filters()["states"] == ()
    assert found.filters()["since"] is None


@pytest.mark.parametrize(
    "url", ["q=task:a%20meta.customer:acme", "q=1f3a", "q=%22a%20b%22", "from=50", "to=150"]
)
def test_what_makes_sense_needs_no_note(url: str) -> None:
    assert parse(parse_qs(url), now=100.0).notes == ()


def test_a_time_that_is_still_to_come_is_said() -> None:
    found = parse(parse_qs("from=2999-01-01"), now=1_790_000_000.0)

    assert "'2999-01-01' is still to come" in " ".join(found.notes)
    assert found.filters()["since"] is not None


def test_times_that_enclose_nothing_are_said() -> None:
    found = parse(parse_qs("from=80&to=70"), now=100.0)

    assert "nothing lies from '80' to '70'" in " ".join(found.notes)


def test_a_place_that_is_none_leads_to_the_newest_page() -> None:
    found = asked("task=a&after=abc")

    assert (found.after, found.lost_place, found.is_first) == ("", "abc", True)
    assert found.url() == "?task=a"


@pytest.mark.parametrize(
    ("url", "current", "only"),
    [
        ("", "All", ""),
        ("state=failed", "Failed", "failed"),
        ("state=failed,timed_out", "Failed", "failed, timed out"),
        (f"state={','.join(reversed(BAD))}", "Failed", ""),
        ("state=running", "Running", "running"),
        ("q=state:queued", "Queued", ""),
        ("state=running,lost", "running, lost", ""),
    ],
)
def test_the_current_tab_says_what_of_it_is_shown(url: str, current: str, only: str) -> None:
    (tab,) = [one for one in asked(url).tabs() if one.is_current]

    assert (tab.word, tab.only) == (current, only)


def test_a_tab_takes_the_state_out_of_the_words() -> None:
    found = asked('q=state:failed%20meta.customer:"acme%20inc"')

    (running,) = [asked(one.url) for one in found.tabs() if one.word == "Running"]

    assert running.filters()["states"] == ("running", "retrying")
    assert running.filters()["meta"] == {"customer": "acme inc"}


def test_a_changed_filter_begins_at_the_newest_page() -> None:
    found = asked("task=a&after=CURSOR")

    assert found.url(states=BAD) == "?state=failed,timed_out,lost,interrupted,rejected&task=a"
    assert found.url(before="X") == "?task=a&before=X"


@given(
    st.dictionaries(
        st.sampled_from(["state", "task", "worker", "queue", "tenant", "q", "from", "to", "after"]), st.text()
    )
)
def test_any_address_is_read_and_writes_itself_again(arguments: dict[str, str]) -> None:
    found = parse({name: [value] for name, value in arguments.items()})

    again = asked(found.url(after=found.after, before=found.before))

    assert again.filters() == found.filters()
    assert (again.after, again.before) == (found.after, found.before)
