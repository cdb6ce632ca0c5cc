"""Finding lines from the end, by number, by filter, by text, and going on from a position."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logfile_events import Story, batches, busy_story

from plet_celery import events
from plet_celery.errors import LogNotFound
from plet_celery.logfiles import Line, LogFiles, LogLimits, RunLog, find_folders, pieces
from plet_celery.logfiles.index import SIZE


@pytest.fixture
def folder(home: Any) -> Path:
    """A run of two attempts: 300 lines with levels, streams and a stage, then 50."""
    sink, story = home.open(), Story()
    told = [story.started(), story.event(events.STAGE_STARTED, stage=1, name="load")]
    for number in range(1, 301):
        level = 40 if number % 100 == 0 else 10 if number % 2 else 20
        stream = "stdout" if number % 5 == 0 else "log"
        told.append(
            story.log(f"first {number}", level=level, stream=stream, stage=1 if number <= 200 else None)
        )
    told.append(story.event(events.STAGE_SUCCEEDED, stage=1, done=1, elapsed=1.0))
    told.append(story.ended(events.RUN_RETRIED))
    told.append(story.started(attempt="a-2", retries=1))
    told += [story.log(f"second {number}\nwith more", attempt="a-2") for number in range(1, 51)]
    sink.apply(told, story.positions)
    found: Path = home.folder()
    return found


def numbers(lines: list[Line]) -> list[int]:
    return [line.line for line in lines if line.stream != "plet"]


def missing(lines: list[Line]) -> int:
    """Return how many lines the gaps among `lines` tell of; the number has a space between thousands."""
    found = [re.match(r"— ([0-9 ]+) lines dropped", line.text) for line in lines]
    return sum(int(gap[1].replace(" ", "")) for gap in found if gap)


def test_the_tail_is_the_end_of_all_attempts(folder: Path) -> None:
    lines = RunLog(folder).tail(60)

    assert len(lines) == 60
    assert lines[-1].text == "second 50\nwith more"
    assert [(line.attempt, line.line) for line in lines if line.stream == "log"][:2] == [(1, 296), (1, 297)]
    assert "— retried, attempt 2 starts —" in [line.text for line in lines]


def test_the_tail_of_one_attempt(folder: Path) -> None:
    assert numbers(RunLog(folder).tail(4, attempt=1)) == [299, 300]
    assert numbers(RunLog(folder).tail(2, attempt=2)) == [49, 50]
    assert RunLog(folder).tail(5, attempt=3) == []


def test_a_range_is_by_the_numbers_of_an_attempt(folder: Path) -> None:
    log = RunLog(folder)

    assert numbers(log.range(10, 3, attempt=1)) == [10, 11, 12]
    assert [line.text for line in log.range(50, 9)] == ["second 50\nwith more"]
    assert log.range(51, 9) == []
    assert numbers(log.range(299, 9, attempt=1)) == [299, 300]
    assert log.range(1, 1, attempt=1)[0].text.startswith("attempt 1 of")


def test_pages_meet_without_a_hole(folder: Path) -> None:
    log, pages, at = RunLog(folder), [], 1
    while page := log.range(at, 37, attempt=1):
        pages += page
        at += 37

    assert pages == log.range(1, 10_000, attempt=1)
    assert numbers(pages) == list(range(1, 301))


def test_lines_before_a_line(folder: Path) -> None:
    log = RunLog(folder)

    assert numbers(log.before(10, 3, attempt=1)) == [7, 8, 9]
    assert numbers(log.before(300, 2, attempt=1, level=40)) == [100, 200]
    assert numbers(log.before(9999, 1, attempt=2)) == [50]
    assert log.before(1, 9, attempt=2) == log.range(1, 1, attempt=2)[:-1]
    assert numbers(log.range(190, 100, attempt=1, stage=[1, 7])) == list(range(190, 201))


def test_the_folder_of_another_host_is_not_this_ones_twice(folder: Path) -> None:
    other = folder.with_name(f"20300101_000000_api{folder.name[-11:]}")

    names = [str(one.relative_to(folder.parents[1])) for one in (folder, other)]

    assert find_folders(folder.parents[1], names) == [folder]


def test_the_last_number_is_the_count(folder: Path) -> None:
    log = RunLog(folder)

    assert (log.line_count(1), log.line_count(2), log.line_count(), log.newest_attempt()) == (300, 50, 50, 2)


def test_filters(folder: Path) -> None:
    log = RunLog(folder)

    assert numbers(log.tail(9, level=40)) == [100, 200, 300]
    assert numbers(log.range(1, 2, attempt=1, level=40)) == [100, 200]
    assert numbers(log.range(101, 1, attempt=1, level=40)) == [200]
    assert numbers(log.tail(2, stage=1, streams=["stdout"])) == [195, 200]
    assert [line.text for line in log.tail(1, stage=1)] == ["stage load succeeded after 1.000 s"]
    since = log.range(299, 1, attempt=1)[0].at
    assert numbers(log.tail(400, since=since, attempt=1)) == [299, 300]
    assert log.tail(5, level=50) == []


def test_answers_are_bounded_in_bytes(folder: Path) -> None:
    log = RunLog(folder)

    assert 2 <= len(log.tail(300, max_bytes=500)) < 12
    assert log.tail(300, max_bytes=500)[-1].text == "second 50\nwith more"
    assert len(log.tail(5, max_bytes=1)) == 1
    assert numbers(log.range(20, 100, attempt=1, max_bytes=300))[0] == 20


def test_search_counts_beyond_its_limit(folder: Path) -> None:
    log = RunLog(folder)

    found = log.search("first 1", limit=3)
    assert (found.count, found.complete, numbers(found.lines)) == (111, True, [1, 10, 11])
    assert log.search("with more", attempt=2).count == 50
    assert log.search("WITH More").count == 0
    assert log.search("WITH More", ignore_case=True).count == 50
    assert log.search("first", level=40).count == 3
    assert log.search("").count == 0


def test_a_search_from_a_line_and_through_one_attempt(folder: Path) -> None:
    log = RunLog(folder)

    assert numbers(log.search("first", attempt=1, start=299).lines) == [299, 300]
    assert log.search("first", attempt=2).count == 0
    assert numbers(log.search("first", streams=["stdout"], limit=2).lines) == [5, 10]


def test_search_sees_the_text_only(folder: Path) -> None:
    assert RunLog(folder).search("[DEBUG]").count == 0
    assert RunLog(folder).search("[shop]").count == 0


def test_search_ends_in_time(folder: Path) -> None:
    found = RunLog(folder).search("first", seconds=0.0)

    assert not found.complete
    assert found.reached == (1, 0)


def test_search_finds_what_is_escaped_and_what_crosses_a_block(home: Any) -> None:
    sink, story = home.open(), Story()
    odd = "back\\x41slash \x1b[31m and \u2028"
    sink.apply([story.started(), story.log(odd)], story.positions)
    sink.apply([story.log("y" * 9_990 + f"needle-{number}") for number in range(250)], story.positions)
    log = RunLog(home.folder())

    assert log.search("slash \x1b[31m and \u2028").count == 1
    assert log.search("back\\x41").count == 1
    assert log.search("backA").count == 0
    assert log.search("needle-").count == 250


def test_texts_are_safe_unless_asked_for_raw(home: Any) -> None:
    sink, story = home.open(), Story()
    text = "a\x1b[31mred\x1b[0m\r\nb\u2028c C:\\users \u202e"
    sink.apply([story.started(), story.log(text)], story.positions)

    assert RunLog(home.folder()).tail(1, raw=True)[0].text == text
    shown = RunLog(home.folder()).tail(1)[0].text
    assert shown == "a\\x1b[31mred\\x1b[0m\\x0d\nb\\u2028c C:\\users \\u202e"


def test_parts_of_a_long_line_and_context(home: Any) -> None:
    sink, story = home.open(), Story()
    told = [story.started(), story.log("x", part=[2, 3], context={"row": {"n": [1, None]}}, logger="a b]#<")]
    sink.apply(told, story.positions)

    line = RunLog(home.folder()).tail(1, raw=True)[0]

    assert (line.part, line.context, line.logger) == ((2, 3), {"row": {"n": [1, None]}}, "a b]#<")


# Following


def followed(log: RunLog, position: str, **options: Any) -> tuple[list[Line], str]:
    lines: list[Line] = []
    while True:
        found = log.follow(position, **options)
        lines += found.lines
        position = found.position
        if not found.more:
            return lines, position


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_following_tells_each_line_once(home: Any, limit: int) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("a")], story.positions)
    log = RunLog(home.folder())

    lines, position = followed(log, "", limit=limit)
    assert [line.text for line in lines][1:] == ["a"]
    sink.apply([story.log(f"b{number}") for number in range(20)], story.positions)
    lines, position = followed(log, position, limit=limit)
    assert [line.text for line in lines] == [f"b{number}" for number in range(20)]
    assert followed(log, position) == ([], position)


def test_a_position_is_the_end(folder: Path) -> None:
    log = RunLog(folder)

    assert log.follow(log.position()).lines == []
    assert len(log.follow("nonsense:x,,").lines) == len(log.tail(1000))


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.integers(1, 120), min_size=1, max_size=8), limit=st.sampled_from([1, 9, 1000]))
def test_following_past_dropped_and_merged_parts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int
) -> None:
    home, story = tmp_path_factory.mktemp("follow"), Story()
    sink = LogFiles(home / "runs", home / "journal", limits=LogLimits(run_max_log_bytes=8 << 10))
    sink.apply([story.started(), story.log("0")], story.positions)
    log = RunLog(home / "runs" / (sink.folder("run-1") or ""))
    seen, position = followed(log, "", limit=limit)
    for count in steps:
        sink.apply([story.log("x" * 20) for _ in range(count)], story.positions)
        more, position = followed(log, position, limit=limit)
        seen += more
    sink.apply([story.ended()], story.positions)
    more, position = followed(log, position, limit=limit)
    seen += more
    sink.close()

    told = numbers(seen)
    assert told == sorted(set(told)), "each line once, in order"
    assert told[-1] == sum(steps) + 1
    assert len(told) + missing(seen) == sum(steps) + 1


@pytest.mark.parametrize("cap", [8 << 10, 64 << 20])
def test_a_follower_beside_the_writer_sees_each_line_once(home: Any, cap: int) -> None:
    """Tail parts are made, dropped and merged under the reader's eyes."""
    sink, story = home.open(run_max_log_bytes=cap), Story()
    sink.apply([story.started(), story.log("first")], story.positions)
    log, done = RunLog(home.folder()), threading.Event()

    def write() -> None:
        for _ in range(150):
            sink.apply([story.log("x" * 30) for _ in range(9)], story.positions)
        sink.apply([story.ended()], story.positions)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[Line] = []
    position = ""
    try:
        while not done.is_set() and writer.is_alive():
            more, position = followed(log, position, limit=50)
            seen += more
            log.tail(20)
            log.range(1, 50)
    finally:
        writer.join()
    more, position = followed(log, position)
    seen += more

    told = numbers(seen)
    assert told == sorted(set(told))
    assert len(told) + missing(seen) == 1351
    assert [line.text for line in seen if line.text.startswith("attempt 1 succeeded")]


