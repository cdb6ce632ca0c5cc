"""The task `plet.monitor` of an app, and the entry by which beat calls it.

Loaded in task processes: what a pass does is reached by dotted path, in the process that runs the task.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery import Celery, Task, signals

from plet_celery.celeryfacts import MONITOR_TASK
from plet_celery.errors import SettingsError
from plet_celery.settings import Settings
from plet_celery.settings_sources import load_settings

log = logging.getLogger(__name__)

_EXPIRES: Final = 0.9
"""Of an interval: a message that waited for longer is of no use, the next one is on its way."""
_LIMIT_MIN: Final = 60.0
_LIMIT_INTERVALS: Final = 4
_HOSTED: Final = "plet_celery.monitor.hosted"


class Beating:
    """Puts the task and beat's entry into an app, once its conf is known, unless the monitor is off."""

    def __init__(
        self, app: Celery, document: Callable[[], Mapping[str, Any]], settings: Callable[[], Settings]
    ) -> None:
        """Prepare.

        Args:
            document: what `Plet.shipper_config()` returns; asked for by the task alone.
            settings: those that the task works with.
        """
        self._app = app
        self._document = document
        self._current = settings

    def connect(self) -> None:
        """Install when the app has its tasks: later settings, and a schedule of the app's own, are seen."""
        # The app is asked for nothing before: its conf may be set until then.
        app: Any = self._app
        if app.finalized:
            self.install()
        else:
            self._app.on_after_finalize.connect(self._on_finalized, weak=False)
        # What sets `beat_schedule` after that would have dropped the entry.
        signals.beat_init.connect(self._on_beat, weak=False)

    def install(self) -> None:
        """Register the task and schedule it, where the settings say so."""
        settings = self._settings()
        if settings is None:
            return
        task = self._register(settings)
        if not _is_scheduled(self._app.conf.beat_schedule):
            entry = self._entry(settings)
            self._app.add_periodic_task(entry["schedule"], task.s(), name=MONITOR_TASK, **entry["options"])

    def _on_finalized(self, **kwargs: Any) -> None:
        self.install()

    def _on_beat(self, sender: Any = None, **kwargs: Any) -> None:
        if getattr(sender, "app", None) is not self._app:
            return
        settings = self._settings()
        if settings is None or _is_scheduled(self._app.conf.beat_schedule):
            return
        # A scheduler with a database may have an entry that a person made.
        if not _is_scheduled(sender.scheduler.schedule):
            sender.scheduler.update_from_dict({MONITOR_TASK: self._entry(settings)})

    def _settings(self) -> Settings | None:
        """Return the settings where something is to be watched."""
        try:
            settings = load_settings(self._app.conf)
        except SettingsError:
            # Whoever records tells it: a worker does not start with this.
            return None
        return settings if settings.enabled and settings.monitor else None

    def _register(self, settings: Settings) -> Any:
        document, current = self._document, self._current

        def monitor() -> str:
            hosted: Any = importlib.import_module(_HOSTED)
            return str(hosted.pass_for(self._app, document(), current()))

        options: dict[str, Any] = {
            # What the app's own base class does around a task is not meant for this one, nor what its
            # own defaults are: it is called again soon, and nobody reads its result.
            "base": Task,
            "acks_late": False,
            "reject_on_worker_lost": False,
            "ignore_result": True,
            "track_started": False,
            "expires": self._expires(settings),
            "time_limit": max(_LIMIT_MIN, _LIMIT_INTERVALS * settings.monitor_interval),
            # For this app alone: Celery would give it to every app of this process.
            "shared": False,
            "lazy": False,
        }
        app: Any = self._app
        return app.task(name=MONITOR_TASK, **options)(monitor)

    def _entry(self, settings: Settings) -> dict[str, Any]:
        options: dict[str, Any] = {"expires": self._expires(settings)}
        if settings.monitor_queue is not None:
            options["queue"] = settings.monitor_queue
        return {"task": MONITOR_TASK, "schedule": settings.monitor_interval, "options": options}

    @staticmethod
    def _expires(settings: Settings) -> float:
        return _EXPIRES * settings.monitor_interval


def _is_scheduled(schedule: Any) -> bool:
    """Tell whether the task is scheduled already, perhaps by the project itself under another name."""
    entries = schedule.values() if isinstance(schedule, Mapping) else ()
    return any(_task_of(entry) == MONITOR_TASK for entry in entries)


def _task_of(entry: Any) -> Any:
    return entry.get("task") if isinstance(entry, Mapping) else getattr(entry, "task", None)
