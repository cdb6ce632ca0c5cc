"""The steps of a real pass, made of their parts: checks, promises, rules, alerts, channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy.engine import Connection

from plet_celery.monitor import alarms, missed, outbox, ping, promise_pass, ruling
from plet_celery.monitor.checks import run_checks
from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.passes import ENTRIES, Steps
from plet_celery.monitor.promises import Assessment
from plet_celery.monitor.routing import channels_of, route_of
from plet_celery.monitor.world import World, app_of, before_of
from plet_celery.objectives import Declared
from plet_celery.profiles import is_recorded
from plet_celery.rulebook import Rulebook
from plet_celery.sampling import share_of
from plet_celery.settings import Settings
from plet_celery.store import Store, alertkeeping, health, open_store, watching
from plet_celery.store.watching import LastPass
from plet_celery.watchfacts import Change, CheckResult, Judgement, WatchLease

QUERY_SECONDS: Final = 10.0
"""No query of a pass takes longer; the step that asked it has failed then."""
_CONNECTIONS: Final = 5
"""Checks ask beside each other."""


class Equipment:
    """What the steps of one pass work with; a context manager that closes what they have opened."""

    def __init__(self, config: MonitorConfig, store: Store, *, owner: str, app: Any = None) -> None:
        """Prepare; nothing is opened.

        Args:
            store: for writing.
            owner: names this process, for people.
            app: the user's Celery app, where it is.
        """
        self._config = config
        self._store = store
        self._owner = owner
        self._app = app
        self._reader = open_store(
            config.database_url, read_only=True, query_seconds=QUERY_SECONDS, connections=_CONNECTIONS
        )
        self._found: Assessment | None = None
        self._noted: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        # How the pass before went: this one's begin is not among it.
        self._passed = watching.last_pass(self._store)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def steps(self) -> Steps:
        """Return the steps."""
        return Steps(
            check=self._check,
            keep_checks=self._keep_checks,
            promise=self._promise,
            rule=self._rule,
            alert=self._alert,
            keep=self._keep,
            deliver=self._deliver,
            ping=self._ping,
            noted=lambda: self._noted,
        )

    def _check(self, now: float, seconds: float) -> Sequence[CheckResult]:
        config = self._config
        app = self._app
        world = World(
            settings=config.settings,
            store=self._reader,
            writer=self._store,
            app=app if app is not None else app_of(config.celery),
            has_app=app is not None,
            facts=config.celery,
            home=config.home,
            journal=config.journal,
            before=before_of(health.list_health(self._reader)),
            passed=self._passed,
        )
        return run_checks(world, now=now, seconds=min(seconds, config.settings.check_timeout))

    def _keep_checks(self, lease: WatchLease, results: Sequence[CheckResult], now: float) -> None:
        health.keep(self._store, results, now=now, fence=self._fence(lease))

    def _promise(self, lease: WatchLease, now: float) -> Sequence[Judgement]:
        if self._config.objectives is not None:
            promise_pass.announce(
                self._store,
                [Declared.from_plain(one) for one in self._config.objectives],
                now=now,
                has_app=self._app is not None,
                app=str(self._config.celery.get("main") or ""),
                tasks=set(self._app.tasks) if self._app is not None else None,
                fence=self._fence(lease),
            )
        self._found = promise_pass.look(self._reader, now=now)
        return self._found.judgements

    def _rule(self, results: Sequence[CheckResult], now: float) -> Sequence[Judgement]:
        config = self._config
        timetable = config.celery.get("timetable") or ()
        known = missed.known_entries(_entries_of(self._passed), timetable, now)
        self._noted = {ENTRIES: known}
        return ruling.rule(
            self._reader,
            results,
            book=Rulebook(config.settings.rules),
            now=now,
            timetable=timetable,
            is_whole=lambda task: _is_whole(task, config.settings),
            known=known,
        )

    def _alert(
        self, lease: WatchLease, judgements: Sequence[Judgement], failed: Sequence[str], now: float
    ) -> Sequence[Change]:
        return alarms.settle(
            self._store,
            lease,
            judgements,
            route=route_of(self._config.settings),
            now=now,
            blind=alarms.blind_to(failed),
        )

    def _keep(self, lease: WatchLease, now: float) -> None:
        if self._found is not None:
            promise_pass.keep(self._store, self._found.kept, now=now, fence=self._fence(lease))
        alertkeeping.forget_alerts(self._store, lease, now=now, days=self._config.settings.alert_days)

    def _deliver(self, now: float, seconds: float) -> outbox.Delivered:
        return outbox.deliver(
            self._store,
            channels_of(self._config.settings, app=self._app),
            owner=self._owner,
            now=now,
            has_app=self._app is not None,
            seconds=seconds,
        )

    def _ping(self, complete: bool) -> None:
        ping.ping(self._config.settings, is_complete=complete)

    def _fence(self, lease: WatchLease) -> Callable[[Connection], None]:
        return lambda connection: watching.fence(connection, self._store.tables, lease)


def _is_whole(task: str, settings: Settings) -> bool:
    """Tell whether all runs of a task are recorded, so that one which is not there was missed."""
    is_thinned = share_of(task, settings.sample) < 1.0
    return not is_thinned and is_recorded(task, settings.record_tasks, settings.ignore_tasks)


def _entries_of(passed: LastPass) -> missed.Known | None:
    """Return the entries of timetables that the pass before knew; None where none has kept that yet."""
    found = passed.doc.get(ENTRIES)
    return {one: (seen[0], seen[1]) for one, seen in found.items()} if isinstance(found, dict) else None
