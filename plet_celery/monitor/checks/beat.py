"""`beat`: when it last ticked, by what it has sent.

A tick is known by a pass that beat asked for, by a run that it started, or by its own answer to a ping
(`beat_enable_remote_control`). Passes come from shippers, too: it matters where something is scheduled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from plet_celery.monitor.checks import remote
from plet_celery.monitor.checks.look import Looks
from plet_celery.store import periodic
from plet_celery.terminal.text import span
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "beat"
GRACE_SECONDS: Final = 10.0
GONE_SECONDS: Final = 86_400.0
"""Where nothing is scheduled, a beat that has ended is told for a day: it may have ended for good."""
_DEFAULT_SCHEDULERS: Final = ("", "celery.beat:PersistentScheduler")


def check(looks: Looks) -> Iterator[CheckResult]:
    """Look for beat's last tick."""
    world = looks.world
    conf = world.facts.get("conf") or {}
    answering: list[str] = []
    if conf.get("beat_enable_remote_control"):
        try:
            answering = remote.beat_answers(world.app, seconds=looks.seconds * 0.5)
        except Exception:
            # The check of the broker says so.
            answering = []
    passed = world.passed
    asked = passed.doc.get("beat_at") if passed is not None else None
    before = looks.before(NAME)
    yield decide(
        asked_at=float(asked) if isinstance(asked, int | float) else None,
        run_at=periodic.newest_of_beat(world.store),
        answering=answering,
        known_at=before.result.values.get("tick_at") if before is not None else None,
        scheduled=[str(one) for one in world.facts.get("schedule") or []],
        scheduler=str(world.facts.get("scheduler") or ""),
        interval=world.settings.monitor_interval,
        now=looks.now,
    )


def decide(
    *,
    asked_at: float | None,
    run_at: float | None,
    answering: Sequence[str],
    known_at: float | None,
    scheduled: Sequence[str],
    scheduler: str,
    interval: float,
    now: float,
) -> CheckResult:
    """Say whether beat ticks.

    Args:
        asked_at: when beat last asked for a pass.
        run_at: when the newest run that it started was published.
        answering: its node names that answer a ping now.
        known_at: the newest tick that an earlier pass knew.
        scheduled: periodic tasks of the app, ours left out.
        scheduler: the class; one of its own may have a schedule that is known to nobody here.
        interval: seconds between two of our own periodic tasks.
    """
    known = [one for one in (asked_at, run_at, known_at) if one is not None]
    tick = now if answering else max(known, default=None)
    limit = 2 * interval + GRACE_SECONDS
    expectation = f"a tick every {span(interval, whole=True)}"
    values = {"tick_at": tick, "answering": list(answering), "scheduled": len(scheduled)}
    nothing = not scheduled and scheduler in _DEFAULT_SCHEDULERS
    if tick is None or (nothing and now - tick > GONE_SECONDS):
        seen = f"for {span(now - tick, whole=True)}" if tick is not None else "yet"
        return CheckResult(
            name=NAME,
            level=Level.OK if nothing else Level.NO_DATA,
            observation=f"nothing is scheduled, and no beat was seen {seen}; passes come from shippers"
            if nothing
            else "no tick was seen yet",
            expectation=expectation,
            affected="" if nothing else "periodic tasks",
            advice="" if nothing else "start one: celery -A proj beat (one for all hosts)",
            values=values,
        )
    if answering:
        text = f"{', '.join(answering[:3])} answers"
    else:
        text = f"last tick {span(max(0.0, now - tick), whole=True)} ago"
    if now - tick <= limit:
        return CheckResult(
            name=NAME, level=Level.OK, observation=text, expectation=expectation, values=values
        )
    # Only of our own periodic task it is known how often it comes.
    is_regular = asked_at is not None or known_at is not None
    return CheckResult(
        name=NAME,
        level=Level.CRITICAL if is_regular else Level.NO_DATA,
        observation=text,
        expectation=expectation,
        affected=_affected(scheduled),
        advice="is celery beat running? If so, the queue of plet.monitor is jammed (plet_monitor_queue)",
        since=tick,
        values=values,
    )


def _affected(scheduled: Sequence[str]) -> str:
    if not scheduled:
        return "periodic tasks; passes come from shippers meanwhile"
    more = f" and {len(scheduled) - 3} more" if len(scheduled) > 3 else ""
    return f"periodic tasks: {', '.join(scheduled[:3])}{more}"
