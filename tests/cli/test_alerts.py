"""`celery plet alerts` and `objectives`: what they say, as text and as JSON, and how they end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from watched import Watched, promise, tell

from plet_celery.errors import SilenceNotFound
from plet_celery.store import alerting
from plet_celery.watchfacts import Severity, Verdict

ESC = "\x1b]0;title\x07\x1b[2J\u202e"


@pytest.fixture
def watched(project: Any) -> Watched:
    """A project whose store a monitor watches."""
    return Watched(project.story.store)


@pytest.fixture
def evening(project: Any, watched: Watched) -> dict[str, str]:
    """An evening on call."""
    run = project.story.run("shop.export_orders", started=time.time() - 60)
    run.fail()
    project.story.ship()
    return tell(watched, time.time(), lambda task: [run.id] if task == run.task else [])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def silences(project: Any) -> list[Any]:
    return alerting.silences(project.story.store, now=time.time())


# Lists


def test_alerts_are_listed_firing_ones_first_and_that_is_bad(project: Any, evening: dict[str, str]) -> None:
    done = project.invoke("alerts")

    assert done.exit_code == 1
    first, head, *rest = done.stdout.splitlines()
    assert first == "3 firing · 1 pending · 1 silenced · 1 no data"
    assert head.split() == ["ALERT", "STATE", "SUBJECT", "SINCE", "WHAT"]
    assert rest[0].startswith(evening["firing"])
    assert "Too many runs fail: 38 % of 212 runs in 1 h failed, expected at most 20 % [critical]" in rest[0]
    assert "[silenced, flapping]" in "\n".join(rest)
    assert len(rest) == 5


@pytest.mark.parametrize(
    ("options", "names", "code"),
    [
        ([], ["firing", "objective", "no_data", "flapping", "pending"], 1),
        (["list"], ["firing", "objective", "no_data", "flapping", "pending"], 1),
        (["--state", "firing"], ["firing", "objective", "no_data"], 1),
        (["list", "--state", "pending"], ["pending"], 0),
        (["--state", "silenced"], ["flapping"], 0),
        (["--state", "no_data"], ["no_data"], 0),
        (["--search", "shop.s"], ["pending"], 0),
        (["--search", "check:"], [], 0),
    ],
)
def test_a_list_as_json_is_a_line_an_alert(
    project: Any, evening: dict[str, str], options: list[str], names: list[str], code: int
) -> None:
    done = project.invoke("alerts", *options, "--json")

    assert [one["id"] for one in lines(done.stdout)] == [evening[name] for name in names]
    assert done.exit_code == code


def test_resolved_ones_are_paged(project: Any, evening: dict[str, str]) -> None:
    first = project.invoke("alerts", "--state", "resolved", "--limit", "1", "--json")
    cursor = first.stderr.split("--after ")[1].strip()
    second = project.invoke(
        "alerts", "list", "--state", "resolved", "--after", cursor, "--fields", "state,rule"
    )

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert lines(first.stdout)[0]["id"] == evening["resolved"]
    assert lines(second.stdout) == [{"state": "resolved", "rule": "queue_depth"}]


def test_where_nothing_is_wrong_that_is_said_and_good(project: Any, watched: Watched) -> None:
    watched.go(time.time())

    done = project.invoke("alerts")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 firing", "nothing is wrong that the monitor knows of"]


def test_a_search_that_finds_nothing_does_not_say_that_nothing_is_wrong(
    project: Any, evening: dict[str, str]
) -> None:
    done = project.invoke("alerts", "--search", "nomatch")

    assert "3 firing" in done.stdout
    assert done.stdout.splitlines()[-1] == "no rule or subject of one begins with 'nomatch'"


def test_a_silenced_one_is_not_bad(project: Any, watched: Watched) -> None:
    watched.judge("drops", "atlas")
    watched.go(time.time())
    assert project.invoke("alerts").exit_code == 1

    project.invoke(
        "alerts", "silence", watched.alert("drops", "atlas").id, "--for", "1h", "--reason", "known"
    )

    assert project.invoke("alerts").exit_code == 0


def test_without_a_pass_it_cannot_be_told(project: Any) -> None:
    _ = project.story

    done = project.invoke("alerts")

    assert done.exit_code == 69
    assert "has not passed yet" in done.stderr


def test_with_a_late_pass_it_cannot_be_told(project: Any, watched: Watched) -> None:
    watched.go(time.time())
    table = watched.store.tables.watching.watch
    with watched.store.writing() as connection:
        connection.execute(table.update().values(passed_at=sa.literal(time.time() - 4000)))

    done = project.invoke("alerts")

    assert done.exit_code == 69
    assert "last passed 1h ago" in done.stderr


def test_without_a_store_it_cannot_be_told(project: Any) -> None:
    for args in (["alerts"], ["alerts", "ack", "x"], ["objectives"]):
        assert project.invoke(*args).exit_code == 69, args


# One alert


def test_one_alert_is_shown_with_its_life_and_who_was_told(project: Any, evening: dict[str, str]) -> None:
    done = project.invoke("alerts", "show", evening["firing"][:10])

    assert done.exit_code == 0
    for text in (
        *("▲ firing Too many runs fail", evening["firing"], "failure_rate", "shop.export_orders", "critical"),
        *(
            "Look at the newest failed run",
            "fired",
            "ops: fired, delivered",
            "mail: fired, failing",
            "answered 503",
        ),
    ):
        assert text in done.stdout, text


def test_one_alert_as_json_has_all_of_it(project: Any, evening: dict[str, str]) -> None:
    (found,) = lines(project.invoke("alerts", "show", evening["objective"], "--json").stdout)

    assert (found["acknowledged_by"], found["note"]) == ("ada", "beat was down, I am at it")
    assert [one["kind"] for one in found["transitions"]] == ["pending", "fired", "acknowledged"]
    assert {one["channel"]: one["state"] for one in found["deliveries"]} == {
        "ops": "delivered",
        "mail": "waiting",
    }
    assert found["told"][0]["channel"] == "mail"
    assert found["since"].endswith("Z")


@pytest.mark.parametrize(
    ("runs", "line"), [((), None), (("a1", "b2"), "a1, b2"), (("a1",), "a1 and 1,199 more")]
)
def test_runs_are_shown_only_where_they_are_named(
    project: Any, watched: Watched, runs: tuple[str, ...], line: str | None
) -> None:
    watched.judge("stuck", "shop.x", value="no success", runs=runs, count=1200 if len(runs) < 2 else 2)
    watched.go(time.time())

    shown = project.invoke("alerts", "show", watched.alert("stuck", "shop.x").id).stdout

    found = [one.split(maxsplit=1)[1] for one in shown.splitlines() if one.split()[0] == "runs"]
    assert found == ([line] if line else [])
    assert "involved" not in shown


@pytest.mark.parametrize("command", ["show", "ack", "unsilence", "silence"])
def test_an_alert_that_is_not_there_is_not_found(project: Any, watched: Watched, command: str) -> None:
    watched.go(time.time())
    more = ["--for", "1h", "--reason", "x"] if command == "silence" else []

    done = project.invoke("alerts", command, "deadbeef", *more)

    assert done.exit_code == 4
    assert "deadbeef" in done.stderr


def example(title: str) -> Any:
    """The JSON below a title of the page about JSON."""
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    found = text.partition(f"### {title}\n")[2].partition("\n    ")[2].partition("\n\n")[0]
    return json.loads(" ".join(found.split()))


def test_the_page_about_json_has_every_key(project: Any, watched: Watched, evening: dict[str, str]) -> None:
    promise(watched.store, time.time())
    (alert,) = lines(project.invoke("alerts", "show", evening["firing"], "--json").stdout)
    one = lines(project.invoke("objectives", "--json").stdout)[0]

    told = example("An alert")
    assert list(told) == list(alert)
    for name in ("told", "transitions", "deliveries"):
        assert list(told[name][0]) == list(alert[name][0]), name
    assert list(example("A promise")) == list(one)


# Acts


def test_an_alert_is_acknowledged_with_who_and_a_note(project: Any, evening: dict[str, str]) -> None:
    done = project.invoke("alerts", "ack", evening["firing"], "--note", "on it")

    assert done.exit_code == 0
    last = alerting.transitions(project.story.store, evening["firing"])[-1]
    assert (last.kind, last.note) == ("acknowledged", "on it")
    assert "@" in last.by
    assert last.by in done.stdout


def test_an_alert_is_silenced_for_a_time_with_a_reason_and_that_is_ended(
    project: Any, evening: dict[str, str]
) -> None:
    before = len(silences(project))
    done = project.invoke(
        "alerts", "silence", evening["firing"], "--for", "1d12h", "--reason", "new host", "--json"
    )
    (found,) = lines(done.stdout)
    (made,) = [one for one in silences(project) if one.reason == "new host"]

    assert found["is_silenced"]
    assert made.until - made.made_at == pytest.approx(36 * 3600)
    assert project.invoke("alerts", "unsilence", evening["firing"]).stdout == "1 silence ended\n"
    assert len(silences(project)) == before
    assert project.invoke("alerts", "unsilence", evening["firing"]).exit_code == 4


def test_the_error_of_a_silence_that_is_not_there_names_a_command_that_lists_them(
    project: Any, evening: dict[str, str]
) -> None:
    with pytest.raises(SilenceNotFound) as caught:
        alerting.end_silence(project.story.store, "nope", by="kim", now=time.time())

    done = project.invoke(*str(caught.value).split("`")[1].split())

    assert done.exit_code == 0
    assert [one["id"] for line in lines(done.stdout) for one in line["silences"]] == [
        one.id for one in silences(project)
    ]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--for", "2h"],
        ["--reason", "why"],
        ["--for", "2", "--reason", "why"],
        ["--for", "soon", "--reason", "why"],
        ["--for", "2h", "--reason", " "],
        ["--for", "0h", "--reason", "why"],
        ["--for", "9999d", "--reason", "why"],
    ],
)
def test_a_silence_needs_an_end_and_a_reason(
    project: Any, evening: dict[str, str], options: list[str]
) -> None:
    before = len(silences(project))

    done = project.invoke("alerts", "silence", evening["firing"], *options)

    assert done.exit_code == 2
    assert len(silences(project)) == before


def test_a_channel_is_tested(project: Any, watched: Watched) -> None:
    assert project.invoke("alerts", "test", "log").exit_code == 0
    missing = project.invoke("alerts", "test", "lgo")
    assert missing.exit_code == 4
    assert "did you mean 'log'" in missing.stderr


def test_help_lists_the_commands_and_a_wrong_one_is_named(project: Any) -> None:
    told = project.invoke("alerts", "--help").stdout
    for name in ("list", "show", "ack", "silence", "unsilence", "test"):
        assert name in told
    wrong = project.invoke("alerts", "slience")
    assert wrong.exit_code == 2
    assert "silence" in wrong.stderr


# Promises


def test_promises_are_listed_with_their_source(project: Any, watched: Watched) -> None:
    promise(watched.store, time.time())
    watched.go(time.time())

    done = project.invoke("objectives")

    assert done.exit_code == 0
    assert "a success by 06:00 Europe/Berlin" in done.stdout
    assert "plet_objectives 'shop.*'" in done.stdout
    (found,) = lines(project.invoke("objectives", "--task", "shop.make*", "--json").stdout)
    assert (found["task"], found["kind"], found["state"]) == ("shop.make_images", "max_runtime", "new")


def test_a_broken_promise_is_bad_and_no_pass_cannot_tell(project: Any, watched: Watched) -> None:
    promise(watched.store, time.time())
    assert project.invoke("objectives").exit_code == 69

    watched.go(time.time())
    table = watched.store.tables.watching.objective
    with watched.store.writing() as connection:
        connection.execute(table.update().where(table.c.task == "shop.make_images").values(state="broken"))

    done = project.invoke("objectives")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].split()[:2] == ["✖", "broken"]


def test_an_empty_list_of_promises_says_why_it_is_empty(project: Any, watched: Watched) -> None:
    before = project.invoke("objectives")
    watched.go(time.time())
    promise(watched.store, time.time())
    other = project.invoke("objectives", "--task", "nope")

    assert (before.exit_code, other.exit_code) == (69, 0)
    assert "no pass has been made yet: start beat, or " in before.stdout
    assert before.stdout.endswith(" monitor --once\n")
    assert other.stdout == "no promise of a task that matches 'nope'\n"


def test_without_promises_it_says_how_to_make_one(project: Any, watched: Watched) -> None:
    watched.go(time.time())

    done = project.invoke("objectives")

    assert done.exit_code == 0
    assert done.stdout.startswith("no task promises anything: ")
    assert "plet_objectives" in done.stdout


# Terminals


def test_no_text_acts_on_the_terminal(project: Any, watched: Watched) -> None:
    watched.judge(
        f"check:{ESC}", ESC, Verdict.BROKEN, Severity.CRITICAL,
        title=ESC, value=ESC, limit=ESC, affected=ESC, advice=ESC, tenant="t", runs=(ESC,), count=3,
    )  # fmt: skip
    watched.go(time.time())
    store = watched.store
    found = alerting.list_alerts(store).items[0].id
    alerting.acknowledge(store, found, by=ESC, note=ESC, now=time.time())
    alerting.silence_alert(store, found, until=time.time() + 60, reason=ESC, by=ESC, now=time.time())

    for args in (
        ["alerts"],
        ["alerts", "show", found],
        ["alerts", "--json"],
        ["alerts", "show", found, "--json"],
    ):
        text = project.invoke(*args).stdout
        assert "title" in text
        assert not [char for char in text if (ord(char) < 32 and char not in "\t\n") or char == "\u202e"], (
            args
        )


def test_on_a_terminal_ids_are_short_and_nothing_is_lost(project: Any, evening: dict[str, str]) -> None:
    for columns in (60, 80, 140):
        code, sent = project.on_terminal("alerts", columns=columns)
        assert code == 1
        assert evening["firing"][:8] in sent
        assert evening["firing"][:9] not in sent
        assert "critical" in sent
