"""What is watched, read-only: every promise and every rule, its limit in words, and where it is declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plet_celery.monitor.book import Entry
from plet_celery.monitor.checks.shippers import LOST_SECONDS
from plet_celery.monitor.checks.upkeep import LATE_GRACE, LATE_INTERVALS
from plet_celery.monitor.missed import GRACE_SECONDS
from plet_celery.monitor.wording import share, span
from plet_celery.rulebook import Rule
from plet_celery.store.promises import ObjectiveStatus

_CONDITIONS: Final = {
    "check": "not ok",
    "host_lost": "not heard of, and no goodbye",
    "stuck": "a run tells nothing for plet_stuck_after",
    "missed_schedule": f"no run within {span(GRACE_SECONDS)} of its time (an interval: twice the interval)",
    "monitor_silent": f"no pass for {LATE_INTERVALS:g} × plet_monitor_interval + {span(LATE_GRACE)}",
}
"""When those fire that have no number of their own."""
_MORE: Final = {
    "queue_depth": ", or the oldest run waits longer than plet_queue_max_wait",
    "killer_task": ", at different times",
    "drops": f" in {span(LOST_SECONDS)}",
}
"""What the numbers of the others do not say."""
_ORDER: Final = {"broken": 0, "no_data": 1, "new": 2, "kept": 3}


@dataclass(frozen=True)
class RuleRow:
    """One rule as it is shown."""

    rule: Rule
    limit: str
    """When it fires, in words."""
    source: str
    open: int
    """How many alerts of it are open."""


def rule_rows(rules: Iterable[Rule], entries: Iterable[Entry]) -> list[RuleRow]:
    """Return the rules with what they say now."""
    opened: Counter[str] = Counter()
    for one in entries:
        opened[one.alert.rule] += 1
        if one.alert.rule.startswith("check:"):
            opened["check"] += 1
    return [
        RuleRow(one, limit_of(one), "plet_rules" if one.is_tuned else "default", opened[one.name])
        for one in rules
    ]


def limit_of(rule: Rule) -> str:
    """Return when a rule fires: `more than 20 % of at least 10 runs in 1 h, for 1 min`."""
    if not rule.is_on:
        return "off"
    waits = f", for {span(rule.pending_for)}" if rule.pending_for else ""
    kind = rule.name.partition(":")[0]
    return _CONDITIONS.get(kind, "") + _numbers(rule) + _MORE.get(kind, "") + waits


def _numbers(rule: Rule) -> str:
    if rule.threshold is None:
        return ""
    amount = share(rule.threshold) if rule.unit == "share" else f"{rule.threshold:,g} {rule.unit}"
    parts = [f"more than {amount}" if rule.threshold else f"any {rule.unit}"]
    if rule.minimum is not None:
        parts.append(f"of at least {rule.minimum:,} runs")
    if rule.window is not None:
        parts.append(f"in {span(rule.window)}")
    return " ".join(parts)


def in_order(found: Iterable[ObjectiveStatus]) -> list[ObjectiveStatus]:
    """Return promises, broken ones first, then those of which nothing is known."""
    return sorted(found, key=lambda one: (_ORDER.get(one.state, 1), one.task, one.kind, one.id))


def source_of(one: ObjectiveStatus) -> str:
    """Return where a promise is declared."""
    return "code: the task" if one.source in ("", "task") else f"plet_objectives {one.source!r}"