def test_a_follower_that_slept_is_told_how_many_lines_it_missed(home: Any) -> None:
    sink, story = home.open(run_max_log_bytes=8 << 10), Story()
    sink.apply([story.started(), story.log("first")], story.positions)
    log = RunLog(home.folder())
    seen, position = followed(log, "")
    sink.apply([story.log("x" * 30) for _ in range(1_349)], story.positions)
    more, position = followed(log, position)
    seen += more
    sink.apply([story.log("last"), story.ended()], story.positions)
    more, position = followed(log, position)
    seen += more

    assert missing(seen) > 1_000
    assert len(numbers(seen)) + missing(seen) == numbers(seen)[-1] == 1_351


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_merge_that_is_half_done_is_not_seen(
    home: Any, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_FRESH_SECONDS", 3600.0)
    sink, story = home.open(run_max_log_bytes=8 << 10), Story()
    sink.apply([story.started(), *(story.log("x" * 20) for _ in range(300))], story.positions)
    folder, log = home.folder(), RunLog(home.folder())
    before = log.tail(1000)
    _, position = followed(log, "")
    parts = {path: path.read_bytes() for path in folder.glob("tail_*")}
    head = (folder / "run.idx").stat().st_size
    sink.apply([story.ended()], story.positions)
    after = log.tail(1000)

    for path, content in parts.items():
        path.write_bytes(content)
        path.chmod(0o600)
    whole = (folder / "run.idx").read_bytes()
    (folder / "run.idx").write_bytes(whole[: head + int((len(whole) - head) * share)])

    def plain(lines: list[Line]) -> list[tuple[int, str]]:
        return [(line.line, line.text) for line in lines if "lines dropped" not in line.text]

    assert plain(log.tail(1000)) == plain(after if share == 1.0 else before)
    middle = log.follow(position)
    (folder / "run.idx").write_bytes(whole)
    for path in parts:
        path.unlink()
    last = log.follow(middle.position)
    assert [line.text for line in middle.lines + last.lines] == ["attempt 1 succeeded after 1.500 s"]


def test_text_without_its_index_is_not_shown_yet(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer puts the text there before its index: no half record is seen."""
    monkeypatch.setattr(pieces, "_FRESH_SECONDS", 3600.0)
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("a"), story.log("b\nsecond")], story.positions)
    index = home.folder() / "run.idx"
    whole = index.read_bytes()
    log, position = RunLog(home.folder()), ""

    index.write_bytes(whole[:-SIZE])
    assert [line.text for line in log.tail(1)] == ["a"]
    lines, position = followed(log, position)
    assert lines[-1].text == "a"
    index.write_bytes(whole)

    assert [line.text for line in log.follow(position).lines] == ["b\nsecond"]


def test_half_a_record_at_the_end_is_not_shown(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), story.log("a"), story.log("b\nsecond")], story.positions)
    damage(home.folder() / "run.idx", "missing")
    with (home.folder() / "run.log").open("ab") as file:
        file.write(b"[2023-11-14T22:13:20.001000Z] [INFO] [shop] hal")

    assert [(line.line, line.text) for line in RunLog(home.folder()).tail(2)] == [(1, "a"), (2, "b\nsecond")]


# Without a good index


def damage(index: Path, how: str) -> None:
    whole = index.read_bytes()
    middle = len(whole) // 2 // SIZE * SIZE
    content = {
        "missing": b"",
        "empty": b"",
        "short": whole[: middle + 5],
        "zeros": bytes(len(whole)),
        "noise": os.urandom(len(whole)),
        "hole": whole[: middle - 50 * SIZE] + bytes(100 * SIZE) + whole[middle + 50 * SIZE :],
        "shifted": whole[5:],
        "of another log": b"".join(whole[at : at + SIZE] for at in range(len(whole) - SIZE, -1, -SIZE)),
    }[how]
    index.write_bytes(content)
    if how == "missing":
        index.unlink()
    os.utime(index.with_name("run.log"), (1.7e9, 1.7e9))  # not being written


@pytest.mark.parametrize(
    "how", ["missing", "empty", "short", "zeros", "noise", "hole", "shifted", "of another log"]
)
def test_a_damaged_index_costs_no_line(folder: Path, how: str) -> None:
    log = RunLog(folder)
    before, middle = log.tail(100), log.range(100, 90, attempt=1)

    damage(folder / "run.idx", how)

    shown = log.tail(100)
    assert [line.text for line in shown] == [line.text for line in before]
    assert [line.line for line in shown] == [line.line for line in before]
    assert [line.text for line in log.range(100, 90, attempt=1)] == [line.text for line in middle]
    assert log.search("second 50").count == 1


def test_without_an_index_a_large_log_is_looked_through_at_its_end_only(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), *(story.log("x" * 500) for _ in range(12_000))], story.positions)
    (home.folder() / "run.idx").unlink()
    read = 0
    pread = os.pread

    def counted(*args: Any) -> bytes:
        nonlocal read
        found = pread(*args)
        read += len(found)
        return found

    monkeypatch.setattr(os, "pread", counted)

    lines = RunLog(home.folder()).tail(200)

    assert len(lines) == 200
    assert {line.line for line in lines} == {0}, "numbers are not known"
    assert read < 1 << 20


def test_no_log_is_said_so(home: Any) -> None:
    home.open()
    (home.runs / "empty").mkdir(mode=0o700)

    for name in ("empty", "nothing"):
        with pytest.raises(LogNotFound):
            RunLog(home.runs / name).tail(1)


def test_a_history_reads_as_it_was_told(home: Any) -> None:
    told = busy_story(20, seed=3)
    sink = home.open()
    for batch, positions in batches(told, 40):
        sink.apply(batch, positions)

    for run in {event.run for event in told if event.kind == events.LOG_WRITTEN}:
        lines = RunLog(home.folder(run)).tail(10_000, raw=True)
        wanted = [
            event.data["text"] for event in told if event.run == run and event.kind == events.LOG_WRITTEN
        ]
        assert [line.text for line in lines if line.stream == "log"] == wanted


def test_a_search_through_much_is_quick_enough_to_bound(home: Any) -> None:
    sink, story = home.open(), Story()
    sink.apply([story.started(), *(story.log("needle " * 40) for _ in range(20_000))], story.positions)

    started = time.process_time()
    found = RunLog(home.folder()).search("needle", seconds=0.2, limit=5)

    # Of the processor's time: a machine with much else to do may take any other.
    assert not found.complete or time.process_time() - started < 0.5
    assert found.count > 0 and len(found.lines) == 5
