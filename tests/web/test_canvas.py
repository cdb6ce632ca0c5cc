"""The tree of a canvas: what stands where, how far the whole is, and why a chord's body has not run."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from canvases import Member, chain, group, run, shape, shown
from hypothesis import given
from hypothesis import strategies as st

from plet_celery.web.drawing.canvas import Canvas, Unit, canvas
from plet_celery.web.drawing.canvas_view import LINES, lines


def test_a_chain_is_a_flat_list_of_its_steps_in_order() -> None:
    runs = chain(*[f"s{n}" for n in range(20)])
    random.Random(1).shuffle(runs)

    tree = canvas(runs)

    assert shape(tree) == [[f"s{n}" for n in range(20)]]
    assert tree.fraction == 1.0


def test_what_a_step_started_is_not_the_next_step() -> None:
    runs = [*chain("a", "b"), run("x", at=0.5, parent_id="a"), run("y", at=0.6, parent_id="a")]

    assert shape(canvas(runs)) == [[{"a": ["x", "y"]}, "b"]]


def test_members_of_a_group_stand_in_it_by_their_index() -> None:
    assert shape(canvas(group("g", "a", "b", "c")[::-1])) == [("a", "b", "c")]


def test_a_chord_is_its_header_and_then_its_body() -> None:
    header = group("g", "a", "b", chord="body")
    body = run("body", at=2, parent_id="b", group_id="g")

    assert shape(canvas([*header, body])) == [[("a", "b"), "body"]]


def test_a_chord_in_a_chain_goes_on_after_its_body() -> None:
    runs = [
        run("first", chain_left=2),
        *group("g", "a", "b", parent_id="first", at=1, chord="body"),
        run("body", at=2, parent_id="b", group_id="g", chain_left=1),
        run("last", at=3, parent_id="body"),
    ]

    assert shape(canvas(runs)) == [["first", ("a", "b"), "body", "last"]]


def test_a_chain_may_end_in_a_group() -> None:
    runs = [run("first", chain_left=1), *group("g", "a", "b", parent_id="first", at=1)]

    assert shape(canvas(runs)) == [["first", ("a", "b")]]


def test_of_a_chain_in_a_group_only_the_last_step_knows_the_group() -> None:
    runs = [
        *chain("a1", "a2", group_id="g", group_index=0),
        *chain("b1", "b2", group_id="g", group_index=1),
        run("c", group_id="g", group_index=2),
    ]

    (members,) = shape(canvas(runs))

    assert sorted(map(str, members)) == ["['a1', 'a2']", "['b1', 'b2']", "c"]


def test_a_group_of_chains_may_follow_a_step() -> None:
    runs = [
        run("first", chain_left=1),
        *chain("a1", "a2", first="first", at=1, group_id="g", group_index=0),
        *chain("b1", "b2", first="first", at=1, group_id="g", group_index=1),
    ]

    assert shape(canvas(runs)) == [["first", (["a1", "a2"], ["b1", "b2"])]]


def test_a_body_may_be_a_chord() -> None:
    """Members of the first header name the second header's group as what they feed."""
    runs = [
        *group("g1", "a", "b", chord="g2"),
        *group("g2", "c", "d", parent_id="b", at=1, chord="body"),
        run("body", at=2, parent_id="d", group_id="g1"),
    ]

    assert shape(canvas(runs)) == [[("a", "b"), ("c", "d"), "body"]]


def test_a_body_may_be_a_group() -> None:
    """Its members carry the header's group id, and nobody has the id that the header feeds."""
    runs = [*group("g", "a", "b", chord="x"), *group("g", "c", "d", parent_id="b", at=1)]

    assert shape(canvas(runs)) == [[("a", "b"), ("c", "d")]]


def test_a_run_that_replaced_itself_by_a_chord_stays_where_it_was() -> None:
    runs = [run("me", "running", attempts=2), *group("g", "a", "b", parent_id="me", at=1, chord="me")]
    runs[-1].state = "running"

    tree = canvas(runs, here="me")

    assert shape(tree) == [{"me": [("a", "b")]}]
    assert tree.reason == "waits for 1 of 2 header runs (1 running)"


