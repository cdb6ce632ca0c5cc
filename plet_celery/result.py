"""TrackedResult: Celery's AsyncResult that also knows progress, stages, error, metadata and log of its run.

State and `get()` follow the result backend, as everywhere in Celery. What backends do not keep is read
from the store, which is a moment behind; `fresh` says how long to wait for it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.result import AsyncResult

from plet_celery.errors import PletError, RunNotFound
from plet_celery.places import Places, places_of
from plet_celery.terminal.bars import StageBar, stage_bars
from plet_celery.terminal.look import ENDS

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend

    from plet_celery.store import Store
    from plet_celery.store.records import LogLine, Run, Stage

_POLL: Final = 0.1
# States whose meta is not progress: what the backend stores there has another meaning.
_NO_PROGRESS: Final = states.READY_STATES | {states.PENDING, states.RECEIVED, states.STARTED, states.RETRY}
_TEXT_MAX: Final = 8192
_STAGES_MAX: Final = 1000

# Engines are dear and thread-safe: one a process and URL. A forked child opens its own.
_stores: dict[tuple[int, str], Store] = {}
_opening = threading.Lock()


@dataclass(frozen=True)
class Progress:
    """How far a run is; what is not known is None or empty."""

    state: str
    """Celery's state: `PROGRESS`, `STARTED`, `SUCCESS`, …"""
    percent: float | None = None
    """0..100 of the whole attempt."""
    current: float = 0
    total: float = 0
    """0 when unknown, as celery-progress has it."""
    description: str = ""
    stage: str | None = None
    stages: tuple[StageBar, ...] = ()
    eta: None = None
    """Nothing is foretold yet."""
    attempt: int | None = None
    updated_at: str | None = None
    """ISO 8601, by the task's clock; None when it was read from the store."""


class TrackedResult(AsyncResult[Any]):
    """The result of a task and the run behind it: `TrackedResult(task_id, app=app)`.

    Attributes:
        fresh: seconds to wait, after the result is ready, until the store knows the run's end too.
        as_of: up to when the store knew at the last look (seconds since the epoch), or None.
    """

    def __init__(
        self,
        id: str,  # noqa: A002
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Celery | None = None,
        parent: Any = None,
        *,
        fresh: float = 0.0,
    ) -> None:
        """Take what `AsyncResult` takes, and `fresh`.

        Raises:
            ValueError: `id` is None.
        """
        super().__init__(id, backend=backend, task_name=task_name, app=app, parent=parent)
        self.fresh = fresh
        self.as_of: float | None = None
        self._given_backend = backend

    @property
    def progress(self) -> Progress:
        """How far the run is: from the result meta while it runs, else from the store.

        Never raises: without backend, store or sense in the meta there is little in it.
        """
        return self._progress(read_meta(self.backend, self.id), fresh=self.fresh)

    @property
    def stages(self) -> list[Stage]:
        """The stages of the newest attempt; empty while the store knows no run of this id.

        Raises:
            StoreError: the store cannot be read. (So with `error`, `metadata` and `logs`.)
        """
        run = self._run(None)
        return self._newest_stages(run) if run else []

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the run ended badly: `type`, `message`, `traceback`, `frames`; None otherwise."""
        run = self._run(None)
        return run.error if run else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the task put into `self.metadata`."""
        run = self._run(None)
        return dict(run.metadata) if run else {}

    @property
    def eta(self) -> None:
        """When the run will be done; nothing is foretold yet."""
        return

    def logs(self, tail: int = 200, *, fresh: float | None = None) -> list[LogLine]:
        """Return the last `tail` lines, oldest first: of this host's log file, else what the store kept.

        Args:
            fresh: seconds to wait for the end of a finished run; `self.fresh` by default.
        """
        run = self._run(fresh)
        if run is None:
            return []
        from plet_celery.logsources.source import LogSource

        mirror = self._places.settings.mirror
        return LogSource(self._places.runs, self._store(), run, mirror=mirror).tail(tail)

    def catch_up(self, fresh: float) -> bool:
        """Wait at most `fresh` seconds until the store knows the end of a finished result.

        Returns:
            True when the store is level with the result backend; at once for a result that is not ready.
        """
        run = self._run(fresh)
        return not self._is_finished() or (run is not None and run.state in ENDS)

    def wait(self, *args: Any, show_progress: bool = False, **options: Any) -> Any:
        """Do what `get` does; with `show_progress`, draw bars on stderr meanwhile.

        Takes every argument of `AsyncResult.get`, and raises what it raises.
        """
        if not show_progress or self.ignored:
            return self.get(*args, **options)
        from plet_celery.terminal.waiting import drawing

        with drawing(self._look, self.id):
            return self.get(*args, **options)

    def _look(self) -> Progress:
        """Return the progress for the drawing thread, which must not touch what `get` works with."""
        # The app hands each thread a backend of its own where it is not thread-safe.
        backend = self._given_backend or self.app.backend
        is_safe = self._given_backend is None or getattr(backend, "thread_safe", False)
        return self._progress(read_meta(backend, self.id) if is_safe else {}, fresh=0.0)

    def _progress(self, meta: Mapping[str, Any], *, fresh: float) -> Progress:
        state = str(meta.get("status") or states.PENDING)
        if state not in _NO_PROGRESS:
            return progress_from_meta(state, meta.get("result"))
        try:
            run = self._run(fresh) if fresh else self._read_run()
            return progress_from_run(state, run, self._newest_stages(run) if run else [])
        except PletError:
            return progress_from_run(state, None, [])

    @property
    def _places(self) -> Places:
        return places_of(self.app)

    def _store(self) -> Store:
        return _open(self._places.database_url)

    def _run(self, fresh: float | None) -> Run | None:
        """Return the run, or None; a finished result waits for the store as long as `fresh` allows."""
        deadline = time.monotonic() + (self.fresh if fresh is None else fresh)
        while True:
            run = self._read_run()
            if (run is not None and run.state in ENDS) or time.monotonic() >= deadline:
                return run
            if not self._is_finished():
                return run
            time.sleep(_POLL)

    def _read_run(self) -> Run | None:
        from plet_celery.store import queries

        store = self._store()
        self.as_of = queries.as_of(store)
        try:
            return queries.get_run(store, self.id)
        except RunNotFound:
            return None

    def _newest_stages(self, run: Run) -> list[Stage]:
        from plet_celery.store import queries

        found = queries.attempts(self._store(), run.id)
        return list(queries.stages(self._store(), run.id, found[-1].id)) if found else []

    def _is_finished(self) -> bool:
        return read_meta(self.backend, self.id).get("status") in states.READY_STATES


