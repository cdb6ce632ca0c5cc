"""The runs that benchmarks are filled with are runs as the store keeps them: every query reads them."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from benchmarks.believable import World
from benchmarks.fill import fill
from plet_celery.events import RunState
from plet_celery.store import Store, queries
from plet_celery.store.overviews import EndsBucket
from plet_celery.store.records import Run

COUNT = 3000


def test_every_query_reads_a_filled_store(store: Store) -> None:
    now = time.time()
    fill(store, COUNT, now=now)

    found: list[Run] = []
    after = None
    while len(found) < COUNT:
        page = queries.list_runs(store, limit=500, after=after)
        found += page.items
        after = page.next
    assert after is None
    assert len({run.id for run in found}) == COUNT
    states = Counter(run.state for run in found)
    assert set(states) >= {"queued", "running", "retrying", "succeeded", "failed", "timed_out", "cancelled"}
    # A failed attempt shows what it failed with, one that runs how far it is, and both their stage.
    assert all(run.error for run in found if run.state == "failed")
    assert all(run.percent is not None and run.stage for run in found if run.state == "running")
    assert queries.glance(store, now=now).running.number == states["running"]
    ends = queries.ends_over_time(store, since=now - 31 * 86_400, until=now + 300, step=86_400)
    assert sum(map(total, ends)) == sum(
        count for state, count in states.items() if RunState(state) not in OPEN
    )
    assert len([one for one in queries.list_workers(store) if one.is_living]) == 24
    assert sum(map(len, queries.running_by_worker(store).by_worker.values())) == states["running"]
    big = max(found, key=lambda run: run.attempts)
    assert len(queries.attempts(store, big.id)) == big.attempts == 2
    assert queries.run_events(store, big.id)
    assert queries.recorded_since(store) == min(run.queued_at or now for run in found)


OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.RETRYING)


def total(one: EndsBucket) -> int:
    return one.succeeded + one.failed + one.other


def test_a_fan_out_is_one_canvas(sqlite_store: Store) -> None:
    now = time.time()
    fill(sqlite_store, COUNT, now=now)

    canvas = queries.canvas_runs(sqlite_store, World(COUNT, seed=1, now=now).id_of(0))

    assert len(canvas.items) == 1001
    assert sorted(run.group_index for run in canvas.items if run.group_index is not None) == list(range(1000))


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 1500])
def test_ids_are_in_an_order_of_their_own(count: int) -> None:
    world = World(count, seed=3, now=1e9)

    ids = [one.id for one in world.in_order_of_ids()]

    assert ids == sorted(set(ids))
    assert [one.number for one in world.in_order_of_time()] == list(range(count))
    assert set(ids) == {world.id_of(number) for number in range(count)}
