"""`celery plet health`: words, exit codes, one check now, Nagios."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from worlds import pass_over, result

from plet_celery import localnodes
from plet_celery.store.schema import HEAD
from plet_celery.watchfacts import CheckResult, Level

OK, WARNING, CRITICAL, NO_DATA = Level.OK, Level.WARNING, Level.CRITICAL, Level.NO_DATA


def passed(project: Any, *results: CheckResult, ago: float = 5.0) -> None:
    pass_over(project.story.store, results, ago=ago)


@pytest.mark.parametrize(
    ("levels", "ago", "critical", "warning", "nagios", "word"),
    [
        ([OK], 5, 0, 0, 0, "OK"),
        ([OK, WARNING], 5, 0, 3, 1, "WARNING"),
        ([OK, NO_DATA], 5, 0, 3, 3, "NO DATA"),
        ([OK, WARNING, NO_DATA], 5, 0, 3, 1, "WARNING"),
        ([OK, WARNING, CRITICAL], 5, 1, 1, 2, "CRITICAL"),
        ([OK], 500, 1, 1, 2, "LATE"),
    ],
)
def test_each_verdict_has_its_exit_codes(
    project: Any, levels: list[Level], ago: float, critical: int, warning: int, nagios: int, word: str
) -> None:
    passed(project, *(result(one, f"check{number}") for number, one in enumerate(levels)), ago=ago)

    plain = project.invoke("health")
    strict = project.invoke("health", "--fail-on", "warning")
    one_line = project.invoke("health", "--nagios")

    assert [plain.exit_code, strict.exit_code, one_line.exit_code] == [critical, warning, nagios]
    assert plain.stdout.startswith(f"{word}  ")
    assert len(one_line.stdout.splitlines()) == 1
    assert one_line.stdout.startswith(f"PLET {['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'][nagios]} - ")


def test_before_the_first_pass_nothing_can_be_told(project: Any) -> None:
    project.story.ship()

    assert project.invoke("health").exit_code == 69
    assert project.invoke("health").stdout.startswith("UNKNOWN  there has been no pass yet\n")
    assert project.invoke("health", "--nagios").exit_code == 3


def test_without_a_store_nothing_can_be_told(project: Any) -> None:
    away = project.invoke("health")
    nagios = project.invoke("health", "--nagios")

    assert (away.exit_code, away.stdout) == (69, "")
    assert "plet.db" in away.stderr
    assert nagios.exit_code == 3
    assert nagios.stdout.startswith("PLET UNKNOWN - ")


def test_what_is_not_well_says_since_when_and_what_to_do(project: Any) -> None:
    slow = result(
        WARNING, "queue", "slow\x1b[31m", observation="212 wait", advice="add workers", since=1_790_000_000.0
    )
    passed(project, result(OK, "store", observation="sqlite answers"), slow)

    said = project.invoke("health", "--utc").stdout

    first, _, *rest = said.splitlines()
    assert first == "WARNING  1 of 3 checks: queue slow\\x1b[31m: 212 wait"
    assert rest[0].startswith("  ▲ queue      slow\\x1b[31m: 212 wait (since ")
    assert rest[1] == "               → add workers"
    assert [line.split()[:2] for line in rest[2:]] == [["✔", "store"], ["✔", "monitor"]]
    code, drawn = project.on_terminal("health", "--utc")
    assert code == 0
    assert "▲" in drawn
    assert "\x1b[31m: 212" not in drawn


def test_json_has_the_same_facts(project: Any) -> None:
    passed(project, result(CRITICAL, "broker", observation="away", values={"url": "redis://"}), ago=7)

    found = project.invoke("health", "--json")

    told = json.loads(found.stdout)
    assert found.exit_code == 1
    assert (told["verdict"], told["text"]) == ("critical", "1 of 2 checks: broker: away")
    broker, monitor = told["checks"]
    assert (broker["check"], broker["level"], broker["values"]) == ("broker", "critical", {"url": "redis://"})
    assert monitor["check"] == "monitor"
    assert told["last_pass"].endswith("Z")


def test_one_check_is_run_now(project: Any) -> None:
    project.story.ship()

    store = project.invoke("health", "--check", "store")
    broker = project.invoke("health", "--check", "broker")

    assert (store.exit_code, broker.exit_code) == (0, 1)  # nothing listens at the broker's address
    assert store.stdout.startswith("OK  store")
    assert f"tables at {HEAD} (head)" in store.stdout
    assert broker.stdout.startswith("CRITICAL  broker: redis://127.0.0.1:1/0 does not answer")
    # Its limit is a time, and what it has not found by then is an answer.
    assert project.invoke("health", "--check", "broker", "--timeout", "0.1", "--nagios").exit_code == 2


def test_a_broker_is_checked_without_a_store(project: Any) -> None:
    assert project.invoke("health", "--check", "broker").exit_code == 1


def test_a_check_that_cannot_tell_is_not_well(project: Any) -> None:
    project.story.ship()

    workers = project.invoke("health", "--check", "workers")

    assert workers.exit_code == 69
    assert workers.stdout.startswith("NO DATA  workers: they cannot be asked")


def test_an_unknown_check_is_a_usage_error_with_their_names(project: Any) -> None:
    found = project.invoke("health", "--check", "wether")

    assert found.exit_code == 2
    assert "broker, queue, workers" in found.stderr


def test_the_workers_of_this_host_are_asked_without_a_store(project: Any) -> None:
    nobody = project.invoke("health", "--check", "worker:self")
    journal = project.home / "journal" / str(os.getuid())
    journal.mkdir(parents=True, mode=0o700)
    localnodes.announce(journal, "celery@here", "prefork")

    alive = project.invoke("health", "--check", "worker:self", "--timeout", "30")

    assert nobody.exit_code == 1
    assert "no worker of this user" in nobody.stdout
    # The broker is away: that is no reason to restart a worker.
    assert alive.exit_code == 0
    assert alive.stdout.startswith("WARNING  workers celery@here: its process lives, and the broker")


@pytest.mark.parametrize("args", [("health",), ("doctor",), ("ship",)])
def test_a_time_that_is_no_number_is_refused(project: Any, args: tuple[str, ...]) -> None:
    refused = project.invoke(*args, "--timeout", "nan")

    assert refused.exit_code == 2
    assert "'nan' is no number; give one such as 10" in refused.stderr
