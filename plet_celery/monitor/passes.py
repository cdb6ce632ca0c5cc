"""One pass: look at everything, write what has become of alerts, tell who is to be told.

    lease ─► checks, promises, rules ─► judgements ─► alerts (rows) ─► deliveries ─► ping

One at a time, by a lease in the store. Each step may be the last: what was written before it stays, what
was not is found again by the next pass. A step that fails does not keep the others from their work, but
then the pass is not complete.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from plet_celery.errors import PletError, StaleWrite, StoreUnavailable
from plet_celery.monitor.outbox import Delivered
from plet_celery.store import Store, watching
from plet_celery.watchfacts import Change, CheckResult, Judgement, Verdict, WatchLease

log = logging.getLogger(__name__)

LEASE_MAX: Final = 30.0
LEASE_MIN: Final = 8.0
"""Whoever passes holds the lease for so many seconds without a sign of life."""
ENTRIES: Final = "entries"
"""In a summary: when entries of timetables were first and last seen."""
_SHARE: Final = 0.6
"""Of a lease, what checks and deliveries may take."""

_Found = TypeVar("_Found")


class Ended(StrEnum):
    """How a pass ended."""

    PASSED = "passed"
    """All of it was done."""
    INCOMPLETE = "incomplete"
    """A step failed, the others were done; see `troubles`."""
    STOPPED = "stopped"
    """It was asked to end in between."""
    FENCED = "fenced"
    """It took too long, and another one has taken over."""
    BUSY = "busy"
    """Another one passes, or has just passed: nothing was done."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a pass does, each step with what it needs; `steps.py` makes the real ones."""

    check: Callable[[float, float], Sequence[CheckResult]]
    """`(now, seconds)`: ask the health checks."""
    keep_checks: Callable[[WatchLease, Sequence[CheckResult], float], None]
    """`(lease, results, now)`: keep their answers, fenced."""
    promise: Callable[[WatchLease, float], Sequence[Judgement]]
    """`(lease, now)`: judge every objective."""
    rule: Callable[[Sequence[CheckResult], float], Sequence[Judgement]]
    """`(results, now)`: judge by the rules."""
    alert: Callable[[WatchLease, Sequence[Judgement], Sequence[str], float], Sequence[Change]]
    """`(lease, judgements, failed, now)`: write alerts, transitions, outbox in one transaction, fenced.

    `failed` names the steps that could not judge (`check`, `promise`, `rule`): their silence means nothing.
    """
    keep: Callable[[WatchLease, float], None]
    """`(lease, now)`: keep what else was found, fenced: after the alerts, for the next pass does not find it
    a second time."""
    deliver: Callable[[float, float], Delivered]
    """`(now, seconds)`: send what waits."""
    ping: Callable[[bool], object]
    """`(complete)`: the dead man's switch."""
    noted: Callable[[], Mapping[str, Any]] = dict
    """What else the next pass has to know, plain JSON; what is not noted stays as it was."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a pass went."""

    ended: Ended
    doc: Mapping[str, Any] = field(default_factory=dict)
    """Its summary, plain JSON; empty where nothing was done."""

    @property
    def troubles(self) -> Sequence[str]:
        """What failed, a sentence for each step."""
        return list(self.doc.get("troubles", ()))


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who passes."""

    owner: str
    """For people: `beat web1 4711`."""
    kind: str
    """`beat`, `shipper`, `command`."""
    has_app: bool
    """The user's app is here: callables and signals can be reached."""


def lease_seconds(interval: float) -> float:
    """Return for how long a pass holds the lease without a sign: shorter than an interval, so that the
    next one takes up what a dead one left.
    """
    return min(LEASE_MAX, max(LEASE_MIN, 0.8 * interval))


