"""What the rules of the first day say of rates and losses: pure functions of what was counted.

One cause is one alert: what timed out or was lost is not a failure, too; what a host took with it is the
host's; a task that kills its workers again and again has its losses to itself; and several tasks that
fail in the same way are one. What health checks found is `checkrules.py`'s subject.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plet_celery.monitor.fitting import Key, clean
from plet_celery.rulebook import Rule, Rulebook
from plet_celery.store.rates import Loss, Losses, host_label
from plet_celery.store.records import HostStatus, Run
from plet_celery.store.rollups import BUCKET_SECONDS
from plet_celery.terminal.text import counted, span
from plet_celery.watchfacts import AlertState, Judgement, Severity, Verdict

FAILED: Final = ("failed", "rejected")
TIMED_OUT: Final = ("timed_out",)
LOST: Final = ("lost",)
_ENDED: Final = frozenset({"succeeded", "failed", "timed_out", "lost", "interrupted", "rejected"})
"""Ends that say whether a run did its work; who was cancelled, expired or ignored did not try."""
TASKS_MAX: Final = 1000
"""Tasks whose rates are judged: those with the most failures."""
SHARED_BY: Final = 3
"""So many tasks that fail in the same way are one alert."""
_CAUSE: Final = "cause: "
_CAUSE_MAX: Final = 120
_NAMED: Final = 5
_RUNS: Final = "celery -A proj plet runs"
# What differs between two failures of one kind: numbers, ids, addresses.
_VARIES: Final = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was counted."""

    ends: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """{rule: {task: {state: count}}}, each within its rule's window."""
    losses: Losses = field(default_factory=Losses)
    """Within the window of `killer_task` and `run_lost`."""
    silent: Sequence[HostStatus] = ()
    open: Mapping[Key, AlertState] = field(default_factory=dict)
    """Alerts that are open."""


def judge(facts: Facts, book: Rulebook, *, now: float) -> list[Judgement]:
    """Return what the rules on rates and losses say, also of open alerts whose cause has gone."""
    found = [
        *_rates(facts, _rule(book, "failure_rate"), FAILED, "fail", "its failed runs"),
        *_rates(
            facts,
            _rule(book, "timeout_rate"),
            TIMED_OUT,
            "hit their time limit",
            "what hit its time limit",
        ),
        *_losses(facts, book, now),
        *_hosts(facts, _rule(book, "host_lost"), now),
    ]
    tallied = [_rule(book, name) for name in ("run_lost", "killer_task", "host_lost")]
    return [*found, *_over(facts, found, [rule for rule in tallied if rule.is_on])]


def said(rule: Rule, subject: str, verdict: Verdict, **words: Any) -> Judgement:
    """Return a judgement with the numbers of its rule."""
    return Judgement(
        rule=rule.name,
        subject=subject,
        verdict=verdict,
        severity=Severity(words.pop("severity", None) or rule.severity or Severity.WARNING),
        pending_for=rule.pending_for,
        keep_firing_for=rule.keep_firing_for,
        title=words.pop("title", rule.title),
        **words,
    )


def with_examples(judgement: Judgement, runs: Iterable[Run]) -> Judgement:
    """Return a judgement that names runs."""
    return replace(judgement, runs=tuple(run.id for run in runs))


def cause_of(runs: Iterable[Run]) -> str | None:
    """Return in which way most of these runs failed, without what differs from run to run."""
    kinds = Counter(_kind(run.error) for run in runs if run.error)
    total = sum(kinds.values())
    if not total:
        return None
    kind, count = kinds.most_common(1)[0]
    return kind if 2 * count > total else None


