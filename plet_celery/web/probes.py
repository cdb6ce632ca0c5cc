"""Probes for Kubernetes and load balancers: 200 or 503 and one word, to anybody, at three exact addresses.

What the checks say, in JSON, is for whoever may see the pages: `?format=json`, or `Accept: application/json`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from tornado.web import HTTPError

from plet_celery.errors import PletError, StoreError
from plet_celery.monitor import verdict
from plet_celery.monitor.verdict import Word
from plet_celery.web.handler import PletHandler
from plet_celery.web.healthrows import permitted_health
from plet_celery.web.pool import Busy

UNAVAILABLE: Final = "unavailable"


class Probe(PletHandler):
    """What every probe has in common: a word for everybody."""

    right = "runs"
    says_a_word = True

    def wants_more(self) -> bool:
        """Tell whether the caller asks for what takes a right."""
        return False

    def say(self, word: str, *, good: bool) -> None:
        """Send the word."""
        self.set_status(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{word}\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send what went wrong in a word: who asks here is a program."""
        if status_code == HTTPStatus.UNAUTHORIZED and self.application.options.basic_auth:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{HTTPStatus(status_code).phrase.lower()}\n")


class Livez(Probe):
    """`/plet/livez`: this process answers."""

    async def get(self) -> None:
        """Say that it does."""
        self.say("ok", good=True)

    head = get


class Readyz(Probe):
    """`/plet/readyz`: pages can be shown, so the store answers and has their tables."""

    async def get(self) -> None:
        """Ask the store for its tables."""
        try:
            ready = await self.desk.latest.ask("readyz", self._is_ready)
        except (PletError, Busy) as error:
            self.desk.warn_now_and_then(str(error))
            ready = False
        self.say("ok" if ready else UNAVAILABLE, good=ready)

    head = get

    async def _is_ready(self) -> bool:
        return await self.in_pool(lambda: self.store.check_schema().is_current)


class Healthz(Probe):
    """`/plet/healthz`: what the last pass found, and whether there was one in time."""

    def wants_more(self) -> bool:
        """Tell whether JSON is wanted."""
        return self.words("format") == "json" or "application/json" in self.request.headers.get("Accept", "")

    async def get(self) -> None:
        """Say the verdict; all of it in JSON to whoever may see it and asks for it."""
        try:
            found = await self.desk.latest.ask("healthz", self._read)
        except (PletError, Busy) as error:
            self.desk.warn_now_and_then(str(error))
            self._say_unavailable(error)
            return
        if not self.wants_more():
            self.say(found.word.value, good=found.word.is_good)
            return
        if not self.viewer.may("runs"):  # who was not asked who they are
            raise HTTPError(HTTPStatus.FORBIDDEN)
        self._send(verdict.health_json(permitted_health(found, self.viewer)), good=found.word.is_good)

    head = get

    async def _read(self) -> verdict.Health:
        settings = self.places.settings
        return await self.in_pool(lambda: verdict.read_health(self.store, settings))

    def _say_unavailable(self, error: Exception) -> None:
        if not self.wants_more():
            self.say(UNAVAILABLE, good=False)
            return
        told = self._told(error) if isinstance(error, StoreError) else str(error)
        self._send({"verdict": Word.UNKNOWN.value, "text": told, "last_pass": None, "checks": []}, good=False)

    def _send(self, document: dict[str, Any], *, good: bool) -> None:
        self.set_status(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(msgspec.json.encode(document))
