"""What a slow disk keeps in the queue was acknowledged: a process that ends writes it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plet_celery.journal_reader import Batch

ENDS = """
import json, os, sys, threading, time
from pathlib import Path
from plet_celery import journal, journal_delivery
from plet_celery.journal import Writer, WriterLimits

def slow(descriptor, record):
    time.sleep(0.15)
    return os.write(descriptor, record)

journal._write = journal_delivery._write = slow
limits = WriterLimits(min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
writer = Writer(Path(sys.argv[1]), role="producer", limits=limits)
kept = [i for i in range(14) if writer.append("log.written", "r", "a", {"i": i})]
print(json.dumps({"kept": kept, "degraded": writer.degraded}), flush=True)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit"])
def test_a_script_that_ends_writes_what_is_queued(
    journal: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch], end: str
) -> None:
    facts = run_script(ENDS + end, journal)

    assert facts == {"kept": list(range(14)), "degraded": True}
    assert [event.data["i"] for event in read_all(journal).events] == facts["kept"]


def test_a_disk_that_hangs_does_not_keep_a_process_for_ever(
    journal: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch]
) -> None:
    hangs = ENDS.replace("0.15)", "0.15 if threading.current_thread() is threading.main_thread() else 600)")
    facts = run_script(
        hangs.replace("journal._write =", "journal.EXIT_WAIT = 0.2\njournal._write ="), journal
    )

    assert facts["degraded"]
    assert len(read_all(journal).events) == 3


def test_what_is_appended_after_the_settling_is_written(
    journal: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch]
) -> None:
    """Whoever registered for the interpreter's exit before us comes after us."""
    early = """
import atexit
def late():
    global ending
    ending = True
    assert writer.append("log.written", "r", "a", {"i": 99})
    assert not writer.degraded
atexit.register(late)
ending = False
"""
    hangs = ENDS.replace(
        "0.15)", "600 if ending and threading.current_thread() is not threading.main_thread() else 0.15)"
    )

    facts = run_script(early + hangs, journal)

    assert facts == {"kept": list(range(14)), "degraded": True}
    assert [event.data["i"] for event in read_all(journal).events] == [*facts["kept"], 99]


def test_what_was_dropped_last_is_told_at_the_end(
    journal: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch]
) -> None:
    run_script(ENDS.replace("0.15)", "0)") + 'writer.drop("rate_limit", 3)', journal)

    last = read_all(journal).events[-1]
    assert last.kind == "events.dropped"
    assert last.data == {"count": 3, "reasons": {"rate_limit": 3}}


def test_a_process_that_ends_does_not_wait_for_ever_for_a_disk_that_hangs_in_a_look(
    journal: Path, run_script: Callable[..., Any]
) -> None:
    """Nothing is queued, and yet whoever wrote for himself now would hang with the disk."""
    looks = """
breaker, pressure = writer._delivery.breaker, writer._delivery.pressure
assert writer.settle(60)
hung, forever = threading.Event(), threading.Event()
def hang(now):
    hung.set()
    forever.wait()
pressure.look, writer._delivery.look_at = hang, 0.0
assert hung.wait(60)
journal.EXIT_WAIT = 0.2
journal._write = journal_delivery._write = lambda *_: forever.wait()
writer.drop("rate_limit", 3)
"""
    facts = run_script(ENDS + looks, journal)

    assert facts["degraded"]


CHILD = """
import json, os, signal, sys, time
from pathlib import Path
from celery import Celery
from plet_celery import Plet, journal, journal_delivery
from plet_celery.journal_breaker import Breaker

home, pause, number = sys.argv[1], float(sys.argv[2]), getattr(signal, sys.argv[3])

def slow(descriptor, record):
    time.sleep(pause)
    return os.write(descriptor, record)

struck_once = []
def struck(self, timeout):
    if not struck_once:
        struck_once.append(True)
        os.kill(os.getpid(), number)
    return wait_empty(self, timeout)

journal._write = journal_delivery._write = slow
wait_empty, Breaker.wait_empty = Breaker.wait_empty, struck
app = Celery("ending", set_as_current=False)
app.conf.update(plet_home=home, plet_min_free_bytes=0, plet_min_free_percent=0)
plet = Plet(app)
recording = plet.recording()
assert recording.is_open()
heard = []
signal.signal(number, lambda *_: heard.append("during" if settling else "after"))
kept = [i for i in range(12) if recording.writer.append("log.written", "r", "a", {"i": i})]
recording.writer.drop("rate_limit", 2)
settling = True
from celery import signals
signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
settling = False
os.kill(os.getpid(), number)
print(json.dumps({"kept": kept, "heard": heard, "journal": str(plet.journal)}), flush=True)
os._exit(0)  # as Celery's task processes do
"""


@pytest.mark.parametrize("remapped", ["", "SIGQUIT"])
def test_a_task_process_that_settles_is_not_ended_by_celery(
    tmp_path: Path,
    run_script: Callable[..., Any],
    read_all: Callable[[Path], Batch],
    monkeypatch: pytest.MonkeyPatch,
    remapped: str,
) -> None:
    monkeypatch.setenv("REMAP_SIGTERM", remapped)

    facts = run_script(CHILD, tmp_path / "home", 0.15, remapped or "SIGTERM")

    assert facts["kept"] == list(range(12))
    assert facts["heard"] == ["after"]
    lines = [event for event in read_all(Path(facts["journal"])).events if event.kind == "log.written"]
    assert [event.data["i"] for event in lines] == facts["kept"]


def test_a_task_process_with_nothing_to_settle_keeps_its_signals(
    tmp_path: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch]
) -> None:
    facts = run_script(CHILD, tmp_path / "home", 0, "SIGTERM")

    assert facts["heard"] == ["during", "after"]
    # And it tells what nobody else knows.
    last = read_all(Path(facts["journal"])).events[-1]
    assert last.data == {"count": 2, "reasons": {"rate_limit": 2}}
