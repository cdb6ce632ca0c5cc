"""A fork after the first publish, many threads at once, greenlets: each process has one writer, its own."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from plet_celery.journal_keeping import segments
from plet_celery.shipper.roster import read_header

ADD_IN_CHILD = """\
import os, sys
from calling import add

def publish(number):
    return [add.delay(number, one).id for one in range(3)]

"""
WAYS = {
    # Each prints the ids that it published, and forks after a first publish.
    "os.fork": """\
ids = publish(0)
for child in range(3):
    if os.fork() == 0:
        print(*publish(child))
        sys.stdout.flush()
        os._exit(0)
for child in range(3):
    assert os.wait()[1] == 0
print(*ids, *publish(9))
""",
    "fork": """\
import multiprocessing
if __name__ == "__main__":
    ids = publish(0)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(*sum(pool.map(publish, range(3), chunksize=1), []))
    print(*ids, *publish(9))
""",
    "spawn": """\
import multiprocessing
if __name__ == "__main__":
    ids = publish(0)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(*sum(pool.map(publish, range(3), chunksize=1), []))
    print(*ids, *publish(9))
""",
    "executor": """\
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    ids = publish(0)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        print(*sum(pool.map(publish, range(3)), []))
    print(*ids, *publish(9))
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_children_of_a_publisher_have_writers_of_their_own(served: Any, way: str) -> None:
    done = served.script(ADD_IN_CHILD + WAYS[way])

    assert (done.returncode, done.stderr) == (0, "")
    # Processes that share a pipe may print between each other's words.
    ids = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)
    assert len(ids) == 15
    runs = served.queued(*ids)
    assert {run.state for run in runs} == {"queued"}
    writers = served.writers_of(ids)
    assert writers.most_common()[0][1] <= 9
    headers = {segment.writer: read_header(segment) for segment in segments(served.journal)}
    callers = [header for header in headers.values() if header is not None and header.role == "producer"]
    assert len({header.pid for header in callers}) == len(callers) == len(writers)
    assert headers.keys() >= writers.keys()
    if way != "spawn":
        (first,) = [header for header in callers if header.parent is None]
        assert {headers[header.parent].pid for header in callers if header.parent} == {first.pid}  # type: ignore[union-attr]
    assert sum(writers.values()) == served.waiting_messages() == 15


def test_threads_that_publish_their_first_message_at_once_share_a_writer(served: Any) -> None:
    done = served.script(
        """\
import threading
from calling import add, plet
go, ids, recordings = threading.Barrier(8), [], []
def publish():
    go.wait()
    recordings.append(plet.recording())
    ids.extend([add.delay(1, number).id for number in range(10)])
threads = [threading.Thread(target=publish) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(set(map(id, recordings))) == 1
recordings[0].writer.close()  # what a busy machine has put into its queue is written
print(*ids)
"""
    )

    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert served.writers_of(ids).total() == 80
    assert len(served.writers_of(ids)) == 1
    served.queued(ids[0], ids[-1])


def test_greenlets_publish_as_threads_do(served: Any) -> None:
    done = served.script(
        """\
from gevent import monkey
monkey.patch_all()
import gevent, os
from calling import add
def publish(number):
    return [add.apply_async((number, one), headers={"plet_user": f"user{number}"}).id for one in range(3)]
jobs = [gevent.spawn(publish, number) for number in range(10)]
gevent.joinall(jobs, raise_error=True)
print(*[run_id for job in jobs for run_id in job.value])
"""
    )

    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert len(served.writers_of(ids)) == 1
    runs = served.queued(*ids)
    assert Counter(run.user for run in runs) == {f"user{number}": 3 for number in range(10)}
