"""Without JavaScript: everything is there but liveness, following, copying and keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import Busy, Visits, await_line_in_view, lines, rows
from playwright.sync_api import Page, expect


@pytest.fixture
def open_page(visits: Visits) -> Any:
    """Opens pages in a browser that runs no script."""

    def opened(address: str, **options: Any) -> Page:
        return visits.open(address, java_script_enabled=False, **options)

    return opened


def test_the_list_is_filtered_and_paged(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base)
    first = page.locator(".plet-runs .plet-id").first

    page.get_by_role("link", name="Succeeded").click()
    expect(page.get_by_role("link", name="Succeeded")).to_have_attribute("aria-current", "true")
    page.get_by_label("Task").fill("shop.sync*")
    page.get_by_role("button", name="Show").click()
    expect(rows(page)).to_have_count(50)
    expect(rows(page).filter(has_text="shop.sync_prices")).to_have_count(50)
    newest = first.inner_text()
    page.get_by_role("link", name="Older").click()
    expect(first).not_to_have_text(newest)
    page.get_by_role("link", name="Newer").click()
    expect(first).to_have_text(newest)


def test_fields_fold_on_a_phone_and_unfold_where_one_is_used(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base, width=390)
    field = page.get_by_label("Worker")

    expect(field).to_be_hidden()
    page.get_by_text("More filters").click()
    field.fill("celery@atlas")
    page.get_by_role("button", name="Show").click()

    expect(field).to_be_visible()
    expect(field).to_have_value("celery@atlas")
    expect(rows(page).first).to_be_visible()


def test_times_are_words_and_a_time_of_day(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base)

    told = page.locator('td[data-label="Started"] time').all_inner_texts()

    assert len(told) > 50
    assert [one for one in told if not re.fullmatch(r"(\d+[smhd] ago|now) · .*\d\d:\d\d:\d\d UTC", one)] == []
    page.get_by_role("link", name="server’s zone").click()
    expect(page.locator("#plet")).to_have_attribute("data-zone", "server")
    expect(page.get_by_role("link", name="my zone")).to_be_hidden()


def test_nothing_is_offered_that_needs_a_script(busy: Busy, open_page: Any) -> None:
    for address in (busy.base, busy.base + "workers", busy.run(busy.told.failed)):
        page = open_page(address)
        for dead in (page.get_by_text("copy", exact=False), page.get_by_role("button", name="Live")):
            expect(dead.locator("visible=true")).to_have_count(0)
        expect(page.get_by_role("link", name="Refresh", exact=True)).to_be_visible()


def test_a_run_tells_its_error_its_stages_and_its_log(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed))

    expect(page.get_by_role("alert")).to_contain_text("order 48112-7 has no VAT id")
    expect(page.get_by_role("region", name="Stages").get_by_role("row")).to_have_count(10)
    page.get_by_text("Traceback", exact=True).click()
    expect(page.locator("#plet-trace")).to_contain_text("in export_orders")
    page.get_by_role("link", name="Jump to the log line").click()
    expect(page.locator(".plet-log-row:target")).to_contain_text("batch 8 refused")
    page.get_by_text("Raw JSON").click()
    expect(page.locator("#plet-json")).to_contain_text('"short_id": "a50f30bf"')


def test_the_timeline_is_ordered_and_filtered(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed))
    stages = page.get_by_role("region", name="Stages")

    stages.get_by_role("link", name="Order").click()
    expect(stages.get_by_role("link", name="Order")).to_have_attribute("aria-current", "true")
    stages.get_by_role("link", name="Failed").click()

    expect(stages.get_by_role("row").filter(has_text="send")).to_have_count(1)
    expect(stages.get_by_role("row").filter(has_text="check")).to_have_count(0)


def test_the_log_is_searched_filtered_and_walked(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed))

    page.get_by_label("Level").select_option("warning")
    page.get_by_role("button", name="Apply").click()
    expect(lines(page).filter(has_text="PUT /orders")).to_have_count(0)
    expect(page.locator(".plet-log-range")).to_contain_text("pass")
    page.get_by_role("link", name="clear").click()
    page.get_by_role("searchbox", name="Search the log").fill("PUT")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Next hit").click()

    expect(page.locator(".plet-log-hits")).to_contain_text("2 of 9")
    expect(page.locator(".plet-log-row:target mark")).to_have_text("PUT")
    page.get_by_role("link", name="attempt 1").click()
    expect(lines(page).filter(has_text="ERP answers slowly")).to_be_visible()


def test_a_line_has_an_address(busy: Busy, visits: Visits, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed))

    page.locator("a.plet-log-n").get_by_text("12", exact=True).click()
    expect(page).to_have_url(re.compile("log_at=a2L12#a2L12$"))
    expect(page.locator(".plet-log-row:target")).to_contain_text("no phone number")

    # Whoever gets the address may have scripts.
    with_script = visits.open(page.url)
    expect(with_script.locator(".plet-log-marked")).to_contain_text("no phone number")
    await_line_in_view(with_script, ".plet-log-marked")


def test_the_log_is_downloaded(busy: Busy, open_page: Any, tmp_path: Path) -> None:
    page = open_page(busy.run(busy.told.failed))

    page.get_by_label("More", exact=True).click()
    with page.expect_download() as found:
        page.get_by_role("link", name="Download the whole log").click()
    found.value.save_as(tmp_path / "log")

    text = (tmp_path / "log").read_text()
    assert found.value.suggested_filename.endswith(".log")
    assert "batch 8 refused" in text
    assert r"\x1b[31m422" in text  # as the file has it


def test_workers_tell_what_they_run(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base + "workers")

    expect(rows(page)).to_have_count(3)
    expect(rows(page).filter(has_text="celery@atlas")).to_contain_text("shop.import_catalogue")
    rows(page).get_by_role("link", name="shop.import_catalogue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shop.import_catalogue")


def test_a_page_loads_itself_again_when_it_is_asked_to(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base + "?refresh=10")
    expect(page.locator('meta[http-equiv="refresh"]')).to_have_attribute("content", "10")

    with page.expect_navigation(timeout=40_000):
        page.goto(busy.base + "?refresh=2", wait_until="commit")
    with page.expect_navigation(timeout=40_000):
        pass
