"""Progress, Logging and Error handling of Tasks, for Celery.

Names are loaded when they are first used: importing `TrackedTask` loads no database, web or
migration library, and `celery --help` (which imports this package in every call) next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from plet_celery.alertsignals import AlertMessage as AlertMessage
    from plet_celery.alertsignals import alert_fired as alert_fired
    from plet_celery.alertsignals import alert_resolved as alert_resolved
    from plet_celery.current import current_run as current_run
    from plet_celery.current import stage as stage
    from plet_celery.current import track as track
    from plet_celery.errors import PletError as PletError
    from plet_celery.objectives import P95 as P95
    from plet_celery.objectives import FinishBy as FinishBy
    from plet_celery.objectives import Freshness as Freshness
    from plet_celery.objectives import MaxRuntime as MaxRuntime
    from plet_celery.objectives import MaxWait as MaxWait
    from plet_celery.objectives import StartBy as StartBy
    from plet_celery.objectives import SuccessRate as SuccessRate
    from plet_celery.plet import Plet as Plet
    from plet_celery.result import TrackedResult as TrackedResult
    from plet_celery.run import Run as Run
    from plet_celery.settings import ALL_TENANTS as ALL_TENANTS
    from plet_celery.stages import Stage as Stage
    from plet_celery.task import TrackedTask as TrackedTask

_HOMES = {
    "ALL_TENANTS": "plet_celery.settings",
    "FinishBy": "plet_celery.objectives",
    "Freshness": "plet_celery.objectives",
    "MaxRuntime": "plet_celery.objectives",
    "MaxWait": "plet_celery.objectives",
    "P95": "plet_celery.objectives",
    "AlertMessage": "plet_celery.alertsignals",
    "Plet": "plet_celery.plet",
    "PletError": "plet_celery.errors",
    "Run": "plet_celery.run",
    "Stage": "plet_celery.stages",
    "StartBy": "plet_celery.objectives",
    "SuccessRate": "plet_celery.objectives",
    "TrackedResult": "plet_celery.result",
    "TrackedTask": "plet_celery.task",
    "alert_fired": "plet_celery.alertsignals",
    "alert_resolved": "plet_celery.alertsignals",
    "current_run": "plet_celery.current",
    "stage": "plet_celery.current",
    "track": "plet_celery.current",
}

__all__ = [
    "ALL_TENANTS",
    "P95",
    "AlertMessage",
    "FinishBy",
    "Freshness",
    "MaxRuntime",
    "MaxWait",
    "Plet",
    "PletError",
    "Run",
    "Stage",
    "StartBy",
    "SuccessRate",
    "TrackedResult",
    "TrackedTask",
    "__version__",
    "alert_fired",
    "alert_resolved",
    "current_run",
    "stage",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
