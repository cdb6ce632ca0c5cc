"""Runs of every shape: logs of 200,000 lines, no stages and 1,000, ten attempts, ends without a word."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import Visits, await_line_in_view, lines, overflow
from flowers import running_flower
from playwright.sync_api import Page, expect

from plet_celery import events
from plet_celery.logfiles import text

LINES = 200_000
FIRST_ERROR = 150_000


@dataclass
class Shapes:
    """Where the pages are, and the ids of the runs."""

    base: str
    runs: dict[str, str]

    def address(self, name: str) -> str:
        return f"{self.base}runs/{self.runs[name]}"


def told(story: Any, now: float) -> dict[str, str]:
    """Tell one run of each shape."""
    made = {}
    plain = story.run("shape.plain", started=now - 50)
    plain.log("one line")
    plain.succeed()
    made["plain"] = plain.id

    many = story.run("shape.many", started=now - 900)
    for number in range(1_000):
        many.stage(f"sheet {number // 100}", took=0.5, total=10, unit="rows")
    many.succeed()
    made["many"] = many.id

    tried = story.run("shape.tried", started=now - 600)
    for number in range(1, 10):
        tried.stage("fetch", took=2.0, state="failed")
        tried.log(f"try {number}", level=30)
        tried.retry(retries=number)
    tried.log("the last one")
    tried.fail("OSError", "ten times")
    made["tried"] = tried.id

    for name, kind, more in (
        ("lost", events.RUN_LOST, {"reason": "signal 9 (SIGKILL)"}),
        ("interrupted", events.RUN_INTERRUPTED, {"how": "cold"}),
    ):
        run = story.run(f"shape.{name}", started=now - 40)
        run.stage("half", took=2.0, state="running", total=10, done=5, percent=50.0)
        run.end(kind, **more)
        made[name] = run.id

    for name in ("long", "long and bad"):
        run = story.run(f"shape.{name.replace(' ', '_')}", started=now - 7_000)
        run.log("x")
        run.fail("ValueError", "a bad line") if "bad" in name else run.succeed()
        made[name] = run.id

    gone = story.run("shape.gone", started=now - 30)
    for number in range(1, 40):
        gone.log(f"line {number}")
    gone.succeed()
    made["gone"] = gone.id
    return made


def write_log(folder: Path, started: float) -> None:
    """Put a log of 200,000 lines in the place of a run's, as the log sink writes it; two lines are errors."""
    clock = text.Clock()
    pack = struct.Struct("<QdIIHHBBH").pack
    at = 0
    with (folder / "run.log").open("wb") as log, (folder / "run.idx").open("wb") as index:
        for number in range(1, LINES + 1):
            level = "ERROR" if number in (FIRST_ERROR, FIRST_ERROR + 5_000) else "INFO"
            stamp, _ = clock.at(started + number / 50)
            record = text.record(stamp, f"[{level}] [shop.rows]", f"row {number} of many")
            log.write(record)
            index.write(
                pack(
                    at, started + number / 50, number, len(record), 1, 0, 40 if level == "ERROR" else 20, 0, 3
                )
            )
            at += len(record)


@pytest.fixture(scope="module")
def shapes(shop: Any) -> Any:
    now = time.time()
    runs = told(shop.story, now)
    shop.story.ship()
    folders = {log.parent for log in (shop.home / "runs").rglob("run.log")}
    for folder in folders:
        record = (folder / "run.log").read_text()
        if "shape.long" in record:
            write_log(folder, now - 7_000)
        if "shape.gone" in record:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    with running_flower(shop.folder) as flower:
        yield Shapes(flower.base + "plet/", runs)


def opened(visits: Visits, shapes: Shapes, name: str, query: str = "", **options: Any) -> Page:
    page = visits.open(shapes.address(name) + query, **options)
    expect(page.locator(".plet-log-js")).to_be_visible()
    return page


