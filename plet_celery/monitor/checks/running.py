"""Which checks there are, and how they are run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from plet_celery.errors import PletError
from plet_celery.events import safe_text
from plet_celery.monitor.checks import beat, broker, hosts, results, shippers, storage, stuck, upkeep, workers
from plet_celery.monitor.checks.asking import Question, ask
from plet_celery.monitor.checks.look import Looks, looks
from plet_celery.monitor.masking import masking
from plet_celery.monitor.world import World
from plet_celery.watchfacts import CheckResult, Level

_TEXT_MAX: Final = 2000
_STACK_MAX: Final = 16 << 10

Look = Callable[[Looks], Iterable[CheckResult]]

_LOOKS: Final[Mapping[str, Look]] = {
    storage.NAME: storage.check,
    broker.BROKER: broker.check_broker,
    broker.QUEUE: broker.check_queues,
    workers.NAME: workers.check,
    beat.NAME: beat.check,
    results.NAME: results.check,
    shippers.NAME: shippers.check,
    stuck.NAME: stuck.check,
    hosts.DISK: hosts.check_disks,
    hosts.CLOCK: hosts.check_clocks,
    upkeep.RETENTION: upkeep.check_retention,
    upkeep.MONITOR: upkeep.check_monitor,
    upkeep.CHANNEL: upkeep.check_channels,
}
_DOWN: Final[Mapping[str, tuple[str, str]]] = {
    # Their silence is the fault itself: whom it hits, and what to do.
    storage.NAME: (storage.AFFECTED, storage.ADVICE),
    broker.BROKER: (broker.AFFECTED, broker.ADVICE),
    results.NAME: (results.AFFECTED, results.ADVICE),
}

NAMES: Final = tuple(_LOOKS)
"""Every check, in the order in which they are shown."""


class UnknownCheck(PletError):
    """There is no check of this name."""


def run_checks(world: World, *, now: float, seconds: float) -> list[CheckResult]:
    """Ask every check; return all answers, by check and then by subject.

    Args:
        now: seconds since the epoch.
        seconds: how long all of it may take; whoever has not answered then has answered by that.
    """
    return _run(world, NAMES, now=now, seconds=seconds)


def run_check(world: World, name: str, *, now: float, seconds: float) -> list[CheckResult]:
    """Ask one check.

    Raises:
        UnknownCheck: there is none of this name.
    """
    if name not in _LOOKS:
        raise UnknownCheck(f"there is no check {name!r}; there are: {', '.join(NAMES)}")
    return _run(world, (name,), now=now, seconds=seconds)


def _run(world: World, names: Iterable[str], *, now: float, seconds: float) -> list[CheckResult]:
    # What waits for a part of it must be able to tell before the time is up.
    seen = looks(world, now=now, seconds=seconds * 0.9)
    questions = [_question(name, seen) for name in names]
    whom = f"{world.store.shown_url} {world.journal}"
    masked = masking(world.settings, world.store.url, world.app.conf)
    return cleaned(ask(questions, seconds=seconds, whom=whom), masked)


def cleaned(results: Iterable[CheckResult], masked: Callable[[str], str]) -> list[CheckResult]:
    """Return answers that can be stored and shown: bounded text, no secret, no number that is none.

    Args:
        masked: gives a text without secrets, see `masking`.
    """
    return [_clean(one, masked) for one in results]


def _question(name: str, seen: Looks) -> Question:
    look = _LOOKS[name]
    affected, advice = _DOWN.get(name, ("", ""))
    return Question(
        name=name,
        look=lambda: look(seen),
        unanswered=Level.CRITICAL if name in _DOWN else Level.NO_DATA,
        affected=affected,
        advice=advice,
    )


def _clean(one: CheckResult, masked: Callable[[str], str]) -> CheckResult:
    def text(value: str, limit: int = _TEXT_MAX) -> str:
        return safe_text(masked(value), limit)

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return text(value, _STACK_MAX)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, Mapping):
            return {text(str(key), 200): plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    return replace(
        one,
        subject=text(one.subject, 1000),
        observation=text(one.observation),
        expectation=text(one.expectation),
        affected=text(one.affected),
        advice=text(one.advice),
        values=plain(one.values),
    )
