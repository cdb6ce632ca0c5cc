"""The merge of a stage, and which stage a run shows.

Pure functions, as in `merge.py`. A stage's number is its identity within the attempt; each of its
values is won by the newest stamp, so a late tick after the end changes numbers, never the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from plet_celery import events
from plet_celery.events import Event, StageState
from plet_celery.store.merge import Glance, Stamp, integer, number, stamp_of

KINDS: Final = frozenset(
    {
        events.STAGE_PLANNED,
        events.STAGE_STARTED,
        events.STAGE_PROGRESSED,
        events.STAGE_SUCCEEDED,
        events.STAGE_FAILED,
        events.STAGE_SKIPPED,
    }
)
_ENDS: Final = {
    events.STAGE_SUCCEEDED: StageState.SUCCEEDED,
    events.STAGE_FAILED: StageState.FAILED,
    events.STAGE_SKIPPED: StageState.SKIPPED,
}
_NAME_MAX: Final = 200


class Planned(msgspec.Struct, array_like=True):
    """What `stage.planned` told last."""

    stamp: Stamp
    name: str
    weight: float | None


class Begun(msgspec.Struct, array_like=True):
    """What `stage.started` told last."""

    stamp: Stamp
    name: str
    parent: int | None
    unit: str | None


class Ended(msgspec.Struct, array_like=True):
    """What the stage's newest end told."""

    stamp: Stamp
    state: str
    name: str | None
    elapsed: float | None
    result: Any
    error: dict[str, Any] | None


class StageFacts(msgspec.Struct, omit_defaults=True):
    """Everything the store knows of one stage; the `doc` of its row."""

    planned: Planned | None = None
    began: float | None = None
    """Wall time of its first start."""
    begun: Begun | None = None
    ended: Ended | None = None
    done: tuple[Stamp, float] | None = None
    total: tuple[Stamp, float] | None = None
    message: tuple[Stamp, str] | None = None

    @property
    def state(self) -> str:
        """The state that the newest of start and end gives; ticks alone mean running."""
        ended = self.ended
        if ended is not None and (self.begun is None or ended.stamp > self.begun.stamp):
            return ended.state
        return "running" if self.begun is not None or self.done is not None else "planned"

    @property
    def name(self) -> str:
        """The name as the newest fact gives it."""
        if self.begun is not None:
            return self.begun.name
        if self.planned is not None:
            return self.planned.name
        return (self.ended.name if self.ended is not None else None) or "unnamed"

    def glance(self) -> Glance:
        """Return what a run's row shows of it."""
        return Glance(
            name=self.name,
            current=self.done[1] if self.done else None,
            total=self.total[1] if self.total else None,
            unit=self.begun.unit if self.begun else None,
            message=self.message[1] if self.message else None,
        )


def stage_number(event: Event) -> int:
    """Return which stage an event is about; 0 collects events that do not say."""
    return integer(event.data.get("stage")) or 0


def fold_stage(facts: StageFacts | None, found: Iterable[Event]) -> StageFacts:
    """Return the stage's facts with those of `found`."""
    facts = facts or StageFacts()
    for event in found:
        stamp = stamp_of(event)
        kind = event.kind
        if kind == events.STAGE_PLANNED:
            if facts.planned is None or stamp > facts.planned.stamp:
                facts.planned = Planned(stamp, _name(event.data), number(event.data.get("weight")))
            continue
        if kind == events.STAGE_STARTED:
            _fold_start(facts, event, stamp)
        elif kind in _ENDS:
            _fold_end(facts, event, stamp)
        _fold_numbers(facts, event.data, stamp)
    return facts


def glances(stages: Iterable[StageFacts]) -> tuple[Glance | None, Glance | None]:
    """Return the innermost running stage and the failed one, each the one that began last."""
    running: tuple[Stamp, StageFacts] | None = None
    failed: tuple[Stamp, StageFacts] | None = None
    for stage in stages:
        if stage.begun is None:
            continue
        state = stage.state
        if state == "running" and (running is None or stage.begun.stamp > running[0]):
            running = (stage.begun.stamp, stage)
        elif state == "failed" and (failed is None or stage.begun.stamp > failed[0]):
            failed = (stage.begun.stamp, stage)
    return running[1].glance() if running else None, failed[1].glance() if failed else None


def _fold_start(facts: StageFacts, event: Event, stamp: Stamp) -> None:
    if facts.began is None or event.wall < facts.began:
        facts.began = event.wall
    if facts.begun is None or stamp > facts.begun.stamp:
        unit = event.data.get("unit")
        facts.begun = Begun(
            stamp,
            _name(event.data),
            integer(event.data.get("parent")),
            unit if isinstance(unit, str) else None,
        )


def _fold_end(facts: StageFacts, event: Event, stamp: Stamp) -> None:
    if facts.ended is not None and stamp <= facts.ended.stamp:
        return
    data = event.data
    error = data.get("error")
    facts.ended = Ended(
        stamp,
        _ENDS[event.kind].value,
        _name(data) if "name" in data else None,
        number(data.get("elapsed")),
        data.get("result"),
        error if isinstance(error, dict) else None,
    )


def _fold_numbers(facts: StageFacts, data: dict[str, Any], stamp: Stamp) -> None:
    done = number(data.get("done"))
    if done is not None and (facts.done is None or stamp > facts.done[0]):
        facts.done = (stamp, done)
    total = number(data.get("total"))
    if total is not None and (facts.total is None or stamp > facts.total[0]):
        facts.total = (stamp, total)
    message = data.get("message")
    if isinstance(message, str) and (facts.message is None or stamp > facts.message[0]):
        facts.message = (stamp, message)


def _name(data: dict[str, Any]) -> str:
    name = data.get("name")
    return name[:_NAME_MAX] if isinstance(name, str) and name else "unnamed"
