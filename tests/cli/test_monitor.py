"""`celery plet monitor` in a project that nothing has run yet, and whose app nobody has finalized."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_APP = """
from celery import Celery
from plet_celery import MaxWait, Plet, SuccessRate, TrackedTask

app = Celery("shop", broker="redis://127.0.0.1:1/0", include=["late"])
app.conf.plet_check_timeout = 1.0
plet = Plet(app)

@app.task(base=TrackedTask, objectives=[MaxWait(60), SuccessRate(0.99)])
def load(): ...
"""
_LATE = """
from plet_celery import MaxWait, TrackedTask
from shop import app

@app.task(base=TrackedTask, objectives=[MaxWait(30)])
def index(): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(_APP)
    (tmp_path / "late.py").write_text(_LATE)
    return tmp_path


def plet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "celery", "-A", "shop", "plet", *words]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=120)


def promised(folder: Path) -> list[tuple[str, str]]:
    told = plet(folder, "objectives", "--json")
    assert told.returncode in (0, 1), told.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in told.stdout.splitlines()]
    return sorted((one["task"], one["kind"]) for one in found)


def test_a_pass_by_hand_makes_its_store_and_knows_what_is_promised(folder: Path) -> None:
    for _ in range(2):
        done = plet(folder, "monitor", "--once")

        assert done.returncode == 0, done.stderr
        assert "passed" in done.stdout
        assert promised(folder) == [
            ("late.index", "max_wait"),
            ("shop.load", "max_wait"),
            ("shop.load", "success_rate"),
        ]


def test_who_does_not_know_the_promises_withdraws_none(folder: Path) -> None:
    """As a pass of an app whose tasks are not there yet."""
    assert plet(folder, "monitor", "--once").returncode == 0
    code = """
from shop import app, plet
from plet_celery.monitor.running import config_of, pass_once
document = plet.shipper_config()
assert "objectives" not in document
print(pass_once(config_of(document, plet.settings), kind="test", app=app, spacing=0.0).ended.value)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.strip() == "passed", done.stderr
    assert len(promised(folder)) == 3


def test_a_pass_is_done_where_a_module_of_the_app_is_broken(folder: Path) -> None:
    assert plet(folder, "monitor", "--once").returncode == 0
    (folder / "late.py").write_text("raise RuntimeError('no such supplier')\n")

    done = plet(folder, "monitor", "--once")

    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "passed"), done.stderr
    assert "RuntimeError: no such supplier" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(promised(folder)) == 3
