"""The life of a shipper: its main thread beats, looks around and decides; the rest runs beside it."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from plet_celery import events, presence
from plet_celery.election import ShipLock
from plet_celery.journal import Writer
from plet_celery.journal_place import open_journal
from plet_celery.journal_segments import plet_version
from plet_celery.shipper.aside import make_aside
from plet_celery.shipper.asks import Asks
from plet_celery.shipper.bell import Bell
from plet_celery.shipper.config import ShipperConfig
from plet_celery.shipper.crew import make_crew
from plet_celery.shipper.forsaken import ForsakenRuns
from plet_celery.shipper.hostfacts import host_facts
from plet_celery.shipper.housekeeping import Housekeeping
from plet_celery.shipper.loops import Hooks, eased
from plet_celery.shipper.losses import Gone, Losses, tell_losses
from plet_celery.shipper.neighbours import Neighbours
from plet_celery.shipper.output import Output
from plet_celery.shipper.roster import Roster, Sight
from plet_celery.shipper.verdict import (
    HASTY_LINGER,
    TURNS_MAX,
    Claim,
    Facts,
    Verdict,
    decide,
    newer_claim,
    other_claim,
    recent_turns,
)

log = logging.getLogger(__name__)

_TICK: Final = 0.1
_LOOK_INTERVAL: Final = 1.0
_BEAT_INTERVAL: Final = 1.0
_OWN_TAIL_PATIENCE: Final = 2.0
_BATCH_PATIENCE: Final = 5.0

Position = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Stance:
    """What ends a shipper, besides signals and fences; by default what its writers do."""

    stays: bool = False
    """Somebody else looks after it: it neither leaves nor steps down on its own."""
    until_drained: bool = False
    """It leaves once all is stored that lay there when it began, whoever still writes."""
    patience: float | None = None
    """Seconds that it may take for that."""
    on_beat: Callable[[str], None] = lambda state: None
    """Told its state every second, and at last `left`."""


class Shipper:
    """One shipper, holder of the lock, from its first look to its last."""

    def __init__(
        self,
        config: ShipperConfig,
        lock: ShipLock,
        bell: Bell,
        output: Output | None = None,
        stance: Stance | None = None,
    ) -> None:
        """Prepare.

        Args:
            output: its log file, to be rotated; None when somebody else looks after stdout.
        """
        self._stance = stance or Stance()
        self._refused_claim = ""
        self._config = config
        self._lock = lock
        self._bell = bell
        self._output = output
        self._host = socket.gethostname()
        self._journal = open_journal(config.journal)
        self._writer = Writer(
            config.journal,
            role="shipper",
            settings_fingerprint=config.fingerprint,
            limits=config.writer_limits(),
        )
        self._losses = Losses(config.settings.lost_grace)
        self._roster = Roster(config.journal, lambda: self._writer.id)
        self._crew = make_crew(
            config,
            self._journal,
            lock.still_mine,
            Hooks(
                before=lambda: self._roster.sight.losers(self._losses.settled),
                after=self._after_pass,
                failed=lambda: self._neighbours.broken(),
                last=self._say_goodbye,
            ),
        )
        self._neighbours = Neighbours(
            self._crew.store_sink,
            self._journal.journal_id,
            lost_after=config.settings.host_lost_after,
            fence=lock.still_mine,
        )
        self._forsaken = ForsakenRuns(
            self._crew.store_sink, after=config.settings.abandoned_after, fence=lock.still_mine
        )
        self._housekeeping = Housekeeping(
            config.journal,
            config.settings,
            crew=self._crew,
            losses=self._losses,
            fence=lock.still_mine,
            final=lambda: self._roster.sight.final,
        )
        self._aside = make_aside(config, self._journal, self._crew, self._host, lock.still_mine)
        self._asks = Asks(config.journal)
        self._started = time.time()
        self._began = time.monotonic()
        self.left = True
        """Whether something was not yet in every sink when it ended."""
        self._turns = recent_turns(presence.read_beat(config.journal), self._started)
        self._process = presence.this_process()
        self._look_at = self._beat_at = self._host_beat_at = 0.0
        self._beat_failed = self._is_leaving = False
        self._quiet_since: float | None = None
        self._untold: dict[str, Any] | None = None

    def run(self) -> Verdict:
        """Ship until it is time to go; return why."""
        self._bell.install()
        log.info(
            "shipper serves: journal=%s plet=%s settings=%s",
            self._config.journal,
            plet_version(),
            self._config.fingerprint,
        )
        for loop in self._crew.loops:
            loop.start()
        self._housekeeping.start()
        self._aside.start()
        verdict = Verdict.SERVE
        while verdict is Verdict.SERVE:
            self._bell.wait(_TICK)
            verdict = self._tick(time.monotonic(), time.time())
        self._finish(verdict)
        return verdict

    def _tick(self, now: float, wall: float) -> Verdict:
        if not self._is_fenced():
            self._asks.look(self._crew.loops, now)
            draining = self._bell.asked_to_end is not None
            if now >= self._look_at or draining:
                self._look(now)
            for loop in self._crew.loops:
                loop.sever_if_hung(now)
            if now >= self._beat_at:
                self._beat_at = now + _BEAT_INTERVAL
                self._beat("draining" if draining else "serving", now, wall)
        claim = self._claim(wall)
        verdict = decide(self._facts(now, claim))
        if verdict is Verdict.YIELD and claim is not None:
            self._yield_to(claim, wall)
        return verdict

    def _look(self, now: float) -> None:
        cost = time.thread_time()
        known = {writer for loop in self._crew.loops for writer in list(loop.positions)}
        sight = self._roster.look(now, known)
        self._quiet_since = None if self._is_busy(sight) else self._quiet_since or now
        if self._bell.asked_to_end is not None:
            for loop in self._crew.loops:
                loop.wake()
        elif now >= self._host_beat_at:
            self._host_beat_at = now + self._config.settings.host_beat
            self._tell_host(sight)
        if self._output is not None:
            self._output.rotate_if_large()
        self._look_at = now + eased(_LOOK_INTERVAL, time.thread_time() - cost)

    def _facts(self, now: float, claim: Claim | None) -> Facts:
        sight, settings = self._roster.sight, self._config.settings
        stance = self._stance
        hasty = self._asks.somebody_leaves
        linger = min(HASTY_LINGER, settings.shipper_linger) if hasty else settings.shipper_linger
        if stance.until_drained:
            # Two looks, so that a writer that is gone has been seen gone and its losses are told.
            linger = HASTY_LINGER
        elif stance.stays:
            linger = math.inf
        return Facts(
            now=now,
            fenced=self._is_fenced(),
            yields_to=claim.key if claim else None,
            writers=len(sight.alive),
            left=self._is_left(sight),
            quiet_since=self._quiet_since,
            asked_to_end=self._bell.asked_to_end,
            drain_timeout=settings.drain_timeout,
            linger=linger,
            late=stance.patience is not None and now - self._began >= stance.patience,
        )

    def _is_fenced(self) -> bool:
        return not self._lock.still_mine() or any(loop.fenced for loop in self._crew.loops)

    def _is_busy(self, sight: Sight) -> bool:
        if self._stance.until_drained:
            behind = any(loop.caught_up < self._began for loop in self._crew.loops)
            return behind or bool(sight.gone.keys() - self._losses.settled)
        return bool(sight.alive) or self._is_left(sight)

    def _is_left(self, sight: Sight) -> bool:
        loops = self._crew.loops
        if not all(loop.is_open for loop in loops):
            return True
        unsettled = sight.gone.keys() - self._losses.settled
        return bool(unsettled) or any(sight.left(loop.positions, loop.unreadable) for loop in loops)

    def _claim(self, wall: float) -> Claim | None:
        claims = self._roster.sight.claims()
        if self._crew.store.refused and not self._stance.stays:
            return other_claim(claims, fingerprint=self._config.fingerprint)
        claim = newer_claim(
            claims,
            plet=plet_version(),
            fingerprint=self._config.fingerprint,
            started=-math.inf if self._stance.stays else self._started,
            turns=self._turns,
            wall=wall,
        )
        if not self._stance.stays:
            return claim
        # Whoever started us would start us again as we are: stepping down would never end.
        if claim is not None and claim.key != self._refused_claim:
            self._refused_claim = claim.key
            log.warning(
                "a worker has other settings or a newer version, and this shipper stays: mine=%s theirs=%s; "
                "start both with the same -A, PLET_* variables and plet-celery version",
                presence.shipper_key(plet_version(), self._config.fingerprint),
                claim.key,
            )
        return None

    def _yield_to(self, claim: Claim, wall: float) -> None:
        self._turns = (*self._turns, wall)
        log.warning(
            "shipper steps down for a worker with other settings or a newer version%s: "
            "mine=%s theirs=%s step_downs=%d (of %d, then the shipper stays)",
            ", this store cannot take the journal" if self._crew.store.refused else "",
            presence.shipper_key(plet_version(), self._config.fingerprint),
            claim.key,
            len(self._turns),
            TURNS_MAX,
        )
        self._beat("yielding", time.monotonic(), wall, yields_to=claim.key)

    def _after_pass(self, positions: Mapping[str, Position], losers: Mapping[str, Gone]) -> None:
        untold, self._untold = self._untold, None
        if untold is not None:
            self._crew.store_sink.beat(untold, time.time())
        tell_losses(
            self._losses,
            losers,
            positions,
            sink=self._crew.store_sink,
            append=self._writer.append,
            host=self._host,
            now=time.monotonic(),
        )
        self._neighbours.look(time.monotonic())
        self._forsaken.look(time.monotonic())

    def _say_goodbye(self) -> None:
        """Nobody writes and nothing is left: then silence is no sign of trouble."""
        sight = self._roster.sight
        if self._is_leaving and not sight.alive and not self._is_left(sight):
            self._crew.store_sink.leave()

    def _tell_host(self, sight: Sight) -> None:
        data: dict[str, Any] = {
            "host": self._host,
            "pid": os.getpid(),
            "backlog_bytes": sight.left(self._crew.store.positions),
            "writers": len(sight.alive),
            "plet": plet_version(),
            **host_facts(self._config, self._crew, refused_segments=self._housekeeping.syncer.failures),
        }
        # On a full disk the journal takes no beat, just when the store is to hear of it.
        if not self._writer.append(events.HOST_BEAT, None, None, data):
            self._untold = data

    def _beat(self, state: str, now: float, wall: float, yields_to: str = "") -> None:
        beat = presence.Beat(
            process=self._process,
            role="shipper",
            mono=now,
            wall=wall,
            plet=plet_version(),
            fingerprint=self._config.fingerprint,
            state=state,
            yields_to=yields_to,
            turns=self._turns,
            sinks={loop.sink.name: loop.facts() for loop in self._crew.loops},
            refused_segments=self._housekeeping.syncer.failures,
            mirror=self._aside.facts(),
        )
        self._stance.on_beat(state)
        try:
            presence.write_beat(self._config.journal, beat)
        except OSError as error:
            if not self._beat_failed:
                log.warning("no beat: journal=%s error=%s", self._config.journal, error)
            self._beat_failed = True
        else:
            self._beat_failed = False

    def _finish(self, verdict: Verdict) -> None:
        log.info("shipper ends: why=%s", verdict.value)
        self._is_leaving = verdict in (Verdict.LEAVE, Verdict.DRAINED)
        if verdict in (Verdict.LEAVE, Verdict.DRAINED):
            self._await_own_tail()
        for loop in self._crew.loops:
            loop.stop()
        deadline = time.monotonic() + _BATCH_PATIENCE
        finished = [loop.join(deadline - time.monotonic()) for loop in self._crew.loops]
        self._housekeeping.stop(max(0.1, deadline - time.monotonic()))
        self.left = not all(finished) or self._is_left(self._roster.look(time.monotonic()))
        self._aside.stop(finish=verdict in (Verdict.LEAVE, Verdict.DRAINED))
        self._writer.close()
        if verdict in (Verdict.LEAVE, Verdict.DRAINED) and self._lock.still_mine():
            self._beat("left", time.monotonic(), time.time())
        if not all(finished):
            log.warning("a sink was busy and is cut off; its batch is repeated by the next shipper")

    def _await_own_tail(self) -> None:
        """Let the loops take what this shipper wrote last; the next one finds it otherwise."""
        deadline = time.monotonic() + _OWN_TAIL_PATIENCE
        while time.monotonic() < deadline and not self._is_fenced():
            sight = self._roster.look(time.monotonic())
            if not any(sight.own_left(loop.positions) for loop in self._crew.loops if not loop.failures):
                return
            for loop in self._crew.loops:
                loop.wake()
            time.sleep(_TICK / 2)
