"""What axe finds on a page, and which of it lies in our part of the page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

AXE = Axe()
# Which of the nodes lie in our part of a page.
OURS = """selectors => selectors.filter(one => document.querySelector(one)?.closest("#plet"))"""


def violations(page: Page) -> tuple[set[str], dict[str, list[str]]]:
    """Rules that are broken on a page; and those that our part of it breaks, each with where."""
    found = AXE.run(page).response["violations"]
    ours = {}
    for one in found:
        places = [" ".join(node["target"]) for node in one["nodes"]]
        if mine := page.evaluate(OURS, places):
            ours[f"{one['id']}: {one['help']}"] = mine[:5]
    return {one["id"] for one in found}, ours
