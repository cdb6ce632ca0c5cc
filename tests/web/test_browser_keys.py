"""Keys, copying on plain HTTP, time zones, light and dark."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import PLAIN_HOST, Busy, Visits, await_line_in_view, go, rows, saying
from busy_shop import tell
from flowers import running_flower
from playwright.sync_api import Page, expect

PASSWORD = {"username": "ada", "password": "pw"}
FOCUSED = """() => {
    const at = document.activeElement;
    const style = getComputedStyle(at);
    const around = at.closest(".plet-log-find");
    return {
        name: at.textContent.trim().slice(0, 40) || at.getAttribute("name"),
        ours: Boolean(at.closest(".plet")),
        seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1)
            || Boolean(around && getComputedStyle(around).boxShadow !== "none"),
    };
}"""


@pytest.fixture(scope="module")
def busy(shop: Any) -> Iterator[Busy]:
    """A busy shop behind a password, as Flower wants it for another name than localhost; in New York."""
    with running_flower(shop.folder, "--basic-auth=ada:pw", TZ="America/New_York") as flower:
        yield Busy(shop, flower, tell(shop.story, time.time()))


@pytest.fixture
def open_page(visits: Visits) -> Any:
    """Opens pages with the password."""

    def opened(address: str, **options: Any) -> Page:
        return visits.open(address, http_credentials=PASSWORD, **options)

    return opened


def press(page: Page, *keys: str) -> None:
    expect(page.locator("html.plet-has-js")).to_be_visible()
    for key in keys:
        page.keyboard.press(key)


# Keys


def test_rows_are_walked_and_opened_by_keys(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base + "?state=failed")
    expect(rows(page).first).to_be_visible()

    press(page, "j", "j", "k", "j")
    expect(rows(page).nth(1)).to_have_class(re.compile("plet-here"))
    expect(rows(page).nth(1).get_by_role("link")).to_be_focused()
    wanted = rows(page).nth(1).get_by_role("link").get_attribute("href")
    press(page, "Enter")

    expect(page).to_have_url(re.compile(re.escape(str(wanted))))


def test_the_chosen_row_stays_chosen_while_the_list_is_live(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base)
    press(page, "j", "j")
    here = page.locator(".plet-here .plet-id")
    chosen = here.inner_text()

    newer = busy.shop.story.run("shop.newer", started=time.time())
    busy.shop.story.ship()
    expect(rows(page).filter(has_text="shop.newer")).to_be_visible()

    assert here.inner_text() == chosen
    newer.succeed()
    busy.shop.story.ship()


def test_slash_goes_to_the_search_of_the_page(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base)
    press(page, "/")
    expect(page.get_by_role("searchbox", name="Search")).to_be_focused()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("")

    page.goto(busy.run(busy.told.failed))
    press(page, "/")
    expect(page.get_by_role("searchbox", name="Search the log")).to_be_focused()


def test_g_leads_to_the_pages_and_back_keeps_the_list(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed))

    go(page, "w", "workers")
    expect(page.get_by_role("heading", level=1)).to_have_text("Workers")
    go(page, "r", "")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_the_log_is_wrapped_followed_and_searched_for_errors_by_keys(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.running))
    log, pill = page.locator(".plet-log-js"), page.locator("[data-log-follow]")
    expect(pill).to_have_text("Live")

    press(page, "f")
    expect(pill).to_have_text("Paused")
    press(page, "f")
    expect(pill).to_have_text("Live")
    expect(log).to_have_class(re.compile("plet-log-wrap"))
    press(page, "w")
    expect(log).not_to_have_class(re.compile("plet-log-wrap"))

    page.goto(busy.run(busy.told.failed) + "?log_from=1")
    expect(log).to_be_visible()
    press(page, "e")
    expect(page.locator(".plet-log-error.plet-log-marked")).to_contain_text("batch 8 refused")
    await_line_in_view(page, ".plet-log-marked")


def test_t_turns_light_into_dark_and_flower_remembers(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base, color_scheme="light")
    html = page.locator("html")
    expect(html).to_have_attribute("data-bs-theme", "light")

    press(page, "t")
    expect(html).to_have_attribute("data-bs-theme", "dark")
    page.reload()

    expect(html).to_have_attribute("data-bs-theme", "dark")


def test_a_question_mark_lists_the_keys(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base)
    dialog = page.get_by_role("dialog", name="Keys")

    press(page, "?")
    expect(dialog).to_contain_text("next error in the log")
    press(page, "j")  # nothing moves behind it
    expect(page.locator(".plet-here")).to_have_count(0)
    press(page, "Escape")

    expect(dialog).to_be_hidden()


def test_keys_are_letters_in_inputs_and_nothing_with_modifiers(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.base, color_scheme="light")
    search = page.get_by_role("searchbox", name="Search")
    search.focus()

    page.keyboard.type("jtg?w/")
    expect(search).to_have_value("jtg?w/")
    search.blur()
    press(page, "Control+j", "Alt+t", "Control+Shift+t", "Meta+j")

    expect(page.locator(".plet-here")).to_have_count(0)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wherever_the_focus_is_it_can_be_seen(busy: Busy, open_page: Any, scheme: str) -> None:
    page = open_page(busy.run(busy.told.failed), color_scheme=scheme)
    page.locator("#plet-live").focus()

    unseen = []
    for _ in range(30):
        press(page, "Tab")
        found = page.evaluate(FOCUSED)
        if found["ours"] and not found["seen"]:
            unseen.append(found["name"])

    assert unseen == []


# Copying


@pytest.mark.parametrize(
    ("button", "copied"),
    [
        ("Copy the run’s id", "{failed}"),
        ("Copy the command", "celery -A proj plet show {short}"),
        ("Copy this page’s address", "/plet/runs/{failed}"),
        ("copy message", "HTTPStatusError: 422 Unprocessable Entity: order 48112-7 has no VAT id"),
        ("copy trace", 'File "/srv/shop/tasks/orders.py", line 131, in send'),
        ("Copy kwargs", '"target": "erp"'),
    ],
)
def test_what_is_copied_on_plain_http_can_be_pasted(
    busy: Busy, open_page: Any, button: str, copied: str
) -> None:
    page = open_page(busy.run(busy.told.failed).replace("127.0.0.1", PLAIN_HOST))
    assert page.evaluate("window.isSecureContext") is False
    assert page.evaluate("navigator.clipboard === undefined")

    with saying(page, "copied"):
        page.get_by_role("button", name=button).click()
    search = page.get_by_role("searchbox", name="Search the log")
    search.focus()
    press(page, "Control+v")

    wanted = copied.format(failed=busy.told.failed, short=busy.told.failed[:8])
    # The field keeps 500 characters, of one line.
    expect(search).to_have_value(re.compile(re.escape(wanted)[:200]))


def test_lines_of_a_log_are_copied_with_and_without_decoration(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed).replace("127.0.0.1", PLAIN_HOST))
    search = page.get_by_role("searchbox", name="Search the log")
    page.locator("a.plet-log-n").get_by_text("12", exact=True).click()

    for button, wanted in (
        ("Copy text", r"^order 47903-2: no phone number, sent without\s*$"),
        ("Copy with times and levels", r"^\[\d{4}-\S+\] \[WARN\] \[send › shop.tasks\] order 47903-2"),
    ):
        page.get_by_label("More", exact=True).click()
        with saying(page, "Copied 1 line"):
            page.get_by_role("button", name=button).click()
        search.fill("")
        press(page, "Control+v")
        expect(search).to_have_value(re.compile(wanted))


# Times


def test_times_are_shown_in_the_zone_that_was_chosen_and_it_is_remembered(busy: Busy, open_page: Any) -> None:
    page = open_page(busy.run(busy.told.failed) + "?log_q=batch", timezone_id="Asia/Tokyo", locale="en-GB")
    started = page.locator(".plet-facts time").first
    line = page.locator(".plet-log-time").first
    zones = page.get_by_role("navigation", name="Time zone")
    expect(started).to_have_text(re.compile(r"^\d+m ago · .*\d\d:\d\d:\d\d UTC$"))
    utc, utc_line = clock(started.inner_text()), clock(line.inner_text())

    zones.get_by_role("link", name="my zone").click()
    expect(started).to_have_text(re.compile(r"\d\d:\d\d:\d\d GMT\+9$"))
    assert "log_q=batch" in page.url
    assert (clock(started.inner_text()) - utc) % 24 == 9
    assert (clock(line.inner_text()) - utc_line) % 24 == 9
    zones.get_by_role("link", name="server’s zone").click()
    expect(started).to_have_text(re.compile(r"\d\d:\d\d:\d\d E[SD]T$"))

    page.goto(busy.run(busy.told.failed))
    expect(started).to_have_text(re.compile(r"\d\d:\d\d:\d\d E[SD]T$"))
    expect(page.locator(".plet-now")).to_have_text(re.compile(r"E[SD]T$"))


def clock(text: str) -> int:
    """The hour in a text."""
    found = re.search(r"(\d\d):\d\d:\d\d", text)
    assert found
    return int(found[1])
