"""What a page looks like where it matters: room for what is said, and no alarm where nothing is wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import Visits, overflow, rows, saying
from flowers import RunningFlower, running_flower
from playwright.sync_api import Locator, expect
from recorded_runs import RunStory
from waiting import wait_until

from plet_celery import events

WORKER = "celery@a-rather-long-name-of-a-host"
STAGE = "reading whatever the supplier has sent"
MEMBERS: tuple[list[Callable[[RunStory], object]], ...] = (
    [RunStory.succeed] * 112,
    [lambda run: run.retry(begins=False)] * 12,
    [lambda run: run.stage("work", state="running")] * 14,
    [RunStory.fail] * 13,
)


@pytest.fixture(scope="module")
def told(shop: Any) -> dict[str, str]:
    """A run that replaced itself, one that was rejected, and one that has a note."""
    replaced = shop.story.run("shop.replaced", started=shop.now - 60, worker=WORKER)
    replaced.end(events.RUN_IGNORED, replaced=True, reason="Replaced by new task")
    rejected = shop.story.run("shop.rejected", started=shop.now - 60, worker=WORKER)
    rejected.end(events.RUN_REJECTED, requeue=False, reason="not ours")
    noted = shop.story.run("shop.noted", started=shop.now - 60, worker=WORKER)
    noted.fail("ValueError", "no such row")
    wordy = shop.story.run("shop.wordy", started=shop.now - 60)
    wordy.stage(STAGE, total=123_456_789, done=1_234_567, unit="kilobytes before packing", state="running")
    shop.story.worker("celery@atlas", shop.now - 99)
    shop.story.run(f"shop.{'a_long_name_of_a_package.' * 5}task", started=shop.now - 60)
    aged = shop.story.run("shop.aged_for_some_days", started=shop.now - 200_000)
    aged.stage("half", took=47_000.0, total=668, done=334, unit="sheets", state="running", percent=50.0)
    aged.metadata(supplier="Acme and sons of Berlin", source="catalogue-2026-11.zip", currency="EUR")
    aged.end(events.RUN_INTERRUPTED, how="cold")
    grouped = shop.story.run("shop.grouped", started=shop.now - 60)
    for text in ("before", "::group::Sorting", "inside", "::endgroup::", "after"):
        grouped.log(text)
    grouped.succeed()
    fan = shop.story.run("shop.fan", started=shop.now - 60)
    fan.succeed()
    for number, end in enumerate(itertools.chain.from_iterable(MEMBERS)):
        member = shop.story.run(
            "shop.member",
            started=shop.now - 200_000,
            parent=fan.id,
            canvas=fan.id,
            group="g",
            group_index=number,
            worker="celery@boreas",
        )
        end(member)
    shop.story.ship()
    return {
        "replaced": replaced.id,
        "rejected": rejected.id,
        "wordy": wordy.id,
        "fan": fan.id,
        "grouped": grouped.id,
    }


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


def test_a_long_stage_keeps_its_name_beside_a_long_amount_on_a_phone(
    flower: RunningFlower, visits: Visits, told: dict[str, str]
) -> None:
    page = visits.open(f"{flower.base}plet/runs/{told['wordy']}", width=390)

    row = page.locator(".plet-tl-stage")
    name, amount = row.locator(".plet-tl-title"), row.locator("td.plet-tl-done")

    expect(name).to_have_text(STAGE)
    # What is drawn anew meanwhile has no width.
    wait_until(lambda: name.evaluate("one => one.clientWidth") > 200)
    wait_until(lambda: amount.evaluate("one => one.clientWidth") > 200)


@pytest.mark.parametrize("width", [390, 1000, 1280])
def test_every_count_of_a_fold_is_in_view(
    flower: RunningFlower, visits: Visits, told: dict[str, str], width: int
) -> None:
    page = visits.open(f"{flower.base}plet/runs/{told['fan']}", width=width)

    cell = page.locator(".plet-tl-runs td.plet-tl-state")

    expect(cell).to_contain_text("13 ✖")
    assert cell.evaluate("one => one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize("width", [1180, 1280, 1440])
def test_an_ordinary_workers_name_is_one_line_beside_notes(
    flower: RunningFlower, visits: Visits, width: int
) -> None:
    page = visits.open(f"{flower.base}plet/?task=shop.member", width=width)
    expect(page.locator("th.plet-notes")).to_be_visible()

    wait_until(lambda: line_count(rows(page).first.locator("td.plet-worker")) == 1)


@pytest.mark.parametrize("width", [390, 961, 1024, 1100, 1161, 1201, 1280, 1313])
def test_runs_of_another_day_fit_into_the_window(flower: RunningFlower, visits: Visits, width: int) -> None:
    page = visits.open(f"{flower.base}plet/?task=shop.aged*", width=width)

    expect(rows(page)).to_contain_text("13 h 03 m")
    expect(rows(page)).to_contain_text("Acme")
    assert overflow(page) == 0


@pytest.mark.parametrize("width", [1000, 1280])
def test_the_pool_of_a_worker_is_one_line(flower: RunningFlower, visits: Visits, width: int) -> None:
    page = visits.open(f"{flower.base}plet/workers", width=width)

    pool = rows(page).locator("td[data-label=Pool]").filter(has_text="prefork")
    wait_until(lambda: line_count(pool) == 1)


def test_the_title_of_a_group_is_copied_without_the_number_of_its_lines(
    flower: RunningFlower, visits: Visits, told: dict[str, str]
) -> None:
    page = visits.open(f"{flower.base}plet/runs/{told['grouped']}")
    search = page.get_by_role("searchbox", name="Search the log")
    expect(page.locator("summary.plet-log-row")).to_contain_text("Sorting 2 lines")

    page.locator("a.plet-log-n").get_by_text("2", exact=True).click()
    page.get_by_label("More", exact=True).click()
    with saying(page, "Copied 1 line"):
        page.get_by_role("button", name="Copy text").click()
    search.focus()
    page.keyboard.press("Control+v")

    expect(search).to_have_value(re.compile("^Sorting *$"))


def line_count(element: Locator) -> int:
    """In how many lines the first words of an element are laid out."""
    script = """one => {
        const range = document.createRange();
        range.selectNode(one.firstChild);
        return new Set([...range.getClientRects()].map((rect) => Math.round(rect.bottom / 8))).size;
    }"""
    found: int = element.evaluate(script)
    return found
