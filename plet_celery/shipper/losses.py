"""Attempts whose writer died: when to ask the store for them, and the event that tells of one.

Not how they are stored: a loss is an event in the journal like any other, written by the shipper.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from plet_celery import events

if TYPE_CHECKING:
    from plet_celery.sinks import StoreSink

log = logging.getLogger(__name__)

WORKER_REASON: Final = "its process ended without a word"

Append = Callable[[str, str | None, str | None, dict[str, Any]], bool]


class OpenAttempt(Protocol):
    """What the store knows of an attempt without an end."""

    @property
    def run_id(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...
    @property
    def task(self) -> str | None: ...
    @property
    def queue(self) -> str | None: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def worker(self) -> str | None: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def started(self) -> float | None: ...
    @property
    def queued_at(self) -> float | None: ...


@dataclass(frozen=True)
class Gone:
    """A writer whose lock is free."""

    since: float
    """When that was first seen, monotonic."""
    parent_lives: bool
    """Its worker's main process still writes, and may report the end itself."""


@dataclass
class Losses:
    """Which writers are settled: gone, and each of their attempts has an end or a loss was told.

    Only the store sink's loop calls it, right after a pass that left nothing unread.
    """

    grace: float
    settled: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    """Attempts of writers that could not be settled to the end, and such writers that are workers: the
    journal took only some of the losses."""

    def due(self, gone: Mapping[str, Gone], now: float) -> list[str]:
        """Return the writers whose open attempts are lost now.

        Args:
            gone: writers seen gone *before* the pass began, so that the pass has read all of them.
        """
        return [
            writer
            for writer, facts in gone.items()
            if writer not in self.settled and (not facts.parent_lives or now - facts.since >= self.grace)
        ]

    def settle(
        self,
        writer: str,
        attempts: Sequence[OpenAttempt],
        after: tuple[int, int] | None,
        append: Append,
        host: str,
        worker: str | None = None,
    ) -> bool:
        """Tell the loss of each open attempt, and of a worker; False if the journal could not take one.

        Args:
            worker: node name, if the writer was a worker's main process that has told no end.
        """
        if worker is not None and writer not in self.told:
            data = {
                "by": "shipper",
                "reason": WORKER_REASON,
                "writer": writer,
                "worker": worker,
                "host": host,
            }
            if not append(events.WORKER_LOST, None, None, data):
                return False
            self.told.add(writer)
        for attempt in attempts:
            if attempt.attempt_id in self.told:
                continue
            data = loss(attempt, writer=writer, after=after, host=host)
            if not append(events.RUN_LOST, attempt.run_id, attempt.attempt_id, data):
                return False
            self.told.add(attempt.attempt_id)
        self.told.discard(writer)
        self.told.difference_update(attempt.attempt_id for attempt in attempts)
        self.settled.add(writer)
        return True

    def forget(self, writers: Iterable[str]) -> None:
        """Drop what is known of writers whose files are gone."""
        self.settled.difference_update(writers)


def tell_losses(
    losses: Losses,
    losers: Mapping[str, Gone],
    positions: Mapping[str, tuple[int, int]],
    *,
    sink: StoreSink,
    append: Append,
    host: str,
    now: float,
) -> None:
    """Tell what writers that are gone have left open.

    Args:
        losers: seen gone before the pass that has just read all of them.
        positions: how far it has read.
        now: monotonic.
    """
    due = losses.due(losers, now)
    # A shipper that starts may find thousands that are gone: one question tells which matter.
    suspects = sink.writers_with_open_attempts() if len(due) > 1 else due
    workers = sink.open_workers() if due else {}
    for writer in due:
        attempts = sink.open_attempts(writer) if writer in suspects else ()
        settled = losses.settle(
            writer,
            attempts,
            positions.get(writer),
            append=append,
            host=host,
            worker=workers.get(writer),
        )
        if settled and writer in workers:
            log.warning("worker is gone: worker=%s writer=%s", workers[writer], writer)
        if attempts and settled:
            log.warning("writer is gone: writer=%s lost_attempts=%d", writer, len(attempts))


def loss(attempt: OpenAttempt, *, writer: str, after: tuple[int, int] | None, host: str) -> dict[str, Any]:
    """Return the data of a `run.lost`: why, whose, after which position, and the attempt's facts."""
    data: dict[str, Any] = {
        "by": "shipper",
        "reason": "its process ended without an end of the run",
        "writer": writer,
        "host": host,
        "task": attempt.task,
        "queue": attempt.queue,
        "tenant": attempt.tenant,
        "worker": attempt.worker,
        "pid": attempt.pid,
        "started": attempt.started,
        "queued_at": attempt.queued_at,
    }
    if after is not None:
        data["after"] = list(after)
    return {name: value for name, value in data.items() if value is not None}