def test_a_run_that_replaced_itself_by_a_chain_holds_it() -> None:
    runs = [
        run("first", chain_left=2),
        run("me", at=1, parent_id="first", chain_left=1, attempts=2),
        run("a", at=2, parent_id="me", chain_left=3),
        run("b", at=3, parent_id="a", chain_left=2),
        run("last", at=4, parent_id="me"),
    ]

    tree = canvas(runs)

    assert shape(tree) == [["first", {"me": [["a", "b"]]}, "last"]]
    assert tree.fraction == 1.0


def test_who_started_it_and_what_it_is_in_is_around_a_run() -> None:
    runs = [run("top"), *group("g", "a", "b", parent_id="top", at=1), run("x", at=2, parent_id="b")]

    tree = canvas(runs, here="x")

    assert [one.id for one in tree.ancestors] == ["top", "b"]
    assert [line.is_here for line in lines(tree) if line.run_id] == [False, False, False, True]


def test_runs_of_unknown_parents_stand_at_the_top() -> None:
    assert shape(canvas([run("a", parent_id="gone"), run("b", at=1, parent_id="b")])) == ["a", "b"]


def test_a_group_counts_its_unknown_members_as_not_begun() -> None:
    members = [
        run("a", group_id="g", group_index=0),
        run("b", "running", group_id="g", group_index=3, percent=50.0),
    ]

    assert canvas(members).fraction == pytest.approx(1.5 / 4)


def test_a_chain_counts_its_steps_to_come() -> None:
    runs = chain("a", "b", to_come=2)
    runs[-1].state, runs[-1].percent = "running", 50.0

    tree = canvas(runs)

    assert tree.fraction == pytest.approx(1.5 / 4)
    assert shown(tree) == ["chain 4", "  a", "  b", "  rest 2"]


def test_a_chord_that_waits_says_for_how_many_and_what_they_do() -> None:
    header = group("g", *[f"m{n}" for n in range(17)], chord="body")
    header[3].state = header[4].state = "running"
    header[5].state, header[5].started_at = "queued", None

    tree = canvas(header)

    assert tree.reasons == {"body": "waits for 3 of 17 header runs (2 running, 1 queued)"}
    assert shape(tree)[0][1] is None
    assert tree.units[0].state == "running"


def test_a_body_whose_header_failed_will_not_run() -> None:
    header = group("g", "a", "1f3a9c2e-77", chord="body")
    header[1].state = "failed"

    tree = canvas(header)

    assert tree.reasons["body"] == "will not run: header member shop.parse 1f3a9c2e failed"
    assert tree.units[0].state == "failed"


def test_a_body_whose_header_is_lost_may_yet_run() -> None:
    header = group("g", "a", "b", chord="body")
    header[1].state = "lost"

    assert (
        canvas(header).reasons["body"] == "will not run unless header member shop.parse b, lost, runs again"
    )


def test_a_body_that_is_queued_says_what_it_waits_for_and_one_that_ran_does_not() -> None:
    header = group("g", "a", "b", chord="body")
    body = run("body", "queued", at=2, parent_id="b", group_id="g")

    assert canvas([*header, body], here="body").reason == (
        "is to be published: all 2 header runs have succeeded"
    )
    body.started_at = body.queued_at
    assert canvas([*header, body], here="body").reason is None


def test_more_than_twenty_alike_are_one_line_and_those_that_failed() -> None:
    states = ["succeeded"] * 640 + ["running"] * 27 + ["failed"]
    runs = [run("top"), *(run(f"m{n}", state, 1, parent_id="top") for n, state in enumerate(states))]

    tree = canvas(runs)

    assert shown(tree) == ["top", "  shop.parse 668", "    m667"]
    (fold,) = [line for line in lines(tree) if line.kind == "fold"]
    assert fold.states == {"succeeded": 640, "running": 27, "failed": 1}


def test_the_run_that_is_looked_at_is_never_folded_away() -> None:
    runs = [run("top"), *(run(f"m{n}", at=1, parent_id="top") for n in range(100))]

    assert shown(canvas(runs, here="m50")) == ["top", "  shop.parse 100", "    m50"]
    assert all(line.is_open for line in lines(canvas(runs, here="m50")) if line.kind == "open")


