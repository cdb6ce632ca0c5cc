"""Many threads, one writer: no append waits, none is lost, each thread's order is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plet_celery.journal_reader import Batch, segments


def test_threads_append_while_files_rotate(
    journal: Path, new_writer: Any, read_all: Callable[[Path], Batch]
) -> None:
    writer = new_writer(segment_max_bytes=16_384)
    refused: list[tuple[int, int]] = []
    together = threading.Barrier(8)

    def work(thread: int) -> None:
        together.wait()
        for i in range(1500):
            if not writer.append("log.written", "r", "a", {"thread": thread, "i": i}):
                refused.append((thread, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever came while the first file was being opened may have been queued.
    assert writer._delivery.breaker.wait_empty(60)

    batch = read_all(journal)
    assert refused == []
    assert batch.damaged == []
    assert len({event.writer for event in batch.events}) == 1
    for number in range(8):
        own = [event.data["i"] for event in batch.events if event.data["thread"] == number]
        assert own == list(range(1500))
    assert len({event.number for event in batch.events}) == 12_000
    assert len(segments(journal)) > 5


def test_an_append_in_a_signal_handler_that_interrupts_another(
    journal: Path, new_writer: Any, read_all: Callable[[Path], Batch]
) -> None:
    """Also while the first one opens or rotates a file; neither waits for the other."""
    writer = new_writer(segment_max_bytes=4096)
    handled: list[int] = []
    going = [True]

    def append_more(*_: object) -> None:
        i = 1_000_000 + len(handled)
        assert writer.append("worker.stopping", None, None, {"i": i})
        handled.append(i)
        if going:
            # Set again at the end: on a slow machine handlers would interrupt each other without end.
            signal.setitimer(signal.ITIMER_REAL, 100e-6)

    signal.signal(signal.SIGALRM, append_more)
    signal.setitimer(signal.ITIMER_REAL, 100e-6)
    try:
        plain = [i for i in range(8_000) if writer.append("log.written", "r", "a", {"i": i})]
    finally:
        going.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert writer._delivery.breaker.wait_empty(60)

    found = [event.data["i"] for event in read_all(journal).events]
    assert len(handled) > 100
    assert sorted(found) == sorted(plain + handled)
    assert len(plain) == 8_000
