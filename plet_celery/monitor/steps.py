"""The steps of a real pass, made of their parts: promises, rules, checks, alerts, channels."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.passes import Delivered, Steps
from plet_celery.store import Store
from plet_celery.watchfacts import Change, CheckResult, Judgement, WatchLease


class Equipment:
    """What the steps of one pass work with; a context manager that closes what they have opened."""

    def __init__(self, config: MonitorConfig, store: Store, app: Any = None) -> None:
        """Prepare; nothing is opened.

        Args:
            app: the user's Celery app, where it is.
        """
        self._config = config
        self._store = store
        self._app = app

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def steps(self) -> Steps:
        """Return the steps."""
        return Steps(
            check=self._check,
            keep_checks=self._keep_checks,
            promise=self._promise,
            rule=self._rule,
            alert=self._alert,
            deliver=self._deliver,
            ping=self._ping,
        )

    def _check(self, now: float, seconds: float) -> Sequence[CheckResult]:
        return ()

    def _keep_checks(self, lease: WatchLease, results: Sequence[CheckResult], now: float) -> None:
        pass

    def _promise(self, lease: WatchLease, now: float) -> Sequence[Judgement]:
        return ()

    def _rule(self, results: Sequence[CheckResult], now: float) -> Sequence[Judgement]:
        return ()

    def _alert(
        self, lease: WatchLease, judgements: Sequence[Judgement], failed: Sequence[str], now: float
    ) -> Sequence[Change]:
        return ()

    def _deliver(self, now: float, seconds: float) -> Delivered:
        return Delivered()

    def _ping(self, complete: bool) -> None:
        pass
