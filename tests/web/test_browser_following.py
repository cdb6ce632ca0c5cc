"""A real worker logs on command: a run is watched from the queue to its end, a log followed as it grows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Visits, lines, rows
from flowers import running_flower
from living import beat_of
from playwright.sync_api import APIResponse, Page, Route, expect
from stacks import environment, processes_of
from waiting import wait_until

from plet_celery import paths
from plet_celery.embedded.valkey import Valkey

APP = """
import threading
from pathlib import Path
from celery import Celery
from plet_celery import Plet, TrackedTask

app = Celery("told", broker={broker!r}, backend="cache+memory://")
app.conf.worker_prefetch_multiplier = 1
plet = Plet(app)
ORDERS = Path(__file__).parent / "orders"

@app.task(base=TrackedTask, bind=True, name="told.obey")
def obey(self, name):
    "Do what files say: `name.1`, `name.2`, ... hold lines to log, `fail` fails, `end` ends."
    pause = threading.Event()
    number = 1
    with self.stage("obey", total=10) as stage:
        while True:
            order = ORDERS / f"{{name}}.{{number}}"
            if not order.exists():
                pause.wait(0.05)
                continue
            for line in order.read_text().splitlines():
                if line == "end":
                    return
                if line == "fail":
                    raise ValueError("as ordered")
                self.log("info", line)
            stage.advance()
            number += 1
"""


class Crew:
    """An app whose worker does what it is told."""

    def __init__(self, folder: Path, base: str) -> None:
        self.folder = folder
        self.base = base
        self._orders = folder / "orders"
        self._numbers: dict[str, int] = {}
        self.going: set[str] = set()
        """Runs that were called and not told to end."""

    def call(self, name: str) -> str:
        """Publish a run; returns its id."""
        self.going.add(name)
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "celery",
                "-A",
                "told",
                "call",
                "told.obey",
                "--args",
                f'["{name}"]',
            ],
            cwd=self.folder,
            env=environment(PYTHONPATH=str(self.folder)),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[-1]

    def order(self, name: str, *told: str) -> None:
        """Tell a run to log lines, to fail or to end."""
        self._numbers[name] = self._numbers.get(name, 0) + 1
        if told[-1] in ("end", "fail"):
            self.going.discard(name)
        draft = self._orders / "draft"
        draft.write_text("\n".join(told))
        draft.rename(self._orders / f"{name}.{self._numbers[name]}")


@pytest.fixture(scope="module")
def crew(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A worker of one process, and a Flower."""
    valkey.flush()
    folder = tmp_path_factory.mktemp("told")
    (folder / "orders").mkdir()
    (folder / "told.py").write_text(APP.format(broker=valkey.broker_url))
    with (folder / "worker.log").open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "celery", "-A", "told", "worker", "-c", "1", "-l", "info", "-E",
             "--without-mingle", "--without-gossip"],
            cwd=folder, env=environment(PYTHONPATH=str(folder)), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        with running_flower(folder, app="told") as flower:
            wait_until(lambda: " ready." in (folder / "worker.log").read_text(), 60)
            wait_until(lambda: beat_of(paths.journal_directory(folder / ".plet")), 60)
            yield Crew(folder, flower.base + "plet/")
    finally:
        worker.terminate()
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        wait_until(lambda: not processes_of(folder), 60)


def opened(crew: Crew, visits: Visits, run: str) -> Page:
    """Open a run's page, and mark it: a page that is loaded again forgets the mark."""
    page = visits.open(f"{crew.base}runs/{run}")
    expect(page.locator(".plet-log-js")).to_be_visible()
    page.evaluate("window.isSame = true")
    return page


def test_a_run_is_watched_from_the_queue_to_its_end(crew: Crew, visits: Visits) -> None:
    before = crew.call("before")
    page = visits.open(crew.base)
    page.evaluate("window.isSame = true")
    expect(rows(page).filter(has_text=before[:8])).to_contain_text("running")
    run = crew.call("watched")

    row = rows(page).filter(has_text=run[:8])
    expect(row).to_contain_text("queued")
    crew.order("before", "end")
    expect(row).to_contain_text("running")
    for done in range(1, 4):
        crew.order("watched", f"step {done}")
        expect(row).to_contain_text(f"obey {done}/10")
    crew.order("watched", "fail")

    expect(row).to_contain_text("failed")
    expect(row).to_contain_text("ValueError: as ordered")
    assert page.evaluate("window.isSame") is True


