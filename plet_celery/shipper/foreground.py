"""The shipper that somebody else looks after: systemd, a pod, a person at a terminal (`celery plet ship`).

It waits for its turn instead of giving way, says so on stderr, stays when nobody writes, and its exit
code tells whether something was left: 0 nothing, 1 events are left in the journal or another shipper
took over.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.holder import Action, Stillness, decide
from plet_celery.journal_segments import plet_version
from plet_celery.shipper.bell import Bell
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.life import Shipper, Stance
from plet_celery.shipper.notify import ServiceManager
from plet_celery.shipper.output import set_up_logging
from plet_celery.shipper.takeover import seize
from plet_celery.shipper.verdict import Verdict

# By this name also where the process is `__main__`.
log = logging.getLogger("plet_celery.shipper")

LEFT: Final = 1
"""Exit code: events are left in the journal."""
_LOOK: Final = 0.5
_ASK: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asked for; `foreground` of the document."""

    replace: bool = False
    """Ask whoever serves to drain and end."""
    until_drained: bool = False
    timeout: float | None = None
    """Seconds for `until_drained`."""


def serve(document: Mapping[str, Any]) -> int:
    """Wait for the lock, ship, and return the exit code."""
    bell = Bell(impatient=True)
    bell.install()
    _let_go_of_stdin()
    set_up_logging()
    wish = Wish(**document["foreground"])
    config = ShipperConfig.from_document(document)
    manager = ServiceManager()
    began = time.monotonic()
    if wish.until_drained and _others_store_it(config, wish, bell):
        log.info("all is stored: journal=%s", config.journal)
        return 0
    lock = Turn(config, wish, bell, manager).wait()
    if lock is None:
        log.info("ends before its turn came: journal=%s", config.journal)
        return LEFT if wish.until_drained else 0
    patience = None if wish.timeout is None else wish.timeout - (time.monotonic() - began)
    stance = Stance(
        stays=True, until_drained=wish.until_drained, patience=patience, on_beat=_Teller(manager, config).tell
    )
    shipper = Shipper(config, lock, bell, stance=stance)
    verdict = shipper.run()
    return _code(verdict, shipper.left, wish, config)


class Turn:
    """Waits until this process may ship; tells who serves, once for each."""

    def __init__(self, config: ShipperConfig, wish: Wish, bell: Bell, manager: ServiceManager) -> None:
        self._config = config
        self._wish = wish
        self._bell = bell
        self._manager = manager
        self._stillness = Stillness()
        self._told: presence.Process | None = None
        self._asked: presence.Process | None = None

    def wait(self) -> ShipLock | None:
        """Return the held lock; None when a signal or the end of `timeout` came first."""
        deadline = time.monotonic() + (math.inf if self._wish.timeout is None else self._wish.timeout)
        while self._bell.asked_to_end is None and time.monotonic() < deadline:
            lock = ShipLock(self._config.journal)
            if lock.acquire():
                return lock
            seized = self._look(presence.read_beat(self._config.journal))
            if seized is not None:
                return seized
            self._bell.wait(_LOOK)
        return None

    def _look(self, beat: presence.Beat | None) -> ShipLock | None:
        self._tell(beat)
        if self._wish.replace and beat is not None:
            self._ask_to_end(beat)
        frozen = self._stillness.seconds(beat, time.monotonic()) > self._config.settings.lease_stale
        action = decide(
            held=True,
            starting=False,
            frozen=frozen,
            visible=frozen and beat is not None and presence.is_visible(beat.process),
            beat=beat,
            key=presence.shipper_key(plet_version(), self._config.fingerprint),
            wall=time.time(),
        )
        if action is Action.END_FROZEN and beat is not None:
            ended = presence.kill_exactly(beat.process)
            log.warning("who serves is frozen: pid=%d ended=%s", beat.process.pid, ended)
        elif action is Action.SEIZE:
            log.warning("who serves is frozen and out of sight, taking over")
            return seize(self._config.journal, None if beat is None else msgspec.to_builtins(beat))
        return None

    def _tell(self, beat: presence.Beat | None) -> None:
        self._manager.alive(_waits_for(beat))
        process = beat.process if beat is not None else None
        if process is None or process == self._told:
            return
        assert beat is not None
        if self._told is None:
            self._manager.ready(_waits_for(beat))
        self._told = process
        log.info(
            "waits for its turn: journal=%s served_by_pid=%d role=%s state=%s plet=%s last_sign=%.1fs_ago "
            "(--replace asks that one to drain and end)",
            self._config.journal,
            process.pid,
            beat.role,
            beat.state,
            beat.plet,
            max(0.0, time.time() - beat.wall),
        )

    def _ask_to_end(self, beat: presence.Beat) -> None:
        # A process that only flushes ends by itself.
        if beat.role != "shipper" or beat.process == self._asked:
            return
        self._asked = beat.process
        if presence.is_visible(beat.process):
            os.kill(beat.process.pid, signal.SIGTERM)
            log.info("asked who serves to drain and end: pid=%d", beat.process.pid)
        else:
            log.warning("who serves cannot be asked from here, still waiting: pid=%d", beat.process.pid)


class _Teller:
    """Tells the service manager the state, and first that it serves."""

    def __init__(self, manager: ServiceManager, config: ShipperConfig) -> None:
        self._manager = manager
        self._journal = config.journal
        self._began = False

    def tell(self, state: str) -> None:
        status = f"{state} {self._journal}"
        if state == "left":
            self._manager.stopping(status)
        elif self._began:
            self._manager.alive(status)
        else:
            self._began = True
            self._manager.ready(status)


def _others_store_it(config: ShipperConfig, wish: Wish, bell: Bell) -> bool:
    """Have whoever serves store all that lies there now; False once nobody serves, or time is up."""
    deadline = time.monotonic() + (math.inf if wish.timeout is None else wish.timeout)
    while ShipLock.held_elsewhere(config.journal):
        rest = deadline - time.monotonic()
        if rest <= 0 or bell.asked_to_end is not None:
            return False
        # In short turns, between which a signal is seen.
        if presence.await_drain(config.journal, timeout=min(rest, _ASK)):
            return True
    return False


def _code(verdict: Verdict, left: bool, wish: Wish, config: ShipperConfig) -> int:
    if verdict is Verdict.FENCED:
        log.error("another shipper took over: journal=%s", config.journal)
        return LEFT
    if left and not (wish.until_drained and verdict is Verdict.LEAVE):
        log.error("events are left in the journal, the next shipper takes them: journal=%s", config.journal)
        return LEFT
    log.info("nothing is left: journal=%s", config.journal)
    return 0


def _waits_for(beat: presence.Beat | None) -> str:
    return f"waiting, pid {beat.process.pid} serves" if beat is not None else "waiting for the lock"


def _let_go_of_stdin() -> None:
    """Nothing of the document stays open: it holds the store's password."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
