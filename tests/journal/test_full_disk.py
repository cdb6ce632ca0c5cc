"""A real full disk: nothing stays torn, ends use the reserve, what was dropped is told afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from plet_celery import journal as journal_module
from plet_celery import journal_delivery, journal_pressure
from plet_celery.events import Shed
from plet_celery.journal import WriterLimits, open_journal
from plet_celery.journal_pressure import note_journal_bytes, shared_journal_bytes, shed_level
from plet_celery.journal_reader import Batch, segments

ReadAll = Callable[[Path], Batch]
Disk = Callable[[str], Path]


@pytest.fixture
def short_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of writes that wrote only a part."""
    short: list[int] = []

    def write(descriptor: int, record: bytes) -> int:
        written = os.write(descriptor, record)
        if written < len(record):
            short.append(written)
        return written

    monkeypatch.setattr(journal_module, "_write", write)
    monkeypatch.setattr(journal_delivery, "_write", write)
    # As the real one: its errors come from a system call of ours.
    monkeypatch.setattr(journal_module, "from_system", lambda error: error.errno is not None)
    monkeypatch.setattr(journal_delivery, "from_system", lambda error: error.errno is not None)
    return short


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the disk more often than once a second."""
    monkeypatch.setattr(journal_pressure, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(journal_pressure, "_SIZES_EVERY", 0.05)
    monkeypatch.setattr(journal_pressure, "_FULL_FOR", 0.1)
    monkeypatch.setattr(journal_delivery, "_RETRY", 0.05)


def _journal(disk: Path, ballast_bytes: int = 0) -> Path:
    directory = open_journal(disk / "journal").directory
    (disk / "ballast").write_bytes(b"x" * ballast_bytes)
    return directory


def test_ends_use_the_reserve_and_drops_are_told(
    small_disk: Disk, new_writer: Any, read_all: ReadAll, short_writes: list[int]
) -> None:
    disk = small_disk("1m")
    directory = _journal(disk, ballast_bytes=300_000)
    writer = new_writer(directory, reserve_bytes=128 << 10)
    written: Counter[str] = Counter()
    dropped: Counter[str] = Counter()

    def append(kind: str, size: int) -> bool:
        done: bool = writer.append(kind, "run", "attempt", {"text": "x" * size})
        (written if done else dropped)[kind] += 1
        return done

    # Given a disk that logs have filled up
    while append("log.written", 3000):
        pass
    assert (directory / "reserve").exists()

    # When attempts end on it
    ends = [append("run.succeeded", 500) for _ in range(100)]

    # Then each end is written, into the room that the reserve had taken
    assert all(ends)
    assert not (directory / "reserve").exists()
    assert not append("log.written", 3000)

    # And when there is room again, the counts of what was dropped come with the next record
    (disk / "ballast").unlink()
    wait_until(lambda: append("log.written", 10), what="logs are written again")
    batch = read_all(directory)
    found = Counter(event.kind for event in batch.events)
    assert found == written
    assert sum(sum(reasons.values()) for reasons in batch.drops.values()) == dropped.total()
    assert set(batch.drops[str(writer.id)]) <= {"disk_full", "shed_log"}
    assert batch.damaged == []
    assert batch.gaps == {}
    assert short_writes
    wait_until(lambda: append("log.written", 10) and (directory / "reserve").exists(), what="a new reserve")


def test_no_room_for_the_first_file_is_no_error(small_disk: Disk, new_writer: Any, read_all: ReadAll) -> None:
    disk = small_disk("256k")
    directory = _journal(disk)
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        try:
            while True:
                os.write(file.fileno(), b"x" * 4096)
        except OSError:
            pass
    writer = new_writer(directory)

    refused = [writer.append("run.started", "r", "a", {"i": i}) for i in range(50)]
    ballast.unlink()
    wait_until(lambda: writer.append("run.started", "r", "a", {"i": 99}), what="an append")

    batch = read_all(directory)
    assert not any(refused)
    assert [event.data["i"] for event in batch.events] == [99]
    assert batch.drops[str(writer.id)]["disk_full"] >= 50
    # The number of the file that could not be begun was used again.
    assert [segment.number for segment in segments(directory)] == [1]
    assert batch.gaps == {}


def test_threads_on_a_full_disk_lose_nothing_acknowledged(
    small_disk: Disk,
    new_writer: Any,
    read_all: ReadAll,
    short_writes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a slow machine's breaker has queued is acknowledged more weakly; that is not the subject here.
    queued: set[int] = set()
    queue = journal_delivery.Delivery._queue

    def noted(delivery: Any, event: Any) -> bool:
        queued.add(threading.get_ident())
        return queue(delivery, event)

    monkeypatch.setattr(journal_delivery.Delivery, "_queue", noted)
    disk = small_disk("600k")
    directory = _journal(disk)
    writer = new_writer(directory, segment_max_bytes=65_536)
    acknowledged: list[list[int]] = [[] for _ in range(6)]
    refused: Counter[int] = Counter()
    done = threading.Event()

    def work(thread: int) -> None:
        for i in range(4000):
            if done.is_set() and refused[thread] > 50:
                return
            queued.discard(threading.get_ident())
            if writer.append("run.succeeded", "r", "a", {"i": [thread, i], "text": "x" * 700}):
                if threading.get_ident() not in queued:
                    acknowledged[thread].append(i)
            else:
                refused[thread] += 1
                done.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    batch = read_all(directory)
    found = Counter(tuple(event.data["i"]) for event in batch.events if "i" in event.data)
    lost = [(n, i) for n, numbers in enumerate(acknowledged) for i in numbers if not found[(n, i)]]
    assert refused.total() > 0
    assert lost == []
    assert max(found.values()) == 1


def test_a_process_that_may_open_no_more_files_counts(
    journal: Path, run_script: Callable[..., Any], read_all: ReadAll
) -> None:
    facts = run_script(
        """
