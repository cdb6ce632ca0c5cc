"""What is appended is read again, with its identity, its header and the counts of what was dropped."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from services import missing

from plet_celery.events import CUT, RECORD_MAX
from plet_celery.journal import Writer, WriterLimits
from plet_celery.journal_format import salt_of, unframe
from plet_celery.journal_reader import Batch, Reader, segments

ReadAll = Callable[[Path], Batch]


def test_an_event_is_read_as_it_was_written(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()

    assert writer.append("run.started", "run-1", "attempt-1", {"task": "shop.load", "retries": 0})
    assert writer.append("worker.started", None, None, {})

    started, worker = read_all(journal).events
    assert (started.kind, started.run, started.attempt) == ("run.started", "run-1", "attempt-1")
    assert started.data == {"task": "shop.load", "retries": 0}
    assert (started.writer, started.segment) == (writer.id, 1)
    assert (worker.kind, worker.run, worker.attempt, worker.data) == ("worker.started", None, None, {})
    assert started.offset < worker.offset
    assert started.wall <= worker.wall
    assert started.mono <= worker.mono
    assert started.number < worker.number


def test_nothing_is_opened_before_the_first_append(journal: Path, new_writer: Any) -> None:
    writer = new_writer()

    assert writer.id is None
    assert segments(journal) == []
    writer.append("run.started", "r", "a", {})
    assert len(str(writer.id)) == 32
    assert [segment.writer for segment in segments(journal)] == [writer.id]


def test_a_file_begins_with_who_writes_it(journal: Path, read_all: ReadAll) -> None:
    writer = Writer(journal, role="worker", settings_fingerprint="abc123", parent="f" * 32)
    writer.append("worker.started", None, None, {})

    batch = read_all(journal)

    header = batch.headers[str(writer.id)]
    assert (header.role, header.settings, header.parent, header.pid) == (
        "worker",
        "abc123",
        "f" * 32,
        os.getpid(),
    )
    assert header.journal == json.loads((journal / "journal.json").read_text())["journal_id"]
    assert header.started <= batch.events[0].wall
    assert Reader(journal).header(str(writer.id)) == header
    writer.close()


def test_files_are_private_whatever_the_umask(journal: Path, new_writer: Any) -> None:
    old = os.umask(0o277)
    try:
        new_writer(reserve_bytes=4096).append("run.started", "r", "a", {})
    finally:
        os.umask(old)

    (segment,) = segments(journal)
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.stat().st_mode) == 0o700


def test_a_full_file_is_followed_by_the_next(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer(segment_max_bytes=8192)

    for i in range(500):
        assert writer.append("log.written", "r", "a", {"i": i, "text": "x" * 50})

    sizes = [segment.size for segment in segments(journal)]
    assert len(sizes) > 10
    assert all(size < 8192 + 400 for size in sizes)
    assert [event.data["i"] for event in read_all(journal).events] == list(range(500))
    assert Reader(journal).is_gone(str(writer.id)) is False


def test_what_is_dropped_rides_in_the_next_record(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {})

    writer.drop("rate_limit", 3)
    writer.drop("rate_limit")
    writer.drop("shed_log", 2)
    writer.append("run.succeeded", "r", "a", {})
    writer.append("run.started", "r2", "a2", {})

    assert read_all(journal).drops == {writer.id: {"rate_limit": 4, "shed_log": 2}}


def test_what_is_dropped_last_is_told_at_the_end(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {})
    identity = writer.id
    writer.drop("rate_limit", 7)

    writer.close()

    batch = read_all(journal)
    assert batch.drops == {identity: {"rate_limit": 7}}
    assert batch.events[-1].kind == "events.dropped"
    assert batch.events[-1].data == {"count": 7, "reasons": {"rate_limit": 7}}


def test_a_closed_writer_is_gone_and_begins_anew(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {"i": 1})
    first = str(writer.id)

    writer.close()
    assert Reader(journal).is_gone(first)
    assert writer.append("run.started", "r", "a", {"i": 2})

    assert writer.id not in (None, first)
    assert {event.data["i"] for event in read_all(journal).events} == {1, 2}


def _twice() -> list[Any]:
    inner: list[Any] = []
    inner += [inner, inner]
    return inner


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"text": "a\ud800b"}, {"text": "a\ufffdb"}),
        ({"text": "a\0b"}, {"text": "a\ufffdb"}),
        ({"text": "literally \\u0000"}, {"text": "literally \\u0000"}),
        ({"text": "a\x1eb\nc"}, {"text": "a\x1eb\nc"}),
        ({"value": object()}, {"value": "<object>"}),
        ({"value": {1: {2}}}, {"value": {"1": [2]}}),
    ],
)
def test_what_is_no_json_is_replaced(
    journal: Path, new_writer: Any, read_all: ReadAll, data: dict[str, Any], expected: dict[str, Any]
) -> None:
    writer = new_writer()

    for _ in range(2):  # the careful way, then the short one
        assert writer.append("log.written", "r", "a", data)

    assert [event.data for event in read_all(journal).events] == [expected, expected]


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * 200_000},
        {"text": "\x01" * 60_000, "level": 20},
        {f"key{i}": "y" * 1000 for i in range(150)},
        {"k" * 300 * i: i for i in range(1, 190)},
        {"value": [["z" * 500] * 100] * 10, "task": "t"},
        {"value": _twice()},
        {"value": 1 << 100_000},
    ],
)
def test_a_record_stays_below_its_limit(
    journal: Path, new_writer: Any, read_all: ReadAll, data: dict[str, Any]
) -> None:
    writer = new_writer()

    for _ in range(2):
        assert writer.append("log.written", "r", "a", data)
    writer.drop("rate_limit")
    assert writer.append("log.written", "r", "a", data)

    batch = read_all(journal)
    assert len(batch.events) == 3
    assert batch.damaged == []
    assert segments(journal)[0].size < 3 * RECORD_MAX + 1000


def test_a_cut_leaves_the_small_fields_and_a_mark(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()

    frames = [{"file": "f" * 100, "line": i} for i in range(900)]
    writer.append("run.failed", "r", "a", {"by": "child", "runtime": 1.5, "error": {"t": "x" * 90_000}})
    writer.append("run.failed", "r" * 20_000, "a", {"by": "child", "frames": frames, "why": "y" * 70_000})

    first, second = read_all(journal).events
    assert (first.data["by"], first.data["runtime"]) == ("child", 1.5)
    assert CUT in str(first.data["error"])
    assert second.data["by"] == "child"
    assert second.run is not None
    assert second.run.startswith("rrr")
    assert len(second.run) < 400


def test_two_overlong_ids_stay_two(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()

    for last in "ab":
        writer.append("run.started", "r" * 70_000 + last, "a", {})

    assert len({event.run for event in read_all(journal).events}) == 2


def test_a_big_integer_is_no_failure(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()

    assert writer.append("metadata.set", "r", "a", {"value": 1 << 80})

    assert len(read_all(journal).events) == 1


def test_a_journal_is_a_json_text_sequence(journal: Path, new_writer: Any) -> None:
    """RFC 7464: split at 0x1E, each element is JSON and ends in a newline."""
    writer = new_writer()
    for text in ("one\ntwo", "\x1e{}\n", "ünïcödé", "\u2028"):
        writer.append("log.written", "r", "a", {"text": text})

    (segment,) = segments(journal)
    before, *elements = segment.path.read_bytes().split(b"\x1e")

    assert before == b""
    assert all(element.endswith(b"\n") and element.count(b"\n") == 1 for element in elements)
    records = [json.loads(element) for element in elements]
    assert [record["k"] for record in records] == ["writer.started"] + 4 * ["log.written"]
    assert [record["l"] for record in records] == [len(element) + 1 for element in elements]


def test_jq_reads_a_journal(journal: Path, new_writer: Any) -> None:
    writer = new_writer()
    writer.append("log.written", "r", "a", {"text": "hello\nworld"})
    (segment,) = segments(journal)

    try:
        command = ["jq", "--seq", "-r", 'select(.k == "log.written") | .d.text', str(segment.path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        missing("jq", "apt-get install jq")

    assert done.stdout.strip("\x1e\n") == "hello\nworld"


def test_a_record_of_another_file_does_not_validate(journal: Path, new_writer: Any) -> None:
    one, other = new_writer(), new_writer()
    for writer in (one, other):
        writer.append("run.started", "r", "a", {"i": 1})
    first, second = segments(journal)
    element = first.path.read_bytes().split(b"\x1e")[-1]

    assert not isinstance(unframe(element, salt_of(first.writer, 1)), str)
    assert unframe(element, salt_of(second.writer, 1)) == "checksum"
    assert unframe(element, salt_of(first.writer, 2)) == "checksum"


def test_an_end_is_on_the_disk_when_asked_for(
    journal: Path, new_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    really = os.fdatasync

    def sync(fd: int) -> None:
        synced.append(fd)
        really(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    writer = new_writer(durability="terminal")
    plain = new_writer()

    for each in (writer, plain):
        for kind in ("run.started", "log.written", "run.succeeded", "run.started", "run.failed"):
            each.append(kind, "r", "a", {})

    assert len(synced) == 2


def test_a_failed_sync_ends_the_file(
    journal: Path, new_writer: Any, read_all: ReadAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    writer = new_writer(durability="terminal")
    writer.append("run.started", "r", "a", {"i": 0})
    # A system call's error carries no frame of another module; a lambda's would look like a signal handler's.
    monkeypatch.setattr("plet_celery.journal_delivery.from_system", lambda error: True)
    monkeypatch.setattr(os, "fdatasync", fail)

    assert writer.append("run.failed", "r", "a", {"i": 1})
    monkeypatch.undo()
    assert writer.append("run.started", "r", "a", {"i": 2})

    assert [segment.number for segment in segments(journal)] == [1, 2]
    assert [event.data["i"] for event in read_all(journal).events] == [0, 1, 2]


def test_a_removed_file_is_left_within_a_second(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {"i": 0})
    (segment,) = segments(journal)
    segment.path.unlink()
    writer._delivery.look_at = 0.0  # as if the second had passed

    assert writer.append("run.started", "r", "a", {"i": 1})

    assert [event.data["i"] for event in read_all(journal).events] == [1]


def test_default_limits_are_those_of_the_settings() -> None:
    from plet_celery.settings import Settings

    limits, fields = WriterLimits(), Settings.model_fields
    for name in (
        "segment_max_bytes",
        "journal_max_bytes",
        "min_free_bytes",
        "min_free_percent",
        "durability",
    ):
        assert getattr(limits, name) == fields[name].default
