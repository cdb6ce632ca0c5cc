"""Which runs are late now: those that the index finds and `outlook` confirms, on three engines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import Story
from services import ENGINES, new_database

from plet_celery import events
from plet_celery.monitor.lateness import count_late, is_late, overdue
from plet_celery.objectives import Declared, FinishBy, MaxRuntime, MaxWait, StartBy, SuccessRate
from plet_celery.store import queries

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


@pytest.fixture(params=ENGINES)
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    if request.param == "sqlite":
        made = Story(f"sqlite:///{tmp_path / 'plet.db'}")
        yield made
        made.close()
        return
    with new_database(request.param) as url:
        made = Story(url)
        yield made
        made.close()


def queued(story: Story, task: str, at: float, **facts: Any) -> str:
    name = f"{task}-{at:.0f}-{facts.get('tenant', '')}"
    story.add(events.RUN_QUEUED, at, name, None, task=task, retries=0, queue="q", **facts)
    return name


def late_ids(story: Story, *objectives: Declared, now: float = NOON, **filters: Any) -> set[str]:
    story.ship()
    page = queries.list_runs(story.store, older=overdue(objectives, now), limit=500, **filters)
    return {run.id for run in page.items if is_late(run, objectives, now)}


def test_late_are_those_that_wait_or_run_for_too_long(story: Story) -> None:
    wait, end = Declared("a", MaxWait(60)), Declared("a", MaxRuntime(100))
    waiting = queued(story, "a", NOON - 61)
    queued(story, "a", NOON - 59)
    queued(story, "b", NOON - 9000)
    running = story.run("a", started=NOON - 101)
    story.run("a", started=NOON - 99)
    story.run("a", started=NOON - 500).succeed()

    assert late_ids(story, wait, end) == {waiting, running.id}
    assert late_ids(story, wait) == {waiting}
    assert late_ids(story, end) == {running.id}
    assert late_ids(story) == set()
    assert count_late(story.store, [wait, end], now=NOON) == (2, False)
    assert count_late(story.store, [], now=NOON) == (0, False)


def test_a_clock_time_has_passed_for_those_that_came_before_it(story: Story) -> None:
    start = Declared("a", StartBy("11:00", zone="UTC"))
    finish = Declared("a", FinishBy("11:30", zone="UTC"))
    early = queued(story, "a", NOON - 7200)
    queued(story, "a", NOON - 60)  # that has tomorrow's
    running = story.run("a", started=NOON - 5000)

    assert late_ids(story, start) == {early}
    assert late_ids(story, finish) == {early, running.id}


def test_what_may_not_start_yet_is_not_late(story: Story) -> None:
    queued(story, "a", NOON - 9000, eta=NOON + 60)
    late = queued(story, "a", NOON - 8000)

    found = late_ids(story, Declared("a", MaxWait(60)))

    assert late in found


def test_promises_of_shares_and_of_a_canvas_make_no_run_late(story: Story) -> None:
    story.run("a", started=NOON - 9000)

    assert overdue([Declared("a", SuccessRate(0.9))], NOON) == []
    assert overdue([Declared("a", MaxRuntime(60, scope="canvas"))], NOON) == []


def test_the_other_filters_hold_too_and_so_do_tenants(story: Story) -> None:
    end = Declared("a", MaxRuntime(100)), Declared("b", MaxRuntime(100))
    mine = story.run("a", started=NOON - 500, tenant="acme/x")
    theirs = story.run("a", started=NOON - 500, tenant="beta")
    other = story.run("b", started=NOON - 500, tenant="acme")

    assert late_ids(story, *end) == {mine.id, theirs.id, other.id}
    assert late_ids(story, *end, tenants=["acme"]) == {mine.id, other.id}
    assert late_ids(story, *end, task="b") == {other.id}
    assert late_ids(story, *end, states=["queued"]) == set()
    assert late_ids(story, *end, until=NOON - 600) == set()
    assert late_ids(story, *end, search=mine.id[:8]) == {mine.id}
    assert count_late(story.store, end, now=NOON, tenants=["acme"]) == (2, False)
    assert count_late(story.store, end, now=NOON, tenants=[]) == (0, False)
