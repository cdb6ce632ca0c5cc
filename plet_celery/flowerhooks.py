"""The places in Flower at which our pages are put in, none of them documented, and whether they are there.

Used by `web`, which puts the pages in, and by `doctor`, which tells when a release has moved one.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

NAVBAR: Final = "navbar.html"
# Our entry goes behind the one with this link.
_MARK: Final = "{{ reverse_url('broker') }}"
ENTRY: Final = """
        <li class="nav-item">
          <a class="nav-link{% if active_tab == 'plet' %} active{% end %}" href="{{ reverse_url('plet') }}"
            {% if active_tab == 'plet' %}aria-current="page"{% end %}>Runs</a>
        </li>"""
_LAST: Final = (".*", ".*$")
"""The pattern of Flower's route for whatever is not found: ours come before it."""


def with_entry(navbar: str) -> str:
    """Return the source of the navigation bar with our entry; unchanged where its text is another one."""
    head, mark, tail = navbar.partition(_MARK)
    entry, end, rest = tail.partition("</li>")
    if not mark or not end or "<li" in entry:
        return navbar
    return head + mark + entry + end + ENTRY + rest


def place_of_routes(handlers: list[Any]) -> int:
    """Return where our routes go: before the route that takes everything."""
    for place, one in enumerate(handlers):
        pattern = one[0] if isinstance(one, tuple) else one.regex.pattern
        if pattern in _LAST:
            return place
    return len(handlers)


def missing_hooks() -> list[str]:
    """Return what of Flower is not where it was, in sentences; empty when our pages fit in.

    Imports Flower. Never raises: what cannot be asked is missing.
    """
    try:
        urls = importlib.import_module("flower.urls")
        handlers, settings = urls.handlers, urls.settings
        place_of_routes(handlers)
        folder = Path(settings["template_path"])
        _ = importlib.import_module("flower.views").BaseHandler.get_current_user
    except Exception as error:
        return [f"the pages cannot be added ({type(error).__name__}: {error})"]
    try:
        navbar = (folder / NAVBAR).read_text(encoding="utf-8")
    except OSError:
        navbar = ""
    return (
        [] if with_entry(navbar) != navbar else ["the navigation bar has no entry for the pages; open /plet/"]
    )
