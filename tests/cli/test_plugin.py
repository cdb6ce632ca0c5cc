"""The plug-in costs `celery` next to nothing, and a reading command loads no heavy stranger."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from worlds import pass_over

_LOADED = "import sys; print(*sorted(name for name in sys.modules if name.startswith('plet_celery')))"
_HELP = f"""
import sys
sys.argv = ["celery", "--help"]
from celery.__main__ import main
try:
    main()
except SystemExit:
    pass
{_LOADED}
"""
_READING = """
import sys
sys.argv = ["plet", "-A", "shop", *sys.argv[1:]]
from plet_celery.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
strangers = {"flower", "alembic", "tornado", "redis"} & set(sys.modules)
assert not strangers, strangers
"""


def test_celery_help_loads_two_modules_of_ours() -> None:
    done = subprocess.run([sys.executable, "-c", _HELP], capture_output=True, text=True, check=True)

    assert "plet  " in done.stdout
    assert done.stdout.splitlines()[-1] == "plet_celery plet_celery.cli"


def test_the_list_of_commands_imports_none() -> None:
    code = (
        "from click.testing import CliRunner; from plet_celery.cli import plet;"
        "print(CliRunner().invoke(plet, ['--help']).output);" + _LOADED
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Follow a run with live bars" in done.stdout
    assert done.stdout.splitlines()[-1] == "plet_celery plet_celery.cli"


@pytest.mark.parametrize(
    "command",
    [
        *("runs", "show @last", "logs @last", "watch @last", "config", "objectives"),
        "alerts list --state resolved",
    ],
)
def test_a_reading_command_loads_neither_flower_nor_alembic_nor_a_broker(project: Any, command: str) -> None:
    run = project.story.run("shop.load", started=1_795_000_000.0)
    run.log("hello")
    run.succeed()
    project.story.ship()
    pass_over(project.story.store, [])

    done = subprocess.run(
        [sys.executable, "-c", _READING, *command.split()],
        cwd=project.folder,
        env=project.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_of_a_command_looks_like_celerys(project: Any) -> None:
    shown = project.invoke("runs", "--help").output

    assert "Output Options:" in shown
    assert "--json" in shown


def test_without_a_command_the_help_is_shown(project: Any) -> None:
    done = project.invoke()

    assert done.exit_code == 0
    assert "Commands:" in done.output


def test_without_app_the_way_out_is_named(project: Any) -> None:
    done = project.run("runs", app=None)

    assert done.returncode == 2
    assert "celery -A proj plet runs" in done.stderr
    assert done.stdout == ""


def test_a_mistyped_command_names_the_nearest(project: Any) -> None:
    done = project.invoke("rnus")

    assert done.exit_code == 2
    assert "runs" in done.output


def test_the_app_option_behind_the_command_is_explained(project: Any) -> None:
    done = project.run("-A", "shop", "runs", app=None)

    assert done.returncode == 2
    assert "celery -A celeryapp plet" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs"], "plet -A proj runs"),
        (["-A", "nosuch", "runs"], "no module 'nosuch'"),
        (["-A", "broken", "runs"], "cannot be imported"),
    ],
)
def test_the_program_needs_an_app_too(project: Any, arguments: list[str], said: str) -> None:
    (project.folder / "broken.py").write_text("raise RuntimeError('\\x1b[2J')")
    code = "from plet_celery.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=project.folder,
        env=project.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert said in done.stderr
    assert "\x1b" not in done.stderr
