"""What health checks mean for alerts: which of their answers is a broken rule, and of which one.

A check by itself is judged by the rule `check:<name>`. Some answers have a rule of their own: a queue that is
too deep, a run that is stuck, events that were dropped, a monitor that was silent. And one cause is
one alert: without any worker, each worker and each queue need not be told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from plet_celery.monitor.fitting import Key
from plet_celery.monitor.rules import said
from plet_celery.rulebook import CHECK, Rule, Rulebook
from plet_celery.watchfacts import AlertState, CheckResult, Judgement, Level, Severity, Verdict

QUEUE: Final = "queue"
WORKERS: Final = "workers"
SHIPPER: Final = "shipper"
MONITOR: Final = "monitor"
CHANNEL: Final = "channel"
_VERDICTS: Final = {
    Level.OK: Verdict.KEPT,
    Level.WARNING: Verdict.BROKEN,
    Level.CRITICAL: Verdict.BROKEN,
    Level.NO_DATA: Verdict.NO_DATA,
}
_SEVERITIES: Final = {Level.CRITICAL: Severity.CRITICAL}


def judge(
    results: Sequence[CheckResult],
    book: Rulebook,
    *,
    open_alerts: Mapping[Key, AlertState],
    silent_journals: Iterable[str] = (),
) -> list[Judgement]:
    """Return what the answers of the health checks mean.

    Args:
        silent_journals: journals whose host is judged by `host_lost`: their shippers are not, too.
    """
    gone = frozenset(silent_journals)
    no_worker = any(one.name == WORKERS and not one.subject and _is_broken(one) for one in results)
    found: list[Judgement] = []
    for one in results:
        if one.name == QUEUE and one.subject:
            found += _queue(one, book, no_worker=no_worker)
        elif one.name == SHIPPER and one.values.get("journal") in gone:
            found += _judged(book, one, f"{CHECK}:{one.name}", verdict=Verdict.NO_DATA)
        elif one.name == SHIPPER and one.values.get("dropped"):
            found += _drops(one, book)
        elif one.name == MONITOR:
            found += _monitor(one, book)
        elif one.name == WORKERS and one.subject and no_worker:
            found += _judged(book, one, f"{CHECK}:{one.name}", verdict=Verdict.NO_DATA)
        elif one.name != CHECK and book.of(one.name) is not None:
            found += _judged(book, one, one.name)
        else:
            found += _judged(book, one, f"{CHECK}:{one.name}")
    return [*found, *_unsaid(results, found, book, open_alerts)]


def _judged(
    book: Rulebook, one: CheckResult, name: str, *, verdict: Verdict | None = None, **words: Any
) -> list[Judgement]:
    rule = book.of(name)
    if rule is None or not rule.is_on:
        return []
    named = one.values.get("runs")
    runs = [run.get("run_id") for run in named if isinstance(run, Mapping)] if isinstance(named, list) else []
    count = one.values.get("count")
    severity = rule.severity or _SEVERITIES.get(one.level, Severity.WARNING)
    words = {
        "title": _title(rule, one),
        "value": one.observation,
        "limit": one.expectation,
        "affected": one.affected,
        "advice": one.advice,
        "since": one.since,
        "runs": tuple(str(run) for run in runs if run)[:20],
        "count": count if isinstance(count, int) else len(runs),
        "severity": severity,
    } | words
    return [said(rule, one.subject, _VERDICTS[one.level] if verdict is None else verdict, **words)]


def _title(rule: Rule, one: CheckResult) -> str:
    if not rule.name.startswith(f"{CHECK}:"):
        return rule.title
    if one.name == CHANNEL and one.subject:
        return f"channel {one.subject} fails"
    return f"the check of {one.name} fails"


def _queue(one: CheckResult, book: Rulebook, *, no_worker: bool) -> list[Judgement]:
    """Judge a queue: nobody takes from it, or too much lies in it, but not both."""
    messages, rule = one.values.get("messages"), book.of("queue_depth")
    limit = rule.threshold if rule is not None and rule.threshold is not None else 0.0
    words: dict[str, Any] = {"queue": one.subject, "limit": f"at most {limit:g} messages"}
    check: Verdict | None = Verdict.KEPT
    if not isinstance(messages, int):
        deep, check = Verdict.NO_DATA, None
    elif _is_broken(one) and one.values.get("consumers") == 0:
        deep = Verdict.NO_DATA if messages > limit else Verdict.KEPT
        check = Verdict.NO_DATA if no_worker else None
    elif messages > limit:
        deep = Verdict.BROKEN
    elif one.level is Level.WARNING and one.values.get("is_late"):
        # Runs that wait for too long are too many for their workers, however few they are.
        deep, words["limit"] = Verdict.BROKEN, one.expectation
    else:
        deep = Verdict.KEPT
    if one.level is Level.NO_DATA:
        check = None
    return [
        *_judged(book, one, "queue_depth", verdict=deep, count=messages or 0, **words),
        *_judged(book, one, f"{CHECK}:{QUEUE}", verdict=check, queue=one.subject),
    ]


def _drops(one: CheckResult, book: Rulebook) -> list[Judgement]:
    """Judge events that were dropped; what else is amiss with that shipper is said in the same words."""
    dropped = one.values.get("dropped")
    counts = dropped.values() if isinstance(dropped, Mapping) else ()
    total = sum(count for count in counts if isinstance(count, int))
    rule = book.of("drops")
    too_many = total > (rule.threshold or 0.0 if rule is not None else 0.0)
    verdict = Verdict.BROKEN if too_many else Verdict.KEPT
    check = Verdict.NO_DATA if too_many and one.level is Level.WARNING else None
    return [
        *_judged(book, one, "drops", verdict=verdict, count=total),
        *_judged(book, one, f"{CHECK}:{SHIPPER}", verdict=check),
    ]


def _monitor(one: CheckResult, book: Rulebook) -> list[Judgement]:
    silent = Verdict.BROKEN if one.level is Level.CRITICAL else Verdict.KEPT
    slow = Verdict.KEPT if one.level is Level.CRITICAL else None
    if one.level is Level.NO_DATA:
        silent = Verdict.NO_DATA
    return [
        *_judged(book, one, "monitor_silent", verdict=silent),
        *_judged(book, one, f"{CHECK}:{MONITOR}", verdict=slow),
    ]


def _unsaid(
    results: Sequence[CheckResult],
    found: Sequence[Judgement],
    book: Rulebook,
    open_alerts: Mapping[Key, AlertState],
) -> Iterable[Judgement]:
    """Judge open alerts of which no answer speaks, where their check has spoken as a whole."""
    known = {(one.rule, one.subject) for one in found}
    blind = {one.name for one in results if not one.subject and one.level is Level.NO_DATA}
    asked = {one.name for one in results}
    for name, subject in open_alerts:
        rule = book.of(name)
        if rule is None or not rule.is_on or (name, subject) in known:
            continue
        check = _check_of(name)
        if check in blind:
            yield said(rule, subject, Verdict.NO_DATA)
        elif check in asked and name in ("stuck", "drops"):
            # These checks tell of all that is amiss.
            yield said(rule, subject, Verdict.KEPT, value="no more")


def _check_of(rule: str) -> str:
    own = {"queue_depth": QUEUE, "drops": SHIPPER, "monitor_silent": MONITOR}
    return own.get(rule, rule.removeprefix(f"{CHECK}:"))


def _is_broken(one: CheckResult) -> bool:
    return _VERDICTS[one.level] is Verdict.BROKEN
