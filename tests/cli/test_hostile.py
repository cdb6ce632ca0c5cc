"""Text from tasks reaches no terminal as an escape sequence, whatever shows it."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from typing import Any

import pytest

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\x08 \u202egnp.exe\u2066 \x85 [red]markup[/red] :boom: é"
DRAWING = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[A-D]|\x1b\[[0-2]?K")
"""What our own drawing sends: colours, the cursor hidden and shown, moved, a line erased."""
COMMANDS = [
    "runs",
    "show @last",
    "show @last --stages --events",
    "logs @last",
    "logs @last -f",
    "logs @last --level INFO",
    "watch @last",
]


@pytest.fixture
def evil(project: Any) -> Any:
    """A project whose newest run has hostile text in all of its fields."""
    now = time.time()
    bad = f"evil{EVIL}evil"
    run = project.story.run(
        bad, started=now - 5, id=f"id\n{EVIL}", user=bad, tenant=bad, args=[bad], kwargs={bad: bad}
    )
    number = run.stage(
        bad, total=3, done=2, unit=bad, message=bad, state="failed", error={"type": bad, "message": bad}
    )
    run.log(bad, stage=number)
    run.log(f"two\n{bad}\n\x1b[H", level=40, stream="stdout")
    run.metadata(**{bad: bad})
    child = project.story.run(bad, started=now - 4, canvas=run.id, parent=run.id)
    child.fail(bad, bad)
    run.fail(bad, f"{bad}\n{bad}", traceback=f"Traceback\n  {bad}\n")
    # The newest one, though it ends last.
    project.story.ship()
    return project


def _assert_harmless(text: str) -> None:
    for character in text:
        assert character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs"), repr(character)
        assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_plain_text(evil: Any, command: str) -> None:
    done = evil.invoke(*command.replace("@last", "id\n").split(" "))

    assert done.exit_code == (1 if command.startswith("watch") else 0), done.output
    assert "evil" in done.stdout
    assert r"\x1b]0;owned\x07" in done.stdout
    assert "[red]markup[/red] :boom:" in done.stdout
    _assert_harmless(done.output)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_nothing_but_our_own_drawing(evil: Any, command: str, columns: int) -> None:
    code, sent = evil.on_terminal(*command.replace("@last", "id\n").split(" "), columns=columns)

    assert code == (1 if command.startswith("watch") else 0)
    assert "evil" in sent
    _assert_harmless(DRAWING.sub("", sent).replace("\r", ""))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_color_is_plain_text_on_a_terminal_too(evil: Any, command: str) -> None:
    _, sent = evil.on_terminal(*command.replace("@last", "id\n").split(" "), no_color=True)

    _assert_harmless(sent.replace("\r\n", "\n"))


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_harmless_and_exact(evil: Any, command: str) -> None:
    done = evil.invoke(*command.replace("@last", "id\n").split(" "), "--json")

    _assert_harmless(done.output)
    values = [json.loads(line) for line in done.stdout.splitlines()]
    assert values
    if command.startswith("logs"):
        assert any(value["text"] == f"evil{EVIL}evil" for value in values)


def test_raw_hands_the_text_over_where_a_terminal_asks(evil: Any) -> None:
    code, sent = evil.on_terminal("logs", "id\n", "--raw")

    assert code == 0
    assert "\x1b]0;owned\x07" in sent


def test_an_argument_is_not_echoed_raw(evil: Any) -> None:
    for args in (
        ["show", "x\x1b[2J"],
        ["runs", "--task", "x\x1b[2J"],
        ["logs", "id\n", "--stage", "x\x1b[2J"],
    ):
        done = evil.invoke(*args)
        assert "\x1b" not in done.output


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a/b", "-x", "x" * 10_000, " ", "''", "\x00"])
def test_any_id_can_be_shown(project: Any, run_id: str) -> None:
    project.story.run("shop.load", started=time.time(), id=run_id).succeed()
    project.story.ship()

    assert project.invoke("runs").exit_code == 0
    found = json.loads(project.invoke("show", "--json", "--", run_id).stdout)

    assert found["task"] == "shop.load"


def test_the_log_of_a_megabyte_line_is_shown(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time())
    run.log("x" * (1 << 20))
    run.succeed()
    project.story.ship()

    assert project.invoke("logs", run.id).stdout.count("x" * 100) > 80
    assert project.on_terminal("watch", run.id)[0] == 0


def test_a_thousand_nested_stages_are_drawn(project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 600)
    parent = None
    for number in range(1000):
        parent = run.stage(f"level {number}", parent=parent, took=0.1)
    run.succeed()
    project.story.ship()

    code, sent = project.on_terminal("watch", run.id, columns=60, rows=20)
    assert code == 0
    assert len(DRAWING.sub("", sent).splitlines()) < 100
    assert project.invoke("show", run.id, "--stages").stdout.count("✔ ") == 1001
