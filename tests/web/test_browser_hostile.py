"""Text of tasks that wants to act: in every stored field, on every page, and nothing happens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from browsing import Visits, lines, overflow
from flowers import running_flower
from playwright.sync_api import Page, expect
from watched import Watched

from plet_celery import events
from plet_celery.objectives import Declared, MaxRuntime
from plet_celery.store import Store, alerting
from plet_celery.store.columns import fit
from plet_celery.store.promiserows import declarations, declare
from plet_celery.watchfacts import Severity

ACTS = {
    "script": "<script>alert(1)</script>",
    "closing": "</textarea></title></pre></script><script>alert(2)</script>",
    "image": "\"'><img src=x onerror=alert(3)><svg onload=alert(4)>",
    "link": "javascript:alert(5)",
    "template": "{{ 7*7 }}{% raw canary %}{% import os %}${7*7}#{7*7}",
    "elsewhere": "<img src=//evil.example/x.png><link rel=stylesheet href=//evil.example/x.css>",
    "bidi": "abc\u202egnp.exe\u2066\u200f\ufeff\u2028x",
    "terminal": "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\r\x08\x9b31m",
    "nul": "a\x00b\x00time1.0\x00c",
    "word": "w" * 10_000,
    "attribute": '" onmouseover=alert(6) x="',
}
"""What a field holds, by the name of what it tries."""


@dataclass
class Nasty:
    """Runs in which each field holds one of the texts."""

    base: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    alerts: dict[str, str] = field(default_factory=dict)

    def alert(self, name: str) -> str:
        return f"{self.base}alerts/{self.alerts[name]}"

    def address(self, name: str) -> str:
        return f"{self.base}runs/{quote(self.runs[name], safe='')}"


def tell(story: Any, text: str, name: str, now: float) -> str:
    """Tell a run that says nothing but `text`, wherever it can; returns its id."""
    key = f"{text[:100]}{name}".replace("\0", "")
    run = story.run(
        text, started=now - 60, id=key, tenant=text[:200].replace("\0", ""), user=text, queue=text,
        trigger=text, group=text,
        worker=f"celery@{text}", host=text, args=[text, {text: text}], kwargs={text: text},
    )  # fmt: skip
    story.worker(f"celery@{text}", now - 90, host=text, app=text, pool=text, versions={text: text})
    run.plan(text)
    first = run.stage(text, took=1.0, total=10, done=4, unit=text, message=text)
    run.stage(text, took=1.0, parent=first, state="running", total=3, done=1, unit=text, message=text)
    run.log(text, logger=text, stage=first, context={text: text})
    run.log(f"::group::{text}", logger=text)
    run.log(text, level=40, stream="stderr")
    run.log("::endgroup::")
    run.metadata(**{text: text, "list": [text], "tree": {text: {text: text}}})
    run.measure(**{text: 1.5})
    run.measure(**{text: 2.5})
    error = {
        "type": text, "module": text, "message": text, "traceback": f"{text}\n{text}",
        "frames": [{"file": text, "line": 3, "function": text, "own": own} for own in (True, False)],
    }  # fmt: skip
    run.end(events.RUN_RETRIED, error=error, reason=text, retries=0, max_retries=3)
    run._begin(run.now + 1, retries=1)
    run.stage(text, took=1.0, state="failed", error=error, message=text)
    run.end(events.RUN_FAILED, error=error, reason=text)
    lost = story.run(text, started=now - 50, id=f"{key} lost", worker=text, parent=run.id)
    lost.end(events.RUN_LOST, reason=text)
    going = story.run(text, started=now - 40, id=f"{key} goes on", worker=text, queue=text)
    going.stage(text, took=1.0, total=10, done=4, unit=text, message=text, state="running", percent=40.0)
    story.add(
        events.RUN_QUEUED, now, f"{key} waits", None, task=text, queue=text, trigger=text,
        user=text, retries=0, canvas=run.id, parent=run.id, args=[text],
    )  # fmt: skip
    return str(run.id)


def alarm(watched: Watched, text: str, name: str, run: str) -> str:
    """Have an alert fire that says nothing but `text`, wherever it can; returns its id."""
    now, store = time.time(), watched.store
    watched.channels = (text[:60],)
    watched.judge(
        f"stuck:{name}", text, severity=Severity.CRITICAL, title=text, value=text, limit=text, affected=text,
        advice=text, task=text, queue=text, tenant=text, runs=(run, text), count=2,
    )  # fmt: skip
    watched.go(now)
    found = next(one for one in alerting.open_alerts(store) if one.rule == f"stuck:{name}").id
    alerting.acknowledge(store, found, by=text, note=text, now=now)
    alerting.silence_alert(store, found, until=now + 9000, reason=text, by=text, now=now)
    delivery = store.tables.watching.delivery
    with store.writing() as connection:
        mine = delivery.update().where(delivery.c.alert_id == found)
        connection.execute(mine.values(status=fit(text, 250)))
    return found


def promise(store: Store, text: str) -> None:
    """Declare a promise that says nothing but `text`."""
    one = Declared(text, MaxRuntime(10, name=text[:60], advice=text), text)
    with store.writing() as connection:
        found = declarations(connection, store.tables, [one], now=1.0, limits={one.id: text}, has_app=True)
        declare(connection, store.tables, found)


@pytest.fixture(scope="module")
def nasty(shop: Any) -> Any:
    """One run for each text, and one with all of them."""
    with running_flower(shop.folder) as flower:
        made = Nasty(flower.base + "plet/")
        for name, text in {**ACTS, "all": " ".join(ACTS.values())[:9000]}.items():
            made.runs[name] = tell(shop.story, text, name, time.time())
        shop.story.ship()
        watched = Watched(shop.story.store)
        for name, text in {**ACTS, "all": " ".join(ACTS.values())[:9000]}.items():
            made.alerts[name] = alarm(watched, text.replace("\0", ""), name, made.runs[name])
        promise(shop.story.store, " ".join(ACTS.values())[:200].replace("\0", ""))
        yield made


def unfold(page: Page) -> None:
    """Open all that is folded."""
    page.evaluate("for (const one of document.querySelectorAll('#plet details')) one.open = true")


def harmless(page: Page) -> dict[str, Any]:
    """What a page holds that only a text of a task can have brought into it."""
    found: dict[str, Any] = page.evaluate(
        """() => ({
            scripts: [...document.scripts].filter(one => !one.src).length,
            pictures: document.querySelectorAll("#plet img, #plet iframe, #plet object, #plet style").length,
            links: [...document.querySelectorAll("#plet [href], #plet [action], #plet [src]")].filter(
                one => !["href", "action", "src"].every(name => !one.hasAttribute(name)
                    || new URL(one.getAttribute(name), location).origin === location.origin)).length,
            handlers: [...document.querySelectorAll("#plet *")].filter(
                one => [...one.attributes].some(held => /^(on|style$|srcdoc$)/.test(held.name))).length,
            acts: document.documentElement.textContent.includes("7*7") ? 0 : -1,
        })"""
    )
    return found


NOTHING = {"scripts": 0, "pictures": 0, "links": 0, "handlers": 0}


@pytest.mark.parametrize("name", [*ACTS, "all"])
def test_a_text_does_nothing_on_the_page_of_its_run(nasty: Nasty, visits: Visits, name: str) -> None:
    page = visits.open(nasty.address(name), width=390)
    unfold(page)

    expect(page.get_by_role("heading", level=1)).not_to_be_empty()
    expect(page.get_by_text("No answer.", exact=True).locator("visible=true")).to_have_count(0)
    expect(lines(page).first).to_be_visible()
    found = harmless(page)
    assert found.pop("acts") == (0 if name in ("template", "all") else -1)
    assert found == NOTHING
    assert overflow(page) == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "path",
    [
        *("", "workers", "?state=failed&q={all}", "?task={all}&worker={all}&tz={all}", "?late=1"),
        *("alerts", "alerts?q={all}&show={all}", "alerts?show=silenced"),
    ],
)
def test_no_text_does_anything_in_a_list(nasty: Nasty, visits: Visits, path: str, width: int) -> None:
    asked = quote(" ".join(ACTS.values())[:900], safe="", errors="replace")
    page = visits.open(nasty.base + path.format(all=asked), width=width)

    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("No answer.", exact=True).locator("visible=true")).to_have_count(0)
    # Once more as the script brings it in.
    with page.expect_response(lambda answer: "region=footer" in answer.url):
        pass
    found = harmless(page)
    found.pop("acts")
    assert found == NOTHING
    assert overflow(page) == 0


@pytest.mark.parametrize("name", [*ACTS, "all"])
def test_a_text_does_nothing_on_the_page_of_its_alert(nasty: Nasty, visits: Visits, name: str) -> None:
    page = visits.open(nasty.alert(name), width=390)

    expect(page.get_by_role("heading", level=1)).not_to_be_empty()
    expect(page.get_by_text("No answer.", exact=True).locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("region", name="Timeline").get_by_role("listitem")).to_have_count(3)
    with page.expect_response(lambda answer: "region=deliveries" in answer.url):
        pass
    found = harmless(page)
    assert found.pop("acts") == (0 if name in ("template", "all") else -1)
    assert found == NOTHING
    assert overflow(page) == 0
    shown = page.evaluate("document.body.innerText")
    assert "\u202e" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", ["script", "image", "template"])
def test_a_search_for_it_finds_it_in_the_log(nasty: Nasty, visits: Visits, name: str) -> None:
    page = visits.open(nasty.address(name))

    page.get_by_role("searchbox", name="Search the log").fill(ACTS[name])
    page.keyboard.press("Enter")

    expect(page.locator(".plet-log-row mark").first).to_have_text(ACTS[name])
    expect(page.get_by_role("searchbox", name="Search the log")).to_have_value(ACTS[name])
    assert harmless(page)["pictures"] == 0


def test_what_is_not_seen_is_shown(nasty: Nasty, visits: Visits) -> None:
    page = visits.open(nasty.address("bidi"))
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "abc\\u202egnp.exe\\u2066\\u200f\\ufeff\\u2028x"
    )

    page.goto(nasty.address("terminal"))
    expect(page.locator(".plet-error-message").first).to_contain_text("\\x1b]0;title\\x07")
    expect(lines(page).first).to_be_visible()
    shown = page.evaluate("document.body.innerText")
    copied = page.evaluate(
        "[...document.querySelectorAll('[data-copy]')].map(one => one.dataset.copy).join()"
    )
    assert "title" in copied
    for text in (shown, copied):
        assert "\u202e" not in text
        assert "\x1b" not in text
