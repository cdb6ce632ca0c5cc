"""The running example in a browser: `plet up` says where, and one watches its census to the end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browsing import Visits, await_line_in_view, rows
from playwright.sync_api import expect
from stacks import environment, processes_of
from stdlib_files import some_sources

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-P", "-m", "celery", "-A", "example_project"]


@dataclass(frozen=True)
class Demo:
    """The example, up."""

    home: Path
    base: str
    broker: str
    sources: Path

    def call(self) -> str:
        """Start a census; returns its id."""
        options = json.dumps({"root": str(self.sources), "batch_size": 20})
        done = subprocess.run(
            [*CELERY, "call", "example_project.census", "--kwargs", options, "--queue", "census"],
            cwd=ROOT,
            env=environment(PLET_HOME=str(self.home), CELERY_BROKER_URL=self.broker),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """`plet up` without a call: its census comes when a test calls it."""
    home = tmp_path_factory.mktemp("census") / "home"
    sources = some_sources(tmp_path_factory.mktemp("sources"), 200)
    said: list[str] = []
    with subprocess.Popen(
        [*CELERY, "plet", "up"],
        cwd=ROOT,
        env=environment(PLET_HOME=str(home), COLUMNS="400"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "Ctrl-C ends it" in line:
                    break
            text = "".join(said)
            web, server = re.search(r"http://\S+/plet/", text), re.search(r"valkey on (\S+?),", text)
            assert web and server, text
            yield Demo(home, web[0], f"redis+socket://{server[1]}?virtual_host=0", sources)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=180)
        finally:
            process.kill()
    assert processes_of(home) == []


def test_a_census_is_watched_to_its_end_and_its_failure_opened(demo: Demo, visits: Visits) -> None:
    page = visits.open(demo.base)
    page.evaluate("window.isSame = true")
    run = demo.call()

    head = rows(page).filter(has_text=run[:8])
    expect(head).to_be_visible()
    # Whether it still runs when it is seen is the machine's business.
    expect(rows(page).filter(has_text="example_project.parse").first).to_be_visible()
    expect(head).to_contain_text("succeeded", timeout=240_000)
    assert page.evaluate("window.isSame") is True
    page.get_by_role("navigation", name="States").get_by_role("link", name="Failed").click()
    rows(page).get_by_role("link", name="example_project.poison").click()

    card = page.get_by_role("alert")
    expect(card.get_by_role("heading")).to_have_text("SyntaxError")
    expect(card).to_contain_text("example_project/sources.py")
    card.get_by_role("link", name="Jump to the log line").click()
    expect(page.locator(".plet-log-current")).to_contain_text("SyntaxError")
    await_line_in_view(page, ".plet-log-current")
    page.get_by_role("link", name="parent run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("example_project.scan")


def test_the_whole_canvas_of_a_census_is_one_tree(demo: Demo, visits: Visits) -> None:
    page = visits.open(demo.base + "?task=example_project.parse")
    rows(page).get_by_role("link", name="example_project.parse").first.click()

    canvas = page.get_by_role("region", name="Runs of this canvas")
    for task in ("scan", "parse", "compile_check", "poison"):
        expect(canvas).to_contain_text(f"example_project.{task}")
    expect(canvas).to_contain_text("this run")


def test_the_worker_of_the_example_tells_what_it_runs_and_holds(demo: Demo, visits: Visits) -> None:
    page = visits.open(demo.base + "workers")

    expect(rows(page)).to_contain_text("online")
    expect(page.locator('td[data-label="Pool"]')).to_contain_text("prefork")
    expect(page.locator('td[data-label="Heard of"] time')).to_be_visible()
