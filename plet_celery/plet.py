"""Plet(app): connects recording to a Celery app, and knows where its things live.

Heavy parts (store, shipper) are reached by dotted path, so that a task process never loads them.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from billiard.common import TERM_SIGNAL
from celery import Celery, bootsteps, signals
from celery.exceptions import ImproperlyConfigured

from plet_celery import __version__, answering, events, paths, reports, showing, supervision
from plet_celery.beating import Beating
from plet_celery.capture import Capture, CaptureOptions
from plet_celery.celeryfacts import celery_facts
from plet_celery.declarations import objectives_of
from plet_celery.errors import HomeError, JournalError, SettingsError
from plet_celery.interrupts import passed_over
from plet_celery.journal import EXIT_WAIT, Writer, WriterLimits, open_journal
from plet_celery.objectives import Declared
from plet_celery.profiles import is_recorded
from plet_celery.recording import Recording
from plet_celery.redaction import Redactor
from plet_celery.run import RunLimits
from plet_celery.serving import Service
from plet_celery.settings import Settings, fingerprint, settings_to_json
from plet_celery.settings_sources import load_settings
from plet_celery.signals import CONCURRENT_POOLS, Recorder

log = logging.getLogger(__name__)

_plets: WeakKeyDictionary[Celery, Plet] = WeakKeyDictionary()
# A journal that could not be opened is tried again this often.
_OPEN_RETRY: Final = 30.0


class Plet:
    """Records the runs of an app: `plet = Plet(app)`. A second call for the same app returns the first.

    Nothing is read or opened before it is needed: conf may be set after this call.
    """

    app: Celery
    recorder: Recorder
    _module: str | None
    _settings: Settings | None
    _config: dict[str, Any] | None
    _recording: Recording | None
    _made: dict[str, Recording]
    _off: bool
    _open_next: float
    _is_open: bool
    _end_is_due: bool
    _service: Service

    def __new__(cls, app: Celery) -> Plet:
        """Return the app's Plet, installing it at the first call."""
        app = _real(app)
        found = _plets.get(app)
        if found is None:
            found = _plets[app] = super().__new__(cls)
            found._install(app, sys._getframe(1).f_globals.get("__name__"))
        return found

    @property
    def settings(self) -> Settings:
        """The options as they are set now.

        Raises:
            SettingsError: a name is unknown or a value does not fit.
        """
        if self._settings is None:
            self._settings = load_settings(self.app.conf)
        return self._settings

    @property
    def home(self) -> Path:
        """The folder of journal, run logs and the embedded store (`plet_home`)."""
        return (
            Path(self.settings.home).expanduser().absolute()
            if self.settings.home
            else paths.default_home(self._module)
        )

    @property
    def journal(self) -> Path:
        """This user's journal folder."""
        return paths.journal_directory(self.home)

    @property
    def database_url(self) -> str:
        """The store's URL, with its password: not for printing."""
        secret = self.settings.database_url
        return secret.get_secret_value() if secret else paths.default_database_url(self.home)

    def shipper_config(self) -> dict[str, Any]:
        """Return what a shipper needs, as plain JSON values; it holds secrets: for a pipe only."""
        config = self._config
        if config is None:
            settings = json.loads(settings_to_json(self.settings))
            if not self.settings.enabled:
                settings["shipper"] = "off"
            # Nobody but the project finalizes its app; before that, the store knows what was promised last.
            is_final = bool(getattr(self.app, "finalized", False))
            config = {
                "settings": settings,
                "journal": str(self.journal),
                "home": str(self.home),
                "database_url": self.database_url,
                "fingerprint": fingerprint(self.settings),
                "celery": celery_facts(self.app),
            }
            if is_final:
                config["objectives"] = [one.to_plain() for one in self.objectives()]
            self._config = config if is_final else None
        return config

    def objectives(self) -> tuple[Declared, ...]:
        """Return the promises that this app's tasks and `plet_objectives` make, by task.

        Raises:
            SettingsError: the settings cannot be used.
        """
        return objectives_of(self.app, self.settings)

    def flush(self, timeout: float = 30.0) -> bool:
        """Ship everything recorded so far, here or by the running shipper; for tests, scripts, eager mode.

        Returns:
            True when all that was recorded before the call is in the store and the log files; False
            when time is up, the disk is full, or `plet_home` cannot be used, so that nothing is recorded.
        """
        recording = self.recording()
        if recording is None:
            return True
        if not recording.is_open():
            return False
        deadline = time.monotonic() + timeout
        try:
            # A disk that hangs leaves time for what is written already.
            is_settled = recording.writer.settle(timeout / 2)
            return self._drain(deadline - time.monotonic()) and is_settled
        except OSError as error:
            log.warning("flush failed: journal=%s error=%s", self.journal, error)
            return False

    def _drain(self, timeout: float) -> bool:
        drained: bool = importlib.import_module("plet_celery.shipper").drain(self.shipper_config(), timeout)
        return drained

    def recording(self) -> Recording | None:
        """Return what recording needs, or None when it is off or the settings cannot be used."""
        if self._recording is None and not self._off:
            try:
                if self.settings.enabled:
                    # Of threads that publish their first message at once, one's writer is everybody's:
                    # setdefault is atomic, and a lock could be held where somebody forks.
                    self._recording = self._made.setdefault("recording", self._make_recording())
                else:
                    self._off = True
            except SettingsError as error:
                # A worker refuses to start with this; a producer must not fail because of us.
                self._off = True
                log.error("plet records nothing in this process: %s", error)
        return self._recording

    def _install(self, app: Celery, module: str | None) -> None:
        self.app = app
        self._module = module
        self._settings = None
        self._config = None
        self._recording = None
        self._made = {}
        self._off = False
        self._open_next = 0.0
        self._is_open = False
        self._end_is_due = False
        self._service = Service(
            lambda: self.journal,
            self.shipper_config,
            may_spawn=self._may_spawn,
            make_journal=self._open,
        )
        self.recorder = Recorder(app, self.recording)
        self.recorder.connect()
        signals.worker_process_init.connect(self._on_child, weak=False)
        signals.worker_process_shutdown.connect(self._finish, weak=False)
        app.steps["worker"].add(RecordingStep)
        supervision.configure(app, self.shipper_config, before_drain=self._tell_the_end)
        atexit.register(self._tell_missed_end)
        Beating(app, self.shipper_config, lambda: self.settings).connect()
        showing.show_in_flower()

    def _make_recording(self) -> Recording:
        settings = self.settings
        writer = Writer(
            self.journal,
            role="worker" if self.recorder.worker.main_pid else "producer",
            settings_fingerprint=fingerprint(settings),
            limits=WriterLimits(
                segment_max_bytes=settings.segment_max_bytes,
                journal_max_bytes=settings.journal_max_bytes,
                min_free_bytes=settings.min_free_bytes,
                min_free_percent=settings.min_free_percent,
                durability=settings.durability,
            ),
        )
        return Recording(
            writer=writer,
            redactor=Redactor(
                settings.redact_names, [v.get_secret_value() for v in settings.redact_values_secret]
            ),
            limits=RunLimits(
                progress_rate=settings.progress_rate,
                meta_rate=settings.meta_rate,
                stage_max=settings.stage_max,
                log_rate=settings.log_rate,
                log_burst=settings.log_burst,
                log_level=logging.getLevelNamesMapping()[settings.log_level],
            ),
            capture=Capture(
                CaptureOptions(settings.capture_logging, settings.capture_print, settings.capture_warnings)
            ),
            record_tasks=settings.record_tasks,
            ignore_tasks=settings.ignore_tasks,
            tenants_allowed=settings.tenants_allowed,
            arguments=settings.arguments,
            follow_threads=settings.follow_threads,
            sample=settings.sample,
            sample_keep_after=settings.sample_keep_after,
            is_open=self._prepare,
            is_served=self._service.is_served,
        )

    def _prepare(self) -> bool:
        """Make the journal ready for a run of this process; have it shipped, too, where that was asked."""
        is_open = self._open()
        if is_open and self._may_spawn():
            self._service.is_served()
        return is_open

    def _open(self) -> bool:
        """Make the journal ready for a first event; an unusable one is told once, then tried again."""
        now = time.monotonic()
        if not self._is_open and now >= self._open_next:
            try:
                paths.make_home(self.home)
                paths.refuse_others_home(
                    self.home,
                    embedded_store=self.database_url == paths.default_database_url(self.home),
                )
                open_journal(self.journal)
                self._is_open = True
            except (HomeError, JournalError, OSError) as error:
                if not self._open_next:
                    log.error("plet records nothing until this is mended: %s", error)
                self._open_next = now + _OPEN_RETRY
        return self._is_open

    def _may_spawn(self) -> bool:
        """Tell whether this process may spawn a shipper; a worker's main process does so by itself."""
        settings = self.settings
        return settings.producer_ships and settings.shipper == "spawn" and not self.recorder.worker.main_pid

    def _on_child(self, **kwargs: Any) -> None:
        worker = self.recorder.worker
        if worker.main_pid and os.getpid() != worker.main_pid and self._recording is not None:
            self._recording.writer.role = "child"

    def _finish(self, **kwargs: Any) -> None:
        """This task process ends: wait for what a slow disk has kept in the writer's queue."""
        if self._recording is not None:
            writer = self._recording.writer
            # Celery ends those, too, that are ending.
            with passed_over(TERM_SIGNAL) if writer.is_behind else contextlib.nullcontext():
                writer.finish(EXIT_WAIT)

    def _settle(self) -> None:
        """This worker ends: wait for what a slow disk has kept in the writer's queue."""
        if self._recording is not None:
            self._recording.writer.settle(EXIT_WAIT)

    def _tell_the_end(self) -> None:
        self._end_is_due = False
        self.tell_worker(events.WORKER_STOPPED)
        self._settle()

    def _tell_missed_end(self) -> None:
        """A worker that fails to start (its pidfile is taken, say) has no farewell; it is not lost either."""
        if self._end_is_due and os.getpid() == self.recorder.worker.main_pid:
            self._tell_the_end()

    def enter_worker(
        self,
        pool: str,
        hostname: str,
        *,
        soft_limit: float | None = None,
        hard_limit: float | None = None,
    ) -> None:
        """This process is a worker's main process: learn its facts, let its requests report.

        Args:
            soft_limit: seconds; the worker's, for tasks that have none of their own. As `hard_limit`.

        Raises:
            ImproperlyConfigured: a setting cannot be used; the worker does not start.
        """
        worker = self.recorder.worker
        worker.pool, worker.hostname, worker.main_pid = pool, hostname, os.getpid()
        worker.soft_limit, worker.hard_limit = soft_limit, hard_limit
        try:
            self._settings, self._config = load_settings(self.app.conf), None
        except SettingsError as error:
            raise ImproperlyConfigured(str(error)) from None
        recording = self.recording()
        if recording is None:
            return
        recording.writer.role = "worker"
        self._end_is_due = True

        def recorded(name: str) -> bool:
            return is_recorded(name, recording.record_tasks, recording.ignore_tasks)

        recording.capture.is_workers = True
        recording.capture.resident = pool in CONCURRENT_POOLS
        if self._open():
            answering.begin(self.journal, hostname, pool, stacks=self.settings.stacks)
        reports.report_requests(self.app, recording.writer, recorded, forks=pool == "prefork")
        reports.report_unknown(self.app, recording.writer)

    def tell_worker(self, kind: str, **data: Any) -> None:
        """Append a fact about this worker."""
        recording = self.recording()
        if recording is not None and recording.is_open():
            facts = {"worker": self.recorder.worker.hostname, "host": reports.HOST, "pid": os.getpid()}
            recording.writer.append(kind, None, None, facts | data)


