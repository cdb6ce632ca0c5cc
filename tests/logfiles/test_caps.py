"""An attempt's log keeps its head and its newest lines; everything else is counted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from logfile_events import Story, batches

from plet_celery import events
from plet_celery.events import Event
from plet_celery.logfiles import LogFiles, RunLog

CAP = 64 << 10
WORDS = "x" * 60


def told(story: Story, lines: int, attempt: str = "a-1") -> list[Event]:
    return [story.log(f"{number} {WORDS}", attempt=attempt) for number in range(1, lines + 1)]


def apply(sink: LogFiles, happened: list[Event], size: int = 500) -> None:
    for batch, positions in batches(happened, size):
        sink.apply(batch, positions)


def dropped_in(lines: list[str]) -> int:
    gap = next(line for line in lines if line.startswith("— ") and "lines dropped" in line)
    return int(gap.split(" lines ")[0].removeprefix("— ").replace(" ", ""))


def test_head_and_tail_are_kept_and_the_middle_is_counted(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()

    apply(sink, [story.started(), *told(story, 5000), story.ended()])

    assert [path.name for path in sorted(home.folder().iterdir())] == ["run.idx", "run.log", "trace.jsonl"]
    lines = RunLog(home.folder()).range(1, 5000, max_bytes=1 << 30)
    numbers = [line.line for line in lines if line.stream == "log"]
    assert numbers[:3] == [1, 2, 3] and numbers[-1] == 5000
    assert [line.text.split()[0] for line in lines if line.stream == "log"] == [str(one) for one in numbers]
    missing = 5000 - len(numbers)
    assert dropped_in(home.text().splitlines()) == missing > 0
    size = (home.folder() / "run.log").stat().st_size
    assert CAP * 0.8 < size < CAP * 1.02


def test_while_it_runs_the_newest_lines_are_in_few_parts(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()

    apply(sink, [story.started(), *told(story, 5000)], size=97)

    parts = list(home.folder().glob("tail_*.log"))
    assert 3 <= len(parts) <= 4
    log = RunLog(home.folder())
    assert [line.line for line in log.tail(3)] == [4998, 4999, 5000]
    shown = log.range(1, 10_000, max_bytes=1 << 30)
    gaps = [line for line in shown if "lines dropped" in line.text]
    kept = [line.line for line in shown if line.stream == "log"]
    assert len(gaps) == 1
    assert f"{5000 - len(kept):,}".replace(",", " ") in gaps[0].text
    assert sorted(set(kept)) == kept
    assert log.line_count() == 5000


def test_reading_by_number_reaches_the_tail_parts(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()
    apply(sink, [story.started(), *told(story, 5000)])
    log = RunLog(home.folder())

    assert [line.line for line in log.range(4990, 3)] == [4990, 4991, 4992]
    assert log.search("4990 x").count == 1
    assert log.tail(1, level=40) == []


def test_a_disk_holds_no_more_than_the_limit_says(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()
    largest = 0
    apply(sink, [story.started()])
    for _ in range(40):
        apply(sink, told(story, 500))
        largest = max(largest, sum(path.stat().st_size for path in home.folder().glob("*.log")))

    assert largest < CAP * 1.2
    assert (home.folder() / "trace.jsonl").stat().st_size < CAP * 1.1


def test_a_full_trace_keeps_the_ends_and_says_what_it_lacks(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()

    apply(sink, [story.started(), *told(story, 2000), story.ended(events.RUN_FAILED)])

    lines = [json.loads(line) for line in home.text(name="trace.jsonl").splitlines()]
    kept = [line for line in lines if line["event.action"] == "log.written"]
    assert [line["event.action"] for line in lines[-2:]] == ["run.failed", "trace.capped"]
    assert lines[-1]["message"].startswith(f"{2000 - len(kept)} events left out")


def test_every_attempt_has_its_own_limit(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()
    apply(sink, [story.started(), *told(story, 3000), story.ended(events.RUN_RETRIED)])
    apply(
        sink, [story.started(attempt="a-2", retries=1), *told(story, 3000, "a-2"), story.ended(attempt="a-2")]
    )

    log = RunLog(home.folder())

    for attempt in (1, 2):
        numbers = [line.line for line in log.range(1, 9999, attempt=attempt, max_bytes=1 << 30)]
        assert (min(numbers), max(numbers)) == (0, 3000)
        assert numbers == sorted(numbers)
    assert home.text().count("lines dropped") == 2


def test_overlapping_attempts_are_told_apart(home: Any) -> None:
    """A redelivery starts while the first attempt lives."""
    sink, story = home.open(run_max_log_bytes=CAP), Story()
    first, second = told(story, 1500), told(story, 1500, "a-2")
    mixed = list(itertools.chain.from_iterable(zip(first, second, strict=True)))
    ends = [story.ended(), story.ended(attempt="a-2")]

    apply(sink, [story.started(), story.started(attempt="a-2", redelivered=True), *mixed, *ends])

    log = RunLog(home.folder())
    for attempt in (1, 2):
        numbers = [line.line for line in log.range(1, 5000, attempt=attempt, max_bytes=1 << 30)]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 1500
        assert [line.line for line in log.range(1490, 2, attempt=attempt)] == [1490, 1491]
        assert log.line_count(attempt) == 1500
    assert "attempt 2 starts while attempt 1 has not ended" in home.text()


def test_a_stage_file_skips_what_was_dropped(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=CAP), Story()
    begin = story.event(events.STAGE_STARTED, stage=1, name="load")
    lines = [story.log(f"{number} {WORDS}", stage=1) for number in range(3000)]
    end = story.event(events.STAGE_SUCCEEDED, stage=1, done=1, elapsed=1.0)

    apply(sink, [story.started(), begin, *lines, end])

    kept = (home.folder() / "stage_1_load.log").read_text().splitlines()
    assert kept[0].endswith("stage load started") and "stage load succeeded" in kept[-1]
    assert len(kept) < 1500


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_record_larger_than_a_part_is_kept(home: Any, size: int) -> None:
    sink, story = home.open(run_max_log_bytes=1 << 10), Story()

    apply(sink, [story.started(), *(story.log("y" * 5000) for _ in range(20)), story.ended()], size)

    assert RunLog(home.folder()).range(20, 1)[0].text == "y" * 5000
