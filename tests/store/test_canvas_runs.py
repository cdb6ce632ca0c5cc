"""All runs of one canvas, as light facts."""

from __future__ import annotations

from typing import Any

import pytest
from histories import Teller
from storing import Shipper

from plet_celery import events
from plet_celery.store import Store, queries

HEAD, FIRST, SECOND, BODY, STRANGER = (f"{n:08x}-0000-4000-8000-000000000000" for n in range(1, 6))


@pytest.fixture
def teller() -> Teller:
    return Teller()


def canvas(**facts: Any) -> dict[str, Any]:
    return {"canvas": HEAD, "root": HEAD, "parent": HEAD, "queued_at": None, **facts}


def test_a_chord_is_told_in_the_order_of_its_runs(store: Store, teller: Teller) -> None:
    writer = teller.writer()
    teller.start(writer, HEAD, "h", chain_left=2, queued_at=None)
    teller.end(writer, events.RUN_SUCCEEDED, HEAD, "h")
    group = canvas(group="g", chord=BODY)
    teller.start(writer, FIRST, "a1", **group, group_index=0)
    error = {"type": "ValueError", "message": "\nno such row\nand more"}
    teller.end(writer, events.RUN_FAILED, FIRST, "a1", error=error)
    teller.start(writer, SECOND, "a2", **group, group_index=1)
    teller.tell(writer, events.STAGE_PROGRESSED, SECOND, "a2", stage=1, done=1, percent=40.0)
    queued = canvas(task="shop.sum", trigger="task")
    teller.tell(writer, events.RUN_QUEUED, BODY, None, **queued)
    teller.start(writer, STRANGER, "s")
    assert Shipper(store).ship(teller.told) == 0

    found = queries.canvas_runs(store, SECOND)

    head, first, second, body = found.items
    assert not found.truncated
    assert [run.id for run in found.items] == [HEAD, FIRST, SECOND, BODY]
    assert (head.state, head.percent, head.chain_left, head.group_index) == ("succeeded", None, 2, None)
    assert (first.state, first.error_type, first.error_message) == ("failed", "ValueError", "no such row")
    assert (first.group_id, first.group_index, first.chord, first.parent_id) == ("g", 0, BODY, HEAD)
    assert (second.percent, second.error_type, second.attempts) == (40.0, None, 1)
    assert (body.state, body.task, body.attempts, body.started_at) == ("queued", "shop.sum", 0, None)
    assert (first.runtime, first.short_id, first.root_id) == (0.25, FIRST[:8], HEAD)
    assert queries.canvas_runs(store, STRANGER).items[0].id == STRANGER


def test_of_a_large_canvas_the_first_are_told_and_the_run_itself(store: Store, teller: Teller) -> None:
    writer = teller.writer()
    runs = [f"{n:08x}-0000-4000-8000-0000000000bb" for n in range(6)]
    for run in runs:
        teller.start(writer, run, "a", canvas=runs[0])
    assert Shipper(store).ship(teller.told) == 0

    assert [run.id for run in queries.canvas_runs(store, runs[5], limit=3).items] == [*runs[:2], runs[5]]
    assert queries.canvas_runs(store, runs[1], limit=3).truncated
    assert [run.id for run in queries.canvas_runs(store, runs[1], limit=3).items] == runs[:3]
    assert not queries.canvas_runs(store, runs[1], limit=6).truncated


def test_parents_may_lead_in_a_circle(store: Store, teller: Teller) -> None:
    writer = teller.writer()
    teller.start(writer, HEAD, "h", canvas=HEAD, parent=HEAD)
    teller.start(writer, FIRST, "a", canvas=HEAD, parent=SECOND)
    teller.start(writer, SECOND, "b", canvas=HEAD, parent=FIRST)
    assert Shipper(store).ship(teller.told) == 0

    found = queries.canvas_runs(store, FIRST).items

    assert [(run.id, run.parent_id) for run in found] == [(HEAD, None), (FIRST, SECOND), (SECOND, FIRST)]


@pytest.mark.parametrize("odd", ["x", 1.5, [1], {"a": 1}, True], ids=str)
def test_links_of_a_wrong_kind_are_none(store: Store, teller: Teller, odd: Any) -> None:
    links = {"group_index": odd, "chain_left": odd, "chord": [odd]}
    teller.start(teller.writer(), HEAD, "h", **links)
    teller.end(teller.writer(), events.RUN_FAILED, HEAD, "h", error=odd)
    assert Shipper(store).ship(teller.told) == 0

    (run,) = queries.canvas_runs(store, HEAD).items

    assert (run.group_index, run.chain_left, run.chord, run.error_type) == (None, None, None, None)


def test_a_step_that_never_ran_tells_what_ended_it(store: Store, teller: Teller) -> None:
    error = {"type": "KeyError", "message": "x" * 500}
    teller.end(teller.writer(), events.RUN_FAILED, BODY, None, upstream=FIRST, error=error, canvas=HEAD)
    assert Shipper(store).ship(teller.told) == 0

    (run,) = queries.canvas_runs(store, BODY).items

    assert (run.state, run.error_type, run.error_message) == ("failed", "KeyError", "x" * 200)
