"""What a pass needs, as plain JSON: what `Plet.shipper_config()` returns.

So a pass can run where the user's app is not: the child of a shipper gets this document on a pipe, and a
worker or a command hands over the same one.

| key | what |
|---|---|
| `settings`, `home`, `journal`, `database_url` | as the shipper has them |
| `celery` | broker, result backend and queues, see `celeryfacts.py` |
| `objectives` | the promises, a list of plain objects |
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plet_celery import paths
from plet_celery.settings import Settings
from plet_celery.shipper.config import ShipperConfig


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """The document, checked."""

    settings: Settings
    home: Path
    journal: Path
    database_url: str = field(repr=False)
    """With its password: not for printing."""
    celery: Mapping[str, Any] = field(default_factory=dict, repr=False)
    objectives: Sequence[Mapping[str, Any]] | None = None
    """None: they are not known here, which is not to say that there are none."""

    @property
    def is_on(self) -> bool:
        """Whether anything is to be watched."""
        return self.settings.enabled and self.settings.monitor

    @property
    def is_embedded_store(self) -> bool:
        """Whether the store is the SQLite file in our own home, which migrates itself."""
        return self.database_url == paths.default_database_url(self.home)

    @property
    def spacing(self) -> float:
        """Seconds after the begin of a pass in which another one is not due: several may ask at once."""
        return self.settings.monitor_interval / 2

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> MonitorConfig:
        """Return the configuration of `plet.shipper_config()`.

        Raises:
            KeyError: `settings`, `journal`, `home` or `fingerprint` is missing.
            pydantic.ValidationError: a setting does not fit.
        """
        base = ShipperConfig.from_document(document)
        return cls(
            settings=base.settings,
            home=base.home,
            journal=base.journal,
            database_url=base.database_url,
            celery=dict(document.get("celery") or {}),
            objectives=document.get("objectives"),
        )


def owner_of(kind: str) -> str:
    """Return how this process is called where it holds something: `beat web1 4711`."""
    return f"{kind} {socket.gethostname()[:40]} {os.getpid()}"
