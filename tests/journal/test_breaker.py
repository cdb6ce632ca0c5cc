"""A disk that hangs: after three slow appends a task waits no more, and nothing gets lost or out of order."""

from __future__ import annotations

import logging
import os
import threading
import time
from _queue import SimpleQueue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from plet_celery import journal as journal_module
from plet_celery import journal_breaker, journal_delivery
from plet_celery.events import Shed
from plet_celery.journal_breaker import Breaker, Queued
from plet_celery.journal_reader import Batch, Reader


@pytest.fixture(autouse=True)
def patient() -> None:
    """Here the queue is the subject: no writer waits for a slow disk."""


class SlowDisk:
    """Lets each write take `delay` seconds, or until it is `well`."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.well = threading.Event()
        self.writers: set[int] = set()

    def write(self, descriptor: int, record: bytes) -> int:
        self.writers.add(threading.get_ident())
        if self.delay:
            self.well.wait(self.delay)
        return os.write(descriptor, record)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk()
    monkeypatch.setattr(journal_module, "_write", slow.write)
    monkeypatch.setattr(journal_delivery, "_write", slow.write)
    monkeypatch.setattr(journal_module, "_CLOSE_WAIT", 60.0)
    yield slow
    slow.delay = 0.0
    slow.well.set()


def test_after_three_slow_appends_a_task_waits_no_more(
    journal: Path, new_writer: Any, read_all: Callable[[Path], Batch], disk: SlowDisk
) -> None:
    writer = new_writer()
    writer._delivery.breaker.recovery = 60.0
    assert writer.append("run.started", "r", "a", {"i": 0})
    assert not writer.degraded

    # Given a disk that takes its time
    disk.delay = 0.25
    for i in (1, 2, 3):
        assert writer.append("log.written", "r", "a", {"i": i})
    assert writer.degraded

    # When the task goes on, then it does not wait for the disk
    disk.writers.clear()
    for i in range(4, 14):
        assert writer.append("log.written", "r", "a", {"i": i})
    assert threading.get_ident() not in disk.writers

    # And when the disk is well again, the task writes for itself, in order
    disk.delay = 0.0
    writer._delivery.breaker.recovery = 0.3
    wait_until(lambda: not writer.degraded, what="the breaker closes")
    assert writer.append("run.succeeded", "r", "a", {"i": 14})
    disk.writers.clear()
    assert writer.append("run.succeeded", "r", "a", {"i": 15})
    assert disk.writers == {threading.get_ident()}
    assert [event.data["i"] for event in read_all(journal).events] == list(range(16))


def test_a_task_does_not_look_after_a_slow_disk_either(
    journal: Path, new_writer: Any, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = new_writer()
    writer._delivery.breaker.recovery = 60.0
    disk.delay = 0.25
    for _ in range(3):
        assert writer.append("log.written", "r", "a", {})
    assert writer.degraded
    looks: dict[str, set[int]] = {"statvfs": set(), "utime": set()}

    def watch(name: str) -> None:
        real = getattr(os, name)

        def noted(*arguments: Any) -> Any:
            looks[name].add(threading.get_ident())
            return real(*arguments)

        monkeypatch.setattr(os, name, noted)

    # When disk and folder are to be looked at again
    os.utime(journal / "journal.size", (0, 0))
    watch("statvfs")
    watch("utime")
    writer._delivery.pressure._sizes_at = 0.0
    writer._delivery.look_at = 0.0
    for _ in range(3):
        assert writer.append("log.written", "r", "a", {})

    # Then the breaker's thread does so
    wait_until(lambda: all(looks.values()), what="somebody looks")
    assert threading.get_ident() not in looks["statvfs"] | looks["utime"]


def test_a_slow_disk_that_cannot_be_logged_costs_no_event(
    journal: Path,
    new_writer: Any,
    read_all: Callable[[Path], Batch],
    disk: SlowDisk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A logging filter of the user's may expect another record, and raise."""

    def refuse(record: logging.LogRecord) -> bool:
        raise AttributeError("request_id")

    monkeypatch.setattr(journal_delivery.log, "filters", [refuse])
    writer = new_writer()
    disk.delay = 0.25

    for i in range(5):
        assert writer.append("log.written", "r", "a", {"i": i})

    assert writer.degraded
    writer.close()
    assert [event.data["i"] for event in read_all(journal).events] == list(range(5))


