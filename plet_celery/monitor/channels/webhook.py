"""The channel `webhook`: a signed POST of JSON. What a receiver checks is in docs/channels.md."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec

from plet_celery import __version__
from plet_celery.alertsignals import AlertMessage
from plet_celery.monitor.channels.channel import Undelivered
from plet_celery.monitor.channels.request import Rules, ask

VERSION: Final = 1
"""Of the body; a key more is no new version."""


@dataclass(frozen=True, kw_only=True)
class WebhookChannel:
    """Sends each message to one address."""

    name: str
    url: str = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    timeout: float = 10.0
    rules: Rules = field(default_factory=Rules, repr=False)
    kind: str = "webhook"
    needs_app: bool = False

    @property
    def target(self) -> str:
        """The host, and a hash of the whole address to tell two apart."""
        return shown_url(self.url)

    def send(self, message: AlertMessage, *, now: float) -> str:
        """Post the message.

        Raises:
            Undelivered: no answer, or another than 2xx.
        """
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"plet-celery/{__version__}",
            "Idempotency-Key": message.id,
            "X-Plet-Timestamp": str(int(now)),
            "X-Plet-Signature": signature(self.keys, int(now), body),
        }
        status = ask("POST", self.url, headers=headers, body=body, seconds=self.timeout, rules=self.rules)
        if 300 <= status < 400:
            raise Undelivered(f"answered {status}; redirects are not followed")
        if not 200 <= status < 300:
            raise Undelivered(f"answered {status}")
        return f"answered {status}"


def body_of(message: AlertMessage) -> bytes:
    """Return the JSON that is posted: the fields of the message, the same bytes for every repeat."""
    return msgspec.json.encode({"version": VERSION} | asdict(message))


def signature(keys: Iterable[str], timestamp: int, body: bytes) -> str:
    """Return the header X-Plet-Signature: `v1=` and 64 hex digits for each key, joined by commas."""
    signed = f"{timestamp}.".encode() + body
    return ",".join(f"v1={hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()}" for key in keys)


def shown_url(url: str) -> str:
    """Return an address for people: the host and eight hex digits that tell two addresses apart."""
    return f"{urlsplit(url).hostname} #{hashlib.sha256(url.encode()).hexdigest()[:8]}"
