"""A pass with all that it needs opened for it, and closed again: what every caller uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from plet_celery.monitor.config import MonitorConfig, owner_of
from plet_celery.monitor.passes import Caller, Outcome, run_pass
from plet_celery.monitor.steps import Equipment
from plet_celery.settings import Settings
from plet_celery.store import open_store


def config_of(document: Mapping[str, Any], settings: Settings) -> MonitorConfig:
    """Return the configuration of an app that is here.

    Args:
        document: what `Plet.shipper_config()` returns.
        settings: the app's own, with the functions that JSON cannot hold.
    """
    return replace(MonitorConfig.from_document(document), settings=settings)


def pass_once(
    config: MonitorConfig,
    *,
    kind: str,
    app: Any = None,
    now: float | None = None,
    spacing: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do one pass, unless somebody else does.

    Args:
        kind: who calls: `beat`, `shipper`, `command`.
        app: the user's Celery app; None: it is not here, so that no function of it is called.
        now: see `run_pass`.
        spacing: seconds after the begin of a complete pass in which none is due; None: half an interval.
        stopped: asked between two steps; once it says so, the pass ends there.

    Raises:
        StoreUnavailable: the database is down or locked.
        SchemaError: it has no tables yet, or those of another version.
        StoreError: its URL cannot be used.
    """
    store = open_store(config.database_url)
    try:
        owner = owner_of(kind)
        with Equipment(config, store, owner=owner, app=app) as equipment:
            return run_pass(
                store,
                equipment.steps(),
                Caller(owner=owner, kind=kind, has_app=app is not None),
                interval=config.settings.monitor_interval,
                now=now,
                spacing=config.spacing if spacing is None else spacing,
                stopped=stopped,
            )
    finally:
        store.close()
