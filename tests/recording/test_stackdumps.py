"""A task process and its SIGUSR2: whose it is, what is left when it ends."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from waiting import wait_until

from plet_celery import localnodes, presence, stackdumps

CHILD = """
import os, signal, sys, time, faulthandler
from pathlib import Path
from plet_celery import stackdumps
folder = Path(sys.argv[1])
{before}
print(stackdumps.offer(folder), flush=True)
{after}
def hang_here():
    (folder / "ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
hang_here()
print("done", flush=True)
"""
TAKE = "signal.signal(signal.SIGUSR2, lambda number, frame: print('mine', flush=True))"


class Child:
    """A process that offers its stack, or does not."""

    def __init__(self, folder: Path, before: str = "", after: str = "") -> None:
        self.folder = folder
        code = textwrap.dedent(CHILD).format(before=before, after=after)
        self.process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
        wait_until((folder / "ready").exists, 30)

    def ask(self) -> str:
        return stackdumps.ask(self.folder, self.process.pid)

    def stack(self) -> str:
        return stackdumps.read(self.folder, self.process.pid)

    def end(self) -> str:
        (self.folder / "go").touch()
        return self.process.communicate(timeout=30)[0].decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stackdumps.prepare(tmp_path)


def test_a_process_writes_its_stack_and_goes_on(folder: Path) -> None:
    child = Child(folder)

    for _ in range(3):
        assert child.ask() == ""
        wait_until(lambda: "hang_here" in child.stack(), 10)

    assert child.end() == "True\ndone\n"
    assert child.process.returncode == 0
    assert child.ask() != ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TAKE, ""),
        ("signal.signal(signal.SIGUSR2, signal.SIG_IGN)", ""),
        ("faulthandler.register(signal.SIGUSR2, file=open(folder / 'theirs', 'w'))", ""),
        ("", TAKE),
        ("", "signal.signal(signal.SIGUSR2, signal.SIG_DFL)"),
        ("", "signal.signal(signal.SIGUSR2, signal.SIG_IGN)"),
        ("", "from signal import signal as set_signal, SIGUSR2, SIG_DFL; set_signal(SIGUSR2, SIG_DFL)"),
        ("", "faulthandler.unregister(signal.SIGUSR2)"),
        ("", "faulthandler.register(signal.SIGUSR2, file=open(folder / 'theirs', 'w'))"),
        ("", "os.closerange(3, 100)"),
        (
            "",
            "import asyncio as a; it = a.new_event_loop(); it.add_signal_handler(12, print); it.close()",
        ),
    ],
)
def test_a_signal_that_is_somebody_elses_is_neither_replaced_nor_sent(
    folder: Path, before: str, after: str
) -> None:
    child = Child(folder, before, after)

    refused = child.ask()

    assert "SIGUSR2 is not ours" in refused
    assert child.stack() == ""
    told = child.end()
    assert child.process.returncode == 0
    assert told.splitlines() == [str(not before), "done"]
    assert not (folder / "theirs").exists() or (folder / "theirs").read_text() == ""


def test_a_handler_of_ones_own_works_as_before(folder: Path) -> None:
    child = Child(folder, after=TAKE)
    child.ask()

    os.kill(child.process.pid, signal.SIGUSR2)

    assert "mine" in child.end().splitlines()


def test_what_killed_processes_leave_is_swept(folder: Path) -> None:
    child = Child(folder)
    child.process.kill()
    child.process.communicate()
    assert (folder / str(child.process.pid)).exists()

    stackdumps.sweep(folder)

    assert {file.name for file in folder.iterdir()} == {"main", "ready"}


def test_the_folder_of_a_main_process_that_is_gone_goes_and_others_stay(tmp_path: Path) -> None:
    code = "import sys, pathlib, plet_celery.stackdumps as dumps; dumps.prepare(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    (gone,) = (tmp_path / stackdumps.FOLDER).iterdir()

    mine = stackdumps.prepare(tmp_path)

    assert [file.name for file in (tmp_path / stackdumps.FOLDER).iterdir()] == [mine.name]
    assert gone != mine


def test_a_worker_of_another_container_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    me = presence.this_process()
    there = presence.Process(pid=me.pid, created="1", boot=me.boot, namespace="pid:[1]", uid=me.uid)
    dead = presence.Process(pid=me.pid, created="1", boot=me.boot, namespace=me.namespace, uid=me.uid)

    localnodes.announce(tmp_path, "celery@here", "prefork")

    assert not presence.is_gone(me)
    assert not presence.is_gone(there)
    assert presence.is_gone(dead)
    assert [one.name for one in localnodes.nodes(tmp_path)] == ["celery@here"]
    assert presence.place_name(there) != presence.place_name(me)


def test_this_process_has_no_handler_of_ours() -> None:
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    assert faulthandler.register.__module__ == "faulthandler"
