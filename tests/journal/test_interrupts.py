"""Exceptions out of nowhere: nothing acknowledged is lost, nothing is there twice, nothing stays locked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plet_celery.events import Event
from plet_celery.journal_reader import Batch, Reader, segments

SCRIPT = Path(__file__).with_name("interrupts.py")


def _strike(journal: Path, writer: str, how: str, strikes: int, seed: int = 11) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(journal), writer, how, str(strikes), str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def faults(acknowledged: list[int], events: list[Event]) -> dict[str, int]:
    """Count acknowledged events that are missing, or twice there, or would be folded into others.

    A reader that folds records of equal numbers must lose nothing either.
    """
    found = Counter(event.data["i"] for event in events)
    first: dict[tuple[str, int], int] = {}
    for event in events:
        first.setdefault((event.writer, event.number), event.data["i"])
    kept = set(first.values())
    return {
        "lost": sum(not found[i] for i in acknowledged),
        "twice": sum(count > 1 for count in found.values()),
        "folded": sum(i not in kept for i in acknowledged),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("how", "strikes"), [("signal", 20_000), ("thread", 2_000)])
def test_nothing_acknowledged_is_lost_by_asynchronous_exceptions(
    journal: Path, read_all: Callable[[Path], Batch], how: str, strikes: int
) -> None:
    facts = _strike(journal, "Writer", how, strikes)

    batch = read_all(journal)
    assert len(facts["acknowledged"]) > strikes // 10
    assert faults(facts["acknowledged"], batch.events) == {"lost": 0, "twice": 0, "folded": 0}
    assert batch.damaged == []
    assert batch.gaps == {}
    assert facts["alive"] == [True, True, True]
    assert facts["turn_taken"] is False
    # An exception right behind the system call that opened a file loses that number, nothing else.
    assert facts["descriptors"] < 60
    assert len(segments(journal)) > strikes // 1000
    assert Reader(journal).is_gone(facts["writer"])


@pytest.mark.parametrize(("writer", "fault"), [("CountsAfterwards", "folded"), ("Buffers", "twice")])
def test_the_check_finds_a_writer_that_relies_on_a_second_step(
    journal: Path, read_all: Callable[[Path], Batch], writer: str, fault: str
) -> None:
    facts = _strike(journal, writer, "signal", 4_000)

    assert faults(facts["acknowledged"], read_all(journal).events)[fault] > 0


@pytest.fixture
def alarm() -> Iterator[Callable[[type[Exception]], None]]:
    """Lets SIGALRM raise an exception of this class."""

    def arm(error: type[Exception]) -> None:
        def strike(*_: object) -> None:
            raise error("time is up")

        signal.signal(signal.SIGALRM, strike)

    yield arm
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


# A file that was just being read closes itself, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [TimeoutError, ValueError, KeyboardInterrupt])
def test_a_users_exception_from_a_signal_handler_is_not_taken_for_ours(
    new_writer: Any, alarm: Callable[[type[BaseException]], None], error: type[BaseException]
) -> None:
    """A handler often raises TimeoutError, which is an OSError."""
    alarm(error)
    writer = new_writer(segment_max_bytes=4096)

    struck = 0
    for _ in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, 50e-6)
            while True:
                writer.append("log.written", "r", "a", {"text": "x" * 40})
        except error:
            struck += 1

    assert struck == 300
