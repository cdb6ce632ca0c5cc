"""Exceptions out of nowhere: nothing acknowledged is lost, nothing is there twice, nothing stays locked."""

from __future__ import annotations

import json
import os
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
from plet_celery.journal_segment import close_lost_descriptors

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


class Alarm:
    """A user's deadline: SIGALRM raises an exception, again and again until it is caught."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.raised = 0

    def strike(self, *_: object) -> None:
        self.raised += 1
        raise self.error("time is up")

    def set(self, seconds: float) -> None:
        # Again: where one is swallowed, the next one shows that. Later than a busy machine lets us wait
        # between the exception and stop().
        signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.fixture
def make_alarm() -> Iterator[Callable[[type[BaseException]], Alarm]]:
    """Lets SIGALRM raise an exception of this class."""
    made: list[Alarm] = []

    def make(error: type[BaseException]) -> Alarm:
        made.append(Alarm(error))
        signal.signal(signal.SIGALRM, made[-1].strike)
        return made[-1]

    yield make
    for one in made:
        one.stop()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize("error", [TimeoutError, ValueError, KeyboardInterrupt])
def test_a_users_exception_from_a_signal_handler_is_not_taken_for_ours(
    new_writer: Any,
    make_alarm: Callable[[type[BaseException]], Alarm],
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handler often raises TimeoutError, which is an OSError."""
    # Python itself swallows what strikes while it closes a file that nobody holds any more.
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    alarm, writer = make_alarm(error), new_writer(segment_max_bytes=4096)

    struck = 0
    for number in range(2000):
        try:
            alarm.set(50e-6 + number % 40 * 5e-6)
            while True:
                writer.append("log.written", "r", "a", {"text": "x" * 40})
        except error:
            alarm.stop()
            struck += 1

    assert struck == 2000
    assert alarm.raised == struck + sum(one.exc_type is error for one in unraisable)


def test_a_users_timeout_while_the_folder_is_looked_up_is_not_swallowed(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the test above, in one of 15,000 strikes: the standard library takes it for a missing file."""

    def strike(*_: object, **__: object) -> None:
        raise TimeoutError("time is up")

    monkeypatch.setattr(os, "lstat", strike)
    with pytest.raises(TimeoutError, match="time is up"):
        close_lost_descriptors(journal, "0" * 32, ())
