"""`retention`, `monitor`, `channel`: does the monitor's own house stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from plet_celery.monitor.checks.look import Looks
from plet_celery.store import channelstates, upkeep
from plet_celery.store.channelstates import ChannelState
from plet_celery.store.upkeep import Retention
from plet_celery.store.watching import LastPass
from plet_celery.terminal.text import counted, span
from plet_celery.watchfacts import CheckResult, Level

RETENTION: Final = "retention"
MONITOR: Final = "monitor"
CHANNEL: Final = "channel"
OVERDUE_SECONDS: Final = 86_400.0
"""What has expired may lie about for so long, and longer where removals are rarer."""
UNACKNOWLEDGED_SECONDS: Final = 2 * 86_400.0
LATE_INTERVALS: Final = 2.0
LATE_GRACE: Final = 10.0


def check_retention(looks: Looks) -> Iterator[CheckResult]:
    """Look at what should have been removed."""
    yield decide_retention(upkeep.retention(looks.world.store), every=looks.world.settings.prune_every)


def decide_retention(found: Retention, *, every: float) -> CheckResult:
    """Say whether what has expired is removed.

    Args:
        every: `plet_prune_every`; 0: only a person removes.
    """
    allowed = max(OVERDUE_SECONDS, 3 * every)
    overdue = found.now - found.overdue_since if found.overdue_since is not None else 0.0
    values: dict[str, Any] = {"overdue": found.overdue, "last_at": found.last_at}
    expectation = f"what has expired is gone within {span(allowed, whole=True)}"
    last = (
        f"last removal {span(max(0.0, found.now - found.last_at), whole=True)} ago"
        if found.last_at is not None
        else "no removal yet"
    )
    if found.jumped_at is not None:
        text = f"the store's clock jumped: nothing is removed until it has held for a day; {last}"
        advice = "if the clock is right: celery plet prune --trust-clock"
        return _warned(text, expectation, advice, since=found.jumped_at, values=values)
    if found.overdue and overdue > allowed:
        is_capped, are = found.overdue >= upkeep.COUNT_MAX, "is" if found.overdue == 1 else "are"
        runs = f"{found.overdue}+ runs" if is_capped else counted(found.overdue, "run")
        text = f"{runs} expired, the oldest {span(overdue, whole=True)} ago, and {are} there; {last}"
        advice = "run celery plet prune now and then" if not every else "see the shippers: they remove"
        since = found.overdue_since
        return _warned(text, expectation, advice, since=since, values=values)
    if found.waiting_since is not None and found.now - found.waiting_since > UNACKNOWLEDGED_SECONDS:
        ago = span(found.now - found.waiting_since, whole=True)
        text = f"log folders were to be removed {ago} ago, and their host has not said that they are"
        advice = "start a worker (or celery plet ship) on that host: its shipper removes them"
        return _warned(text, expectation, advice, since=found.waiting_since, values=values)
    if found.last_at is None and not found.overdue:
        last = "nothing has expired yet"
    return CheckResult(
        name=RETENTION, level=Level.OK, observation=last, expectation=expectation, values=values
    )


def check_monitor(looks: Looks) -> Iterator[CheckResult]:
    """Look at the pass before this one."""
    passed = looks.world.passed
    if passed is None:
        text = "how passes went is not known here"
        yield CheckResult(name=MONITOR, level=Level.NO_DATA, observation=text, expectation="a pass in time")
        return
    yield decide_monitor(
        passed, interval=looks.world.settings.monitor_interval, is_on=looks.world.settings.monitor
    )


def late_after(interval: float) -> float:
    """Return the lag in seconds at which passes count as late."""
    return LATE_INTERVALS * interval + LATE_GRACE


def decide_monitor(passed: LastPass, *, interval: float, is_on: bool = True) -> CheckResult:
    """Say whether passes come in time: of what is kept, this answer is made anew whenever somebody reads it.

    Args:
        interval: `plet_monitor_interval`.
        is_on: `plet_monitor`.
    """
    answer = CheckResult(
        name=MONITOR,
        level=Level.NO_DATA,
        observation="there has been no pass yet",
        expectation=f"a complete pass every {span(interval, whole=True)}",
        affected="alerts: nobody is told of anything",
        advice="start celery beat, or a worker whose shipper passes instead, or: celery plet monitor",
    )
    if not is_on:
        text, advice = "plet_monitor is off: nothing is watched", "set plet_monitor = True"
        return replace(answer, observation=text, affected="", advice=advice)
    age, lag, took = passed.age, passed.lag, passed.doc.get("took")
    answer = replace(answer, values={"age": age, "took": took, "owner": passed.owner})
    if age is None or lag is None:
        if passed.begun_at is None:
            return answer
        ago = span(max(0.0, passed.now - passed.begun_at), whole=True)
        return replace(answer, observation=f"a pass began {ago} ago, none has ended")
    text = f"last pass {span(age, whole=True)} ago"
    if isinstance(took, int | float):
        text += f", took {span(took)}"
    # One that goes on and began in time is not late, however long what it sends takes.
    if lag > late_after(interval):
        return replace(answer, level=Level.CRITICAL, observation=text, since=passed.passed_at)
    if isinstance(took, int | float) and took > interval:
        return replace(
            answer,
            level=Level.WARNING,
            observation=text,
            affected="alerts come later than promised",
            advice="raise plet_monitor_interval, or see which check takes long",
        )
    return replace(answer, level=Level.OK, observation=text, affected="", advice="")


def check_channels(looks: Looks) -> Iterator[CheckResult]:
    """Look at every channel that was ever used."""
    found = channelstates.states(looks.world.store)
    if not found:
        yield CheckResult(
            name=CHANNEL,
            level=Level.OK,
            observation="nothing was sent yet, and nothing has failed",
            expectation="every channel takes what it is sent",
        )
    for one in found.values():
        yield decide_channel(one, now=looks.now)


def decide_channel(one: ChannelState, *, now: float) -> CheckResult:
    """Say whether a channel takes what it is sent."""
    answer = CheckResult(
        name=CHANNEL,
        subject=one.name,
        level=Level.OK,
        observation="it takes what it is sent",
        expectation="every message taken",
        values={"failures": one.failures, "disabled_at": one.disabled_at, "succeeded_at": one.succeeded_at},
    )
    if one.disabled_at is None and not one.failures:
        ago = f", last {span(max(0.0, now - one.succeeded_at), whole=True)} ago" if one.succeeded_at else ""
        return replace(answer, observation=answer.observation + ago)
    answer = replace(
        answer,
        affected="whoever is told of alerts by it",
        advice=f"mend or replace it in plet_channels, then: celery -A proj plet alerts test {one.name}",
    )
    if one.disabled_at is not None:
        ago = span(max(0.0, now - one.disabled_at), whole=True)
        text = f"disabled {ago} ago, after {counted(one.failures, 'failure')} in a row{_last_said(one)}"
        return replace(answer, level=Level.CRITICAL, observation=text, since=one.disabled_at)
    text = f"failed {counted(one.failures, 'time')} in a row{_last_said(one)}"
    return replace(answer, level=Level.WARNING, observation=text, since=one.failing_since)


def _last_said(one: ChannelState) -> str:
    return f": {one.doc.status}" if one.doc.status else ""


def _warned(
    text: str,
    expectation: str,
    advice: str,
    *,
    since: float | None,
    values: dict[str, Any],
) -> CheckResult:
    return CheckResult(
        name=RETENTION,
        level=Level.WARNING,
        observation=text,
        expectation=expectation,
        affected="the store grows",
        advice=advice,
        since=since,
        values=values,
    )
