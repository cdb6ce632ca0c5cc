"""A real browser: Debian's Chromium, driven by Playwright, and visits to pages of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from busy_shop import BusyShop
from flowers import RunningFlower
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)
from playwright.sync_api import TimeoutError as TooSlow
from waiting import wait_until

CHROMIUM: Final = Path("/usr/bin/chromium")
INSTALL: Final = "apt install chromium"
PLAIN_HOST: Final = "plain.example"
"""A name of this machine that no browser takes for safe: what is served as it is served on plain HTTP."""
_ARGUMENTS: Final = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
)

_START_MS: Final = 180_000

# Two cores are shared with servers and other tests.
expect.set_options(timeout=40_000)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium without a window; end it then."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS, timeout=_START_MS)
        try:
            yield browser
        finally:
            browser.close()


class Visits:
    """Pages that a test looks at, each in a profile of its own, and what they did that no page may do."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.troubles: list[str] = []
        """Dialogs, messages on the console, errors of scripts, requests to other hosts."""

    def open(self, address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Page:
        """Open an address in a new profile; `options` are those of Playwright's `new_context`."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(40_000)
        page = context.new_page()
        host = urlsplit(address).netloc
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self._check(request.url, host))
        page.goto(address)
        return page

    def close(self) -> None:
        """Close all profiles."""
        for context in self._browser.contexts:
            context.close()

    def _listen(self, said: ConsoleMessage) -> None:
        # A hint that a header is of no use over plain HTTP.
        if "Cross-Origin-Opener-Policy header has been ignored" not in said.text:
            self.troubles.append(f"console: {said.text} {said.location}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _check(self, url: str, host: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            self.troubles.append(f"request: {url}")


@dataclass
class Busy:
    """A busy shop, and a Flower that shows it."""

    shop: Any
    flower: RunningFlower
    told: BusyShop

    @property
    def base(self) -> str:
        """Where the pages are, with a slash behind."""
        return self.flower.base + "plet/"

    def run(self, run: str) -> str:
        """The address of a run's page."""
        return f"{self.base}runs/{run}"


def rows(page: Page) -> Locator:
    """The rows of a list."""
    return page.locator("tr[data-row]")


def lines(page: Page) -> Locator:
    """The rows of a log, notes and gaps among them."""
    return page.locator(".plet-log-row")


def overflow(page: Page) -> int:
    """How many pixels a page is wider than its window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return max(0, found)


def go(page: Page, key: str, place: str) -> None:
    """Go to one of our pages by `g` and a key; again where a busy machine was too slow between the two."""
    expect(page.locator("html.plet-has-js")).to_be_visible()

    def has_gone() -> bool:
        if page.url.endswith(f"/plet/{place}"):
            return True
        page.keyboard.press("g")
        page.keyboard.press(key)
        with suppress(TooSlow):
            page.wait_for_url(f"**/plet/{place}", wait_until="commit", timeout=10_000)
            return True
        return False

    wait_until(has_gone, 60, what=f"g {key} leads to {place or 'the runs'}")


@contextmanager
def saying(page: Page, words: str) -> Iterator[None]:
    """Wait until a page has said these words because of what is done here; they may be gone by then."""
    page.evaluate(
        """() => {
            const said = (window.said = []);
            new MutationObserver((changes) => {
                for (const { target } of changes) {
                    if (target.checkVisibility()) said.push(target.textContent.trim());
                }
            }).observe(document.getElementById("plet"), { childList: true, subtree: true });
        }"""
    )
    yield
    wait_until(lambda: words in page.evaluate("window.said"), what=f"{words!r} is said")


def await_line_in_view(page: Page, selector: str) -> None:
    """Wait until a line of the log lies below Flower's bar, within the window and the log's box."""
    script = """selector => {
        const at = document.querySelector(selector)?.getBoundingClientRect();
        const box = document.querySelector(".plet-log-box").getBoundingClientRect();
        const bar = document.querySelector(".app-navbar").getBoundingClientRect();
        return Boolean(at) && at.top >= Math.max(bar.bottom, box.top - 1)
            && at.bottom <= Math.min(innerHeight, box.bottom + 1);
    }"""
    # Playwright's own waiting for scripts needs eval, which our pages forbid.
    wait_until(lambda: page.evaluate(script, selector), 10, what=f"{selector} in view of {page.url}")


@dataclass
class Asked:
    """What a page asks for after it was loaded: regions by the status of their answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    count: int = 0
    unanswered: list[Request] = field(default_factory=list)

    def ask(self, request: Request) -> None:
        if "region=" in request.url:
            self.unanswered.append(request)

    def hear(self, answer: Response) -> None:
        if "region=" in answer.url:
            self.statuses[answer.status] += 1
            self.count += 1
        self.forget(answer.request)

    def forget(self, request: Request) -> None:
        self.unanswered = [one for one in self.unanswered if one != request]


def listening(page: Page) -> Asked:
    asked = Asked()
    page.on("request", asked.ask)
    page.on("response", asked.hear)
    page.on("requestfailed", asked.forget)
    return asked


def awaited(page: Page, asked: Asked, more: int) -> None:
    """Wait until so many further regions were answered."""
    wanted = asked.count + more
    # Playwright hears of answers only while it is asked for something.
    wait_until(lambda: page.title() and asked.count >= wanted, 30, what=lambda: str(asked))


def settled(page: Page, asked: Asked) -> None:
    """Wait until all that was asked for is answered."""
    wait_until(lambda: page.title() and not asked.unanswered, 30, what=lambda: str(asked))


def paused(page: Page) -> Page:
    """Let a page stay as it is: its regions are not drawn anew under the mouse."""
    pill = page.locator("#plet-live")
    pill.click()
    expect(pill).to_have_text("‖ Paused")
    return page
