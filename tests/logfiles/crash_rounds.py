"""Run by test_crash.py in a process of its own: a sink that is killed again and again.

    python crash_rounds.py HOME SEED KILLS [--no-undo]

Each round is a fork that applies the batches still missing and kills itself with SIGKILL at a random
system call, before it, after it, or in the middle of a write. The next round recovers. Prints JSON:
how many rounds were killed, and at which checkpoint the tree after recovery differed from the oracle.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from logfile_events import batches, busy_story, tree

from plet_celery.events import Event
from plet_celery.logfiles import LogFiles, LogLimits, folders, growing, recovery, state, writing

LIMITS = LogLimits(run_max_log_bytes=8192, stage_max_files=3)
CALLS = ("open", "pwrite", "ftruncate", "rename", "mkdir", "unlink", "rmdir", "fchmod")
Batch = tuple[list[Event], Mapping[str, tuple[int, int]]]


class Killer:
    """Kills this process at the n-th of the watched system calls."""

    def __init__(self, at: int, how: int) -> None:
        self.left = at
        self.how = how

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, deadly at its turn."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left:
                return call(*args, **kwargs)
            if name == "pwrite" and self.how == 1:
                call(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
            elif self.how:
                call(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("still alive")

        return counted


class WatchedOs:
    """The os module with deadly calls, for the modules under test only."""

    def __init__(self, killer: Killer) -> None:
        self._calls = {name: killer.wrap(name, getattr(os, name)) for name in CALLS}

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(os, name)


def oracle(home: Path, told: Sequence[Batch]) -> list[Mapping[str, bytes]]:
    """Return the tree after each batch, written without interruption."""
    sink = LogFiles(home / "runs", home / "journal", limits=LIMITS)
    trees = [tree(home / "runs")]
    for events, positions in told:
        sink.apply(events, positions)
        trees.append(tree(home / "runs"))
    sink.close()
    return trees


def write_on(home: Path, told: Sequence[Batch], killer: Killer | None) -> None:
    """Apply the batches behind the checkpoint; with a killer, die on the way."""
    if killer is not None:
        watched: Any = WatchedOs(killer)
        for module in (folders, growing, recovery, state, writing):
            if hasattr(module, "os"):
                module.os = watched  # type: ignore[attr-defined]
    sink = LogFiles(home / "runs", home / "journal", limits=LIMITS)
    for events, positions in told[done(sink, told) :]:
        sink.apply(events, positions)
    sink.close()


def done(sink: LogFiles, told: Sequence[Batch]) -> int:
    """Return how many batches the checkpoint holds."""
    positions = sink.positions()
    return next((at for at in range(len(told), 0, -1) if positions == told[at - 1][1]), 0)


def killed_round(home: Path, told: Sequence[Batch], chance: random.Random) -> bool:
    """Fork a round; tell whether it was killed."""
    killer = Killer(chance.randint(1, 250), chance.randint(0, 2))
    child = os.fork()
    if child == 0:
        write_on(home, told, killer)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    """Crash until the rounds are over, then finish, and report."""
    home, chance, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    if "--no-undo" in sys.argv:
        vars(writing)["cut_back"] = lambda *_: None
    told = list(batches(busy_story(60, seed=int(sys.argv[2])), 25))
    right = oracle(home / "oracle", told)
    killed, wrong, rounds = 0, [], 0
    while killed < kills and rounds < kills * 3:
        rounds += 1
        killed += killed_round(home / "crashed", told, chance)
        sink = LogFiles(home / "crashed" / "runs", home / "crashed" / "journal", limits=LIMITS)
        reached = done(sink, told)
        sink.close()
        if tree(home / "crashed" / "runs") != right[reached]:
            wrong.append(reached)
    write_on(home / "crashed", told, None)
    same = tree(home / "crashed" / "runs") == right[-1]
    print(
        json.dumps({"killed": killed, "wrong": wrong, "same": same, "batches": len(told), "reached": reached})
    )


main()
