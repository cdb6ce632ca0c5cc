"""How one run stands to its promises, as its page and the list show it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from scenes import at

from plet_celery.monitor.promises import outlook
from plet_celery.objectives import (
    P95,
    Declared,
    FinishBy,
    Freshness,
    MaxRuntime,
    MaxWait,
    Objective,
    StartBy,
    SuccessRate,
)

NOW = at("2031-03-04 02:26", "Europe/Berlin")


@dataclass
class Run:
    """What is asked of a run."""

    state: str = "running"
    queued_at: float | None = NOW - 100
    not_before: float | None = None
    started_at: float | None = NOW - 90
    ended_at: float | None = None
    task: str = "shop.load"


def texts(run: Run, *objectives: Objective) -> list[str]:
    """Return what is shown of a run."""
    return [one.text() for one in outlook(run, [Declared("shop.load", one) for one in objectives], NOW)]


WAITING = Run(state="queued", started_at=None)
DONE = Run(state="succeeded", ended_at=NOW - 10)


@pytest.mark.parametrize(
    ("run", "objective", "shown"),
    [
        (WAITING, MaxWait(60), ["late by 40 s"]),
        (WAITING, MaxWait(340), ["due 01:30 · 4 min left"]),
        (Run(), MaxWait(60), ["in time, 50 s to spare"]),
        (Run(), MaxWait(5), ["late by 5 s"]),
        (Run(state="queued", started_at=None, not_before=NOW - 10), MaxWait(60), ["due 01:26 · 50 s left"]),
        (WAITING, MaxRuntime(60), []),
        (Run(), MaxRuntime(60), ["late by 30 s"]),
        (Run(state="retrying"), MaxRuntime(330), ["due 01:30 · 4 min left"]),
        (DONE, MaxRuntime(60), ["late by 20 s"]),
        (DONE, MaxRuntime(100), ["in time, 20 s to spare"]),
        (WAITING, StartBy("02:30", zone="Europe/Berlin"), ["due 02:30 · 4 min left"]),
        (Run(), StartBy("02:30", zone="Europe/Berlin"), ["in time, 6 min to spare"]),
        (Run(), FinishBy("02:30", zone="Europe/Berlin"), ["due 02:30 · 4 min left"]),
        (DONE, FinishBy("02:30", zone="Europe/Berlin"), ["in time, 4 min to spare"]),
        (Run(queued_at=NOW - 600), FinishBy("02:23", zone="Europe/Berlin"), ["late by 3 min"]),
        (Run(state="failed", ended_at=NOW - 10), FinishBy("02:30", zone="Europe/Berlin"), []),
        (Run(), FinishBy("02:20", zone="Europe/Berlin", within=3600), []),
        (
            Run(),
            FinishBy("02:30", days="fri", zone="Europe/Berlin", within=7 * 86_400),
            ["due Fri 02:30 · 3 d left"],
        ),
        (Run(queued_at=None, started_at=None, state="cancelled"), MaxWait(60), []),
        (Run(state="expired", started_at=None), MaxWait(60), []),
        (Run(), MaxRuntime(60, scope="canvas"), []),
        (Run(), Freshness(60), []),
        (Run(), SuccessRate(0.9), []),
        (Run(), P95(1), []),
    ],
)
def test_what_is_shown_of_a_run(run: Run, objective: Objective, shown: list[str]) -> None:
    assert texts(run, objective) == shown


def test_what_is_nearest_to_be_broken_comes_first() -> None:
    found = outlook(
        Run(),
        [
            Declared("shop.load", one)
            for one in (MaxWait(300), MaxRuntime(900), MaxRuntime(100, name="short"))
        ],
        NOW,
    )

    assert [(one.kind, one.is_open, one.left) for one in found] == [
        ("max_runtime", True, 10),
        ("max_runtime", True, 810),
        ("max_wait", False, 290),
    ]
    assert not any(one.is_late for one in found)


def test_promises_of_other_tasks_are_passed_over() -> None:
    assert outlook(Run(), [Declared("shop.other", MaxRuntime(1))], NOW) == []


def test_a_reader_may_have_another_zone() -> None:
    (found,) = outlook(WAITING, [Declared("shop.load", MaxWait(340))], NOW)

    assert found.text("Asia/Tokyo") == "due 10:30 · 4 min left"