def run_pass(
    store: Store,
    steps: Steps,
    caller: Caller,
    *,
    interval: float = 30.0,
    now: float | None = None,
    spacing: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do one pass, unless somebody else does.

    Args:
        interval: seconds between two passes; the lease is held for less.
        now: the time for which everything is judged, seconds since the epoch; None: the store's clock.
        spacing: do nothing where the last complete pass began less than so many seconds ago.
        stopped: asked between two steps; once it says so, the pass ends there.

    Raises:
        StoreUnavailable: the database is down or locked; what was not written is found again.
        SchemaError: it has no tables yet, or those of another version.
    """
    seconds = lease_seconds(interval)
    before = watching.last_pass(store)
    lease = watching.take(store, caller.owner, seconds=seconds, spacing=spacing)
    if lease is None:
        return Outcome(ended=Ended.BUSY)
    began = lease.held_until - seconds
    one = _Pass(store, steps, caller, lease, seconds, began if now is None else now, stopped)
    return one.run(before.doc)


class _Stopped(Exception):
    """It was asked to end."""


class _Pass:
    def __init__(
        self,
        store: Store,
        steps: Steps,
        caller: Caller,
        lease: WatchLease,
        seconds: float,
        now: float,
        stopped: Callable[[], bool],
    ) -> None:
        self._store = store
        self._steps = steps
        self._caller = caller
        self._lease = lease
        self._seconds = seconds
        self._now = now
        self._stopped = stopped
        self._began = time.monotonic()
        self._troubles: dict[str, str] = {}
        self._doc: dict[str, Any] = {}

    def run(self, before: Mapping[str, Any]) -> Outcome:
        try:
            self._do()
            ended = Ended.INCOMPLETE if self._troubles else Ended.PASSED
        except StaleWrite as error:
            log.warning("pass was overtaken: owner=%s fact=%s", self._caller.owner, error)
            return Outcome(ended=Ended.FENCED, doc=self._summary(before))
        except _Stopped:
            ended = Ended.STOPPED
        except StoreUnavailable:
            self._ping(complete=False)
            raise
        if ended is not Ended.STOPPED:
            self._ping(complete=ended is Ended.PASSED)
        return self._release(ended, before)

    def _do(self) -> None:
        steps, budget = self._steps, self._seconds * _SHARE
        no_results: Sequence[CheckResult] = ()
        no_judgements: Sequence[Judgement] = ()
        no_changes: Sequence[Change] = ()
        results = self._step("check", no_results, lambda: steps.check(self._now, budget))
        self._step("keep_checks", None, lambda: steps.keep_checks(self._lease, results, self._now))
        promised = self._step("promise", no_judgements, lambda: steps.promise(self._lease, self._now))
        ruled = self._step("rule", no_judgements, lambda: steps.rule(results, self._now))
        failed = [name for name in ("check", "promise", "rule") if name in self._troubles]
        judgements = [*promised, *ruled]
        changes = self._step(
            "alert", no_changes, lambda: steps.alert(self._lease, judgements, failed, self._now)
        )
        if "alert" not in self._troubles:
            self._step("keep", None, lambda: steps.keep(self._lease, self._now))
        sent = self._step("deliver", Delivered(), lambda: steps.deliver(self._now, budget))
        self._doc |= {
            "checks": dict(Counter(str(one.level) for one in results)),
            "judgements": len(judgements),
            "broken": sum(1 for one in judgements if one.verdict is Verdict.BROKEN),
            "changes": sum(1 for one in changes if one.kind),
            "delivered": sent.delivered,
            "undelivered": sent.failed,
            "dropped": sent.dropped,
            **steps.noted(),
        }

    def _step(self, name: str, nothing: _Found, act: Callable[[], _Found]) -> _Found:
        """Do a step; one that fails has found nothing."""
        if self._stopped():
            raise _Stopped
        self._lease = watching.renew(self._store, self._lease, seconds=self._seconds)
        began = time.monotonic()
        try:
            return act()
        except StaleWrite:
            raise
        except Exception as error:
            # Also a query that took too long: whether the store is there at all, the next renewal finds out.
            expected = isinstance(error, PletError | OSError)
            log.error(
                "pass: a step failed: step=%s error=%s: %s",
                name,
                type(error).__name__,
                error,
                exc_info=None if expected else error,
            )
            self._troubles[name] = f"{name}: {type(error).__name__}"
            return nothing
        finally:
            took = self._doc.setdefault("steps", {})
            took[name] = round(time.monotonic() - began, 4)

    def _ping(self, *, complete: bool) -> None:
        # What a switch says is no part of what the pass has found, and cannot spoil it.
        try:
            self._steps.ping(complete)
        except Exception:
            log.exception("pass: ping failed")

    def _release(self, ended: Ended, before: Mapping[str, Any]) -> Outcome:
        doc = self._summary(before)
        try:
            watching.release(
                self._store,
                self._lease,
                passed=ended is Ended.PASSED,
                has_app=self._caller.has_app,
                doc=doc,
            )
        except StaleWrite as error:
            log.warning("pass was overtaken at its end: owner=%s fact=%s", self._caller.owner, error)
            return Outcome(ended=Ended.FENCED, doc=doc)
        return Outcome(ended=ended, doc=doc)

    def _summary(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is kept of this pass; when beat asked last, and a pass had the app, is carried on."""
        known = {name: before.get(name) for name in ("beat_at", "app_at", ENTRIES)}
        if self._caller.kind == "beat":
            known["beat_at"] = self._now
        if self._caller.has_app:
            known["app_at"] = self._now
        return {
            "caller": self._caller.kind,
            "owner": self._caller.owner,
            "took": round(time.monotonic() - self._began, 3),
            "troubles": list(self._troubles.values()),
            **{name: at for name, at in known.items() if at is not None},
            **self._doc,
        }
