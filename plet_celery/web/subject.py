"""One run as its viewer may see it: what the regions of its page share."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from plet_celery.errors import PletError, RunNotFound
from plet_celery.logsources.windows import LogWindows
from plet_celery.places import Places
from plet_celery.store import Store, queries
from plet_celery.store.overviews import CanvasRuns
from plet_celery.store.records import Attempt, Run, Stage
from plet_celery.web.access import Viewer, permitted

_LINKS: Final = ("parent_id", "root_id", "canvas")


class Subject:
    """One run as its viewer may see it; each fact is asked for once, by whichever region needs it first."""

    def __init__(self, store: Store, places: Places, run_id: str, viewer: Viewer) -> None:
        self.store = store
        self.id = run_id
        self.viewer = viewer
        self._places = places
        # Not `cached_property`: before Python 3.12 it has one lock for the runs of all requests.
        self._lock = threading.RLock()
        self._known: dict[str, Any] = {}
        self._failed: dict[str, tuple[PletError, float]] = {}

    @property
    def run(self) -> Run:
        """The run.

        Raises:
            RunNotFound: there is none, or it is not this viewer's.
        """
        found: Run = self._once("run", lambda: permitted(self._linked(), self.viewer))
        return found

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts, the first one first."""
        found: list[Attempt] = self._once("attempts", lambda: self._all(queries.attempts))
        return found

    @property
    def stages(self) -> list[Stage]:
        """The stages of all attempts."""
        found: list[Stage] = self._once("stages", lambda: self._all(queries.stages))
        return found

    @property
    def canvas(self) -> CanvasRuns:
        """The runs of its canvas, in few words each."""
        found: CanvasRuns = self._once("canvas", lambda: self._asked(queries.canvas_runs))
        return found

    @property
    def windows(self) -> LogWindows:
        """Its log, wherever it is."""
        found: LogWindows = self._once("windows", self._windows)
        return found

    def load(self) -> Run:
        """Ask for what most regions need; return the run."""
        return (self.run, self.attempts, self.stages)[0]

    def _windows(self) -> LogWindows:
        return LogWindows(
            self._places.runs,
            self.store,
            self.run,
            mirror=self._places.settings.mirror,
            tenants=self.viewer.tenants,
            attempts=self.attempts,
            stages=self.stages,
        )

    def _linked(self) -> Run:
        """Return the run without the ids of runs that the viewer may not see."""
        run: Run = self._asked(queries.get_run)
        if self.viewer.tenants is None:
            return run
        others = {one for one in (run.parent_id, run.root_id, run.canvas) if one not in (None, run.id)}
        hidden = {one for one in others if not self._is_visible(one)}
        changes = {name: None for name in _LINKS if getattr(run, name) in hidden}
        return msgspec.structs.replace(run, **changes) if changes else run

    def _is_visible(self, run_id: str) -> bool:
        try:
            queries.get_run(self.store, run_id, tenants=self.viewer.tenants)
        except RunNotFound:
            return False
        return True

    def _all(self, query: Callable[..., Any]) -> list[Any]:
        return [permitted(one, self.viewer) for one in self._asked(query)]

    def _asked(self, query: Callable[..., Any]) -> Any:
        return query(self.store, self.id, tenants=self.viewer.tenants)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        # Without the lock: who has an answer need not wait for a question that takes its time.
        if name in self._known:
            return self._known[name]
        came = time.monotonic()
        with self._lock:
            if name in self._known:
                return self._known[name]
            error, at = self._failed.get(name, (None, -math.inf))
            if error is not None and at >= came:
                # Who has waited for this answer does not wait for the same error again.
                raise error
            try:
                self._known[name] = make()
            except PletError as error:
                self._failed[name] = (error, time.monotonic())
                raise
            return self._known[name]
