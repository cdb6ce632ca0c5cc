"""A fork child writes under a name of its own, and never touches its parent's lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plet_celery.journal_reader import Batch, Reader

FORK_ONCE = """
import json, os, sys
from pathlib import Path
from plet_celery.journal import Writer, WriterLimits
from plet_celery.journal_reader import Reader, segments

directory = Path(sys.argv[1])
limits = WriterLimits(min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
writer = Writer(directory, role="worker", limits=limits)
writer.append("worker.started", None, None, {"i": 0})
writer.drop("rate_limit", 5)
parent, held = writer.id, len(os.listdir("/proc/self/fd"))
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    before = writer.id
    inside = len(os.listdir("/proc/self/fd"))
    writer.append("run.started", "r", "a", {"i": 1})
    os.write(writing, json.dumps([before, writer.id, inside]).encode())
    os._exit(0)
os.waitpid(pid, 0)
before, child, inside = json.loads(os.read(reading, 1000))
alive = not Reader(directory).is_gone(parent)
writer.append("worker.stopped", None, None, {"i": 2})
print(json.dumps({
    "parent": parent, "child": child, "before": before, "closed": held + 2 - inside,
    "alive": alive, "child_gone": Reader(directory).is_gone(child), "same": writer.id == parent,
}))
"""


def test_a_child_has_its_own_id_and_the_parent_keeps_its_lock(
    journal: Path, run_script: Callable[..., Any], read_all: Callable[[Path], Batch]
) -> None:
    facts = run_script(FORK_ONCE, journal)

    batch = read_all(journal)
    assert facts["before"] is None
    assert facts["child"] != facts["parent"]
    assert facts["alive"] and facts["child_gone"] and facts["same"]
    assert facts["closed"] == 1
    assert batch.headers[facts["child"]].parent == facts["parent"]
    assert {event.data["i"]: event.writer for event in batch.events} == {
        0: facts["parent"],
        1: facts["child"],
        2: facts["parent"],
    }
    # The counts are the parent's: the child has dropped nothing.
    assert batch.drops == {facts["parent"]: {"rate_limit": 5}}
    assert Reader(journal).is_gone(facts["parent"])


FORK_WHILE_ROTATING = """
import json, os, sys, threading, warnings
from pathlib import Path
from plet_celery import journal_delivery
from plet_celery.journal import Writer, WriterLimits
from plet_celery.journal_reader import is_written, segments

journal_delivery.SLOW_IN_A_ROW = 1_000_000  # a busy machine is no slow disk
warnings.simplefilter("ignore")
directory = Path(sys.argv[1])
limits = WriterLimits(segment_max_bytes=600, min_free_bytes=0, min_free_percent=0, reserve_bytes=0)
writer = Writer(directory, role="worker", limits=limits)
stop = threading.Event()

def rotate():
    while not stop.is_set():
        writer.append("log.written", None, None, {"text": "x" * 200})

threads = [threading.Thread(target=rotate) for _ in range(2)]
for thread in threads:
    thread.start()
waiting, release = os.pipe()
children = []
for _ in range(300):
    pid = os.fork()
    if pid == 0:
        os.close(release)
        os.read(waiting, 1)
        os._exit(0)
    children.append(pid)
stop.set()
for thread in threads:
    thread.join()
writer.append("log.written", None, None, {})
own = [s for s in segments(directory) if s.writer == writer.id]
locked = [s.number for s in own[:-1] if is_written(s, newest=False)]
newest = is_written(own[-1])
writer.close()
still = [s.number for s in own if is_written(s, newest=False)]
os.close(release)
for pid in children:
    os.waitpid(pid, 0)
print(json.dumps({"segments": len(own), "locked": locked, "newest": newest, "still": still}))
"""


def test_no_child_keeps_a_lock_of_its_parent(journal: Path, run_script: Callable[..., Any]) -> None:
    """Forked at any moment of a rotation in another thread, and idle ever after, as pool children are."""
    facts = run_script(FORK_WHILE_ROTATING, journal)

    assert facts["segments"] > 20
    assert facts["newest"] is True
    assert facts["locked"] == []
    assert facts["still"] == []
