"""What the answers of health checks mean for alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec import structs

from plet_celery.monitor import checkrules
from plet_celery.monitor.checks.broker import decide_queue
from plet_celery.monitor.checks.brokers import Depth
from plet_celery.rulebook import Rulebook
from plet_celery.store.waiting import Waiting
from plet_celery.watchfacts import AlertState, CheckResult, Judgement, Level, Severity, Verdict

FIRING = AlertState.FIRING
NOW = 1_800_000_000.0


def answer(name: str, level: Level, subject: str = "", **fields: Any) -> CheckResult:
    values = fields.pop("values", {})
    return CheckResult(
        name=name, subject=subject, level=level, observation=f"{name} is {level}", values=values, **fields
    )


def judge(
    *results: CheckResult,
    given: Mapping[str, Any] | None = None,
    open_: Iterable[tuple[str, str]] = (),
    silent: Iterable[str] = (),
) -> dict[tuple[str, str], Judgement]:
    found = checkrules.judge(
        results, Rulebook(given), open_alerts=dict.fromkeys(open_, FIRING), silent_journals=silent
    )
    keys = [(one.rule, one.subject) for one in found]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, found, strict=True))


def verdicts(*results: CheckResult, **options: Any) -> dict[str, str]:
    return {
        f"{rule} {subject}".strip(): one.verdict.value
        for (rule, subject), one in judge(*results, **options).items()
    }


@pytest.mark.parametrize(
    ("level", "verdict", "severity"),
    [
        (Level.OK, Verdict.KEPT, Severity.WARNING),
        (Level.WARNING, Verdict.BROKEN, Severity.WARNING),
        (Level.CRITICAL, Verdict.BROKEN, Severity.CRITICAL),
        # Never ok, and no evidence that it is broken.
        (Level.NO_DATA, Verdict.NO_DATA, Severity.WARNING),
    ],
)
def test_a_component_is_as_its_check_says(level: Level, verdict: Verdict, severity: Severity) -> None:
    found = judge(answer("broker", level, since=7.0, advice="start it"))["check:broker", ""]

    assert (found.verdict, found.severity, found.since, found.advice) == (verdict, severity, 7.0, "start it")
    assert found.value == f"broker is {level}"


@pytest.mark.parametrize(
    ("name", "subject", "title"),
    [
        ("channel", "deny", "channel deny fails"),
        ("channel", "", "the check of channel fails"),
        ("workers", "w1", "the check of workers fails"),
    ],
)
def test_a_channel_that_fails_is_named(name: str, subject: str, title: str) -> None:
    (found,) = judge(answer(name, Level.WARNING, subject)).values()

    assert found.title == title


def test_all_checks_are_tuned_at_once_or_one_by_itself() -> None:
    given = {"check": {"for": 300, "severity": "warning"}, "check:broker": {"for": 0}, "check:disk": "off"}
    results = [answer(name, Level.CRITICAL) for name in ("broker", "beat", "disk")]

    found = judge(*results, given=given)

    assert {rule: (one.pending_for, one.severity.value) for (rule, _), one in found.items()} == {
        "check:broker": (0, "warning"),
        "check:beat": (300, "warning"),
    }


# Queues


def queue(
    level: Level = Level.OK, messages: int = 0, consumers: int | None = 1, **values: Any
) -> CheckResult:
    return answer("queue", level, "q", values={"messages": messages, "consumers": consumers} | values)


@pytest.mark.parametrize(
    ("one", "depth", "check"),
    [
        (queue(), "kept", "kept"),
        (queue(Level.WARNING, 101), "broken", "kept"),
        # The rule's number holds, whatever the check warns of.
        (queue(Level.OK, 101), "broken", "kept"),
        (queue(Level.WARNING, 100), "kept", "kept"),
        (queue(Level.WARNING, 3, oldest_wait=2000.0, is_late=True), "broken", "kept"),
        # Nobody takes from it: that it is deep is no second alert.
        (queue(Level.CRITICAL, 5000, 0), "no_data", "broken"),
        (queue(Level.WARNING, 0, 0), "kept", "broken"),
        (queue(Level.NO_DATA, 101, None), "broken", "no_data"),
        (queue(Level.NO_DATA, 1, None), "kept", "no_data"),
        (answer("queue", Level.NO_DATA, "q"), "no_data", "no_data"),
    ],
)
def test_a_queue_is_too_deep_or_left_alone_but_not_both(one: CheckResult, depth: str, check: str) -> None:
    assert verdicts(one) == {"queue_depth q": depth, "check:queue q": check}


def test_a_queues_limit_is_a_setting() -> None:
    found = judge(queue(Level.WARNING, 500), given={"queue_depth": {"threshold": 1000}})

    assert found["queue_depth", "q"].verdict is Verdict.KEPT
    assert (found["queue_depth", "q"].queue, found["queue_depth", "q"].limit) == (
        "q",
        "at most 1000 messages",
    )


def test_without_any_worker_there_is_one_alert() -> None:
    found = verdicts(
        answer("workers", Level.CRITICAL),
        answer("workers", Level.CRITICAL, "celery@a"),
        answer("workers", Level.CRITICAL, "celery@b"),
        queue(Level.CRITICAL, 50, 0),
    )

    assert [key for key, verdict in found.items() if verdict == "broken"] == ["check:workers"]


def test_a_worker_alone_is_its_own_alert() -> None:
    found = verdicts(answer("workers", Level.OK), answer("workers", Level.CRITICAL, "celery@a"))

    assert found == {"check:workers": "kept", "check:workers celery@a": "broken"}


# Hosts and their shippers


def shipper(level: Level, **values: Any) -> CheckResult:
    return answer("shipper", level, "atlas (aaaaaaaa)", values={"journal": "a" * 32} | values)


def test_a_silent_host_is_judged_by_its_own_rule() -> None:
    assert verdicts(shipper(Level.CRITICAL), silent=["a" * 32]) == {
        "check:shipper atlas (aaaaaaaa)": "no_data"
    }
    assert verdicts(shipper(Level.CRITICAL), silent=["b" * 32]) == {
        "check:shipper atlas (aaaaaaaa)": "broken"
    }


@pytest.mark.parametrize(
    ("level", "given", "drops", "check"),
    [
        (Level.WARNING, None, "broken", "no_data"),
        (Level.CRITICAL, None, "broken", "broken"),
        (Level.WARNING, {"drops": {"threshold": 10}}, "kept", "broken"),
    ],
)
def test_drops_are_one_alert(level: Level, given: Any, drops: str, check: str) -> None:
    found = verdicts(shipper(level, dropped={"rate": 3, "disk": 7}), given=given)

    assert found == {"drops atlas (aaaaaaaa)": drops, "check:shipper atlas (aaaaaaaa)": check}


def test_a_shipper_without_drops_has_none_any_more() -> None:
    key = ("drops", "atlas (aaaaaaaa)")

    assert judge(shipper(Level.OK, dropped={}), open_=[key])[key].verdict is Verdict.KEPT


# Stuck runs


def test_stuck_runs_of_a_task_are_one_alert_that_names_them() -> None:
    runs = [{"run_id": f"r{number}", "worker": "w"} for number in range(3)]
    found = judge(answer("stuck", Level.WARNING, "shop.import", values={"runs": runs, "count": 8}))

    one = found["stuck", "shop.import"]
    assert (one.verdict, one.runs, one.count) == (Verdict.BROKEN, ("r0", "r1", "r2"), 8)
    assert set(found) == {("stuck", "shop.import")}


def test_a_task_that_is_not_among_the_stuck_any_more_is_kept() -> None:
    key = ("stuck", "shop.import")

    assert judge(answer("stuck", Level.OK), open_=[key])[key].verdict is Verdict.KEPT
    assert judge(answer("stuck", Level.WARNING, "other"), open_=[key])[key].verdict is Verdict.KEPT
    assert judge(answer("stuck", Level.NO_DATA), open_=[key])[key].verdict is Verdict.NO_DATA
    assert key not in judge(answer("broker", Level.OK), open_=[key])


# The monitor itself


def test_a_silent_monitor_has_a_rule_and_a_slow_one_its_check() -> None:
    assert verdicts(answer("monitor", Level.CRITICAL)) == {
        "monitor_silent": "broken",
        "check:monitor": "kept",
    }
    assert verdicts(answer("monitor", Level.WARNING)) == {"monitor_silent": "kept", "check:monitor": "broken"}
    assert verdicts(answer("monitor", Level.NO_DATA)) == {
        "monitor_silent": "no_data",
        "check:monitor": "no_data",
    }


# What no answer speaks of


def test_subjects_of_a_check_that_did_not_answer_have_no_data() -> None:
    keys = [("check:queue", "q"), ("queue_depth", "q"), ("check:workers", "celery@a"), ("objective:1", "t")]

    found = judge(answer("queue", Level.NO_DATA), answer("workers", Level.OK), open_=keys)

    assert {key: one.verdict for key, one in found.items() if key in keys} == {
        ("check:queue", "q"): Verdict.NO_DATA,
        ("queue_depth", "q"): Verdict.NO_DATA,
    }


def test_a_raised_limit_of_a_queue_holds_while_its_runs_begin_soon() -> None:
    waits = Waiting(queue="q", runs=1, oldest_at=NOW - 2, oldest_run="r", oldest_task="shop.pay")
    deep = Depth(messages=500, consumers=1)
    seen: Any = {"consumers": ["w"], "consumed_at": None, "is_known": True, "now": NOW, "max_wait": 900.0}
    one = decide_queue("q", deep, waiting=waits, max_messages=100, **seen)
    older = structs.replace(waits, oldest_at=NOW - 901)
    late = decide_queue("q", deep, waiting=older, max_messages=100, **seen)
    given = {"queue_depth": {"threshold": 1000}}

    assert one.level is Level.WARNING
    assert judge(one, given=given)["queue_depth", "q"].verdict is Verdict.KEPT
    assert judge(late, given=given)["queue_depth", "q"].verdict is Verdict.BROKEN
