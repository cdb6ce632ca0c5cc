"""The dead man's switch: somebody outside is told of every complete pass, and misses it when none comes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from plet_celery import __version__
from plet_celery.monitor.channels.channel import Undelivered
from plet_celery.monitor.channels.request import Rules, ask
from plet_celery.monitor.channels.webhook import shown_url
from plet_celery.monitor.sending import bounded
from plet_celery.settings import Settings

log = logging.getLogger(__name__)

SECONDS: Final = 5.0
"""A pass may be as short as a second; who does not answer within this is not waited for."""


@dataclass(frozen=True, kw_only=True)
class Pinged:
    """What became of a ping."""

    ok: bool
    status: str
    """In words; empty where no ping is set."""
    target: str = ""
    """Where it went, for people: never the address."""


def ping(settings: Settings, *, is_complete: bool, rules: Rules | None = None) -> Pinged:
    """Ask `plet_ping_secret_url` (with `/fail` after a pass that was not complete); never raises.

    Args:
        rules: for tests; what the settings say otherwise.
    """
    if settings.ping_secret_url is None:
        return Pinged(ok=True, status="")
    url = settings.ping_secret_url.get_secret_value()
    rules = rules or Rules(allow_private=settings.ping_allow_private)
    asked = url if is_complete else failed(url)
    ok, words = bounded(lambda: _asked(asked, rules, settings.ping_allow_private), SECONDS)
    if not ok:
        log.warning("ping was not taken: target=%s reason=%s", shown_url(url), words)
    return Pinged(ok=ok, status=words, target=shown_url(url))


def _asked(url: str, rules: Rules, allow_http: bool) -> str:
    if urlsplit(url).scheme == "http" and not allow_http:
        raise Undelivered("refused: it is plain http (plet_ping_allow_private lets it through)")
    status = ask("GET", url, headers=_HEADERS, seconds=SECONDS, rules=rules)
    if not 200 <= status < 300:
        raise Undelivered(f"answered {status}")
    return f"answered {status}"


def failed(url: str) -> str:
    """Return the address that is told of a failure: `/fail` behind the path, as Healthchecks has it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail", fragment=""))


_HEADERS: Final = {"User-Agent": f"plet-celery/{__version__}"}
