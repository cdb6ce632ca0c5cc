"""SIGKILL at any moment: every acknowledged event is read, none twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from plet_celery.journal_reader import Batch, Reader

SCRIPT = Path(__file__).with_name("kills.py")


def _killed(journal: Path, kills: int, how: str) -> list[list[int]]:
    command = [sys.executable, str(SCRIPT), str(journal), str(kills), "5", how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    acknowledged: list[list[int]] = json.loads(done.stdout)
    return acknowledged


def _lost(acknowledged: list[list[int]], found: Counter[tuple[int, int]]) -> int:
    return sum(not found[(number, i)] for number, numbers in enumerate(acknowledged) for i in numbers)


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_acknowledged(journal: Path, read_all: Callable[[Path], Batch]) -> None:
    acknowledged = _killed(journal, 60, "file")

    batch = read_all(journal)
    found = Counter(tuple(event.data["i"]) for event in batch.events)
    assert sum(map(len, acknowledged)) > 1000
    assert _lost(acknowledged, found) == 0
    assert set(found.values()) == {1}
    assert batch.gaps == {}
    # A kill between two pages of one write tears that record, which was not acknowledged then.
    assert {damage.reason for damage in batch.damaged} <= {"unfinished"}
    assert len({damage.writer for damage in batch.damaged}) == len(batch.damaged)
    reader = Reader(journal)
    assert len(reader.writers()) == 60
    # One that was killed between making its file and locking it may for a moment seem to be about to lock it.
    wait_until(lambda: all(map(reader.is_gone, reader.writers())), 40, what="all writers are gone")


def test_the_check_finds_a_writer_with_a_buffer(journal: Path, read_all: Callable[[Path], Batch]) -> None:
    acknowledged = _killed(journal, 5, "buffer")

    found = Counter(tuple(event.data["i"]) for event in read_all(journal).events)
    assert _lost(acknowledged, found) > 0


def test_a_position_outlives_the_reader(journal: Path, read_all: Callable[[Path], Batch]) -> None:
    """Reading in two halves, with a kill of the reader in between, is reading once."""
    _killed(journal, 3, "file")
    whole = [event.position for event in read_all(journal).events]

    first = Reader(journal)
    half = first.read(max_records=len(whole) // 2)
    rest = Reader(journal, first.positions()).read(max_records=1_000_000, max_bytes=1 << 30)

    assert sorted(event.position for event in half.events + rest.events) == sorted(whole)
