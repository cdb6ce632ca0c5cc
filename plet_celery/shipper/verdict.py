"""Whether a shipper goes on: a decision by plain facts, no clock, no file."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from plet_celery.presence import Beat, shipper_key

# Two apps with different settings on one journal would hand it to and fro at every restart.
TURNS_MAX: Final = 3
TURNS_WINDOW: Final = 600.0
# A writer that is going has asked to leave: only a restart that follows at once finds us still here.
HASTY_LINGER: Final = 2.0
_NUMBERS = re.compile(r"\d+(\.\d+)*")


class Verdict(enum.Enum):
    """What a shipper does next."""

    SERVE = "serve"
    LEAVE = "leave"
    """Nobody writes, nothing is left, and the time to linger is over."""
    DRAINED = "drained"
    """Asked to end, and done with it or out of time."""
    YIELD = "yield"
    """A newer version or other settings are wanted by a worker that came after us."""
    FENCED = "fenced"
    """The lock or the lease belongs to another shipper: not one byte more."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the decision knows; all times monotonic."""

    now: float
    fenced: bool
    yields_to: str | None
    """Key of the newer one, or None."""
    writers: int
    """Other writers alive."""
    left: bool
    """Something of other writers is not yet in every sink, or a loss is not yet told."""
    quiet_since: float | None
    """Since when there has been neither; None while there is."""
    asked_to_end: float | None
    drain_timeout: float
    linger: float
    late: bool = False
    """It was to end once all is stored, and its time for that is over."""


def decide(facts: Facts) -> Verdict:
    """Return what to do; a fence wins over everything."""
    if facts.fenced:
        return Verdict.FENCED
    if facts.yields_to is not None:
        return Verdict.YIELD
    if facts.asked_to_end is not None:
        done = facts.writers == 0 and not facts.left
        late = facts.now - facts.asked_to_end >= facts.drain_timeout
        return Verdict.DRAINED if done or late else Verdict.SERVE
    if facts.late:
        return Verdict.DRAINED
    if facts.quiet_since is not None and facts.now - facts.quiet_since >= facts.linger:
        return Verdict.LEAVE
    return Verdict.SERVE


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the header of a living worker says about the shipper it would spawn."""

    plet: str
    fingerprint: str
    started: float

    @property
    def key(self) -> str:
        """What tells its shipper from others."""
        return shipper_key(self.plet, self.fingerprint)


def newer_claim(
    claims: Iterable[Claim],
    *,
    plet: str,
    fingerprint: str,
    started: float,
    turns: Sequence[float],
    wall: float,
) -> Claim | None:
    """Return the worker for whose shipper this one should step down, or None.

    A newer plet version always wins. Other settings win if their worker started after this
    shipper: a worker that was there before knew it. An older version never wins.

    Args:
        started: wall time at which this shipper started.
        turns: wall times of earlier step-downs on this journal; after TURNS_MAX of them within
            TURNS_WINDOW seconds nobody steps down any more.
    """
    if sum(1 for turn in turns if _is_recent(turn, wall)) >= TURNS_MAX:
        return None
    mine = version_key(plet)
    for claim in sorted(claims, key=lambda one: (version_key(one.plet), one.started), reverse=True):
        theirs = version_key(claim.plet)
        if theirs > mine:
            return claim
        if theirs == mine and claim.fingerprint != fingerprint and claim.started > started:
            return claim
    return None


def other_claim(claims: Iterable[Claim], *, fingerprint: str) -> Claim | None:
    """Return the newest worker with other settings: it may know the store that this journal belongs to."""
    others = [claim for claim in claims if claim.fingerprint != fingerprint]
    return max(others, key=lambda one: one.started, default=None)


def recent_turns(beat: Beat | None, wall: float) -> tuple[float, ...]:
    """Return the step-downs that still count, from the beat of who served before."""
    return tuple(turn for turn in (beat.turns if beat else ()) if _is_recent(turn, wall))


def _is_recent(turn: float, wall: float) -> bool:
    return 0 <= wall - turn < TURNS_WINDOW


def version_key(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparing: `1.10.0rc1` → (1, 10, 0)."""
    found = _NUMBERS.match(text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
