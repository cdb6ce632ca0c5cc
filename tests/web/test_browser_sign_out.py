"""A page that is open while its reader is signed out says so, and asks no more."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flowers import running_flower
from playwright.sync_api import Browser, expect
from tornado.web import create_signed_value

SECRET = "canary-cookie-secret"


def test_who_is_signed_out_is_told(shop: Any, browser: Browser) -> None:
    shop.write()
    shop.story.run("shop.index", started=shop.now).succeed()
    shop.story.ship()
    options = (
        "--auth=ada@example.com",
        "--auth_provider=flower.views.auth.GithubLoginHandler",
        f"--cookie_secret={SECRET}",
        "--oauth2_redirect_uri=http://localhost/login",
    )
    with running_flower(shop.folder, *options) as flower:
        context = browser.new_context()
        login = create_signed_value(SECRET, "user", "ada@example.com").decode()
        host = str(urlsplit(flower.base).hostname)
        context.add_cookies([{"name": "user", "value": login, "domain": host, "path": "/"}])
        page = context.new_page()
        page.goto(flower.base + "plet/")
        expect(page.locator("#plet-live")).to_contain_text("Live")
        expect(page.get_by_text("shop.index").first).to_be_visible()

        context.clear_cookies()

        expect(page.locator("#plet-live")).to_contain_text("Signed out", timeout=60_000)
        expect(page.get_by_text("shop.index").first).to_be_visible()
        context.close()