def test_two_slow_appends_and_a_quick_one_change_nothing(
    new_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, delay = time.monotonic(), 0.0

    def write(descriptor: int, record: bytes) -> int:
        nonlocal clock
        clock += delay
        return os.write(descriptor, record)

    for module in (journal_module, journal_delivery):
        monkeypatch.setattr(module, "_write", write)
        monkeypatch.setattr(module, "_mono", lambda: clock)
    monkeypatch.setattr(journal_delivery, "busy_seconds", lambda: 0.0)
    writer = new_writer()
    writer.append("run.started", "r", "a", {})

    for is_slow in (True, True, False, True, True, False, True, True):
        delay = 0.08 if is_slow else 0.0
        writer.append("log.written", "r", "a", {})

    assert not writer.degraded
    # Negative control: a third one in a row.
    writer.append("log.written", "r", "a", {})
    assert writer.degraded


def test_close_waits_for_what_is_queued(
    journal: Path, new_writer: Any, read_all: Callable[[Path], Batch], disk: SlowDisk
) -> None:
    writer = new_writer()
    disk.delay = 0.25
    for i in range(10):
        writer.append("log.written", "r", "a", {"i": i})

    writer.close()

    assert [event.data["i"] for event in read_all(journal).events] == list(range(10))


def test_a_queue_is_bounded_and_keeps_room_for_ends(
    journal: Path, new_writer: Any, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_breaker, "_QUEUE_MAX", 40)
    writer = new_writer()
    disk.delay = 0.25
    for _ in range(3):
        writer.append("log.written", "r", "a", {})
    disk.delay = 60.0

    logs = [writer.append("log.written", "r", "a", {}) for _ in range(60)]
    ends = [writer.append("run.succeeded", "r", "a", {}) for _ in range(60)]

    assert 15 <= sum(logs) <= 25
    assert 15 <= sum(ends) <= 25
    disk.delay = 0.0
    disk.well.set()
    writer.close()
    drops: dict[str, int] = {}
    for reasons in Reader(journal).read().drops.values():
        drops |= reasons
    assert drops == {"shed_log": 60 - sum(logs), "error": 60 - sum(ends)}


def test_a_fork_child_starts_well(journal: Path, run_script: Callable[..., Any]) -> None:
    facts = run_script(
        """
import json, os, sys, time
from pathlib import Path
from plet_celery import journal, journal_delivery
from plet_celery.journal import Writer, WriterLimits
delay = 0.25
def slow(descriptor, record):
    time.sleep(delay)
    return os.write(descriptor, record)
journal._write = journal_delivery._write = slow
journal._CLOSE_WAIT = 60.0
limits = WriterLimits(min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
writer = Writer(Path(sys.argv[1]), role="worker", limits=limits)
for i in range(8):
    writer.append("log.written", "r", "a", {"i": i})
before = writer.degraded
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    delay = 0
    inside = [writer.degraded, writer.append("log.written", "r", "a", {"i": 99}), writer.degraded]
    os.write(writing, json.dumps(inside).encode())
    os._exit(0)
os.waitpid(pid, 0)
inside = json.loads(os.read(reading, 1000))
delay = 0
writer.close()
print(json.dumps({"before": before, "inside": inside}))
""",
        journal,
    )

    assert facts == {"before": True, "inside": [False, True, False]}
    whole = Reader(journal).read()
    # What the parent had queued is written by the parent, once.
    assert sorted(event.data["i"] for event in whole.events) == [*range(8), 99]


def test_busy_threads_are_no_slow_disk(new_writer: Any) -> None:
    """Waiting for the interpreter or a processor is not the disk's fault."""
    writer = new_writer()
    done = threading.Event()

    def compute() -> None:
        while not done.is_set():
            sum(range(20_000))

    threads = [threading.Thread(target=compute) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        for i in range(150):
            writer.append("log.written", "r", "a", {"i": i})
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert not writer.degraded


@pytest.mark.parametrize("is_heard", [True, False], ids=["logged", "logging fails"])
def test_an_error_in_the_thread_does_not_stop_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, is_heard: bool
) -> None:
    written: list[int] = []

    def deliver(event: Queued) -> None:
        if event.number == 1:
            raise RuntimeError("broken")
        written.append(event.number)

    def refuse(record: logging.LogRecord) -> bool:
        raise AttributeError("request_id")

    if not is_heard:
        monkeypatch.setattr(journal_breaker.log, "filters", [refuse])
    breaker = Breaker(deliver, lambda: None)
    breaker.trip(time.monotonic())
    for number in (0, 1, 2):
        assert breaker.put(Queued(b"{}", number, Shed.LOG, False))
    breaker.recovery = 0.05

    wait_until(lambda: not breaker.degraded, what="the breaker closes")
    assert written == [0, 2]
    assert ("could not write" in caplog.text) == is_heard


def test_an_event_that_no_thread_would_write_is_not_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it were counted as dropped, and written with the next one."""
    written: list[int] = []
    breaker = Breaker(lambda event: written.append(event.number), lambda: None)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(journal_breaker, "_start_thread", refuse)
        assert not breaker.put(Queued(b"{}", 1, Shed.LOG, False))
        assert not breaker.degraded
        assert breaker.wait_empty(0)

    assert breaker.put(Queued(b"{}", 2, Shed.LOG, False))
    assert breaker.wait_empty(60)
    assert written == [2]


class InterruptedQueue(SimpleQueue[Queued]):
    """Is left by an exception, once, before it has the event."""

    interruptions = 1

    def put(self, item: Queued, block: bool = True, timeout: float | None = None) -> None:
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt
        super().put(item)


@pytest.mark.parametrize("is_slow", [True, False], ids=["slow", "quick"])
def test_an_event_that_was_interrupted_is_not_waited_for(is_slow: bool) -> None:
    written: list[int] = []
    breaker = Breaker(lambda event: written.append(event.number), lambda: None)
    breaker._queue = InterruptedQueue()
    if is_slow:
        breaker.trip(time.monotonic())

    with pytest.raises(KeyboardInterrupt):
        breaker.put(Queued(b"{}", 1, Shed.LOG, False))

    assert breaker.wait_empty(25)
    assert breaker.put(Queued(b"{}", 2, Shed.LOG, False))
    assert breaker.wait_empty(25)
    assert written == [2]


class Struck(Exception):
    """Stands for SoftTimeLimitExceeded."""


def test_an_exception_that_strikes_where_the_thread_is_started_costs_one_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really, strikes = journal_breaker._start_thread, [Struck()]

    def start(*arguments: Any) -> None:
        if strikes:
            raise strikes.pop()
        really(*arguments)

    monkeypatch.setattr(journal_breaker, "_start_thread", start)
    written: list[int] = []
    breaker = Breaker(lambda event: written.append(event.number), lambda: None)
    with pytest.raises(Struck):
        breaker.put(Queued(b"{}", 1, Shed.LOG, False))

    assert breaker.put(Queued(b"{}", 2, Shed.LOG, False))

    assert breaker.wait_empty(60)
    assert written == [2]


def test_what_others_queue_meanwhile_is_not_waited_for() -> None:
    written: list[int] = []
    done = threading.Event()

    def deliver(event: Queued) -> None:
        threading.Event().wait(0.02)
        written.append(event.number)

    def fill() -> None:
        while not done.wait(0.002):
            breaker.put(Queued(b"{}", 0, Shed.LOG, False))

    breaker = Breaker(deliver, lambda: None)
    others = threading.Thread(target=fill)
    others.start()
    try:
        wait_until(lambda: breaker.waiting > 10, what="a queue")
        assert breaker.put(Queued(b"{}", 1, Shed.LOG, False))

        assert breaker.wait_empty(120)

        assert 1 in written
        assert breaker.waiting
    finally:
        done.set()
        others.join()


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_thread_that_waits_for_a_processor_is_no_slow_disk(
    monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    monkeypatch.setattr(journal_breaker, "_PROBE_EVERY", 0.01)
    monkeypatch.setattr(journal_breaker, "busy_seconds", time.monotonic if is_busy else lambda: 0.0)
    probes: list[float] = []

    def probe() -> None:
        threading.Event().wait(0.1)
        probes.append(time.monotonic())

    breaker = Breaker(lambda event: None, probe)
    breaker.recovery = 0.05
    breaker.trip(time.monotonic())

    if is_busy:
        wait_until(lambda: not breaker.degraded, what="the breaker closes")
    else:  # the control
        wait_until(lambda: len(probes) > 5, what="some probes")
        assert breaker.degraded
        monkeypatch.setattr(journal_breaker, "busy_seconds", time.monotonic)
        wait_until(lambda: not breaker.degraded, what="the breaker closes")
