"""The pages are in Flower's own process, however it is started, and in no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flowers import running_flower
from stacks import environment

from plet_celery import showing

APP = """
import atexit, sys
from celery import Celery
from plet_celery import Plet
{before}
app = Celery("shop", broker="memory://", backend="cache+memory://")
{plet}
atexit.register(lambda: print("LOADED", any(name.startswith("plet_celery.web") for name in sys.modules)))
"""


def write(path: Path, *, plet: str = "plet = Plet(app)", before: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(APP.format(plet=plet, before=before))


def celery(folder: Path, *words: str, app: str = "shop") -> subprocess.CompletedProcess[str]:
    """Run a `celery` command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", app, *words],
        cwd=folder,
        env=environment(PYTHONPATH=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    ["report", "plet runs", "shell --python", "inspect ping --timeout 0.1", "worker --help", "beat --help"],
)
def test_no_other_command_loads_them(tmp_path: Path, words: str) -> None:
    write(tmp_path / "shop.py")

    done = celery(tmp_path, *words.split())

    assert "LOADED True" not in done.stdout, done.stdout
    assert "LOADED False" in done.stdout or "--help" in words, done.stdout + done.stderr


@pytest.mark.parametrize("words", ["worker --pool=solo --without-mingle -l ERROR", "beat -l ERROR"])
def test_what_runs_tasks_does_not_load_them(tmp_path: Path, words: str) -> None:
    """Asked where a task's process asks: when its app is imported, and when it has started."""
    look = """
from celery import signals

@signals.worker_ready.connect(weak=False)
@signals.beat_init.connect(weak=False)
def stop(**kwargs):
    loaded = any(name.startswith("plet_celery.web") for name in sys.modules)
    print("LOADED", loaded, flush=True, file=sys.__stdout__)
    raise SystemExit(0)
"""
    write(tmp_path / "shop.py", plet="plet = Plet(app)" + look)

    done = celery(tmp_path, *words.split())

    assert "LOADED False" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "app", "made"),
    [
        ("shop/deep.py", "shop.deep:application", "plet = Plet(app)\napplication = app"),
        ("shop/__init__.py", "shop", "plet = Plet(app)"),
        (
            "shop.py",
            "shop",
            "def make():\n    return Plet(app)\n\nmake()\nother = Plet(Celery('other', broker='memory://'))",
        ),
    ],
    ids=["a dotted path", "a package, as in Django", "made in a function, beside another app"],
)
def test_they_are_shown_however_the_app_is_made(tmp_path: Path, file: str, app: str, made: str) -> None:
    write(tmp_path / file, plet=made)
    if "deep" in file:
        (tmp_path / "shop" / "__init__.py").write_text("")
    with running_flower(tmp_path, app=app, patient=False) as flower:
        answer = flower.get()
        assert answer.status == 200
        assert "The first worker makes it".lower() in answer.text.lower()
        assert 'href="/plet/"' in flower.get("workers").text


def test_an_app_that_fails_to_import_is_told_by_celery_alone(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", plet="plet = Plet(app)\nraise RuntimeError('of the project')")

    done = celery(tmp_path, "flower", "--port=0")

    assert done.returncode != 0
    assert "of the project" in done.stdout + done.stderr
    assert "plet's pages" not in done.stdout + done.stderr


# Whose process it is


def context(**given: Any) -> Any:
    known: dict[str, Any] = {
        "invoked_subcommand": None,
        "info_name": "celery",
        "parent": None,
        "command": SimpleNamespace(callback=None),
    }
    return SimpleNamespace(**(known | given))


def command_of(module: str) -> Any:
    callback = lambda: None  # noqa: E731
    callback.__module__ = module
    return SimpleNamespace(callback=callback)


def test_flower_is_known_by_its_command() -> None:
    group = SimpleNamespace(callback=None, commands={"flower": command_of("flower.command")})
    of_group = context(command=group, invoked_subcommand="flower")

    assert showing.runs_flower(of_group)
    assert showing.runs_flower(context(command=command_of("flower.command"), parent=of_group))
    assert showing.runs_flower(context(parent=of_group))
    assert not showing.runs_flower(context(command=group, invoked_subcommand="worker"))
    assert not showing.runs_flower(None)


def test_a_command_of_that_name_is_not_it() -> None:
    theirs = SimpleNamespace(callback=None, commands={"flower": command_of("florist.cli")})

    assert not showing.runs_flower(context(command=theirs, invoked_subcommand="flower"))
    assert not showing.runs_flower(context(info_name="flower"))


class Hostile:
    """A context that no program should have."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def circle() -> Any:
    found = context()
    found.parent = found
    return found


@pytest.mark.parametrize(
    "odd", [Hostile(), context(command=None), context(command=Hostile()), circle(), 7], ids=range(5)
)
def test_no_context_reaches_a_task(monkeypatch: pytest.MonkeyPatch, odd: Any) -> None:
    fake = SimpleNamespace(get_current_context=lambda silent: odd)
    monkeypatch.setitem(sys.modules, "click", fake)

    assert showing.is_flower() is False


def test_pages_that_cannot_be_loaded_cost_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "plet_celery.web.activation", None)

    monkeypatch.setattr(showing, "is_flower", lambda: True)

    showing.show_in_flower()

    assert "cannot be loaded" in caplog.text