def test_a_long_log_of_a_failed_run_opens_at_its_first_error(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "long and bad")

    expect(page.locator(".plet-log-range")).to_have_text("lines 149 500–150 499 of 200 000")
    expect(page.locator(".plet-log-current")).to_have_text(re.compile(r"150000.*row 150000 of many"))
    page.get_by_role("link", name="next error").click()
    expect(page.locator(".plet-log-current")).to_contain_text("row 155000 of many")


def test_a_long_log_is_walked_to_its_end_and_back(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "long")
    places = page.get_by_role("navigation", name="Places in the log")
    expect(places).to_contain_text("lines 1–1 000 of 200 000")

    places.get_by_role("link", name="end").click()
    expect(places).to_contain_text("lines 199 001–200 000 of 200 000")
    places.get_by_role("link", name="earlier").click()
    expect(places).to_contain_text("lines 198 001–199 000 of 200 000")
    places.get_by_role("link", name="start").click()

    expect(lines(page).filter(has_text=re.compile(r"row 1 of many$"))).to_be_visible()


def test_an_address_leads_into_the_middle_of_a_long_log(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "long", "#a1L123456")

    expect(page.locator(".plet-log-marked")).to_contain_text("row 123456 of many")
    await_line_in_view(page, ".plet-log-marked")


def test_ten_thousand_lines_are_shown_at_once(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "long", "?log_at=a1L100000&log_n=10000#a1L104000")

    expect(page.locator(".plet-log-range")).to_contain_text("lines 95 000–104 999")
    await_line_in_view(page, "#a1L104000")


def test_a_long_log_is_searched_to_its_end(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "long")

    page.get_by_role("searchbox", name="Search the log").fill("row 199999 of")
    page.keyboard.press("Enter")

    expect(page.locator(".plet-log-hits")).to_have_text("1 of 1")
    expect(page.locator(".plet-log-current")).to_contain_text("row 199999 of many")


def test_a_run_without_stages_says_how_there_would_be_some(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "plain")

    expect(page.get_by_role("region", name="Stages")).to_contain_text("No stages: the task names none")
    expect(page.get_by_role("heading", name="Metadata")).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_thousand_stages_are_folded_by_name(shapes: Shapes, visits: Visits, width: int) -> None:
    page = opened(visits, shapes, "many", width=width)

    stages = page.get_by_role("region", name="Stages")
    expect(stages).to_contain_text("stages of one name are one row")
    expect(stages.get_by_role("row").filter(has_text="sheet 7")).to_contain_text("× 100")
    assert overflow(page) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_ten_attempts_have_a_card_and_a_log_each(shapes: Shapes, visits: Visits, width: int) -> None:
    page = opened(visits, shapes, "tried", width=width)
    expect(page.locator(".plet-card")).to_have_count(10)
    assert overflow(page) == 0

    expect(page.locator(".plet-card").nth(3).get_by_role("link")).to_have_text("1 line")
    page.locator(".plet-card").nth(3).get_by_role("link").click()

    expect(page.locator(".plet-log-attempts [aria-current]")).to_have_text("attempt 4")
    expect(lines(page).filter(has_text="try 4")).to_be_visible()
    expect(page.locator(".plet-log-attempts a")).to_have_count(10)


@pytest.mark.parametrize(
    ("name", "title", "reason"),
    [
        ("lost", "Its process ended without a word", "Signal 9 (SIGKILL)"),
        ("interrupted", "Its worker stopped before it had ended", "Cold shutdown of its worker"),
    ],
)
def test_an_end_that_no_exception_tells_of_is_told_first(
    shapes: Shapes, visits: Visits, name: str, title: str, reason: str
) -> None:
    page = opened(visits, shapes, name)

    card = page.get_by_role("alert")
    expect(card.get_by_role("heading")).to_have_text(title)
    expect(card).to_contain_text(reason)
    expect(page.locator(".plet-headline")).to_contain_text(name)


def test_a_log_whose_files_are_gone_comes_from_the_store_and_says_so(shapes: Shapes, visits: Visits) -> None:
    page = opened(visits, shapes, "gone")

    expect(page.locator(".plet-log-said")).to_contain_text("this is what the store kept, beginning and end")
    expect(lines(page).filter(has_text="line 39")).to_be_visible()
