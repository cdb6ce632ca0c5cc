"""The example through a real broker, worker, beat and shipper."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stacks import environment, processes_of
from stdlib_files import count_keywords, some_sources
from waiting import wait_until

from example_project.index import search

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-P", "-m", "celery", "-A", "example_project", "plet"]
FILES = 240


@dataclass(frozen=True)
class Census:
    """What one census left behind."""

    home: Path
    sources: Path
    run: dict[str, Any]
    runs: list[dict[str, Any]]
    """All recorded runs, also those that beat started meanwhile."""
    exit_code: int

    def of_task(self, name: str) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["task"] == f"example_project.{name}"]


def recorded(home: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [*CELERY, "runs", "--json", "--limit", "100"],
        cwd=ROOT,
        env=environment(PLET_HOME=str(home)),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def census(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Census]:
    """One census of a part of the standard library; the stack stays up until beat has had its turn."""
    home = tmp_path_factory.mktemp("census") / "home"
    sources = some_sources(tmp_path_factory.mktemp("sources"), FILES)
    options = json.dumps({"root": str(sources), "batch_size": 50})
    with subprocess.Popen(
        [*CELERY, "up", "--json", "--call", "example_project.census", options],
        cwd=ROOT,
        env=environment(PLET_HOME=str(home)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "Ctrl-C ends it" in line:
                    break
            else:
                raise AssertionError("".join(said))
            wait_until(lambda: any(run["trigger"] == "beat" for run in recorded(home)), 60)
            runs = recorded(home)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    yield Census(home, sources, json.loads(output.splitlines()[-1]), runs, process.returncode)
    assert processes_of(home) == []


def test_its_counts_equal_those_of_an_independent_pass(census: Census) -> None:
    counts = count_keywords(list(census.sources.rglob("*.py")))

    result = census.run["result"]

    assert (result["files"], result["functions"], result["classes"]) == (
        counts.files,
        counts.functions,
        counts.classes,
    )
    assert result["symbols"] == counts.functions + counts.classes
    assert (result["files"], result["unparsable"]) == (FILES, 2)


def test_the_called_id_ends_with_the_report(census: Census) -> None:
    assert census.run["state"] == "succeeded"
    assert census.exit_code == 0
    assert census.run["metadata"]["symbols"] == census.run["result"]["symbols"]
    assert (census.home / "census" / "report.md").read_text().startswith("# Census of the standard library")


def test_the_index_answers(census: Census) -> None:
    found = search(census.home / "census" / "index.db", "AbstractEventLoop run_forever")

    assert any(path.endswith("asyncio/events.py") and "run_forever" in name for path, _, name in found)


def test_the_planted_file_fails_in_a_child_run_of_its_own(census: Census) -> None:
    (failed,) = [run for run in census.runs if run["state"] == "failed"]

    assert failed["task"] == "example_project.poison"
    assert failed["error"]["type"] == "SyntaxError"
    assert "planted" in failed["metadata"]["expected"]
    assert failed["canvas"] == census.run["canvas"]
    assert failed["trigger"] == "task"


def test_the_flaky_batch_succeeds_on_its_second_attempt(census: Census) -> None:
    batches = census.of_task("parse")

    assert len(batches) == -(-FILES // 50)
    assert {run["state"] for run in batches} == {"succeeded"}
    assert sorted(run["attempts"] for run in batches) == [1] * (len(batches) - 1) + [2]


def test_beat_has_its_turn(census: Census) -> None:
    (first, *_) = [run for run in census.runs if run["trigger"] == "beat"]

    assert first["task"] == "example_project.freshness"


def test_it_works_in_its_own_folder_only(census: Census) -> None:
    assert {path.name for path in (census.home / "census").iterdir()} == {
        "index.db",
        "poison.py",
        "report.json",
        "report.md",
        "work",
    }
    assert list((census.home / "census" / "work").iterdir()) == []