def grouped(
    judgements: Sequence[Judgement], causes: Mapping[str, str], open_alerts: Mapping[Key, AlertState]
) -> list[Judgement]:
    """Return judgements of which those that share their cause are one.

    An alert of a task that fires already stays. While the one of a cause is open, further tasks join it.

    Args:
        judgements: all of one rule, by task.
        causes: in which way a task fails, where that is known.
    """
    if not judgements:
        return []
    rule = judgements[0].rule
    by_cause: dict[str, list[Judgement]] = {}
    for one in judgements:
        cause = causes.get(one.subject)
        if one.verdict is Verdict.BROKEN and cause is not None:
            by_cause.setdefault(f"{_CAUSE}{cause}", []).append(one)
    found = {one.subject: one for one in judgements}
    for subject, some in by_cause.items():
        if len(some) < SHARED_BY and (rule, subject) not in open_alerts:
            continue
        for one in some:
            if open_alerts.get((rule, one.subject)) is not AlertState.FIRING:
                # Silently: who is only pending has not been told of.
                found[one.subject] = replace(one, verdict=Verdict.KEPT)
        found[subject] = _together(subject, some)
    model = judgements[0]
    for open_rule, subject in open_alerts:
        if open_rule == rule and subject.startswith(_CAUSE) and subject not in found:
            found[subject] = _kept(model, subject)
    return list(found.values())


def _rates(facts: Facts, rule: Rule, states: Sequence[str], what: str, seen: str) -> Iterable[Judgement]:
    if not rule.is_on:
        return
    rates = []
    for task, by_state in facts.ends.get(rule.name, {}).items():
        total = sum(count for state, count in by_state.items() if state in _ENDED)
        bad = sum(by_state.get(state, 0) for state in states)
        if total >= (rule.minimum or 1):
            rates.append((-bad, task, total))
    for negative, task, total in sorted(rates)[:TASKS_MAX]:
        share = -negative / total
        verdict = Verdict.BROKEN if share > (rule.threshold or 0.0) else Verdict.KEPT
        yield said(
            rule,
            task,
            verdict,
            value=f"{_percent(share)} of {counted(total, 'run')} in {_lasting(rule)} {what} ({-negative})",
            limit=f"at most {_percent(rule.threshold or 0.0)}",
            affected=f"who calls {task}",
            advice=f"see {seen}, the newest first: {_RUNS} --task {shlex.quote(task)} --state {states[0]}",
            task=task,
            count=-negative,
        )


def _losses(facts: Facts, book: Rulebook, now: float) -> Iterable[Judgement]:
    """Judge what was lost: by task where one kills again and again, the rest by host."""
    killer, lost = _rule(book, "killer_task"), _rule(book, "run_lost")
    killers = _killers(_within(facts.losses.by_task, killer, now), killer) if killer.is_on else {}
    for task, some in sorted(killers.items()):
        yield _killer(killer, task, some)
    if not lost.is_on:
        return
    by_host: dict[str, list[Loss]] = {}
    for one in _within(facts.losses.by_task, lost, now):
        if one.task not in killers:
            host = facts.losses.names.get(one.journal, one.journal[:8])
            by_host.setdefault(host, []).append(one)
    for host, some in sorted(by_host.items()):
        tasks = _by_task(some)
        if tasks.total() > (lost.threshold or 0):
            yield _lost(lost, host, tasks)


def _killer(rule: Rule, task: str, losses: Sequence[Loss]) -> Judgement:
    count = sum(one.count for one in losses)
    return said(
        rule,
        task,
        Verdict.BROKEN,
        value=f"{count} times in {_lasting(rule)}",
        limit=f"at most {rule.threshold or 0:g} times",
        affected="whatever else runs in the processes that it kills",
        advice="see its memory on its newest run; stop sending it, or give it a worker of its own",
        task=task,
        count=count,
        since=float(min(one.bucket for one in losses)),
    )


def _lost(rule: Rule, host: str, tasks: Counter[str]) -> Judgement:
    return said(
        rule,
        host,
        Verdict.BROKEN,
        value=f"{tasks.total()} in {_lasting(rule)}: {_listed(tasks)}",
        limit=f"at most {rule.threshold or 0:g}",
        affected=f"who waits for these runs of {_listed(tasks)}",
        advice="did the kernel kill it (dmesg), or somebody its worker? Run them again if that is safe",
        task=next(iter(tasks)) if len(tasks) == 1 else None,
        count=tasks.total(),
    )


