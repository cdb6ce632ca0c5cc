"""The channel `notify`: e-mail, Slack, Telegram, … by an Apprise URL. Apprise is loaded when it is used."""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor.channels.channel import Undelivered

INSTALL: Final = "pip install 'plet-celery[notify]'"
_KINDS: Final = {"resolved": "success", "ended": "success", "test": "info"}
# urllib3 names the path of each request, which for many services is the token.
_LOGGERS: Final = (
    "apprise",
    "urllib3.connectionpool",
    "requests_oauthlib.oauth1_auth",
    "requests_oauthlib.oauth2_session",
)
_SEVERITIES: Final = {"critical": "failure", "warning": "warning"}


@dataclass(frozen=True, kw_only=True)
class NotifyChannel:
    """Hands each message to Apprise."""

    name: str
    url: str = field(repr=False)
    timeout: float = 10.0
    kind: str = "notify"
    needs_app: bool = False

    @property
    def target(self) -> str:
        """The service's scheme, and a hash of the whole URL: even its host may be a token."""
        scheme = self.url.partition("://")[0]
        return f"{scheme}:// #{hashlib.sha256(self.url.encode()).hexdigest()[:8]}"

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Send the message.

        Raises:
            Undelivered: Apprise is not installed, does not know the URL, or was refused.
        """
        apprise = _apprise()
        with _silenced():
            service = apprise.Apprise()
            if not service.add(self.url):
                raise Undelivered("Apprise does not understand its URL")
            kind = _KINDS.get(message.kind) or _SEVERITIES.get(message.severity, "warning")
            sent = service.notify(
                title=message.headline, body=message.text, notify_type=kind, body_format="text"
            )
        if not sent:
            raise Undelivered("Apprise could not deliver it")
        return "sent by Apprise"


def _apprise() -> Any:
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise Undelivered(f"Apprise is not installed ({error.name}); run {INSTALL}") from None


class _Quiet(logging.Filter):
    """Keeps everything back while a message is being sent.

    Of every thread, as Apprise sends in threads of its own: a project that uses Apprise at the same
    moment misses a few lines rather than us showing a token.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sending = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return not self._sending

    def count(self, change: int) -> None:
        """Count one more that sends, or one less."""
        with self._lock:
            self._sending += change


_quiet: Final = _Quiet()


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep back what Apprise and what it uses log of this sending: addresses and answers, with tokens."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_quiet)  # once: a second time changes nothing
    _quiet.count(1)
    try:
        yield
    finally:
        _quiet.count(-1)