import json, os, resource, sys, logging
from pathlib import Path
from plet_celery import journal_delivery
from plet_celery.journal import Writer, WriterLimits
logging.disable()
journal_delivery._RETRY = 0.0
limits = WriterLimits(min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
writer = Writer(Path(sys.argv[1]), role="child", limits=limits)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
refused = [writer.append("run.started", "r", "a", {"i": 0}) for _ in range(20)]
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
done = writer.append("run.started", "r", "a", {"i": 1})
print(json.dumps({"refused": refused, "done": done, "writer": writer.id}))
""",
        journal,
    )

    assert not any(facts["refused"])
    assert facts["done"]
    assert read_all(journal).drops == {facts["writer"]: {"error": 20}}


@pytest.mark.parametrize(
    ("used", "free", "level"),
    [
        (0.0, 2.0, 0),
        (0.86, 2.0, Shed.DEBUG_LOG),
        (0.92, 2.0, Shed.LOG),
        (0.96, 2.0, Shed.PROGRESS),
        (1.001, 2.0, Shed.CUSTOM),
        (1.1, 2.0, Shed.END),
        (0.0, 0.9, Shed.DEBUG_LOG),
        (0.0, 0.7, Shed.LOG),
        (0.0, 0.5, Shed.PROGRESS),
        (0.0, 0.1, Shed.CUSTOM),
        (0.96, 0.9, Shed.PROGRESS),
    ],
)
def test_kinds_go_in_order_as_the_space_shrinks(used: float, free: float, level: int) -> None:
    limits = WriterLimits(journal_max_bytes=1 << 30, min_free_bytes=1 << 30, min_free_percent=5)
    total = 10 << 30

    found = shed_level(limits, used=int(used * (1 << 30)), free=int(free * (1 << 30)), total=total)

    assert found == level


def test_the_larger_of_both_bounds_on_free_space_holds() -> None:
    limits = WriterLimits(min_free_bytes=1 << 30, min_free_percent=5)

    assert shed_level(limits, used=0, free=4 << 30, total=100 << 30) == Shed.DEBUG_LOG
    assert shed_level(limits, used=0, free=6 << 30, total=100 << 30) == 0
    assert shed_level(limits, used=0, free=(1 << 30) - 1, total=1 << 30) == Shed.DEBUG_LOG


def test_near_the_cap_logs_go_and_ends_stay(journal: Path, new_writer: Any, read_all: ReadAll) -> None:
    writer = new_writer(journal_max_bytes=1 << 20, segment_max_bytes=65_536)
    kinds = {
        "shed_debug_log": ("log.written", {"level": 10}),
        "shed_log": ("log.written", {"level": 30}),
        "shed_progress": ("stage.progressed", {}),
        "shed_custom": ("measure.recorded", {}),
        "": ("run.succeeded", {}),
    }
    (journal / f"w-{'0' * 32}.00000001.plj").write_bytes(b"x" * ((1 << 20) + 100))

    done = {
        reason: writer.append(kind, "r", "a", {**data, "text": ""}) for reason, (kind, data) in kinds.items()
    }

    assert done == {reason: reason == "" for reason in kinds}
    assert read_all(journal).drops[str(writer.id)] == {reason: 1 for reason in kinds if reason}


def test_a_child_does_not_measure_what_another_process_just_measured(
    journal: Path, new_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a child per task there are thousands of files, and each child would ask for each one's size."""
    monkeypatch.setattr(journal_pressure, "_SIZES_EVERY", 60.0)
    new_writer().append("run.started", "r", "a", {})
    assert int((journal / "journal.size").read_text()) == 0
    note_journal_bytes(journal, 123_456)

    assert shared_journal_bytes(journal, time.time()) == 123_456
    assert shared_journal_bytes(journal, time.time() + 61) == sum(one.size for one in segments(journal))
    (journal / "journal.size").write_text("")
    assert shared_journal_bytes(journal, time.time()) == sum(one.size for one in segments(journal))
