"""What a page looks like where it matters: room for what is said, and no alarm where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Visits, rows
from flowers import RunningFlower, running_flower
from playwright.sync_api import expect

from plet_celery import events

WORKER = "celery@a-rather-long-name-of-a-host"


@pytest.fixture(scope="module")
def told(shop: Any) -> dict[str, str]:
    """A run that replaced itself, one that was rejected, and one that has a note."""
    replaced = shop.story.run("shop.replaced", started=shop.now - 60, worker=WORKER)
    replaced.end(events.RUN_IGNORED, replaced=True, reason="Replaced by new task")
    rejected = shop.story.run("shop.rejected", started=shop.now - 60, worker=WORKER)
    rejected.end(events.RUN_REJECTED, requeue=False, reason="not ours")
    noted = shop.story.run("shop.noted", started=shop.now - 60, worker=WORKER)
    noted.fail("ValueError", "no such row")
    shop.story.ship()
    return {"replaced": replaced.id, "rejected": rejected.id}


@pytest.fixture(scope="module")
def flower(shop: Any, told: dict[str, str]) -> Iterator[RunningFlower]:
    with running_flower(shop.folder) as found:
        yield found


@pytest.mark.parametrize("width", [1000, 1180, 1280])
def test_a_workers_name_is_whole_where_no_run_has_a_note(
    flower: RunningFlower, visits: Visits, width: int
) -> None:
    page = visits.open(f"{flower.base}plet/?task=shop.re*", width=width)

    cell = rows(page).first.locator("td.plet-worker")

    expect(cell).to_contain_text(WORKER)
    expect(page.locator("th.plet-notes")).to_be_hidden()
    assert cell.evaluate("one => one.scrollWidth <= one.clientWidth")


def test_notes_have_their_room_where_there_are_some(flower: RunningFlower, visits: Visits) -> None:
    page = visits.open(f"{flower.base}plet/?task=shop.noted", width=1180)

    expect(rows(page).first.locator("td.plet-notes")).to_contain_text("no such row")
    assert rows(page).first.locator("td.plet-worker").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_what_replaced_itself_is_told_without_alarm(
    flower: RunningFlower, visits: Visits, told: dict[str, str]
) -> None:
    def colour(run: str) -> str:
        page = visits.open(f"{flower.base}plet/runs/{told[run]}")
        found: str = page.locator(".plet-tl-note").first.evaluate("one => getComputedStyle(one).color")
        return found

    # Negative control: what went wrong is red.
    assert colour("replaced") != colour("rejected")
