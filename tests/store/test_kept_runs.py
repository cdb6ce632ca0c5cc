"""Runs that were listed before are given again, and never when they have changed."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa
from recorded_runs import Story

from plet_celery.store import queries
from plet_celery.store.keptruns import KeptRuns

NOW = time.time()


@pytest.fixture
def told(database_url: str) -> Any:
    story = Story(database_url)
    yield story
    story.close()


def both(story: Story, kept: KeptRuns) -> tuple[list[Any], list[Any]]:
    """The list with what was kept, and the list without."""
    (page,) = queries.list_together(story.store, [{}], kept=kept)
    return page.items, queries.list_runs(story.store).items


def changes_of(run: Any) -> dict[str, Any]:
    return {
        "progress": lambda: run.stage("load", total=10, done=3, state="running", percent=30.0),
        "a line": lambda: run.log("it went wrong", level=40),
        "metadata": lambda: run.metadata(supplier="acme"),
        "other metadata": lambda: run.metadata(supplier="other"),
        "a retry": run.retry,
        "the end": lambda: run.fail("ValueError", "row 17"),
    }


def test_each_change_of_a_run_is_seen(told: Story) -> None:
    kept = KeptRuns()
    run, other = told.run("shop.index", started=NOW - 60), told.run("shop.other", started=NOW - 50)
    told.ship()

    before = both(told, kept)
    assert before[0] == before[1]
    for name, change in changes_of(run).items():
        change()
        told.ship()
        with_kept, without = both(told, kept)
        assert with_kept == without, name
        assert with_kept != before[0], name
        before = with_kept, without
    assert {one.id for one in before[0]} == {run.id, other.id}


def test_an_unchanged_run_is_not_read_again(told: Story) -> None:
    kept, read = KeptRuns(), list[str]()
    told.run("shop.index", started=NOW - 60).succeed()
    told.ship()

    def note(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        read.append(text)

    first = both(told, kept)[0]
    sa.event.listen(told.store.engine, "before_cursor_execute", note)
    try:
        (page,) = queries.list_together(told.store, [{}], kept=kept)
    finally:
        sa.event.remove(told.store.engine, "before_cursor_execute", note)

    assert page.items == first
    assert not [text for text in read if "attempt" in text or "run_metadata" in text]


def test_a_host_that_fell_silent_is_told_of_a_kept_run(told: Story) -> None:
    kept, journal = KeptRuns(), told.store.tables.journal
    told.run("shop.index", started=NOW - 60)
    told.ship()
    heard = both(told, kept)[0]

    with told.store.writing() as connection:
        connection.execute(journal.update().values(touched_at=NOW - 9000, stale_after=60.0))
    silent = both(told, kept)[0]

    assert heard[0].unreachable_since is None
    assert silent[0].unreachable_since == pytest.approx(NOW - 9000)


def test_pages_that_are_asked_for_together_are_those_of_each_alone(told: Story) -> None:
    for number in range(6):
        run = told.run("shop.index", started=NOW - 60 + number)
        if number % 2:
            run.succeed()
    told.ship()
    several: list[dict[str, Any]] = [
        {"states": ("running",)},
        {"without": ("running",), "limit": 2},
        {"limit": 4},
        {"states": ("lost",)},
    ]

    together = queries.list_together(told.store, several, kept=KeptRuns())

    assert together == [queries.list_runs(told.store, **one) for one in several]
    assert [len(page.items) for page in together] == [3, 2, 4, 0]


def test_few_runs_are_kept(told: Story) -> None:
    kept = KeptRuns(most=1)
    for number in range(3):
        told.run("shop.index", started=NOW - number).succeed()
    told.ship()

    for _ in range(2):
        with_kept, without = both(told, kept)
        assert with_kept == without
    assert len(kept) == 1
