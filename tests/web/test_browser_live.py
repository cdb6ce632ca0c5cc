"""Pages that stay open: what unchanged ones cost, when they rest, what they show while the store is away."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from browsing import Visits, awaited, listening, rows, settled
from flowers import RunningFlower, running_flower
from playwright.sync_api import Page, expect
from proxying import Proxy, proxy_before
from recorded_runs import Story
from services import new_database
from waiting import wait_until


@dataclass
class Place:
    """A Flower whose store can be taken away, and what is in it."""

    flower: RunningFlower
    proxy: Proxy
    story: Story
    done: str = ""
    going: str = ""
    unseen: str = ""
    """A run that is looked at while the store is away, and not before."""

    @property
    def base(self) -> str:
        return self.flower.base + "plet/"


@pytest.fixture(scope="module")
def place(shop: Any) -> Iterator[Place]:
    """A store behind a proxy, with a run that has ended and one that goes on."""
    with new_database("postgresql") as url, proxy_before(url) as proxy:
        story = Story(url, home=shop.home)
        made = Place(None, proxy, story)  # type: ignore[arg-type]
        done = story.run("shop.done", started=time.time() - 60)
        done.stage("read", total=3)
        done.log("a line")
        done.fail()
        going = story.run("shop.going", started=time.time() - 30)
        going.stage("load", total=10, done=4, state="running", percent=40.0)
        story.ship()
        unseen = story.run("shop.unseen", started=time.time() - 20)
        story.ship()
        made.done, made.going, made.unseen = done.id, going.id, unseen.id
        shop.write(f"app.conf.plet_database_url = {proxy.url(url)!r}")
        with running_flower(shop.folder, patient=False) as flower:
            made.flower = flower
            yield made
        story.close()


def test_what_has_not_changed_costs_a_304(place: Place, visits: Visits) -> None:
    page = visits.open(place.base + f"runs/{place.done}")
    regions = page.locator("[data-region]").count()
    asked = listening(page)
    awaited(page, asked, regions)  # the first round tells the tags
    settled(page, asked)
    asked.statuses.clear()

    awaited(page, asked, regions)

    assert asked.statuses[304] >= regions - 1, asked
    assert set(asked.statuses) <= {304, 200}


def test_a_paused_page_asks_for_nothing_and_goes_on_when_told_to(place: Place, visits: Visits) -> None:
    page = visits.open(place.base)
    asked = listening(page)
    pill = page.locator("#plet-live")
    awaited(page, asked, page.locator("[data-region]").count())

    pill.click()
    expect(pill).to_have_text("‖ Paused")
    settled(page, asked)
    started = place.story.run("shop.meanwhile", started=time.time())
    place.story.ship()
    # Another page shows it: time enough for this one, too.
    expect(rows(visits.open(place.base)).filter(has_text="shop.meanwhile")).to_be_visible()
    quiet = asked.count
    other = visits.open(place.base)
    other_asked = listening(other)
    awaited(other, other_asked, 6)

    assert page.title()
    assert asked.count == quiet
    expect(rows(page).filter(has_text="shop.meanwhile")).to_have_count(0)
    pill.click()
    expect(rows(page).filter(has_text="shop.meanwhile")).to_be_visible()
    expect(pill).to_have_text("● Live")
    started.succeed()
    place.story.ship()


def test_a_hidden_page_asks_for_nothing_until_it_is_seen_again(place: Place, visits: Visits) -> None:
    page = visits.open(place.base)
    asked = listening(page)
    awaited(page, asked, page.locator("[data-region]").count())

    hide(page, True)
    settled(page, asked)
    other = visits.open(place.base)
    other_asked = listening(other)
    quiet = asked.count
    awaited(other, other_asked, 6)

    page.title()
    assert asked.count == quiet
    hide(page, False)
    awaited(page, asked, 2)


def hide(page: Page, is_hidden: bool) -> None:
    """Let a page be in a tab that nobody sees."""
    page.evaluate(
        """isHidden => {
            Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


@pytest.mark.parametrize("path", ["", "runs/{going}", "workers"])
def test_while_the_store_is_away_the_last_data_stay_with_their_age(
    place: Place, visits: Visits, path: str
) -> None:
    page = visits.open(place.base + path.format(going=place.going))
    pill = page.locator("#plet-live")
    asked = listening(page)
    awaited(page, asked, page.locator("[data-region]").count() + 1)

    place.proxy.down()
    try:
        expect(pill).to_have_text(re.compile(r"^⚠ Reconnecting \d+ s$"))
        expect(page.get_by_text("No answer.", exact=True).locator("visible=true").first).to_be_visible()
        expect(page.get_by_text(re.compile("as it was", re.I)).locator("visible=true").first).to_be_visible()
        expect(page.get_by_text("shop.going").first).to_be_visible()
    finally:
        place.proxy.up()

    expect(pill).to_have_text("● Live", timeout=60_000)
    expect(page.get_by_text("No answer.", exact=True).locator("visible=true")).to_have_count(0)
    forgive(visits)


def test_a_page_that_is_opened_meanwhile_says_why_and_what_next(place: Place, visits: Visits) -> None:
    place.proxy.down()
    try:
        page = visits.open(place.base)
        expect(page.get_by_text("No answer.", exact=True).locator("visible=true").first).to_be_visible()
        expect(page.get_by_role("link", name="Try again").first).to_be_visible()
        run = visits.open(place.base + f"runs/{place.unseen}")
        expect(run.get_by_role("heading", level=1)).to_have_text("Not now")
        place.proxy.up()

        def is_shown() -> bool:
            with run.expect_navigation():
                run.get_by_role("link", name="Try again").click()
            return run.get_by_role("heading", level=1).inner_text() == "shop.unseen"

        wait_until(is_shown)
    finally:
        place.proxy.up()
    forgive(visits)


def forgive(visits: Visits) -> None:
    """Take no offence at the console's word on answers that were none."""
    visits.troubles[:] = [one for one in visits.troubles if "Failed to load resource" not in one]
