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