def test_a_runs_page_becomes_that_of_a_failed_one_by_itself(crew: Crew, visits: Visits) -> None:
    run = crew.call("failing")
    wait_for_start(crew, visits, run)
    page = opened(crew, visits, run)
    expect(page.locator(".plet-headline")).to_contain_text("running")

    crew.order("failing", "a line", "fail")

    expect(page.locator(".plet-headline")).to_contain_text("failed")
    expect(page.get_by_role("alert")).to_contain_text("as ordered")
    expect(page.locator("[data-log-follow]")).to_have_text("Ended")
    expect(lines(page).filter(has_text="ValueError: as ordered").first).to_be_visible()
    assert page.evaluate("window.isSame") is True


def test_the_log_is_followed_until_one_scrolls_up_and_again_at_its_end(crew: Crew, visits: Visits) -> None:
    run = crew.call("growing")
    wait_for_start(crew, visits, run)
    page = opened(crew, visits, run)
    box, new = page.locator(".plet-log-box"), page.locator("[data-log-new]")
    follow = page.locator("[data-log-follow]")
    expect(follow).to_have_text("Live")

    crew.order("growing", *(f"first {number}" for number in range(1, 101)))
    expect(lines(page).filter(has_text="first 100")).to_be_visible()
    page.evaluate("document.querySelector('.plet-log-box').scrollIntoView({ block: 'center' })")
    expect(lines(page).filter(has_text="first 100")).to_be_in_viewport()
    box.evaluate("one => one.scrollTo(0, 0)")
    crew.order("growing", "one more", "and another")
    expect(new).to_have_text("↓ 2 new lines")
    expect(lines(page).filter(has_text="first 1")).not_to_have_count(0)
    assert box.evaluate("one => one.scrollTop") == 0
    new.click()
    expect(lines(page).filter(has_text="and another")).to_be_in_viewport()

    page.keyboard.press("f")
    expect(follow).to_have_text("Paused")
    crew.order("growing", "while paused")
    crew.order("growing", "end")
    expect(page.locator(".plet-headline")).to_contain_text("succeeded")
    expect(lines(page).filter(has_text="while paused")).to_have_count(0)
    page.keyboard.press("f")
    expect(lines(page).filter(has_text="while paused")).to_be_visible()
    expect(follow).to_have_text("Ended")
    expect(page.locator(".plet-log-range")).to_have_text(re.compile(r"lines 1–103 of 103"))
    texts = [one.split("\n")[-1] for one in lines(page).filter(has_text="first").all_inner_texts()]
    assert len(texts) == 100


def test_what_was_on_its_way_when_one_paused_is_shown_when_one_goes_on(crew: Crew, visits: Visits) -> None:
    run = crew.call("held")
    wait_for_start(crew, visits, run)
    page = opened(crew, visits, run)
    follow, held = page.locator("[data-log-follow]"), list[tuple[Route, APIResponse]]()
    expect(follow).to_have_text("Live")

    def hold(route: Route) -> None:
        answer = route.fetch()
        if "on its way" in answer.text() and not held:
            held.append((route, answer))
        else:
            route.fulfill(response=answer)

    page.route(lambda address: "region=log-after" in address, hold)
    crew.order("held", "on its way")
    wait_until(lambda: page.title() and held, what="an answer with the line")
    page.keyboard.press("f")
    expect(follow).to_have_text("Paused")
    with page.expect_response(lambda answer: "region=log-after" in answer.url) as got:
        held[0][0].fulfill(response=held[0][1])
    got.value.finished()
    # A turn of the page's own, and one more, behind the answer.
    for _ in range(2):
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    expect(lines(page).filter(has_text="on its way")).to_have_count(0)
    page.keyboard.press("f")
    expect(lines(page).filter(has_text="on its way")).to_have_count(1)
    page.unroute_all(behavior="wait")
    crew.order("held", "end")


def wait_for_start(crew: Crew, visits: Visits, run: str) -> None:
    """Wait until the store knows that a run has begun."""
    page = visits.open(crew.base)
    expect(rows(page).filter(has_text=run[:8])).to_contain_text("running")


def test_flowers_own_page_of_the_worker_is_one_click_away(crew: Crew, visits: Visits) -> None:
    page = visits.open(crew.base + "workers")
    expect(rows(page)).to_contain_text("online")
    expect(page.locator('td[data-label="Heard of"] time')).to_be_visible()

    rows(page).get_by_role("link").first.click()

    expect(page).to_have_url(re.compile("/worker/celery"))
    visits.troubles.clear()  # Flower's own page


@pytest.fixture(autouse=True)
def nothing_left_to_do(crew: Crew) -> Iterator[Any]:
    """Let a run that a failed test left waiting end, or the next one would wait for it."""
    yield
    for name in sorted(crew.going):
        crew.order(name, "end")
