"""Which promises an app makes: those of its tasks' own `objectives`, and of `plet_objectives` by pattern."""

from __future__ import annotations

import dataclasses
import fnmatch
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from celery import Celery

from plet_celery.objectives import Declared, Objective
from plet_celery.profiles import is_recorded
from plet_celery.settings import Settings

log = logging.getLogger(__name__)

_WILD: Final = frozenset("*?[")


def objectives_of(app: Celery, settings: Settings) -> tuple[Declared, ...]:
    """Return the promises of an app's tasks, by task.

    What a task declares by itself goes before `plet_objectives`, and there an earlier pattern before a later
    one: of promises that differ only in their numbers the first holds. A pattern stands for the tasks that
    the app has; a plain name also for a task that only other processes have.

    Raises:
        SettingsError: the objectives of a task cannot be used.
    """
    by_pattern: Mapping[str, Sequence[Objective]] = settings.objectives
    tasks = _tasks(app)
    names = {*tasks, *(pattern for pattern in by_pattern if not is_pattern(pattern))}
    zone, of_app = _zone(app), app.main or ""
    found = []
    for name in sorted(names):
        for source, one in _first_of_each(_sources(name, tasks.get(name), by_pattern)):
            if is_recorded(name, settings.record_tasks, settings.ignore_tasks):
                found.append(Declared(name, _in_zone(one, zone), source, of_app))
            elif source == "task" or not is_pattern(source):
                log.warning("objective of a task that is not recorded: task=%s kind=%s", name, one.kind)
    return tuple(found)


def unmatched(app: Celery, settings: Settings) -> list[str]:
    """Return the names and patterns in `plet_objectives` that stand for no task of this app, sorted.

    A pattern among them promises nothing. A plain name is of a task that other processes have, or mistyped.
    """
    tasks = _tasks(app)
    return sorted(
        pattern
        for pattern in settings.objectives
        if not any(fnmatch.fnmatchcase(name, pattern) for name in tasks)
    )


def is_pattern(name: str) -> bool:
    """Tell whether a name in `plet_objectives` stands for all names that match it."""
    return bool(_WILD & set(name))


def _sources(
    name: str, task: Any, by_pattern: Mapping[str, Sequence[Objective]]
) -> Iterator[tuple[str, Objective]]:
    # A plain task may have an attribute of that name which is none of ours.
    own = getattr(task, "objectives", ())
    for one in own if isinstance(own, (tuple, list)) else ():
        if isinstance(one, Objective):
            yield "task", one
    for pattern, some in by_pattern.items():
        if fnmatch.fnmatchcase(name, pattern):
            for one in some:
                yield pattern, one


def _first_of_each(found: Iterator[tuple[str, Objective]]) -> Iterator[tuple[str, Objective]]:
    seen = set()
    for source, one in found:
        if one.identity not in seen:
            seen.add(one.identity)
            yield source, one


def _tasks(app: Any) -> Mapping[str, Any]:
    # An app that is not to finalize itself has no tasks before somebody else does it.
    return dict(app.tasks) if app.finalized or app.autofinalize else {}


def _zone(app: Any) -> str:
    """Return the name of the zone that the app's own crontabs follow."""
    if app.conf.timezone:
        return str(app.conf.timezone)
    if app.conf.enable_utc:
        return "UTC"
    from tzlocal import get_localzone_name

    return str(get_localzone_name() or "UTC")


def _in_zone(objective: Objective, zone: str) -> Objective:
    if getattr(objective, "zone", None) == "":
        return dataclasses.replace(objective, zone=zone)  # type: ignore[call-arg]
    return objective
