"""What recording needs of an app: its writer, its redactor, its rules; and what is known of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from plet_celery import sampling
from plet_celery.capture import Capture
from plet_celery.profiles import TaskProfile, is_recorded, make_profile
from plet_celery.redaction import Redactor
from plet_celery.run import EventWriter, RunLimits


class JournalWriter(EventWriter, Protocol):
    """The journal's writer, as whoever records needs it."""

    role: str

    def append(
        self,
        kind: str,
        run: str | None,
        attempt: str | None,
        data: dict[str, Any],
        at: tuple[float, float] | None = None,
    ) -> bool:
        """Write one event; `at` is wall and monotonic time where that is not now."""

    def settle(self, timeout: float) -> bool:
        """Wait at most so many seconds until what was acknowledged is written; False when it is not."""

    def finish(self, timeout: float) -> None:
        """The process ends: settle, tell what was dropped, and queue nothing any more."""

    @property
    def is_behind(self) -> bool:
        """Something was acknowledged that is not written yet."""


@dataclass(slots=True)
class Recording:
    """What recording needs; `Plet` injects it once the app's settings are known."""

    writer: JournalWriter
    redactor: Redactor
    limits: RunLimits
    capture: Capture
    record_tasks: tuple[str, ...] = ("*",)
    ignore_tasks: tuple[str, ...] = ()
    tenants_allowed: tuple[str, ...] = ()
    arguments: bool = True
    follow_threads: bool = True
    sample: Mapping[str, float] = field(default_factory=dict)
    sample_keep_after: float = 10.0
    is_open: Callable[[], bool] = lambda: True
    is_served: Callable[[], bool] = lambda: False

    def names(self, task: str) -> bool:
        """Whether the patterns let a task's runs be recorded."""
        return is_recorded(task, self.record_tasks, self.ignore_tasks)


@dataclass(slots=True)
class KnownTasks:
    """What was once found out about each task of an app: it is asked at every run."""

    _profiles: dict[str, TaskProfile | None] = field(default_factory=dict)
    _shares: dict[str, float] = field(default_factory=dict)

    def profile(self, task: Any, recording: Recording) -> TaskProfile | None:
        """Return what is fixed about a task, or None if its runs are not recorded."""
        try:
            return self._profiles[task.name]
        except KeyError:
            profile = self._profiles[task.name] = make_profile(
                task, recording.record_tasks, recording.ignore_tasks
            )
            return profile

    def share(self, task: str, recording: Recording) -> float:
        """Return the share of a task's runs that is kept, in [0, 1]."""
        found = self._shares.get(task)
        if found is None:
            found = self._shares[task] = sampling.share_of(task, recording.sample)
        return found
