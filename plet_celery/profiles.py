"""What is the same for every run of a task, found once: whether it is recorded, its parameters and stages."""

from __future__ import annotations

import fnmatch
import inspect
from dataclasses import dataclass
from typing import Any

from celery.backends.base import DisabledBackend

from plet_celery.celeryfacts import MONITOR_TASK


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """What is the same for every run of a task."""

    parameters: tuple[str, ...] | None
    tracked: bool
    stages: tuple[tuple[str, float], ...]
    tells_progress: bool
    """Its result backend can carry progress without harm to the final state."""
    stuck_after: float | None = None
    """Seconds that a run of it may be silent, where the task says so (`plet_stuck_after`)."""


def is_recorded(name: str, record: tuple[str, ...], ignore: tuple[str, ...]) -> bool:
    """Tell whether runs of the task `name` are recorded, by name patterns; `ignore` wins."""
    # Our own, whatever the settings say.
    if name == MONITOR_TASK:
        return False
    return any(fnmatch.fnmatchcase(name, one) for one in record) and not any(
        fnmatch.fnmatchcase(name, one) for one in ignore
    )


def make_profile(task: Any, record: tuple[str, ...], ignore: tuple[str, ...]) -> TaskProfile | None:
    """Return what is the same for every run of `task`, or None when it is not recorded."""
    if not is_recorded(task.name, record, ignore):
        return None
    try:
        parameters: tuple[str, ...] | None = tuple(inspect.signature(task.run).parameters)
    except (TypeError, ValueError):
        parameters = None
    stages = getattr(task, "stages", None)
    declared = tuple(stages.items()) if isinstance(stages, dict) else ()
    return TaskProfile(
        parameters,
        tracked=hasattr(task, "track"),
        stages=declared,
        tells_progress=carries_progress(task),
        stuck_after=_seconds(getattr(task, "plet_stuck_after", None)),
    )


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < float("inf") else None


def carries_progress(task: Any) -> bool:
    """Tell whether the result backend of `task` can carry states before the final one and keep that right.

    Not without a backend, not files (docs/decisions/0013), and rpc only over AMQP: elsewhere a state that
    a reader puts back lands behind the final one (docs/decisions/0033).
    """
    backend = task.backend
    module = type(backend).__module__
    if isinstance(backend, DisabledBackend) or module == "celery.backends.filesystem":
        return False
    if module == "celery.backends.rpc":
        return bool(task.app.connection_for_write().get_transport_cls().driver_type == "amqp")
    return True
