"""What is the same for every run of a task, found once: whether it is recorded, its parameters and stages."""

from __future__ import annotations

import fnmatch
import inspect
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """What is the same for every run of a task."""

    parameters: tuple[str, ...] | None
    tracked: bool
    stages: tuple[tuple[str, float], ...]


def is_recorded(name: str, record: tuple[str, ...], ignore: tuple[str, ...]) -> bool:
    """Tell whether runs of the task `name` are recorded, by name patterns; `ignore` wins."""
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
    return TaskProfile(parameters, tracked=hasattr(task, "track"), stages=declared)
