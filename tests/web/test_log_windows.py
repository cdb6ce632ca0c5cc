"""Windows on a run's log are the same from files, from their copy in the mirror, and from the store."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from removing import Host
from runs_told import Story
from storing import new_store

from plet_celery import events
from plet_celery.errors import RunNotFound
from plet_celery.logfiles import text
from plet_celery.logsources.source import LogSource
from plet_celery.logsources.window import Hits, LogFilter, Window
from plet_celery.logsources.windows import LogWindows
from plet_celery.store import IngestLimits, Store, queries


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def host(store: Store, tmp_path: Path, share: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "a", name="atlas", mirror=share)
    yield made
    made.close()


@dataclass
class Told:
    """A run, and how it can be read."""

    windows: LogWindows
    kind: str


def told_run(host: Host) -> str:
    """Tell a run of 100 lines with stages, levels and streams; it fails."""
    story = Story()
    told = [story.start(host), story.event(host, events.STAGE_STARTED, stage=1, name="load")]
    for number in range(1, 101):
        if number == 41:
            told.append(story.event(host, events.STAGE_STARTED, stage=2, name="parse", parent=1))
        if number == 61:
            told.append(story.event(host, events.STAGE_SUCCEEDED, stage=2, done=1, elapsed=0.1))
            told.append(story.event(host, events.STAGE_SUCCEEDED, stage=1, done=1, elapsed=0.1))
        told.append(
            story.log(
                host,
                f"line {number}",
                level=40 if number in (50, 70) else 20,
                stream="stdout" if number % 10 == 0 else "log",
                stage=2 if 41 <= number <= 60 else 1 if number <= 40 else None,
            )
        )
    host.tell([*told, story.end(host, events.RUN_FAILED)])
    return story.run


@pytest.fixture(params=["file", "mirror", "store"])
def windows(request: pytest.FixtureRequest, host: Host, store: Store, share: Path, tmp_path: Path) -> Told:
    """The same run from each of the three places."""
    run = queries.get_run(store, told_run(host))
    assert host.mirror is not None
    host.mirror.turn()
    runs = host.runs if request.param == "file" else tmp_path / "elsewhere"
    mirror = str(share) if request.param == "mirror" else None
    return Told(LogWindows(runs, store, run, mirror=mirror), request.param)


def numbers(window: Window) -> list[int]:
    return [line.line for line in window.lines if line.stream not in ("plet", "gap")]


def test_a_window_is_by_line_numbers(windows: Told) -> None:
    window = windows.windows.window(1, 31, 20)

    assert numbers(window) == list(range(31, 51))
    assert (window.first, window.last, window.total) == (31, 50, 100)
    assert window.source.kind == windows.kind
    assert windows.windows.line_count(1) == 100
    assert (window.source.as_of is not None) == (windows.kind == "mirror")


def test_windows_meet_in_both_directions(windows: Told) -> None:
    here = windows.windows
    forward = [here.window(1, at, 30) for at in (1, 31, 61, 91)]
    whole = here.window(1, 1, 1000)

    assert [line.text for window in forward for line in window.lines] == [line.text for line in whole.lines]
    backward: list[int] = []
    at = 101
    while at > 1:
        window = here.before(1, at, 30)
        backward = numbers(window) + backward
        at = window.first
    assert backward == list(range(1, 101))
    assert numbers(here.before(1, 1, 30)) == []


def test_around_the_first_line_nothing_is_told_twice(windows: Told) -> None:
    here = windows.windows

    assert here.around(1, 1, 20).lines == here.window(1, 1, 20).lines


def test_the_end(windows: Told) -> None:
    window = windows.windows.last(10)

    assert numbers(window)[-1] == 100
    assert len(window.lines) == 10


def test_around_a_line_and_the_first_error(windows: Told) -> None:
    here = windows.windows
    window = here.around(1, 50, 20)

    assert (window.first <= 45, window.last >= 55, window.is_start, window.is_end) == (
        True,
        True,
        False,
        False,
    )
    assert [here.next_error(1, at) for at in (0, 50)] == [50, 70]
    # The end of the run is a note in the files, behind its last line; the store keeps lines only.
    assert here.next_error(1, 70) == (None if windows.kind == "store" else 100)


def test_whether_more_passes_a_filter_is_known(windows: Told) -> None:
    here, errors = windows.windows, LogFilter(level=40)

    ends = [
        (one.is_start, one.is_end) for one in (here.window(1, 1, 1, errors), here.window(1, 51, 9, errors))
    ]

    assert ends == [(True, False), (False, True)]
    assert here.window(1, 1, 9, LogFilter(level=50)).is_end


def test_filters(windows: Told) -> None:
    here = windows.windows

    assert numbers(here.window(1, 1, 100, LogFilter(level=40))) == [50, 70]
    assert numbers(here.before(1, 70, 9, LogFilter(level=40))) == [50]
    assert numbers(here.window(1, 1, 100, LogFilter(streams=("stdout",)))) == list(range(10, 101, 10))
    assert numbers(here.window(1, 1, 3, LogFilter(stage="parse"))) == [41, 42, 43]
    assert numbers(here.window(1, 1, 100, LogFilter(stage="load"))) == list(
        range(1, 61)
    )  # with what lies in it
    assert numbers(here.window(1, 1, 100, LogFilter(stage="2", level=40))) == [50]
    assert here.window(1, 1, 100, LogFilter(stage="no such")).lines == []
    assert here.stages(1) == [(1, "load", 0), (2, "parse", 1)]
    assert here.stage_name(1, 2) == "parse"


def test_the_records_as_written(windows: Told) -> None:
    pieces, at = [], 0
    while piece := windows.windows.text(1, at, 1000):
        pieces.append(piece)
        at += len(piece)

    lines = b"".join(pieces).decode().splitlines()
    assert len([line for line in lines if "] line " in line]) == (0 if windows.kind == "store" else 100)


def found_in(windows: LogWindows, needle: str, *wanted: LogFilter, **more: Any) -> Hits:
    """Search to the end, on a busy machine too."""
    return windows.search(needle, *wanted, seconds=60.0, **more)


def test_search(windows: Told) -> None:
    here = windows.windows

    found = found_in(here, "LINE 5")
    assert (found.count, found.reached) == (11, None)
    assert found.places == [(1, 5), *((1, number) for number in range(50, 60))]
    assert found_in(here, "line 5", LogFilter(level=40)).places == [(1, 50)]
    assert found_in(here, "line 5", LogFilter(stage="parse", streams=("stdout",))).places == [(1, 50)]
    assert found_in(here, "line 5", start=(1, 55)).places == [(1, number) for number in range(55, 60)]
    limited = found_in(here, "line", limit=3)
    assert (len(limited.places), limited.count) == (3, 100)
    assert found_in(here, "").count == 0
    assert found_in(here, "nowhere").places == []


def test_what_comes_is_told_once(host: Host, store: Store, share: Path, tmp_path: Path) -> None:
    """From a file, from the mirror, and where only the store has it."""
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])
    assert host.mirror is not None
    host.mirror.turn()

    def reader(kind: str) -> LogWindows:
        run = queries.get_run(store, story.run)
        runs = host.runs if kind == "file" else tmp_path / "elsewhere"
        return LogWindows(runs, store, run, mirror=str(share) if kind == "mirror" else None)

    positions = {kind: reader(kind).window(1, 1, 100).position for kind in ("file", "mirror", "store")}
    for words in ("two", "three"):
        host.tell([story.log(host, words, level=30)])
        host.mirror.turn()
        for kind, position in positions.items():
            found = reader(kind).follow(position)
            assert [(line.attempt, line.text) for line in found.lines] == [(1, words)]
            positions[kind] = found.position
            assert reader(kind).follow(position, wanted=LogFilter(level=40)).lines == []
    for kind, position in positions.items():
        assert reader(kind).follow(position).lines == []
        assert len(reader(kind).follow("~nonsense_9:x~s1_" + "9" * 5000).lines) >= 3


def test_following_from_the_store_into_the_file_tells_nothing_twice(
    host: Host, store: Store, tmp_path: Path
) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one"), story.log(host, "two")])
    run = queries.get_run(store, story.run)
    position = LogWindows(tmp_path / "elsewhere", store, run).last(10).position
    host.tell([story.log(host, "three")])

    found = LogWindows(host.runs, store, queries.get_run(store, story.run)).follow(position)

    assert [line.text for line in found.lines] == ["three"]


def test_attempts_of_two_hosts_have_the_numbers_of_the_run(
    host: Host, store: Store, tmp_path: Path, share: Path
) -> None:
    """Each host counts the attempts that it has seen; the run has three."""
    other, story = Host(store, tmp_path / "b", name="borea", mirror=share), Story()
    for number, place in enumerate((host, other, host), 1):
        told = [story.start(place, retries=number - 1), story.log(place, f"try {number}")]
        told.append(story.end(place, events.RUN_RETRIED if number < 3 else events.RUN_SUCCEEDED))
        place.tell(told)
        assert place.mirror is not None
        place.mirror.turn()
    other.close()
    run = queries.get_run(store, story.run)

    here = LogWindows(host.runs, store, run, mirror=str(share))

    assert here.attempts == [1, 2, 3]
    assert [here.source(number).kind for number in here.attempts] == ["file", "mirror", "file"]
    for number in here.attempts:
        lines = [line for line in here.window(number, 1, 9).lines if line.stream == "log"]
        assert [(line.attempt, line.text) for line in lines] == [(number, f"try {number}")]
    assert found_in(here, "try").places == [(1, 1), (2, 1), (3, 1)]
    assert sorted({line.attempt for line in here.follow("").lines}) == [1, 2, 3]
    assert [line.text for line in here.last(2).lines if line.stream == "log"] == ["try 3"]
    without = LogWindows(host.runs, store, run)
    assert [without.source(number).kind for number in without.attempts] == ["file", "store", "file"]


def test_what_has_not_reached_the_mirror_comes_from_the_store(
    host: Host, store: Store, share: Path, tmp_path: Path
) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])
    assert host.mirror is not None
    host.mirror.turn()
    story.line = 7
    host.tell([story.log(host, "eight"), story.log(host, "nine")])
    here = LogWindows(tmp_path / "b", store, queries.get_run(store, story.run), mirror=str(share))

    window = here.window(1, 1, 100)

    assert [line.text for line in window.lines if line.stream != "plet"] == [
        "one",
        "— 6 lines have not reached the mirror —",
        "eight",
        "nine",
    ]
    assert (window.total, window.copied) == (9, 1)
    assert [line.text for line in here.last(1).lines] == ["nine"]
    assert [line.text for line in here.before(1, 9, 2).lines][-1] == "eight"
    assert found_in(here, "e").places == [(1, 0), (1, 1), (1, 8), (1, 9)]  # 0: "attempt 1 started"


def test_a_log_that_is_gone_is_a_fact(host: Host, store: Store) -> None:
    """Its folder is removed, and the store keeps no text."""
    story = Story()
    told = [story.start(host), story.log(host, "one"), story.end(host)]
    host.tell(told, limits=IngestLimits(log_head_bytes=0, log_tail_bytes=0))
    run = queries.get_run(store, story.run)
    shutil.rmtree(host.runs)

    window = LogWindows(host.runs, store, run).last(100)

    assert (window.source.kind, window.source.why, window.total) == ("none", "gone", 1)
    assert [line.text for line in window.lines] == ["— 1 line is not kept here —"]


def test_a_folder_that_is_not_ours_gives_way_to_the_store(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])
    (log,) = host.runs.rglob("run.log")
    log.rename(log.with_name("away"))
    log.symlink_to(log.with_name("away"))

    window = LogWindows(host.runs, store, queries.get_run(store, story.run)).last(100)

    assert (numbers(window), window.source.kind) == ([1], "store")


def test_a_run_that_has_said_nothing(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host), story.end(host)])
    here = LogWindows(host.runs, store, queries.get_run(store, story.run))

    assert (here.last(9).lines, here.last(9).source.why) == ([], "silent")
    assert here.window(99, 1, 5).lines == []
    assert here.follow("").lines == []


def test_an_error_that_was_found_stays_the_first_one(host: Host, store: Store) -> None:
    story = Story()
    host.tell([story.start(host), story.log(host, "one")])
    here = LogWindows(host.runs, store, queries.get_run(store, story.run))
    nothing = here.next_error(1, 0)
    host.tell([story.log(host, "two", level=40)])
    found = here.next_error(1, 0)
    (log,) = host.runs.rglob("run.log")
    log.unlink()

    assert (nothing, found, here.next_error(1, 0)) == (None, 2, 2)


def test_another_tenants_log_is_not_found(host: Host, store: Store) -> None:
    run = queries.get_run(store, host.run(tenant="acme/north"))

    for allowed in (["acme"], ["beta", "acme/north"], None):
        assert LogWindows(host.runs, store, run, tenants=allowed).attempts == [1]
    for refused in (["acme/south"], ["acm"], []):
        with pytest.raises(RunNotFound):
            LogWindows(host.runs, store, run, tenants=refused)


# Large logs

LENGTH = 1 << 10
LINES = 1 << 20


@pytest.fixture
def large(host: Host, store: Store) -> LogWindows:
    """A run whose log is 1 GiB: a million lines; only those near the places read are really there."""
    story = Story()
    host.tell([story.start(host), story.log(host, "x"), story.end(host)])
    (log,) = host.runs.rglob("run.log")

    def record(number: int) -> bytes:
        stamp, _ = text.Clock().at(story.now + number)
        raw = text.record(stamp, "[INFO] [shop]", f"line {number} ")
        return raw[:-1] + b"." * (LENGTH - len(raw)) + b"\n"

    with log.open("wb") as file:
        os.truncate(file.fileno(), LINES * LENGTH)
        for first in (0, 500_000, LINES - 2000):
            file.seek(first * LENGTH)
            file.write(b"".join(record(number) for number in range(first + 1, first + 2001)))
    pack = struct.Struct("<QdIIHHBBH").pack
    with log.with_name("run.idx").open("wb") as entries:
        for at in range(0, LINES, 1 << 16):
            entries.write(
                b"".join(
                    pack(number * LENGTH, story.now + number, number + 1, LENGTH, 1, 0, 20, 0, 3)
                    for number in range(at, at + (1 << 16))
                )
            )
    return LogWindows(host.runs, store, queries.get_run(store, story.run))


def test_windows_of_a_large_log_read_a_little_of_it(
    large: LogWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        found = pread(descriptor, length, offset)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", counted)

    assert numbers(large.last(1000)) == list(range(LINES - 999, LINES + 1))
    assert numbers(large.window(1, 500_100, 1000)) == list(range(500_100, 501_100))
    assert numbers(large.before(1, 501_000, 500)) == list(range(500_500, 501_000))
    assert numbers(large.around(1, 501_000, 100)) == list(range(500_950, 501_050))
    assert sum(sizes) <= 4 << 20


def test_a_search_that_runs_out_of_time_says_how_far_it_came(large: LogWindows) -> None:
    found = large.search("line", seconds=0.02, limit=50)

    assert found.reached is not None
    assert len(found.places) <= 50
    on = large.search("line 500", start=(1, 499_990), seconds=20.0, limit=5)
    assert on.places[0] == (1, 500_001)


def test_the_terminal_numbers_attempts_of_two_hosts_as_the_run_does(
    host: Host, share: Path, store: Store, tmp_path: Path
) -> None:
    other, story = Host(store, tmp_path / "b", name="borea", mirror=share), Story()
    for number, place in enumerate((host, other, host), 1):
        end = events.RUN_RETRIED if number < 3 else events.RUN_SUCCEEDED
        started = story.start(place, retries=number - 1)
        stage = story.event(place, events.STAGE_STARTED, stage=1, name="load")
        log = story.log(place, f"try {number}", stage=1)
        place.tell([started, *([stage] if number > 1 else []), log, story.end(place, end)])
        assert place.mirror is not None
        place.mirror.turn()
    run = queries.get_run(store, story.run)
    expected = [(number, f"try {number}") for number in (1, 2, 3)]

    for runs in (host.runs, other.runs, tmp_path / "nowhere"):
        for count in (50, None):
            source = LogSource(runs, store, run, mirror=str(share))
            told = [(one.attempt, one.text) for one in source.history(count) if one.stream == "log"]
            assert told == expected, (runs, count)
        load = LogSource(runs, store, run, mirror=str(share), stage="load")
        assert [(one.attempt, one.text) for one in load.tail(50) if one.stream == "log"] == expected[1:]
    other.close()


def test_a_run_of_many_attempts_is_followed_without_telling_a_line_twice(
    host: Host, store: Store, tmp_path: Path
) -> None:
    """From the store: each attempt without a folder is a part of the position."""
    story, tries = Story(), 400
    for number in range(1, tries + 1):
        end = story.end(host, events.RUN_RETRIED) if number > 1 else None
        host.tell(
            [*([end] if end else []), story.start(host, retries=number - 1), story.log(host, f"try {number}")]
        )

    def windows() -> LogWindows:
        return LogWindows(tmp_path / "elsewhere", store, queries.get_run(store, story.run))

    position = windows().last(10).position
    assert len(position) < 8000
    again = windows().follow(position)
    assert again.lines == []

    host.tell([story.log(host, "more")])

    assert [line.text for line in windows().follow(again.position).lines] == ["more"]
