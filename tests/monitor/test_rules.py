"""What the rules of the first day say of rates and losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from monitoring import START

from plet_celery.monitor import rules
from plet_celery.monitor.rules import Facts
from plet_celery.rulebook import Rulebook
from plet_celery.store.rates import HostGone, Loss, Losses
from plet_celery.store.records import HostStatus, Run
from plet_celery.watchfacts import AlertState, Judgement, Severity, Verdict

BUCKET = int(START // 300) * 300
A, B = "a" * 32, "b" * 32


def judge(facts: Facts, given: Mapping[str, Any] | None = None) -> dict[tuple[str, str], Judgement]:
    found = rules.judge(facts, Rulebook(given), now=START)
    return {(one.rule, one.subject): one for one in found}


def rates(**tasks: Mapping[str, int]) -> Facts:
    return Facts(ends={"failure_rate": tasks, "timeout_rate": tasks})


def verdicts(found: Mapping[tuple[str, str], Judgement]) -> dict[str, str]:
    return {f"{rule} {subject}": one.verdict.value for (rule, subject), one in found.items()}


# Rates


@pytest.mark.parametrize(
    ("states", "failure", "timeout"),
    [
        ({"succeeded": 100}, "kept", "kept"),
        ({"succeeded": 80, "failed": 20}, "kept", "kept"),
        ({"succeeded": 79, "failed": 21}, "broken", "kept"),
        ({"succeeded": 79, "failed": 10, "rejected": 11}, "broken", "kept"),
        ({"succeeded": 90, "timed_out": 10}, "kept", "kept"),
        ({"succeeded": 89, "timed_out": 11}, "kept", "broken"),
        # One cause is one alert: what timed out, or was lost, is no failure too.
        ({"succeeded": 50, "timed_out": 50}, "kept", "broken"),
        ({"succeeded": 50, "lost": 50}, "kept", "kept"),
        ({"succeeded": 50, "interrupted": 50}, "kept", "kept"),
        ({"failed": 10}, "broken", "kept"),
        ({"succeeded": 7, "failed": 3, "cancelled": 1000, "ignored": 1000, "expired": 9}, "broken", "kept"),
    ],
)
def test_rates_are_shares_of_the_runs_that_tried(
    states: Mapping[str, int], failure: str, timeout: str
) -> None:
    assert verdicts(judge(rates(t=states))) == {"failure_rate t": failure, "timeout_rate t": timeout}


@pytest.mark.parametrize("states", [{"succeeded": 1, "failed": 1}, {"failed": 9}, {}])
def test_few_runs_make_no_share(states: Mapping[str, int]) -> None:
    assert judge(rates(t=states)) == {}


def test_a_rate_says_its_numbers_in_words() -> None:
    found = judge(rates(t={"succeeded": 60, "failed": 40}))["failure_rate", "t"]

    assert found.value == "40 % of 100 runs in 1 h fail (40)"
    assert found.limit == "at most 20 %"
    assert (found.task, found.count, found.severity) == ("t", 40, Severity.WARNING)
    assert (found.pending_for, found.keep_firing_for) == (60, 300)


def test_the_advice_of_a_rate_is_a_command_that_runs() -> None:
    found = judge(rates(**{"it's": {"failed": 40}, "shop.x": {"timed_out": 40}}))

    advice = "see its failed runs, the newest first: celery -A proj plet runs --task"
    assert found["failure_rate", "it's"].advice == f"""{advice} 'it'"'"'s' --state failed"""
    assert found["timeout_rate", "shop.x"].advice == (
        "see what hit its time limit, the newest first: "
        "celery -A proj plet runs --task shop.x --state timed_out"
    )


def test_a_setting_moves_the_limit() -> None:
    facts = rates(t={"succeeded": 60, "failed": 40})

    found = judge(facts, {"failure_rate": {"threshold": 0.5}, "timeout_rate": "off"})

    assert verdicts(found) == {"failure_rate t": "kept"}
    assert (
        judge(facts, {"failure_rate": {"severity": "critical", "for": 7, "keep": 8}})[
            "failure_rate", "t"
        ].severity
        == Severity.CRITICAL
    )


def test_of_very_many_tasks_those_with_the_most_failures_are_judged() -> None:
    tasks = {f"t{number:05}": {"succeeded": 10, "failed": number % 7} for number in range(2000)}

    found = judge(rates(**tasks), {"timeout_rate": False})

    assert len(found) == rules.TASKS_MAX
    assert min(one.count for one in found.values()) >= 3


# What was lost


def losses(*some: tuple[str, int, str, int], hosts: tuple[HostGone, ...] = ()) -> Losses:
    return Losses(
        by_task=[Loss(journal=j, bucket=BUCKET - 300 * ago, task=t, count=n) for j, ago, t, n in some],
        hosts=hosts,
        names={A: "atlas (aaaaaaaa)", B: "bay (bbbbbbbb)"},
    )


def test_lost_runs_are_one_alert_a_host() -> None:
    found = judge(Facts(losses=losses((A, 0, "t", 3), (A, 0, "u", 1), (B, 0, "t", 1))))

    assert verdicts(found) == {"run_lost atlas (aaaaaaaa)": "broken", "run_lost bay (bbbbbbbb)": "broken"}
    one = found["run_lost", "atlas (aaaaaaaa)"]
    assert (one.count, one.task, one.value) == (4, None, "4 in 1 h: t, u")


def test_a_task_that_kills_again_and_again_is_one_alert_and_its_losses_no_second_one() -> None:
    found = judge(Facts(losses=losses((A, 0, "poison", 2), (B, 1, "poison", 1), (B, 5, "poison", 4))))

    assert verdicts(found) == {"killer_task poison": "broken"}
    one = found["killer_task", "poison"]
    assert (one.count, one.severity, one.task) == (7, Severity.CRITICAL, "poison")


def test_a_worker_that_is_killed_with_many_runs_of_a_task_makes_that_task_no_killer() -> None:
    found = judge(Facts(losses=losses((A, 0, "t", 16))))

    assert verdicts(found) == {"run_lost atlas (aaaaaaaa)": "broken"}


def test_two_losses_in_an_hour_are_no_killer() -> None:
    found = judge(Facts(losses=losses((A, 0, "t", 1), (A, 9, "t", 1))))

    assert verdicts(found) == {"run_lost atlas (aaaaaaaa)": "broken"}


def test_what_was_lost_before_the_window_is_over() -> None:
    found = judge(Facts(losses=losses((A, 13, "t", 1))), {"run_lost": {"window": 3600}})

    assert found == {}


def test_an_open_alert_of_losses_is_kept_once_none_is_counted() -> None:
    keys = {("run_lost", "atlas"): AlertState.FIRING, ("killer_task", "t"): AlertState.PENDING}

    found = judge(Facts(open=keys | {("objective:1", "x"): AlertState.FIRING}))

    assert verdicts(found) == {"run_lost atlas": "kept", "killer_task t": "kept"}


def silent(**fields: Any) -> HostStatus:
    facts: dict[str, Any] = {
        "host": "atlas",
        "journal": A,
        "machine": "m",
        "boot": "b",
        "pid": 1,
        "epoch": 1,
        "lease_age": 100.0,
    }
    return HostStatus(**(facts | fields))


def test_a_host_that_is_not_heard_of_is_one_alert_until_its_runs_are_given_up_and_after() -> None:
    silent_now = judge(Facts(silent=[silent(unreachable_since=START - 100)]))["host_lost", "atlas (aaaaaaaa)"]
    gone = HostGone(host="atlas", journal=A, at=START - 10, attempts=12)
    given_up = judge(
        Facts(
            silent=[silent(unreachable_since=START - 1000, lost_at=START - 10)], losses=losses(hosts=(gone,))
        )
    )

    assert (silent_now.verdict, silent_now.count) == (Verdict.BROKEN, 0)
    assert verdicts(given_up) == {"host_lost atlas (aaaaaaaa)": "broken"}
    assert given_up["host_lost", "atlas (aaaaaaaa)"].count == 12
    assert "12 runs were lost with it" in given_up["host_lost", "atlas (aaaaaaaa)"].value


def test_a_host_that_was_given_up_long_ago_is_no_news() -> None:
    found = judge(Facts(silent=[silent(unreachable_since=START - 9000, lost_at=START - 8000)]))

    assert verdicts(found) == {"host_lost atlas (aaaaaaaa)": "kept"}


def test_a_host_that_is_back_is_kept() -> None:
    found = judge(Facts(open={("host_lost", "atlas (aaaaaaaa)"): AlertState.FIRING}))

    assert found["host_lost", "atlas (aaaaaaaa)"].value == "heard of again"


# Causes


def failed(kind: str, message: str, number: int = 0) -> Run:
    return Run(
        id=f"r{number}", short_id="r", task="t", state="failed", error={"type": kind, "message": message}
    )


def test_a_cause_leaves_out_what_differs_from_run_to_run() -> None:
    runs = [failed("OSError", f"no route to 10.0.0.{n}:5432, session {n:08x}a\nmore") for n in range(5)]

    assert rules.cause_of([*runs, failed("KeyError", "x")]) == "OSError: no route to #.#.#.#:#, session #"


@pytest.mark.parametrize("runs", [[], [failed("A", "x"), failed("B", "y")]])
def test_without_a_majority_there_is_no_cause(runs: list[Run]) -> None:
    assert rules.cause_of(runs) is None


def failing(*tasks: str, open_: Mapping[tuple[str, str], AlertState] | None = None) -> dict[str, Judgement]:
    facts = rates(**{task: {"succeeded": 5, "failed": 5} for task in tasks}, fine={"succeeded": 50})
    found = [one for one in rules.judge(facts, Rulebook(), now=START) if one.rule == "failure_rate"]
    causes = dict.fromkeys(tasks, "OperationalError: down")
    return {one.subject: one for one in rules.grouped(found, causes, open_ or {})}


GROUP = "cause: OperationalError: down"


def test_tasks_that_fail_in_the_same_way_are_one_alert_with_a_count() -> None:
    found = failing("a", "b", "c", "d")

    assert {subject: one.verdict.value for subject, one in found.items()} == {
        "a": "kept",
        "b": "kept",
        "c": "kept",
        "d": "kept",
        "fine": "kept",
        GROUP: "broken",
    }
    assert (found[GROUP].count, found[GROUP].task) == (20, None)
    assert found[GROUP].value == "20 runs of 4 tasks: a, b, c, d"


def test_two_tasks_that_fail_in_the_same_way_are_two() -> None:
    found = failing("a", "b")

    assert found["a"].verdict is found["b"].verdict is Verdict.BROKEN
    assert GROUP not in found


def test_a_task_that_fires_already_stays_and_pending_ones_join() -> None:
    keys = {("failure_rate", "a"): AlertState.FIRING, ("failure_rate", "b"): AlertState.PENDING}

    found = failing("a", "b", "c", open_=keys)

    assert [found[task].verdict.value for task in "abc"] == ["broken", "kept", "kept"]
    assert found[GROUP].verdict is Verdict.BROKEN


def test_the_alert_of_a_cause_lives_as_long_as_a_task_fails_so() -> None:
    keys = {("failure_rate", GROUP): AlertState.FIRING}

    one_left = failing("a", open_=keys)
    none_left = failing(open_=keys)

    assert (one_left["a"].verdict, one_left[GROUP].verdict) == (Verdict.KEPT, Verdict.BROKEN)
    assert none_left[GROUP].verdict is Verdict.KEPT
