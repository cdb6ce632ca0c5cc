"""Whole passes over recorded runs: what the rules of the first day make of a service as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from recorded_runs import Story
from storing import url_of

from plet_celery.celeryfacts import celery_facts
from plet_celery.monitor.config import MonitorConfig
from plet_celery.monitor.passes import Ended
from plet_celery.monitor.running import pass_once
from plet_celery.settings_sources import load_settings
from plet_celery.store import alerting
from plet_celery.watchfacts import Alert


class Watched:
    """A service without workers, on an in-memory broker, and a monitor of it that has no app."""

    def __init__(self, folder: Path, given: dict[str, Any]) -> None:
        app = Celery("shop", broker="memory://", set_as_current=False)
        app.conf.beat_schedule = {"nightly": {"task": "shop.nightly", "schedule": 600.0}}
        self.story = Story(url_of(folder / "plet.db"))
        self.now = time.time()
        self._config = MonitorConfig(
            settings=load_settings(given, {}),
            home=folder,
            journal=folder / "journal",
            database_url=url_of(folder / "plet.db"),
            celery=celery_facts(app),
        )

    def schedule(self, task: str, every: float) -> None:
        """Have beat run one more task."""
        table = [*self._config.celery["timetable"], {"name": task, "task": task, "every": every}]
        self._config = replace(self._config, celery={**self._config.celery, "timetable": table})

    def run(self, task: str, *, ago: float, error: str | None = None) -> None:
        run = self.story.run(task, started=self.now - ago)
        if error is None:
            run.succeed()
        else:
            run.fail("OSError", error)

    def passes(self, after: float) -> dict[str, Alert]:
        """Pass so much later; return what fires, by rule and subject."""
        self.story.ship()
        outcome = pass_once(self._config, kind="command", now=self.now + after, spacing=0.0)
        assert outcome.ended is Ended.PASSED, outcome.doc
        firing = alerting.list_alerts(self.story.store, states=["firing"]).items
        return {f"{one.rule} {one.subject}".strip(): one for one in firing}


@pytest.fixture
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    made = Watched(tmp_path, getattr(request, "param", {}))
    yield made
    made.story.close()


def fill(watched: Watched) -> None:
    """Three tasks that fail in one way, one that fails in its own, one that is well, one that is late."""
    for number in range(12):
        for task in "abc":
            watched.run(f"shop.{task}", ago=300 + number, error=f"no route to 10.0.0.{number}")
        watched.run("shop.own", ago=300 + number, error="disk full" if number % 2 else None)
        watched.run("shop.well", ago=300 + number)
    watched.run("shop.nightly", ago=5000)


def test_a_service_that_nobody_configured_is_watched(watched: Watched) -> None:
    fill(watched)

    assert watched.passes(0) == {}
    found = watched.passes(150)

    rates = {name for name in found if not name.startswith(("check:", "queue_depth"))}
    assert rates == {
        "failure_rate cause: OSError: no route to #.#.#.#",
        "failure_rate shop.own",
        "missed_schedule shop.nightly",
    }
    assert found["failure_rate cause: OSError: no route to #.#.#.#"].doc.count == 36
    assert "check:workers" in found
    steps = alerting.transitions(watched.story.store, found["failure_rate shop.own"].id)
    assert [one.kind for one in steps] == ["pending", "fired"]
    assert watched.passes(180).keys() >= rates


@pytest.mark.parametrize(
    "watched",
    [{"plet_rules": {"failure_rate": {"threshold": 0.6}, "missed_schedule": "off", "check": "off"}}],
    indirect=True,
)
def test_rules_are_tuned_by_the_setting(watched: Watched) -> None:
    fill(watched)
    watched.passes(0)

    assert set(watched.passes(150)) == {"failure_rate cause: OSError: no route to #.#.#.#"}


@pytest.mark.parametrize("watched", [{"plet_rules": {"check": "off"}}], indirect=True)
def test_what_is_well_again_resolves(watched: Watched) -> None:
    fill(watched)
    watched.passes(0)
    assert "failure_rate shop.own" in watched.passes(150)

    for number in range(100):
        watched.run("shop.own", ago=-160 - number / 100)
    watched.run("shop.nightly", ago=-170)
    watched.passes(200)
    found = watched.passes(520)

    assert "failure_rate shop.own" not in found
    assert "missed_schedule shop.nightly" not in found


@pytest.mark.parametrize(
    ("watched", "is_missed"),
    [
        ({"plet_ignore_tasks": ["shop.nightly"]}, False),
        ({"plet_sample": {"shop.*": 0.1}}, False),
        ({"plet_sample": {"shop.nightly": 1.0, "*": 0.1}}, True),
    ],
    indirect=["watched"],
)
def test_of_a_task_that_is_not_recorded_as_a_whole_no_run_is_missed(
    watched: Watched, is_missed: bool
) -> None:
    watched.run("shop.nightly", ago=5000)
    watched.passes(0)

    assert ("missed_schedule shop.nightly" in watched.passes(150)) is is_missed


def test_a_task_is_not_missed_for_times_before_it_was_scheduled(watched: Watched) -> None:
    watched.run("shop.report", ago=5000)
    watched.passes(0)
    watched.schedule("shop.report", every=200.0)

    for after in (30, 60, 300):
        assert "missed_schedule shop.report" not in watched.passes(after)
    watched.passes(500)
    assert "missed_schedule shop.report" in watched.passes(630)
