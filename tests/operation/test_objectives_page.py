"""What docs/objectives.md shows is run: its app, its outlook, and its table of promises."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import _state

from plet_celery.objectives import KINDS, Objective

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text()
BLOCKS = re.findall(r"^```python ?\S*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the blocks of the page have defined, run in their order."""
    run = SimpleNamespace(
        task="app.import_order",
        state="running",
        queued_at=time.time() - 100.4,
        not_before=None,
        started_at=time.time() - 50.4,
        ended_at=None,
    )
    found: dict[str, Any] = {"__name__": "app", "run": run, "time": time}
    shared: set[object] = _state._on_app_finalizers  # type: ignore[attr-defined]
    before = set(shared)
    for block in BLOCKS:
        exec(compile(block, "objectives.md", "exec"), found)
    shared.intersection_update(before)
    return found


def test_the_app_promises_what_the_page_says(names: dict[str, Any]) -> None:
    promised = {(one.task, one.objective.kind, one.source) for one in names["plet"].objectives()}

    assert promised == {
        ("app.import_order", "max_wait", "task"),
        ("app.import_order", "max_runtime", "task"),
        ("app.import_order", "success_rate", "task"),
        ("app.import_order", "p95", "*"),
        ("app.nightly_report", "start_by", "task"),
        ("app.nightly_report", "finish_by", "task"),
        ("app.nightly_report", "p95", "*"),
    }


def test_the_loops_of_the_page_print(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    loops = [block for block in BLOCKS if "print(" in block]
    for block in loops:
        exec(compile(block, "objectives.md", "exec"), names)

    printed = capsys.readouterr().out
    assert len(loops) == 2
    assert "app.nightly_report FinishBy(" in printed
    assert "in time, 10 s to spare False" in printed


def test_every_promise_of_the_table_can_be_made() -> None:
    codes = re.findall(r"`([A-Z]\w+\([^`]*\))`", PAGE.split("## Which one")[1].split("## Where")[0])
    known: dict[str, Any] = {one.__name__: one for one in KINDS.values()}
    exec(f"made = [{', '.join(codes)}]", known)
    made = known["made"]

    assert all(isinstance(one, Objective) for one in made)
    assert {one.kind for one in made} == set(KINDS)
