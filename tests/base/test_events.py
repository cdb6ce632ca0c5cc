"""The vocabulary is consistent, and whatever a task hands over becomes bounded JSON."""

from __future__ import annotations

import enum
import math
import re
import sys
import tracemalloc
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery import events
from plet_celery.events import (
    CUT,
    DEPTH_MAX,
    END_STATES,
    ITEMS_MAX,
    KINDS,
    NODES_MAX,
    STRING_MAX,
    Event,
    RunState,
    Shed,
    plain,
    safe_text,
    shed_class,
)

DOCS = Path(__file__).parents[2] / "docs"
Pair = namedtuple("Pair", "left right")


# The vocabulary


def test_every_kind_has_a_constant_of_its_name_and_a_place_in_the_shedding_order() -> None:
    constants = {
        name: value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", value)
    }

    assert {value.replace(".", "_").upper(): value for value in KINDS} == constants


def test_every_kind_in_the_documentation_exists() -> None:
    text = (DOCS / "events.md").read_text()
    rows = re.findall(r"^\| (`[a-z]+\.[a-z_]+`.*?) \|", text, re.MULTILINE)
    named = {kind for row in rows for kind in re.findall(r"`([a-z]+\.[a-z_]+)`", row)}

    assert len(named) > 15
    assert named <= set(KINDS)


def test_ends_and_starts_are_the_last_to_go() -> None:
    ends = {kind for kind, shed in KINDS.items() if shed is Shed.END}

    assert set(END_STATES) <= ends
    assert {events.RUN_STARTED, events.RUN_QUEUED, events.STAGE_STARTED, events.EVENTS_DROPPED} <= ends
    assert max(Shed) is Shed.END


def test_every_end_has_a_state_and_every_state_but_the_open_ones_an_end() -> None:
    open_states = {RunState.QUEUED, RunState.RUNNING, RunState.ABANDONED}

    assert set(END_STATES.values()) == set(RunState) - open_states


@pytest.mark.parametrize(
    ("kind", "data", "shed"),
    [
        ("log.written", {"level": 10}, Shed.DEBUG_LOG),
        ("log.written", {"level": 20}, Shed.LOG),
        ("log.written", {}, Shed.LOG),
        ("stage.progressed", {}, Shed.PROGRESS),
        ("run.failed", {"level": 10}, Shed.END),
        ("shop.opened", {}, Shed.CUSTOM),
    ],
)
def test_what_is_shed_first(kind: str, data: dict[str, Any], shed: Shed) -> None:
    assert shed_class(kind, data) is shed


def test_an_event_is_identified_by_its_position_and_cannot_be_changed() -> None:
    event = Event(
        kind="k", wall=1.0, mono=2.0, run=None, attempt=None, data={}, writer="w", segment=3, offset=4
    )

    assert event.position == ("w", 3, 4)
    with pytest.raises(AttributeError):
        event.kind = "other"  # type: ignore[misc]


# Text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\0b", "a\ufffdb"),
        ("a\udc80b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\x1e\n\x1b[31m", "\x1e\n\x1b[31m"),
        ("x" * 20, "x" * 20),
    ],
    ids=ascii,
)
def test_text_any_store_takes(text: str, shown: str) -> None:
    assert safe_text(text, 20) == shown


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60), st.integers(0, 50))
def test_text_is_bounded_utf8_without_nul(text: str, limit: int) -> None:
    shown = safe_text(text, limit)

    assert len(shown) <= max(limit, len(CUT))
    assert "\0" not in shown
    assert shown.encode().decode() == shown
    assert safe_text(shown, max(limit, len(CUT))) == shown


def test_cut_text_is_marked() -> None:
    assert safe_text("x" * 100, 20) == "x" * 14 + CUT


# JSON


def _fail(value: Any) -> NoReturn:
    raise AssertionError(f"represented {value!r}")


class Colour(enum.StrEnum):
    """A text with a name."""

    RED = "red"


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 3


class SubFloat(float):
    """As numpy's float64 is."""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**63, str(2**63)),
        (-(2**70), str(-(2**70))),
        (1 << 12_000, "<int of 12001 bits>"),
        ("a\0", "a\ufffd"),
        ([1, (2, [3])], [1, [2, [3]]]),
        ({"a": {"b": ()}}, {"a": {"b": []}}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (SubFloat(1.5), 1.5),
        ({Colour.RED: 1}, {"red": 1}),
        (frozenset({1}), [1]),
    ],
    ids=repr,
)
def test_json_and_what_is_nearly_json_keeps_its_shape(value: Any, shown: Any) -> None:
    found = plain(value, _fail)

    assert found == shown
    assert type(found) is type(shown)


def test_other_objects_and_keys_are_represented() -> None:
    assert plain(Pair(1, 2), repr) == "Pair(left=1, right=2)"
    assert plain([b"x", 1j, {1: 2, None: 3, (1, 2): 4}], repr) == [
        "b'x'",
        "1j",
        {"1": 2, "None": 3, "(1, 2)": 4},
    ]


def test_what_is_cut_is_marked() -> None:
    items = plain(list(range(ITEMS_MAX + 5)), _fail)
    table = plain({str(n): n for n in range(ITEMS_MAX + 5)}, _fail)

    assert items == [*range(ITEMS_MAX), CUT]
    assert len(table) == ITEMS_MAX + 1
    assert table[CUT] == 5
    assert plain("x" * (STRING_MAX + 1), _fail).endswith(CUT)
    assert plain({"k" * 1000: 1}, _fail) == {"k" * (256 - len(CUT)) + CUT: 1}


class HostileList(list[int]):
    """Its own methods fail."""

    def __iter__(self) -> NoReturn:
        raise ValueError("iter")

    def __len__(self) -> NoReturn:
        raise ValueError("len")


class HostileDict(dict[str, int]):
    """Its own methods fail."""

    items = __len__ = HostileList.__len__


def test_a_users_methods_are_not_called() -> None:
    assert plain([HostileList([1, 2]), HostileDict(a=1)], _fail) == [[1, 2], {"a": 1}]


def test_a_huge_collection_is_not_copied_to_be_cut() -> None:
    given = list(range(1_000_000))

    collections = [given, dict.fromkeys(given), set(given)]

    tracemalloc.start()
    try:
        plain(collections, repr)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # A copy of one of them would be 8 MB.
    assert peak < 1_000_000


def test_cycles_and_depth_end() -> None:
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    table: dict[str, Any] = {}
    table |= {"a": table, "b": [table]}
    deep: Any = 1
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]

    for value in (cycle, table, deep):
        text = msgspec.json.encode(plain(value, _fail)).decode()
        assert CUT in text
        assert len(text) < 20 * NODES_MAX


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(alphabet=st.characters(exclude_categories=[])),
        st.binary(),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.none()), inner),
    ),
)


@given(_json)
def test_anything_becomes_json_that_reads_back_equal(value: Any) -> None:
    shown = plain(value, repr)

    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown
    assert _depth(shown) <= DEPTH_MAX


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)
