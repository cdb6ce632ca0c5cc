"""The breaker under gevent: the one thread that all greenlets share never waits for the disk."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from gevent import monkey
monkey.patch_all()
import time, gevent, _thread
from plet_celery import journal_breaker
from plet_celery.events import Shed

if sys.argv[1] == "greenlet":
    journal_breaker._start_thread = lambda run, arguments: _thread.start_new_thread(run, arguments)
give_up = time.monotonic() + 60
block = monkey.get_original("time", "sleep")
ticks = 0
during = []

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)

def deliver(event):  # a disk that hangs for a while
    before = ticks
    block(1.0)
    # On a busy machine the others may get little of a second.
    while sys.argv[1] == "thread" and ticks - before <= 10 and time.monotonic() < give_up:
        block(0.05)
    during.append(ticks - before)

gevent.spawn(tick)
gevent.sleep(0.01)
breaker = journal_breaker.Breaker(deliver, lambda: None)
breaker.recovery = 0.01
breaker.trip(time.monotonic())
assert breaker.put(journal_breaker.Queued(b"{}", 1, Shed.END, False))
assert breaker.wait_empty(90)
with gevent.Timeout(90):
    while breaker.degraded:
        gevent.sleep(0.01)
print(during[0])
"""


@pytest.mark.parametrize("kind", ["thread", "greenlet"])
def test_a_disk_that_hangs_does_not_stop_the_other_greenlets(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, timeout=240, check=True
    )

    ticks = int(done.stdout)
    if kind == "thread":
        assert ticks > 10
    else:
        assert ticks == 0  # The negative control: all stand still.
