"""The figures above the list of runs: each leads to the runs that it counts, whatever the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from flowers import RunningFlower, running_flower


@pytest.fixture(scope="module")
def flower(shop: Any) -> Iterator[RunningFlower]:
    """A shop where three runs run, one is tried again, and of three that failed one is of another day."""
    for number in range(3):
        shop.story.run("shop.at_work", started=shop.now - 10 - number)
    shop.story.run("shop.again", started=shop.now - 20).retry(begins=False)
    for hours in (1, 23, 25):
        shop.story.run("shop.failed", started=shop.now - hours * 3600).fail()
    shop.story.ship()
    with running_flower(shop.folder) as found:
        yield found


@pytest.mark.parametrize(("words", "number"), [("running", 3), ("queued", 0), ("failed in 24 h", 2)])
@pytest.mark.parametrize("page", ["plet/", "plet/?task=shop.nothing&state=succeeded&q=meta.a:b"])
def test_a_figure_leads_to_what_it_counts(flower: RunningFlower, page: str, words: str, number: int) -> None:
    listed = flower.get(page).text
    address, counted = re.findall(rf'href="([^"]*)"><strong>(\d+)</strong> {words}<', listed)[0]

    led_to = flower.get("plet/" + unescape(address).removeprefix("/plet/")).text

    assert int(counted) == number
    assert led_to.count("<tr data-row") == number
