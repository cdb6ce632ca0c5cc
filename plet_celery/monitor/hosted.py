"""A pass in a process that has the user's app: the task `plet.monitor` in a worker."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from plet_celery.errors import StoreError
from plet_celery.monitor.running import config_of, pass_once
from plet_celery.settings import Settings

log = logging.getLogger(__name__)


def pass_for(app: Any, document: Mapping[str, Any], settings: Settings) -> str:
    """Do one pass for an app; return in a word how it ended. A store that is away fails no task.

    Args:
        document: what `Plet.shipper_config()` returns.
        settings: those of the app, with the functions that JSON cannot hold.
    """
    config = config_of(document, settings)
    if not config.is_on:
        return "off"
    try:
        outcome = pass_once(config, kind="beat", app=app)
    except StoreError as error:
        # Told in one line: the same happens again at the next interval.
        log.error("no pass: %s", error)
        return "unavailable"
    return str(outcome.ended)
