"""What a shipper was told: the JSON document on its stdin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plet_celery import paths
from plet_celery.journal import WriterLimits
from plet_celery.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShipperConfig:
    """The document, checked."""

    settings: Settings
    journal: Path
    home: Path
    database_url: str
    """With its password: not for printing."""
    fingerprint: str
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """As it was given: for a pass of the monitor, which is another process; it holds secrets."""

    @property
    def is_embedded_store(self) -> bool:
        """Whether the store is the SQLite file in our own home, which migrates itself."""
        return self.database_url == paths.default_database_url(self.home)

    @property
    def runs(self) -> Path:
        """The root of the run log folders."""
        return paths.runs_directory(self.home)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ShipperConfig:
        """Return the configuration of `plet.shipper_config()`.

        Raises:
            KeyError: `settings`, `journal`, `home` or `fingerprint` is missing.
            pydantic.ValidationError: a setting does not fit.
        """
        home = Path(document["home"])
        given = dict(document["settings"])
        # A worker that runs on while its package is replaced spawns the new version with its own settings.
        strange = sorted(given.keys() - Settings.model_fields.keys())
        if strange:
            log.warning("settings of another version are passed over: names=%s", ", ".join(strange))
        return cls(
            settings=Settings.model_validate({name: given[name] for name in given if name not in strange}),
            journal=Path(document["journal"]),
            home=home,
            database_url=document.get("database_url") or paths.default_database_url(home),
            fingerprint=str(document["fingerprint"]),
            document=document,
        )

    def writer_limits(self) -> WriterLimits:
        """Return the caps of the shipper's own writer: those of every writer of this journal."""
        chosen = self.settings
        return WriterLimits(
            segment_max_bytes=chosen.segment_max_bytes,
            journal_max_bytes=chosen.journal_max_bytes,
            min_free_bytes=chosen.min_free_bytes,
            min_free_percent=chosen.min_free_percent,
            durability=chosen.durability,
        )
