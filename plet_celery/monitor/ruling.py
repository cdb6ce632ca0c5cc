"""The part of a pass that judges by the rules: read what they ask for, judge, name the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plet_celery.monitor import checkrules, rules
from plet_celery.rulebook import Rulebook
from plet_celery.store import alerting, rates
from plet_celery.store.store import Store
from plet_celery.watchfacts import CheckResult, Judgement, Verdict

_NAMED_MAX: Final = 30
"""Broken judgements whose runs are read in a pass, those with the most first."""
_STATES: Final = {
    "failure_rate": rules.FAILED,
    "timeout_rate": rules.TIMED_OUT,
    "killer_task": rules.LOST,
}


def rule(store: Store, results: Sequence[CheckResult], *, book: Rulebook, now: float) -> list[Judgement]:
    """Return what the rules say of checks, rates and losses.

    Args:
        results: the answers of this pass's health checks.
        now: the pass's time, seconds since the epoch.

    Raises:
        StoreUnavailable: the database is down, locked, or takes too long.
    """
    facts = _facts(store, book, now)
    found = rules.judge(facts, book, now=now)
    causes = {}
    broken = [one for one in found if one.verdict is Verdict.BROKEN and one.rule in _STATES and one.task]
    for one in sorted(broken, key=lambda one: -one.count)[:_NAMED_MAX]:
        runs = rates.examples(store, one.task or "", _STATES[one.rule])
        found[found.index(one)] = rules.with_examples(one, runs)
        cause = rules.cause_of(runs)
        if cause is not None and one.rule == "failure_rate":
            causes[one.subject] = cause
    failing = [one for one in found if one.rule == "failure_rate"]
    rest = [one for one in found if one.rule != "failure_rate"]
    silent = [one.journal for one in facts.silent]
    watched = book.of("host_lost")
    return [
        *rules.grouped(failing, causes, facts.open),
        *rest,
        *checkrules.judge(
            results,
            book,
            open_alerts=facts.open,
            silent_journals=silent if watched is not None and watched.is_on else (),
        ),
    ]


def _facts(store: Store, book: Rulebook, now: float) -> rules.Facts:
    windows = {name: _window(book, name) for name in ("failure_rate", "timeout_rate")}
    ends = {seconds: rates.ends_by_task(store, since=now - seconds) for seconds in set(windows.values())}
    longest = max(_window(book, name) for name in ("run_lost", "killer_task", "host_lost"))
    lost = rates.losses(store, since=now - longest)
    return rules.Facts(
        ends={name: ends[seconds] for name, seconds in windows.items()},
        losses=lost,
        silent=rates.silent_hosts(store),
        open={(one.rule, one.subject): one.state for one in alerting.open_alerts(store)},
    )


def _window(book: Rulebook, name: str) -> float:
    found = book.of(name)
    return found.window or 3600.0 if found is not None else 3600.0