def _by_task(losses: Iterable[Loss]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in losses:
        found[one.task] += one.count
    return found


def _within(losses: Iterable[Loss], rule: Rule, now: float) -> list[Loss]:
    return [one for one in losses if one.bucket + BUCKET_SECONDS > now - (rule.window or 0.0)]


def _killers(losses: Sequence[Loss], rule: Rule) -> dict[str, list[Loss]]:
    by_task: dict[str, list[Loss]] = {}
    for one in losses:
        by_task.setdefault(one.task, []).append(one)
    return {
        task: some
        for task, some in by_task.items()
        # A worker that is killed loses many at once: only what comes again is the task's own doing.
        if sum(one.count for one in some) > (rule.threshold or 0) and len({one.bucket for one in some}) > 1
    }


def _hosts(facts: Facts, rule: Rule, now: float) -> Iterable[Judgement]:
    if not rule.is_on:
        return
    lost = {one.journal: one for one in reversed(facts.losses.hosts)}
    for host in facts.silent:
        gone = lost.get(host.journal)
        since = host.unreachable_since if host.unreachable_since is not None else host.lost_at
        ago = span(max(0.0, now - since), whole=True) if since is not None else "long"
        # Its runs are given up and told of: after a while nothing more can be learned of it.
        is_over = host.lost_at is not None and now - host.lost_at > (rule.window or 0.0)
        with_it = f", {_lost_with(gone.attempts)}" if gone is not None and gone.attempts else ""
        yield said(
            rule,
            host_label(host),
            Verdict.KEPT if is_over else Verdict.BROKEN,
            value=f"{host.host} was last heard of {ago} ago{with_it}",
            limit="a host that says goodbye, or is heard of every 30 s",
            affected="everything that ran there",
            advice="is the host up, and does it reach the store? Run celery plet doctor there",
            since=since,
            count=gone.attempts if gone is not None else 0,
        )


def _over(facts: Facts, found: Iterable[Judgement], rules: Iterable[Rule]) -> Iterable[Judgement]:
    """Judge open alerts of rules that count all there is: what was not counted is not there any more."""
    named, known = {one.name: one for one in rules}, {(one.rule, one.subject) for one in found}
    for key in facts.open:
        rule = named.get(key[0])
        if rule is not None and key not in known:
            value = "heard of again" if rule.name == "host_lost" else f"none in {_lasting(rule)}"
            yield said(rule, key[1], Verdict.KEPT, value=value)


def _together(subject: str, some: Sequence[Judgement]) -> Judgement:
    model, tasks = some[0], Counter({one.subject: one.count for one in some})
    count = tasks.total()
    return replace(
        model,
        subject=subject,
        title="several tasks fail in the same way",
        value=f"{counted(count, 'run')} of {counted(len(some), 'task')}: {_listed(tasks)}",
        affected=f"who calls {_listed(tasks)}",
        advice="they fail in the same way: look for what they share",
        task=None,
        count=count,
        runs=tuple(run for one in some for run in one.runs[: max(1, 20 // len(some))])[:20],
    )


def _kept(model: Judgement, subject: str) -> Judgement:
    return replace(
        model,
        subject=subject,
        verdict=Verdict.KEPT,
        value="no task fails so any more",
        task=None,
        runs=(),
        count=0,
    )


def _kind(error: Mapping[str, Any]) -> str:
    words = str(error.get("message") or "").partition("\n")[0]
    text = f"{error.get('type') or 'error'}: {_VARIES.sub('#', words)}"
    return clean(" ".join(text.split()), _CAUSE_MAX)


def _listed(tasks: Counter[str]) -> str:
    names = [task or "unknown" for task, _ in tasks.most_common(_NAMED)]
    more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
    return f"{', '.join(names)}{more}"


def _lost_with(count: int) -> str:
    return f"{counted(count, 'run')} {'was' if count == 1 else 'were'} lost with it"


def _lasting(rule: Rule) -> str:
    return span(rule.window, whole=True).removesuffix(" 00 s").removesuffix(" 00 m")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _rule(book: Rulebook, name: str) -> Rule:
    rule = book.of(name)
    assert rule is not None
    return rule
