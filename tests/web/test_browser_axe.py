"""What axe finds on our pages, light and dark: nothing in them, and nothing more than on Flower's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axing import violations
from browsing import Busy, Visits
from playwright.sync_api import expect


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def flowers_own(busy: Busy, browser: Any, scheme: str) -> Iterator[set[str]]:
    """The rules that Flower's own page breaks."""
    visits = Visits(browser)
    yield violations(visits.open(busy.flower.base + "workers", color_scheme=scheme))[0]
    visits.close()


PAGES = {
    "runs": "",
    "nothing found": "?state=expired",
    "running": "runs/{running}",
    "failed": "runs/{failed}?log_q=batch",
    "lost": "runs/{lost}",
    "canvas": "runs/{canvas}",
    "queued": "runs/{queued}",
    "workers": "workers",
    "health": "health",
    "unknown run": "runs/nobody",
}
WIDE, NARROW = 1280, 390
FOLDING = ("runs", "running", "failed", "workers")
"""Pages that are another picture where the window is narrow."""


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(busy: Busy, visits: Visits, flowers_own: set[str], scheme: str, name: str) -> None:
    width = NARROW if scheme == "dark" and name in FOLDING else WIDE
    page = visits.open(busy.base + PAGES[name].format(**vars(busy.told)), color_scheme=scheme, width=width)
    for fold in page.locator("#plet details:not(.plet-log-more)").all():
        fold.evaluate("one => { one.open = true; }")

    broken, ours = violations(page)

    assert ours == {}
    assert broken <= flowers_own
    if name == "unknown run":
        visits.troubles.clear()  # the console tells of a 404


def test_axe_finds_nothing_in_the_list_of_keys(busy: Busy, visits: Visits, scheme: str) -> None:
    page = visits.open(busy.base, color_scheme=scheme)
    expect(page.locator("html.plet-has-js")).to_be_visible()

    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()

    assert violations(page)[1] == {}
