"""Installs our pages into Flower's own process, before Flower builds its application.

Flower has no hook for pages. Three of its names are used, none of them documented: the list of its
routes, its settings, and the text of its navigation bar. Where one has moved, whatever still works is
kept, and `celery plet doctor` says so; Flower itself starts in any case.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from plet_celery.flowerhooks import place_of_routes
from plet_celery.web import frame

log = logging.getLogger(__name__)


def activate() -> None:
    """Add our routes and our entry in the navigation bar; a second call changes nothing.

    Never raises: a Flower without our pages is better than none.
    """
    try:
        _add_routes(importlib.import_module("flower.urls"))
    except Exception:
        log.exception("plet's pages cannot be added to this version of Flower; see celery plet doctor")


def _add_routes(urls: Any) -> None:
    from plet_celery.web.routes import routes

    handlers: list[Any] = urls.handlers
    ours = routes()
    known = {getattr(one, "name", None) for one in handlers}
    if ours[0].name in known:
        return
    place = place_of_routes(handlers)
    handlers[place:place] = ours
    loader = frame.loader(urls.settings["template_path"])
    if frame.has_entry(loader):
        urls.settings["template_loader"] = loader
    else:
        log.warning("Flower's navigation bar has changed: plet's pages have no entry in it; open /plet/")
