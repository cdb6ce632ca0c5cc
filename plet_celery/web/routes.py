"""Every address of ours below `/plet/`, and what serves it."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from tornado.routing import URLSpec
from tornado.web import HTTPError, StaticFileHandler, url

from plet_celery.web.alert import Acknowledge, AlertPage, SilenceIt, Unsilence
from plet_celery.web.alerts import AlertsPage
from plet_celery.web.desk import STATIC
from plet_celery.web.handler import PletHandler
from plet_celery.web.headers import SAFE_HEADERS
from plet_celery.web.health import HealthPage
from plet_celery.web.probes import Healthz, Livez, Readyz
from plet_celery.web.run import LogDownload, RunPage
from plet_celery.web.runs import RunsPage
from plet_celery.web.workers import WorkersPage


class Bare(PletHandler):
    """`/plet`, `/plet/runs` and `/plet/runs/` are `/plet/`."""

    right = "runs"

    def get(self) -> None:
        """Lead on to the list of runs."""
        self.lead_to(self.plet_url())

    head = get


class NotHere(PletHandler):
    """Whatever else is asked for below `/plet/`."""

    right = "runs"

    def get(self) -> None:
        """Say that there is nothing."""
        raise HTTPError(HTTPStatus.NOT_FOUND, "there is no such page here")

    head = get


class Asset(StaticFileHandler):
    """Our style sheets and scripts: the only addresses that need no right, for they tell of nobody."""

    def set_default_headers(self) -> None:
        """Say that a file is what its name says, and nothing to be framed."""
        for name, value in SAFE_HEADERS.items():
            self.set_header(name, value)

    async def get(self, path: str, include_body: bool = True) -> None:
        """Send one of our files, whose names are known; no other name is looked for on the disk."""
        if path not in _assets():
            raise HTTPError(HTTPStatus.NOT_FOUND)
        await super().get(path, include_body)

    def set_extra_headers(self, path: str) -> None:
        """Have a browser ask again for what is not named with its content's mark: what a script imports."""
        if "v" not in self.request.query_arguments:
            self.set_header("Cache-Control", "no-cache")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send the status alone, in Flower's debug mode, too."""
        self.finish()


@cache
def _assets() -> frozenset[str]:
    return frozenset(file.relative_to(STATIC).as_posix() for file in STATIC.rglob("*") if file.is_file())


def routes() -> list[URLSpec]:
    """Return our routes, the list of runs first."""
    return [
        url(r"/plet/", RunsPage, name="plet"),
        url(r"/plet", Bare),
        url(r"/plet/runs", Bare),
        url(r"/plet/runs/", Bare),
        url(r"/plet/runs/([^/]+)", RunPage, name="plet-run"),
        url(r"/plet/runs/([^/]+)/log", LogDownload, name="plet-log"),
        url(r"/plet/alerts", AlertsPage, name="plet-alerts"),
        url(r"/plet/alerts/([^/]+)", AlertPage, name="plet-alert"),
        url(r"/plet/alerts/([^/]+)/acknowledge", Acknowledge),
        url(r"/plet/alerts/([^/]+)/silence", SilenceIt),
        url(r"/plet/alerts/([^/]+)/unsilence", Unsilence),
        url(r"/plet/workers", WorkersPage, name="plet-workers"),
        url(r"/plet/health", HealthPage, name="plet-health"),
        url(r"/plet/healthz", Healthz, name="plet-healthz"),
        url(r"/plet/livez", Livez, name="plet-livez"),
        url(r"/plet/readyz", Readyz, name="plet-readyz"),
        url(r"/plet/static/(.*)", Asset, {"path": str(STATIC)}, name="plet-static"),
        url(r"/plet/.*", NotHere),
    ]
