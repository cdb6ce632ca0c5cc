"""Which processes belong to a stack, and how they are ended.

A process belongs if it is in the session of a part, if it carries the stack's token in its
environment, or if it is the shipper of the stack's journal. None alone is enough: what a task
spawns may leave the session, a program that sets its title (Valkey, setproctitle) overwrites its
environment in /proc, and a shipper leaves the session with a clean environment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from plet_celery import presence

TOKEN: Final = "PLET_UP_TOKEN"
_LOOK: Final = 0.1
LAST_WORDS: Final = 15.0
"""Seconds in which a shipper sees that processes are gone, in two looks of one second, tells it, and ends."""


@dataclass(frozen=True)
class Family:
    """The processes of one stack."""

    token: str
    sessions: dict[int, float] = field(default_factory=dict)
    """Leader's pid → its start time; a pid that was given to another process since is not ours."""
    journal: Path | None = None
    since: float = 0.0
    """A shipper that was started before belongs to another worker; in psutil's time."""
    _shippers: set[int] = field(default_factory=set)

    def marks(self) -> dict[str, str]:
        """Return what the environment of a part must hold."""
        return {TOKEN: self.token, "SPT_NOENV": "1"}  # the latter makes setproctitle spare the token

    def adopt(self, leader: int, *, since: float = 0.0) -> None:
        """Note a part, the leader of a session of its own, if it was started after `since`."""
        try:
            created = psutil.Process(leader).create_time()
        except psutil.NoSuchProcess:
            return  # it ended at once, and what it left carries the token
        if created >= since:
            self.sessions[leader] = created

    def members(self) -> list[psutil.Process]:
        """Return the living ones, except this process."""
        self._adopt_shipper()
        sessions = {leader for leader in self.sessions if self._is_still_ours(leader)}
        return [process for process in psutil.process_iter() if self._belongs(process, sessions)]

    def end(
        self,
        *,
        patience: float,
        in_a_hurry: Callable[[], bool] = lambda: False,
        at_once: Callable[[], bool] = lambda: False,
    ) -> None:
        """End all members: SIGTERM, `patience` seconds, then SIGKILL until none is left.

        A shipper is the last: what was killed has no word of its own, and the shipper tells that it is lost.
        """
        family = self.members()
        _send(family, signal.SIGTERM)
        family = _wait(family, patience, in_a_hurry)
        others = [process for process in family if process.pid not in self._shippers]
        if others:
            _send(others, signal.SIGKILL)
        _wait(self.members(), LAST_WORDS, lambda: at_once() or not self._is_shipper_left())
        while family := self.members():
            _send(family, signal.SIGKILL)
            psutil.wait_procs(family, timeout=1.0)

    def _is_shipper_left(self) -> bool:
        return any(process.pid in self._shippers for process in self.members())

    def _adopt_shipper(self) -> None:
        """Note who serves the journal now; it was spawned by our worker, as the leader of a session."""
        beat = presence.read_beat(self.journal) if self.journal else None
        if beat is None or beat.role != "shipper" or not presence.is_visible(beat.process):
            return
        self.adopt(beat.process.pid, since=self.since)
        if beat.process.pid in self.sessions:
            self._shippers.add(beat.process.pid)

    def _belongs(self, process: psutil.Process, sessions: set[int]) -> bool:
        if process.pid == os.getpid():
            return False
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return os.getsid(process.pid) in sessions or process.environ().get(TOKEN) == self.token
        except (psutil.Error, OSError):
            return False  # gone meanwhile, or another user's

    def _is_still_ours(self, leader: int) -> bool:
        try:
            return psutil.Process(leader).create_time() == self.sessions[leader]
        except psutil.NoSuchProcess:
            return True  # a session may outlive its leader, and keeps the pid from being given away


def _wait(family: list[psutil.Process], seconds: float, is_over: Callable[[], bool]) -> list[psutil.Process]:
    """Wait until all have ended, or the time is over; return those that are left."""
    deadline = time.monotonic() + seconds
    while family and time.monotonic() < deadline and not is_over():
        family = psutil.wait_procs(family, timeout=_LOOK)[1]
    return family


def _send(family: list[psutil.Process], number: signal.Signals) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass  # it was faster
