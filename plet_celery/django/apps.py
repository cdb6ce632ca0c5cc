"""The Django app: nothing but checks, no models, no URLs."""

from __future__ import annotations

import logging

from django.apps import AppConfig
from django.core.checks import register


class PletConfig(AppConfig):  # type: ignore[misc]
    """`INSTALLED_APPS = [..., "plet_celery.django"]`."""

    name = "plet_celery.django"
    label = "plet_celery"
    verbose_name = "Plet"

    def ready(self) -> None:
        """Register the checks, and let our own messages be seen."""
        from plet_celery.django.checks import check_plet

        register(check_plet)
        # The module of the Celery app is imported with the settings, before Django sets up logging; that
        # disables the loggers which exist by then (`disable_existing_loggers`), our errors included.
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if name.startswith("plet_celery") and isinstance(logger, logging.Logger):
                logger.disabled = False
