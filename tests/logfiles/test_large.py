"""A log of 1 GiB is read at its end or near a line, never as a whole."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from plet_celery.logfiles import RunLog, index, text

GIB = 1 << 30
LENGTH = 1 << 10
LINES = GIB // LENGTH
MOST = 1 << 20


def record(number: int) -> bytes:
    stamp, _ = text.Clock().at(1_700_000_000.0 + number)
    raw = text.record(stamp, "[INFO] [shop]", f"line {number} ")
    return raw[:-1] + b"." * (LENGTH - len(raw)) + b"\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse 1 GiB log of 1 KiB lines; only those near the places read are really there."""
    found = tmp_path_factory.mktemp("large") / "run"
    found.mkdir(mode=0o700)
    with (found / "run.log").open("wb") as log:
        os.truncate(log.fileno(), GIB)
        for first in (0, 500_000, LINES - 1000):
            log.seek(first * LENGTH)
            log.write(b"".join(record(number) for number in range(first + 1, first + 1001)))
    pack = struct.Struct("<QdIIHHBBH").pack
    with (found / "run.idx").open("wb") as entries:
        for at in range(0, LINES, 1 << 16):
            entries.write(
                b"".join(
                    pack(number * LENGTH, 1_700_000_001.0 + number, number + 1, LENGTH, 1, 0, 20, 0, 3)
                    for number in range(at, at + (1 << 16))
                )
            )
    for path in found.iterdir():
        path.chmod(0o600)
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads."""
    sizes: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        found = pread(descriptor, length, offset)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", counted)
    return sizes


def test_the_last_200_lines(folder: Path, read: list[int]) -> None:
    lines = RunLog(folder).tail(200)

    assert [line.line for line in lines] == list(range(LINES - 199, LINES + 1))
    assert lines[-1].text.startswith(f"line {LINES} ")
    assert sum(read) <= MOST
    assert len(read) < 20


def test_lines_near_a_number(folder: Path, read: list[int]) -> None:
    lines = RunLog(folder).range(500_100, 200)

    assert [line.line for line in lines] == list(range(500_100, 500_300))
    assert lines[0].text.startswith("line 500100 ")
    assert sum(read) <= MOST


def test_the_count_and_the_beginning(folder: Path, read: list[int]) -> None:
    log = RunLog(folder)

    assert log.line_count() == LINES
    assert log.range(1, 5)[4].text.startswith("line 5 ")
    assert log.follow(log.position()).lines == []
    assert sum(read) <= MOST


def test_a_level_filter_reads_the_index_only(folder: Path, read: list[int]) -> None:
    assert RunLog(folder).tail(10, level=40) == []

    assert sum(read) <= LINES * index.SIZE + MOST


def test_the_last_200_lines_without_an_index(folder: Path, read: list[int]) -> None:
    (folder / "run.idx").rename(folder / "away")
    try:
        lines = RunLog(folder).tail(200)
    finally:
        (folder / "away").rename(folder / "run.idx")

    assert lines[-1].text.startswith(f"line {LINES} ")
    assert len(lines) == 200
    assert sum(read) <= MOST
