"""Somebody reads in a browser: filters, goes back, opens a failure, finds its line, searches the log."""

from __future__ import annotations

import re
from typing import Any

from browsing import Visits, await_line_in_view, lines, paused, rows
from playwright.sync_api import expect


def test_a_tab_shows_what_failed_and_back_shows_all_again(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.base)
    expect(rows(page).filter(has_text="succeeded").first).to_be_visible()

    page.get_by_role("navigation", name="States").get_by_role("link", name="Failed").click()
    expect(page).to_have_url(re.compile(r"\?state=failed"))
    expect(rows(page).filter(has_text="succeeded")).to_have_count(0)
    expect(rows(page).filter(has_text="shop.export_orders")).to_be_visible()

    page.go_back()
    expect(rows(page).filter(has_text="succeeded").first).to_be_visible()


def test_the_search_narrows_the_list_and_stays_in_the_address(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.base + "?state=succeeded,failed")

    page.get_by_role("searchbox", name="Search").fill("task:shop.nightly*")
    page.keyboard.press("Enter")

    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("shop.nightly_report")
    assert "state=succeeded" in page.url
    assert "q=task" in page.url
    page.get_by_role("link", name="Clear").click()
    expect(rows(page)).not_to_have_count(1)


def test_pages_lead_to_older_runs_and_back(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.base + "?state=succeeded")
    first = page.locator(".plet-runs .plet-id").first
    newest = first.inner_text()

    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    expect(first).not_to_have_text(newest)
    page.get_by_role("link", name="Newer").click()

    expect(first).to_have_text(newest)


def test_a_row_leads_wherever_its_name_leads(busy: Any, visits: Visits) -> None:
    page = paused(visits.open(busy.base + "?task=shop.export_orders"))
    row = rows(page)
    box = row.locator("td[data-label=Started]").bounding_box()
    assert box is not None

    # Words that are marked to be copied lead nowhere.
    page.mouse.move(box["x"] + 2, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 12)
    page.mouse.up()
    assert page.evaluate("getSelection().toString()") != ""
    assert page.url.endswith("?task=shop.export_orders")

    page.evaluate("getSelection().removeAllRanges()")
    row.locator("td[data-label=Took]").click()
    page.wait_for_url(busy.run(busy.told.failed))


def test_a_failure_leads_to_the_line_that_tells_of_it(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.base)

    page.get_by_role("link", name="shop.export_orders").click()
    card = page.get_by_role("alert")
    expect(card).to_contain_text("order 48112-7 has no VAT id")
    expect(card).to_contain_text("/srv/shop/tasks/orders.py:131")
    card.get_by_role("link", name="Jump to the log line").click()

    expect(page.locator(".plet-log-current")).to_contain_text("batch 8 refused")
    await_line_in_view(page, ".plet-log-current")


def test_a_search_in_the_log_goes_from_hit_to_hit(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.run(busy.told.failed))

    page.get_by_role("searchbox", name="Search the log").fill("batch")
    page.keyboard.press("Enter")
    said = page.locator(".plet-log-hits")
    expect(said).to_contain_text(re.compile(r"^1 of \d+"))
    first = page.locator(".plet-log-current").get_attribute("id")
    page.get_by_role("link", name="Next hit").click()

    expect(said).to_contain_text(re.compile(r"^2 of \d+"))
    assert page.locator(".plet-log-current").get_attribute("id") != first
    await_line_in_view(page, ".plet-log-current")
    page.go_back()
    expect(said).to_contain_text(re.compile(r"^1 of \d+"))


def test_a_stage_of_the_timeline_leads_to_its_lines(busy: Any, visits: Visits) -> None:
    page = paused(visits.open(busy.run(busy.told.running)))

    page.get_by_role("link", name="unpack").click()

    expect(lines(page).filter(has_text="668 sheets")).to_be_visible()
    expect(lines(page).filter(has_text="sheet 412")).to_have_count(0)


def test_a_part_of_the_lines_is_an_address(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.run(busy.told.failed))

    numbers = page.locator("a.plet-log-n")
    numbers.get_by_text("4", exact=True).click()
    numbers.get_by_text("6", exact=True).click(modifiers=["Shift"])
    expect(page.locator(".plet-log-marked")).to_have_count(3)
    shared = visits.open(page.url)

    expect(shared.locator(".plet-log-marked")).to_have_count(3)
    await_line_in_view(shared, ".plet-log-marked")


def test_the_parent_and_its_canvas_lead_to_the_members(busy: Any, visits: Visits) -> None:
    page = visits.open(busy.run(busy.told.canvas))

    canvas = page.get_by_role("region", name="Runs of this canvas")
    expect(canvas).to_contain_text("waits for 6 of 24 header runs")
    canvas.get_by_role("link", name="shop.refresh_images").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("shop.refresh_images")
