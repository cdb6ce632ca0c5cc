"""One shipper per journal: the lock goes with its process, and no child inherits it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waiting import wait_until

from plet_celery.election import ShipLock
from plet_celery.host import boot_id


def test_one_of_two_gets_the_lock(journal: Path) -> None:
    first, second = ShipLock(journal), ShipLock(journal)

    assert first.acquire()
    assert not second.acquire()
    assert first.acquire()
    assert ShipLock.held_elsewhere(journal)
    first.close()
    assert not ShipLock.held_elsewhere(journal)
    assert second.acquire()
    second.close()
    second.close()


def test_asking_neither_takes_nor_breaks_the_lock(journal: Path) -> None:
    assert not ShipLock.held_elsewhere(journal)
    assert not (journal / "ship.lock").exists()

    with_lock = ShipLock(journal)
    assert with_lock.acquire()
    assert all(ShipLock.held_elsewhere(journal) for _ in range(20))
    assert with_lock.still_mine()
    with_lock.close()


def test_the_file_says_who_holds_it_and_stays(journal: Path) -> None:
    lock = ShipLock(journal)
    lock.acquire()

    facts = json.loads((journal / "ship.lock").read_text())

    assert facts["pid"] == os.getpid()
    assert facts["boot"] == boot_id()
    assert facts["created"] > 1_600_000_000
    lock.close()
    assert (journal / "ship.lock").exists()


def test_a_removed_or_replaced_file_is_no_longer_mine(journal: Path) -> None:
    lock = ShipLock(journal)
    lock.acquire()

    (journal / "ship.lock").unlink()
    assert not lock.still_mine()
    assert not lock.acquire()
    other = ShipLock(journal)
    assert other.acquire()

    assert not lock.still_mine()
    assert other.still_mine()
    lock.close()
    other.close()


def test_a_killed_holder_leaves_the_lock(journal: Path) -> None:
    source = (
        "import sys, signal\nfrom pathlib import Path\nfrom plet_celery.election import ShipLock\n"
        "lock = ShipLock(Path(sys.argv[1]))\nprint(lock.acquire(), flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, str(journal)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "True"
        lock = ShipLock(journal)
        assert not lock.acquire()
        holder.kill()
        holder.wait()

    assert lock.acquire()
    lock.close()


def test_a_fork_child_neither_has_nor_keeps_the_lock(journal: Path, run_script: Callable[..., Any]) -> None:
    facts = run_script(
        """
import json, os, sys
from pathlib import Path
from plet_celery.election import ShipLock
directory = Path(sys.argv[1])
lock = ShipLock(directory)
lock.acquire()
waiting, release = os.pipe()
said, say = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(release)
    os.write(say, json.dumps([lock.still_mine(), lock.acquire()]).encode())
    os.read(waiting, 1)
    os._exit(0)
inside = json.loads(os.read(said, 1000))
mine = lock.still_mine() and ShipLock.held_elsewhere(directory)
lock.close()
free = not ShipLock.held_elsewhere(directory)
os.close(release)
os.waitpid(pid, 0)
print(json.dumps({"inside": inside, "mine": mine, "free_while_child_lives": free}))
""",
        journal,
    )

    assert facts == {"inside": [False, False], "mine": True, "free_while_child_lives": True}


def test_many_that_start_at_once_elect_one(journal: Path, run_script: Callable[..., Any]) -> None:
    got = run_script(
        """
import json, os, sys
from pathlib import Path
from plet_celery.election import ShipLock
directory = Path(sys.argv[1])
said, say = os.pipe()
go, start = os.pipe()
stay, leave = os.pipe()
children = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        os.close(start)
        os.close(leave)
        os.read(go, 1)
        lock = ShipLock(directory)
        os.write(say, b"1" if lock.acquire() else b"0")
        os.read(stay, 1)
        os._exit(0)
    children.append(pid)
os.close(start)
answers = b""
while len(answers) < 12:
    answers += os.read(said, 12)
os.close(leave)
for pid in children:
    os.waitpid(pid, 0)
print(json.dumps(answers.decode()))
""",
        journal,
    )

    assert sorted(got) == ["0"] * 11 + ["1"]
    wait_until(lambda: not ShipLock.held_elsewhere(journal), what="the lock is free")
