"""System checks: what would only be logged at the first publish is told by every `manage.py` command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from plet_celery.errors import PletError
from plet_celery.plet import Plet, plets


def check_plet(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with the plet settings of this project's Celery apps."""
    found = plets()
    if not found:
        return [
            Warning(
                "plet_celery.django is installed, but this project has no Plet(app)",
                hint="write `plet = Plet(app)` below your Celery app, and import that module in the "
                "__init__.py of the project, as Celery's Django guide does",
                id="plet_celery.W001",
            )
        ]
    return [message for plet in found for message in _check(plet)]


def _check(plet: Plet) -> Iterator[CheckMessage]:
    try:
        home = plet.home
    except PletError as error:
        yield Error(
            str(error),
            hint="Django's setting of that name starts with the namespace, as in CELERY_PLET_HOME; until "
            "this is mended nothing is recorded, and workers do not start",
            id="plet_celery.E001",
        )
        return
    for name in ("MEDIA_ROOT", "STATIC_ROOT"):
        folder = getattr(settings, name, None)
        if folder and home.is_relative_to(Path(folder).absolute()):
            yield Error(
                f"plet_home {str(home)!r} lies in {name} {str(folder)!r}, which your web server hands out",
                hint="set CELERY_PLET_HOME to a folder outside of it: journal and logs are private",
                id="plet_celery.E002",
            )