def plet_of(app: Celery) -> Plet | None:
    """Return the Plet of an app, or None where `Plet(app)` was never called."""
    return _plets.get(_real(app))


def plets() -> list[Plet]:
    """Return every Plet of this process."""
    return list(_plets.values())


def _real(app: Any) -> Celery:
    # `celery.current_app` is a proxy, and no key for a weak dictionary.
    resolve = getattr(type(app), "_get_current_object", None)
    found: Celery = resolve(app) if resolve else app
    return found


class RecordingStep(bootsteps.StartStopStep):
    """Worker step: facts before the pool forks, and the worker's own events."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        """Learn the worker's facts, and write its first event.

        Every step is made before one is started. So the main process has a writer before the pool
        forks, and each child can name it: that is how the shipper knows whose report to wait for.
        """
        plet = self._plet = plet_of(parent.app)
        if plet is not None:
            plet.enter_worker(
                _pool_name(parent.pool_cls),
                parent.hostname,
                soft_limit=parent.soft_time_limit,
                hard_limit=parent.time_limit,
            )
            plet.tell_worker(
                events.WORKER_STARTED,
                pool=plet.recorder.worker.pool,
                concurrency=parent.concurrency,
                app=parent.app.main,
                versions=_versions(),
            )
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        """Say where this worker's records lie."""
        if self._plet is not None and self._plet.recording() is not None:
            log.info("plet %s records to %s", __version__, self._plet.home)

    def close(self, parent: Any) -> None:
        """Tell that the worker stops: the first notice of a warm shutdown."""
        if self._plet is not None:
            self._plet.tell_worker(events.WORKER_STOPPING)


def _pool_name(pool: Any) -> str:
    module = pool if isinstance(pool, str) else getattr(pool, "__module__", "")
    return str(module).partition(":")[0].rpartition(".")[2]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "plet": __version__,
        "celery": version("celery"),
        "kombu": version("kombu"),
        "python": sys.version.partition(" ")[0],
    }
