"""Which files a reader takes, in what order, how far, and what it says about the rest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from services import missing

from plet_celery import journal_keeping, journal_reader
from plet_celery.events import FORMAT
from plet_celery.journal_format import Record, encode, frame, salt_of, segment_name
from plet_celery.journal_keeping import (
    QUARANTINE_MAX_FILES,
    is_gone,
    list_journal,
    quarantine_segment,
    retire_segment,
)
from plet_celery.journal_reader import Reader, is_written, segments

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32


def put(
    journal: Path, writer: str, number: int, count: int, *, version: int = FORMAT, header: bool = True
) -> Path:
    """Write a sealed segment with `count` events; `i` is their place in the writer."""
    salt = salt_of(writer, number)
    records = (
        [Record(version, "writer.started", 0, 1.0, 1.0, d={"pid": 7, "role": "child"})] if header else []
    )
    records += [
        Record(version, "log.written", i, 1.0 + i, 1.0, "run", "att", {"i": (number - 1) * 1000 + i})
        for i in range(count)
    ]
    path = journal / segment_name(writer, number)
    path.write_bytes(b"".join(frame(encode(record), salt) for record in records))
    os.utime(path, (1, 1))
    return path


def numbers(reader: Reader, **limits: int) -> list[tuple[str, int]]:
    """Read one batch; return (first digit of the writer, `i`) of each event."""
    return [(event.writer[0], event.data["i"]) for event in reader.read(**limits).events]


def test_segments_are_read_one_after_the_other(journal: Path) -> None:
    put(journal, ONE, 1, 2)
    put(journal, ONE, 2, 0)
    put(journal, ONE, 3, 2)

    reader = Reader(journal)
    batch = reader.read()

    assert [event.data["i"] for event in batch.events] == [0, 1, 2000, 2001]
    assert [(event.segment, event.number) for event in batch.events] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert batch.positions == reader.positions() == {ONE: (3, segments(journal)[2].size)}
    assert reader.backlog_bytes() == 0
    assert reader.read().positions == {}


def test_the_next_segment_waits_until_the_one_before_is_let_go_of(journal: Path, new_writer: Any) -> None:
    """A late write may still come into it, and order within a writer is a promise."""
    writer = new_writer()
    writer.append("log.written", "r", "a", {"i": 1})
    put(journal, str(writer.id), 2, 1)
    reader = Reader(journal)

    assert [event.data["i"] for event in reader.read().events] == [1]
    writer.append("log.written", "r", "a", {"i": 2})
    assert [event.data["i"] for event in reader.read().events] == [2]
    writer.close()
    assert [event.data["i"] for event in reader.read().events] == [1000]


def test_a_limit_on_records_ends_a_batch(journal: Path) -> None:
    put(journal, ONE, 1, 10)
    reader = Reader(journal)

    first = reader.read(max_records=4)

    assert (len(first.events), first.records, first.more) == (3, 4, True)
    assert numbers(reader, max_records=4) == [("1", 3), ("1", 4), ("1", 5), ("1", 6)]
    last = reader.read(max_records=100)
    assert (len(last.events), last.more) == (3, False)


def test_a_limit_on_bytes_ends_a_batch_but_one_record_always_fits(journal: Path) -> None:
    put(journal, ONE, 1, 10)
    reader = Reader(journal)

    seen = []
    for _ in range(11):
        batch = reader.read(max_bytes=1)
        assert batch.records == 1
        seen += [event.data["i"] for event in batch.events]

    assert seen == list(range(10))
    assert reader.read(max_bytes=1).more is False


def test_a_flood_of_one_writer_does_not_hide_the_others(journal: Path) -> None:
    put(journal, ONE, 1, 1000)
    put(journal, TWO, 1, 3)
    put(journal, THREE, 1, 3)
    reader = Reader(journal)

    writers = [{writer for writer, _ in numbers(reader, max_records=100)} for _ in range(4)]

    assert writers[0] == {"1"}
    assert writers[1] == {"2", "3", "1"}


def test_a_reader_goes_on_from_positions_and_can_go_back(journal: Path) -> None:
    put(journal, ONE, 1, 5)
    put(journal, ONE, 2, 5)
    reader = Reader(journal)
    reader.read(max_records=3)
    there = reader.positions()
    rest = numbers(reader)

    assert numbers(Reader(journal, there)) == rest
    reader.seek(there)
    assert numbers(reader) == rest


def test_removed_segments_are_a_gap_and_no_error(journal: Path) -> None:
    for number in (1, 2, 4, 7):
        put(journal, ONE, number, 1)
    put(journal, TWO, 3, 1)
    (journal / segment_name(ONE, 2)).unlink()

    batch = Reader(journal).read()

    assert len(batch.events) == 4
    assert batch.gaps == {ONE: 4, TWO: 2}


def test_a_segment_that_was_passed_and_removed_is_no_gap(journal: Path) -> None:
    put(journal, ONE, 1, 1)
    put(journal, ONE, 2, 1)
    reader = Reader(journal)
    reader.read()

    retire_segment(segments(journal)[0])
    put(journal, ONE, 3, 1)
    batch = reader.read()

    assert batch.gaps == {}
    assert len(batch.events) == 1


def test_a_writer_without_files_is_gone_and_its_position_stays(journal: Path) -> None:
    reader = Reader(journal, {ONE: (4, 100)})

    batch = reader.read()

    assert (batch.events, batch.gaps, batch.positions) == ([], {}, {})
    assert reader.positions() == {ONE: (4, 100)}
    assert reader.is_gone(ONE)


def test_a_missing_folder_is_an_empty_journal(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "missing")

    assert reader.read().events == []
    assert reader.writers() == []
    assert reader.backlog_bytes() == 0


def test_an_unknown_format_is_kept_unread_and_reported(journal: Path) -> None:
    put(journal, ONE, 1, 2)
    put(journal, ONE, 2, 2, version=2)
    put(journal, ONE, 3, 2)
    put(journal, TWO, 1, 1)
    reader = Reader(journal)

    for _ in range(2):
        batch = reader.read()
        assert batch.unsupported == {ONE: 2}
        assert batch.damaged == []
        assert batch.more is False
        assert reader.positions()[ONE] == (2, 0)
    assert reader.backlog_bytes() > 0


def test_unknown_kinds_and_keys_are_kept_or_passed_over(journal: Path) -> None:
    path = put(journal, ONE, 1, 0)
    core = b'{"v":1,"k":"shop.sold","n":1,"t":1.0,"m":1.0,"z":[1],"d":{"i":7}}'
    path.write_bytes(path.read_bytes() + frame(core, salt_of(ONE, 1)))

    (event,) = Reader(journal).read().events

    assert (event.kind, event.data) == ("shop.sold", {"i": 7})


def test_a_file_without_a_readable_header_is_still_read(journal: Path) -> None:
    put(journal, ONE, 1, 2, header=False)
    reader = Reader(journal)

    assert len(reader.read().events) == 2
    assert reader.header(ONE) is None


def test_a_header_is_found_at_any_time(journal: Path) -> None:
    put(journal, ONE, 3, 1)

    header = Reader(journal).header(ONE)

    assert header is not None
    assert (header.pid, header.role, header.parent) == (7, "child", None)
    assert Reader(journal).header(TWO) is None


def test_what_only_looks_like_a_segment_is_ignored_and_counted(journal: Path, tmp_path: Path) -> None:
    good = put(journal, ONE, 1, 1)
    outside = tmp_path / "outside"
    outside.write_bytes(good.read_bytes())
    (journal / segment_name(TWO, 1)).symlink_to(outside)
    (journal / segment_name(TWO, 2)).mkdir()
    os.mkfifo(journal / segment_name(TWO, 3))
    put(journal, TWO, 4, 1)
    os.link(journal / segment_name(TWO, 4), tmp_path / "second-name")
    misnamed = (f"w-{THREE}.1.plj", f"w-{'A' * 32}.00000001.plj", "w-x", "a.plj", "w-..x")
    for name in misnamed:
        (journal / name).write_bytes(good.read_bytes())
    (journal / "ship.lock").write_text("")
    (journal / "notes.txt").write_text("")
    reader = Reader(journal)

    batch = reader.read()

    assert [event.writer for event in batch.events] == [ONE]
    assert reader.ignored == {
        segment_name(TWO, 1): "symlink",
        segment_name(TWO, 2): "kind",
        segment_name(TWO, 3): "kind",
        segment_name(TWO, 4): "links",
        **dict.fromkeys(misnamed, "name"),
    }


def test_a_file_of_another_owner_is_ignored(journal: Path) -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root: only root gives files away")
    os.chown(put(journal, ONE, 1, 1), 12345, 12345)

    assert Reader(journal).read().events == []
    assert list_journal(journal).ignored == {segment_name(ONE, 1): "owner"}


def test_a_writer_is_alive_while_its_file_is_locked(journal: Path, new_writer: Any) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {})
    identity = str(writer.id)

    assert is_written(segments(journal)[0])
    assert not is_gone(journal, identity)
    # Asking does not take the lock away, nor does it take part in it.
    assert all(not is_gone(journal, identity) for _ in range(50))
    writer.close()
    assert is_gone(journal, identity)


def test_a_file_that_is_just_being_made_is_not_taken_for_abandoned(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_keeping, "_EMPTY_FOR", 3600.0)
    path = journal / segment_name(ONE, 1)
    path.touch()

    assert not is_gone(journal, ONE)
    os.utime(path, (1, 1))
    assert is_gone(journal, ONE)


def test_an_abandoned_file_does_not_hold_up_the_next(journal: Path) -> None:
    """An asynchronous exception may strike right behind the call that made it."""
    (journal / segment_name(ONE, 1)).touch()
    put(journal, ONE, 2, 1)

    assert numbers(Reader(journal)) == [("1", 1000)]


def test_retiring_twice_is_no_error(journal: Path) -> None:
    put(journal, ONE, 1, 1)
    (segment,) = segments(journal)

    assert retire_segment(segment) == segment.size
    assert retire_segment(segment) == 0
    assert segments(journal) == []


def test_a_quarantine_is_bounded_and_the_oldest_go_first(journal: Path) -> None:
    gone = 0
    for number in range(1, QUARANTINE_MAX_FILES + 6):
        os.utime(put(journal, ONE, number, 1), (number, number))
        (segment,) = segments(journal)
        gone += quarantine_segment(journal, segment)

    kept = sorted(path.name for path in (journal / "quarantine").iterdir())
    assert gone == 5
    assert len(kept) == QUARANTINE_MAX_FILES
    assert kept[0] == segment_name(ONE, 6)
    assert segments(journal) == []
    assert quarantine_segment(journal, segment) == 0


def test_a_quarantine_holds_at_most_64_mib(journal: Path) -> None:
    removed = 0
    for number in (1, 2, 3):
        path = journal / segment_name(ONE, number)
        path.touch()
        os.truncate(path, 30 << 20)
        os.utime(path, (number, number))
        (segment,) = segments(journal)
        removed += quarantine_segment(journal, segment)

    assert removed == 1
    assert [path.name for path in sorted((journal / "quarantine").iterdir())] == [
        segment_name(ONE, 2),
        segment_name(ONE, 3),
    ]


def test_passed_and_silent_files_are_not_asked_again(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(journal, ONE, 1, 1)
    put(journal, ONE, 2, 1)
    put(journal, TWO, 1, 1)
    reader = Reader(journal)
    assert len(reader.read().events) == 3
    reader.read()

    put(journal, THREE, 1, 1)
    asked: list[str] = []
    really = journal_keeping._list_one

    def listing(*arguments: Any) -> None:
        asked.append(arguments[2].name)
        really(*arguments)

    monkeypatch.setattr(journal_keeping, "_list_one", listing)
    batch = reader.read()

    assert [event.writer for event in batch.events] == [THREE]
    assert asked == [segment_name(THREE, 1)]
    assert reader.backlog_bytes() == 0
    assert set(reader.writers()) == {ONE, TWO, THREE}


def test_a_silent_living_writer_is_still_heard(journal: Path, new_writer: Any) -> None:
    writer = new_writer()
    writer.append("log.written", "r", "a", {"i": 1})
    (segment,) = segments(journal)
    os.utime(segment.path, (1, 1))
    reader = Reader(journal)
    assert len(reader.read().events) == 1
    reader.read()

    writer.append("log.written", "r", "a", {"i": 2})

    assert [event.data["i"] for event in reader.read().events] == [2]


def test_a_backlog_of_many_files_is_listed_once(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        put(journal, f"{number:032x}", 1, 5)
    reader = Reader(journal)
    listed: list[int] = []
    really = journal_keeping.list_journal

    def listing(*arguments: Any) -> Any:
        listed.append(1)
        return really(*arguments)

    monkeypatch.setattr(journal_reader, "list_journal", listing)
    seen = 0
    while True:
        batch = reader.read(max_records=20)
        seen += len(batch.events)
        if not batch.more:
            break

    assert seen == 200
    assert listed == [1]


def test_forgotten_writers_leave_no_position(journal: Path) -> None:
    reader = Reader(journal, {ONE: (3, 10), TWO: (1, 5)})

    reader.forget([ONE, THREE])

    assert reader.positions() == {TWO: (1, 5)}