def read_meta(backend: Any, run_id: str) -> Mapping[str, Any]:
    """Return what the result backend knows of a task; empty where it knows nothing or fails."""
    try:
        meta = backend.get_task_meta(run_id)
    # Backends raise what their drivers raise, and a disabled one NotImplementedError; whoever
    # asks how far a task is wants an answer, and `state` and `get()` raise it all the same.
    except Exception:
        return {}
    return meta if isinstance(meta, Mapping) else {}


def progress_from_meta(state: str, info: object) -> Progress:
    """Return the progress that a result meta tells, ours or another tool's, of any shape.

    Source: the keys are those of celery-progress's `ProgressRecorder`.
    """
    if not isinstance(info, Mapping):
        return Progress(state, description=_text(info) if isinstance(info, str) else "")
    current, total = _number(info.get("current")), _number(info.get("total"))
    percent = _number(info.get("percent"))
    if percent is None and current is not None and total:
        percent = 100.0 * current / total
    if percent == 0 and not total:
        percent = None  # 0 of nothing known: celery-progress clients need a number there
    given = info.get("stages")
    attempt = _number(info.get("attempt"))
    return Progress(
        state=state,
        percent=None if percent is None else min(100.0, max(0.0, percent)),
        current=current or 0,
        total=total or 0,
        description=_text(info.get("description")),
        stage=_text(info.get("stage")) or None,
        stages=tuple(_stage(one) for one in given[:_STAGES_MAX] if isinstance(one, Mapping))
        if isinstance(given, (list, tuple))
        else (),
        attempt=int(attempt) if attempt is not None else None,
        updated_at=_text(info.get("updated_at")) or None,
    )


def progress_from_run(state: str, run: Run | None, stages: list[Stage]) -> Progress:
    """Return the progress that the store tells."""
    if state == states.SUCCESS:
        percent: float | None = 100.0
    else:
        percent = run.percent if run else None
    if run is None:
        return Progress(state, percent=percent)
    return Progress(
        state=state,
        percent=percent,
        current=run.current or 0,
        total=run.total or 0,
        description=run.message or run.stage or "",
        stage=run.stage,
        stages=tuple(stage_bars(stages, now=time.time())),
        attempt=run.attempt,
    )


def _stage(value: Mapping[Any, Any]) -> StageBar:
    return StageBar(
        name=_text(value.get("name")),
        state=_text(value.get("state")) or "running",
        current=_number(value.get("current")) or 0,
        total=_number(value.get("total")),
        unit=_text(value.get("unit")),
        elapsed=_number(value.get("elapsed")),
    )


def _number(value: object) -> float | None:
    """Return a finite number, also from its text, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value[:64]) if isinstance(value, str) else value
        return number if math.isfinite(number) and abs(number) < 1e18 else None
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value[:_TEXT_MAX]
    number = _number(value)
    return "" if number is None else f"{number:g}"


def _open(url: str) -> Store:
    key = (os.getpid(), url)
    with _opening:
        if key not in _stores:
            from plet_celery.store import open_store

            _stores[key] = open_store(url, read_only=True)
        return _stores[key]
