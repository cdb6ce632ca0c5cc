"""Where a project's things live, for readers: settings, home, journal, store.

An app without `Plet(app)` is read by its settings alone: a web process may look at what workers recorded.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from plet_celery import paths
from plet_celery.settings import Settings
from plet_celery.settings_sources import load_settings

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True)
class Places:
    """One project, seen from the reading side."""

    settings: Settings
    home: Path
    journal: Path
    database_url: str
    """With its password: not for printing, see `masked_url`."""
    has_plet: bool
    """Whether the app has a `Plet(app)` here; without one this process records nothing."""

    @property
    def runs(self) -> Path:
        """The root of this host's run log folders."""
        return paths.runs_directory(self.home)

    @property
    def masked_url(self) -> str:
        """The store's URL for people."""
        return mask_url(self.database_url)


def places_of(app: Celery) -> Places:
    """Return where the app's things live.

    Raises:
        SettingsError: a setting is unknown or cannot be used.
    """
    # By dotted path: the reading side does not import the recording side.
    plet: Any = importlib.import_module("plet_celery.plet").plet_of(app)
    if plet is not None:
        return Places(plet.settings, plet.home, plet.journal, plet.database_url, True)
    settings = load_settings(app.conf)
    home = Path(settings.home).expanduser().absolute() if settings.home else paths.default_home(app.main)
    url = (
        settings.database_url.get_secret_value()
        if settings.database_url
        else paths.default_database_url(home)
    )
    return Places(settings, home, paths.journal_directory(home), url, False)


def mask_url(url: str) -> str:
    """Return a database URL without user, password, query and fragment; never raises."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0][:40] + "://***"
    if not parts.scheme:
        return "***"
    # A password with an unquoted `/`, `?` or `#` ends the host's part early, as does a second URL.
    if "@" in url.partition("://")[2].removeprefix(parts.netloc) or "://" in parts.path:
        return f"{parts.scheme}://***"
    user = "***@" if "@" in parts.netloc else ""
    query = "?***" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
