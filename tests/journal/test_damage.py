"""Whatever happens to the bytes: only the damaged records are lost, and that is counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plet_celery.events import FORMAT
from plet_celery.journal_format import Record, encode, frame, salt_of, segment_name
from plet_celery.journal_reader import Batch, Reader, is_written, segments

WRITER = "0123456789abcdef" * 2
SALT = salt_of(WRITER, 1)


def _records(count: int = 24) -> list[bytes]:
    kinds = ["writer.started", "run.started", "log.written", "unknown.kind"]
    return [
        frame(
            encode(
                Record(
                    FORMAT, kinds[min(i, 2 + i % 2)], i, 1.5, 2.5, "run", "att", {"i": i, "t": "é" * (i % 9)}
                )
            ),
            SALT,
        )
        for i in range(count)
    ]


ORIGINAL = _records()
SIZE = sum(map(len, ORIGINAL))

edits = st.lists(
    st.one_of(
        st.tuples(st.just("truncate"), st.integers(0, SIZE), st.just(b"")),
        st.tuples(
            st.just("flip"), st.integers(0, SIZE), st.integers(0, 7).map(lambda bit: bytes([1 << bit]))
        ),
        st.tuples(
            st.just("insert"),
            st.integers(0, SIZE),
            st.one_of(
                st.binary(min_size=1, max_size=40),
                st.sampled_from(
                    [b"\x1e", b"\n", b"}\n", b"\x1e{", b"\x1e\x1e\n\x1e", ORIGINAL[3][5:-3], b"\0" * 300]
                ),
            ),
        ),
        st.tuples(st.just("delete"), st.integers(0, SIZE), st.integers(1, 300).map(bytes)),
    ),
    max_size=6,
)


def _edited(changes: list[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(b"".join(ORIGINAL))
    for how, at, what in changes:
        at = min(at, len(data))
        if how == "truncate":
            del data[at:]
        elif how == "delete":
            del data[at : at + len(what)]
        elif how == "insert":
            data[at:at] = what
        elif at < len(data):
            data[at] ^= what[0]
    return bytes(data)


def _whole(data: bytes) -> list[int]:
    """Return the records that still stand whole in the file, in their order there; no two are equal."""
    places = [(data.find(record), number) for number, record in enumerate(ORIGINAL)]
    return [number for place, number in sorted(places) if place >= 0]


def _read(directory: Path, data: bytes, chunk: int = 2000) -> Batch:
    path = directory / segment_name(WRITER, 1)
    path.write_bytes(data)
    os.utime(path, (1, 1))  # long ago: nobody is just about to lock it
    reader, whole = Reader(directory), Batch()
    while True:
        batch = reader.read(max_records=chunk)
        whole.events += batch.events
        whole.damaged += batch.damaged
        whole.records += batch.records
        whole.read_bytes += batch.read_bytes
        whole.headers |= batch.headers
        if not batch.more:
            assert reader.read().events == []
            assert reader.positions() in ({WRITER: (1, len(data))}, {})
            return whole


@settings(max_examples=400, deadline=None)
@given(changes=edits, chunk=st.sampled_from([1, 3, 2000]))
def test_a_reader_survives_damage(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, bytes]], chunk: int
) -> None:
    directory = tmp_path_factory.getbasetemp() / "damage"
    directory.mkdir(exist_ok=True)
    data = _edited(changes)
    whole = _whole(data)

    batch = _read(directory, data, chunk)

    assert [event.number for event in batch.events] == [number for number in whole if number != 0]
    assert [event.data["i"] for event in batch.events] == [number for number in whole if number != 0]
    assert bool(batch.headers) == (0 in whole)
    # Every byte is accounted for: a record, or damage.
    damaged = sum(damage.length for damage in batch.damaged)
    assert damaged == len(data) - sum(len(ORIGINAL[number]) for number in whole)
    assert batch.read_bytes == len(data)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3000))
def test_a_reader_survives_a_file_of_junk(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.getbasetemp() / "junk"
    directory.mkdir(exist_ok=True)

    batch = _read(directory, data)

    assert batch.events == []
    assert sum(damage.length for damage in batch.damaged) == len(data)


@pytest.mark.parametrize("junk", [b"x" * 1_000_000, b"\x1e" * 90_000, b"\n" * 300_000, b"\x1e{" * 50_000])
def test_much_junk_is_passed_in_bounded_memory(tmp_path: Path, junk: bytes) -> None:
    data = b"".join(ORIGINAL[:5]) + junk + b"".join(ORIGINAL[5:])

    batch = _read(tmp_path, data)

    assert [event.number for event in batch.events] == list(range(1, len(ORIGINAL)))
    # One entry a batch, not one for each mark.
    assert len(batch.damaged) <= 1 + len(junk) // 2000
    assert batch.damaged[0].offset == sum(map(len, ORIGINAL[:5]))
    assert sum(damage.length for damage in batch.damaged) == len(junk)


def test_damage_says_where_and_why(tmp_path: Path) -> None:
    broken = bytearray(b"".join(ORIGINAL[:4]))
    start = len(ORIGINAL[0])
    broken[start + 30] ^= 1

    (damage,) = _read(tmp_path, bytes(broken)).damaged

    assert (damage.writer, damage.segment, damage.offset) == (WRITER, 1, start)
    assert (damage.length, damage.reason, damage.pieces) == (len(ORIGINAL[1]), "checksum", 1)


def test_a_record_of_a_newer_version_inside_a_file_is_counted(tmp_path: Path) -> None:
    newer = frame(b'{"v":9,"k":"run.started","n":1,"t":1.0,"m":1.0}', SALT)

    batch = _read(tmp_path, ORIGINAL[0] + newer + ORIGINAL[1])

    assert [damage.reason for damage in batch.damaged] == ["version"]
    assert len(batch.events) == 1


@pytest.mark.parametrize(
    "content", [b"[]", b'{"v":1}', b'{"v":1,"k":5,"n":1,"t":1.0,"m":1.0}', b"{" * 500 + b"}" * 500]
)
def test_valid_frames_with_strange_content_are_counted(tmp_path: Path, content: bytes) -> None:
    batch = _read(tmp_path, ORIGINAL[0] + frame(content, SALT) + ORIGINAL[1])

    assert len(batch.damaged) == 1
    assert len(batch.events) == 1


def test_the_tail_of_a_living_writer_waits(journal: Path, new_writer: Any) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {"i": 1})
    segment = writer._delivery.segments.current
    record = frame(encode(Record(FORMAT, "run.succeeded", 9, 1.0, 1.0, "r", "a", {"i": 2})), segment.salt)
    reader = Reader(journal)
    assert len(reader.read().events) == 1

    for cut in (1, 20, len(record) - 1):
        os.write(segment.fd, record[:cut])
        waiting = reader.read()
        assert (waiting.events, waiting.damaged, waiting.positions, waiting.more) == ([], [], {}, False)
        os.ftruncate(segment.fd, os.fstat(segment.fd).st_size - cut)
    os.write(segment.fd, record)

    assert [event.data["i"] for event in reader.read().events] == [2]


def test_an_unfinished_tail_of_a_gone_writer_is_counted(journal: Path, new_writer: Any) -> None:
    writer = new_writer()
    writer.append("run.started", "r", "a", {"i": 1})
    segment = writer._delivery.segments.current
    os.write(segment.fd, b'\x1e{"c":"12345678","l":')
    reader = Reader(journal)
    assert reader.read().damaged == []

    writer.close()
    batch = reader.read()

    assert [damage.reason for damage in batch.damaged] == ["unfinished"]
    assert list(batch.positions.values()) == [(1, segment.path.stat().st_size)]


def test_what_follows_a_torn_record_is_read(journal: Path, new_writer: Any) -> None:
    """Of two threads on a full disk, one may be cut short while the other goes on."""
    writer = new_writer()
    writer.append("run.started", "r", "a", {"i": 1})
    os.write(writer._delivery.segments.current.fd, b'\x1e{"c":"12345678","l":')
    writer.append("run.succeeded", "r", "a", {"i": 2})

    batch = Reader(journal).read()

    assert [event.data["i"] for event in batch.events] == [1, 2]
    assert [damage.reason for damage in batch.damaged] == ["torn"]
    assert is_written(*segments(journal))
