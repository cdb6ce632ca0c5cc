"""The part of a pass that judges by the rules: read what they ask for, judge, name the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from plet_celery.monitor import checkrules, missed, rules
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


def rule(
    store: Store,
    results: Sequence[CheckResult],
    *,
    book: Rulebook,
    now: float,
    timetable: Sequence[Mapping[str, Any]] = (),
    is_whole: Callable[[str], bool] = lambda task: True,
    known: missed.Known | None = None,
) -> list[Judgement]:
    """Return what the rules say of checks, rates, losses and schedules.

    Args:
        results: the answers of this pass's health checks.
        now: the pass's time, seconds since the epoch.
        timetable: the app's periodic tasks, as `timetables.timetable_of` gives them.
        is_whole: tells of a task's name whether all its runs are recorded; of others none is missed.
        known: since when there is each entry of the timetable, see `missed.known_entries`.

    Raises:
        StoreUnavailable: the database is down, locked, or takes too long.
    """
    facts = _facts(store, book, now)
    found, causes = _with_runs(store, rules.judge(facts, book, now=now))
    failing = [one for one in found if one.rule == "failure_rate"]
    rest = [one for one in found if one.rule != "failure_rate"]
    watched = book.of("host_lost")
    is_told = watched is not None and watched.is_on
    silent = [one.journal for one in facts.silent] if is_told else []
    return [
        *rules.grouped(failing, causes, facts.open),
        *rest,
        *_missed(store, timetable, is_whole, known, book, now),
        *checkrules.judge(results, book, open_alerts=facts.open, silent_journals=silent),
    ]


def _with_runs(store: Store, judgements: list[Judgement]) -> tuple[list[Judgement], dict[str, str]]:
    """Return judgements that name their runs, and in which way failing tasks fail."""
    found, causes = list(judgements), {}
    broken = [
        (one.count, place)
        for place, one in enumerate(found)
        if one.verdict is Verdict.BROKEN and one.rule in _STATES
    ]
    for _, place in sorted(broken, reverse=True)[:_NAMED_MAX]:
        one = found[place]
        runs = rates.examples(store, one.subject, _STATES[one.rule])
        found[place] = rules.with_examples(one, runs)
        cause = rules.cause_of(runs)
        if cause is not None and one.rule == "failure_rate":
            causes[one.subject] = cause
    return found, causes


def _missed(
    store: Store,
    timetable: Sequence[Mapping[str, Any]],
    is_whole: Callable[[str], bool],
    known: missed.Known | None,
    book: Rulebook,
    now: float,
) -> list[Judgement]:
    whole = sorted(filter(is_whole, {str(entry["task"]) for entry in timetable}))
    return missed.judge(timetable, rates.newest_runs(store, whole), book, now=now, known=known)


def _facts(store: Store, book: Rulebook, now: float) -> rules.Facts:
    windows = {name: _window(book, name) for name in ("failure_rate", "timeout_rate")}
    ends = {seconds: rates.ends_by_task(store, since=now - seconds) for seconds in set(windows.values())}
    longest = max(_window(book, name) for name in ("run_lost", "killer_task", "host_lost"))
    return rules.Facts(
        ends={name: ends[seconds] for name, seconds in windows.items()},
        losses=rates.losses(store, since=now - longest),
        silent=rates.silent_hosts(store),
        open={(one.rule, one.subject): one.state for one in alerting.open_alerts(store)},
    )


def _window(book: Rulebook, name: str) -> float:
    found = book.of(name)
    return found.window or 3600.0 if found is not None else 3600.0
