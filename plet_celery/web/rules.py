"""The project's own rules, asked: what a user may see, as `plet_rights_for` and `plet_tenants_for` say.

A page asks for a dozen regions every other second, and a rule may ask a directory: its answer holds for a
few seconds, a refusal as well. Whatever goes wrong with a rule lets nobody in.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from plet_celery.errors import SettingsError
from plet_celery.settings import Settings
from plet_celery.web import access
from plet_celery.web.access import Viewer
from plet_celery.web.pool import Busy, Pool

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 5.0
"""How long the answer of the rules holds for a user."""
_THREADS: Final = 4
_USERS_MAX: Final = 256
_TOLD_MAX: Final = 1000


class Refused(NamedTuple):
    """Nobody is let in by these rules."""

    why: str
    """A sentence without paths and traces."""


class _Asked(NamedTuple):
    answer: asyncio.Future[Viewer | Refused]
    until: float


class Rules:
    """The rules of one app; of one event loop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        seconds: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._seconds = seconds
        self._clock = clock
        # Apart: who may see what has nothing to do with a store that hangs.
        self._threads = Pool(threads=_THREADS)
        self._asked: OrderedDict[str | None, _Asked] = OrderedDict()
        self._told: set[str] = set()

    async def viewer(self, user: str | None) -> Viewer | Refused:
        """Return what a user may see; all regions that ask at the same time wait for one answer.

        Raises:
            Busy: a rule takes too long; it is asked again the next time.
        """
        settings = self._settings()
        if settings.rights_for is None and settings.tenants_for is None:
            return access.viewer_of(user, None, None)
        found = self._asked.get(user)
        if found is None or self._clock() >= found.until or _has_failed(found.answer):
            answer = asyncio.ensure_future(self._threads.run(lambda: self._ask(user)))
            found = _Asked(answer, self._clock() + self._seconds)
            self._asked.pop(user, None)
            self._asked[user] = found
            while len(self._asked) > _USERS_MAX:
                self._asked.popitem(last=False)
        # Shielded: who waits no longer must not take the answer from the others.
        return await asyncio.shield(found.answer)

    def _ask(self, user: str | None) -> Viewer | Refused:
        settings = self._settings()
        name = "plet_rights_for"
        try:
            rights = access.resolved(settings.rights_for, name)
            name = "plet_tenants_for"
            tenants = access.resolved(settings.tenants_for, name)
        except SettingsError as error:
            self._tell_once(str(error))
            return Refused(
                f"{name} of this project cannot be used, so nobody is let in: Flower's log says why. "
                "Who runs this Flower mends the setting or the module that it names."
            )
        try:
            return access.viewer_of(user, rights, tenants)
        except SettingsError as error:
            log.error("nobody is let in: user=%s error=%s", user, error)
            return Refused("the rules of this project let nobody in; see Flower's log")
        except Exception as error:
            log.error("nobody is let in: user=%s id=%s", user, uuid.uuid4().hex[:8], exc_info=error)
            return Refused("the rules of this project failed; see Flower's log")

    def _tell_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(text)
            log.error("nobody is let in: %s", text)


def _has_failed(answer: Awaitable[object]) -> bool:
    """Tell whether an answer never came."""
    if not isinstance(answer, asyncio.Future) or not answer.done():
        return False
    return answer.cancelled() or isinstance(answer.exception(), Busy)