def test_the_middle_of_a_long_chain_is_one_line_but_for_where_one_is() -> None:
    tree = canvas(chain(*[f"s{n}" for n in range(500)]), here="s250")

    assert shown(tree)[21:24] == ["  further steps 230", "  s250", "  further steps 229"]
    assert shown(tree)[-1] == "  s499"


def test_many_chains_of_one_shape_are_one_line() -> None:
    runs = [one for n in range(30) for one in chain(f"a{n}", f"b{n}")]

    (fold,) = lines(canvas(runs))[:1]

    assert (fold.name, fold.size, fold.detail) == ("shop.parse → shop.parse", 30, "60 runs")


def test_runs_that_start_each_other_a_thousand_times_end_no_browser() -> None:
    runs = [run(f"r{n}", at=n, parent_id=f"r{n - 1}") for n in range(1000)]

    tree = canvas(runs, here="r999")

    found = shown(tree)
    assert len(found) <= LINES
    assert [name.strip() for name in found[:-1]] == [f"r{n}" for n in range(len(found) - 1)]
    assert found[-1] == "further runs 1"
    assert max(len(name) - len(name.lstrip()) for name in found) <= 16
    assert len(tree.ancestors) == 100


IDS = st.sampled_from(["a", "b", "c", "d", "e", ""])
TIMES = st.sampled_from([None, 0.0, 1.0, 2.0, float("nan"), float("inf"), -1e300])
MEMBERS = st.builds(
    Member, id=IDS | st.sampled_from(["f", "g", "h"]), task=st.sampled_from(["t", "u", ""]),
    state=st.sampled_from(["queued", "running", "succeeded", "failed", "lost", "ignored", "new one"]),
    percent=st.sampled_from([None, 50.0, float("nan"), -3.0, 1e9]), parent_id=st.none() | IDS,
    group_id=st.none() | IDS, group_index=st.sampled_from([None, 0, 1, 5, -1, 10**12]), chord=st.none() | IDS,
    chain_left=st.sampled_from([None, 0, 1, 2, 3, -1]), queued_at=TIMES, started_at=TIMES, ended_at=TIMES,
    runtime=TIMES, error=st.sampled_from([None, "text", {"type": "E"}]),
)  # fmt: skip


def _runs_of(units: list[Unit]) -> Counter[str]:
    found: Counter[str] = Counter()
    waiting = list(units)
    while waiting:
        unit = waiting.pop()
        for step in unit.steps:
            found.update([step.run.id] if step.run is not None else [])
            waiting += step.units
    return found


@given(st.lists(MEMBERS, max_size=9), IDS)
def test_whatever_the_messages_say_every_run_has_one_place(runs: list[Member], here: str) -> None:
    tree = canvas(runs, here=here)

    assert _runs_of(tree.units) == Counter({one.id for one in runs})
    assert 0 <= tree.fraction <= 1
    assert _is_sound(tree)


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from("tuv")), min_size=1, max_size=400), st.data())
def test_every_run_has_a_line_or_is_counted_in_a_fold(parents: list[tuple[int, str]], data: Any) -> None:
    runs = [
        run(f"r{n}", at=n, parent_id=f"r{parent}" if parent < n else None, task=task)
        for n, (parent, task) in enumerate(parents)
    ]
    here = data.draw(st.sampled_from(runs)).id

    tree = canvas(runs, here=here)

    assert sum(line.is_here for line in lines(tree)) == 1
    assert _is_sound(tree)
    assert sum(unit.runs for unit in tree.units) == len(runs)
    inside, alone = 0, 0
    for line in lines(tree):
        if line.holds == "shown":
            inside += 1 if line.kind == "open" else -1
        elif not inside:
            alone += line.runs if line.kind == "fold" else line.kind == "run"
    assert alone == len(runs)


def _is_sound(tree: Canvas) -> bool:
    """Whether items and lists are closed in the order in which they were opened."""
    open_: list[str] = []
    for line in lines(tree):
        if line.kind == "close":
            assert open_.pop() == line.holds
        elif line.kind == "end":
            assert open_.pop() == "item"
        else:
            open_.append(line.holds if line.kind == "open" else "item")
    return not open_
