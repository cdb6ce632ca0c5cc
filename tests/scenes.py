"""A store in which time passes as a test says: runs are told, passes look at promises, hosts fall silent.

scene = Scene(store, at("2031-03-03 08:00"))
scene.promise("shop.load", MaxWait(60))
run = scene.publish("shop.load")
scene.clock += 90
assert scene.verdict("shop.load") == "broken"
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from storing import Shipper

from plet_celery import events
from plet_celery.events import Event
from plet_celery.monitor import promise_pass
from plet_celery.monitor.promises import Assessment
from plet_celery.objectives import Declared, Objective
from plet_celery.store import Store, open_store
from plet_celery.store.promises import ObjectiveStatus, list_objectives
from plet_celery.watchfacts import Judgement

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
JOURNAL = "j" * 32


def at(text: str, zone: str = "UTC") -> float:
    """Return the seconds since the epoch of `2031-03-03 08:00` in a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def shown(seconds: float, zone: str = "UTC") -> str:
    """Return a time as a zone's clock shows it, with its offset."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}"


@dataclass
class Told:
    """A run of a scene."""

    id: str
    task: str
    attempt: str
    canvas: str | None
    queued_at: float
    started_at: float = 0.0
    eta: str | None = None


@dataclass
class Scene:
    """One app, one journal, a clock."""

    store: Store
    clock: float
    interval: float = 30.0
    declared: list[Declared] = field(default_factory=list)
    heard: float | None = None
    """When the shipper was heard of last; None: just now."""
    ahead: float = 0.0
    """Seconds by which the clock of the host is ahead of the store's."""
    last: Assessment | None = None

    def __post_init__(self) -> None:
        self._shipper = Shipper(self.store)
        self._offset = itertools.count(0, 200)
        self._telling: list[Event] = []
        self._url = self.store.url.render_as_string(hide_password=False)
        self._held: list[Event] | None = None

    # What is promised

    def promise(self, task: str, *objectives: Objective, announce: bool = True) -> None:
        """Promise something of a task, from now on."""
        self.declared += [Declared(task, one, "task", "shop") for one in objectives]
        if announce:
            self.announce()

    def announce(self, *, has_app: bool = True) -> None:
        """Say which promises there are."""
        promise_pass.announce(self.store, self.declared, now=self.clock, has_app=has_app, app="shop")

    # What happens

    def publish(
        self, task: str, *, eta: float | None = None, canvas: str | None = None, tenant: str | None = None
    ) -> Told:
        """Publish a run now."""
        queued = self.clock + self.ahead
        run = Told(str(uuid.uuid4()), task, uuid.uuid4().hex, canvas, queued)
        if eta is not None:
            run.eta = datetime.fromtimestamp(eta, UTC).isoformat()
        self._tell(events.RUN_QUEUED, run, None, tenant=tenant, queue="q", trigger="beat", eta=run.eta)
        return run

    def start(self, run: Told) -> Told:
        """Begin a published run now."""
        run.started_at = self.clock + self.ahead
        self._tell(
            events.RUN_STARTED, run, run.attempt, queued_at=run.queued_at, queue="q", pid=7, eta=run.eta
        )
        return run

    def end(self, run: Told, kind: str = events.RUN_SUCCEEDED) -> Told:
        """End a run now."""
        runtime = self.clock + self.ahead - run.started_at
        self._tell(kind, run, run.attempt, by="child", runtime=runtime, started=run.started_at)
        return run

    def run(
        self,
        task: str,
        *,
        waits: float = 0.0,
        takes: float = 1.0,
        end: str = events.RUN_SUCCEEDED,
        canvas: str | None = None,
    ) -> Told:
        """Have a run from now on, and let the time pass that it takes."""
        run = self.publish(task, canvas=canvas)
        self.clock += waits
        self.start(run)
        self.clock += takes
        return self.end(run, end)

    def hold(self) -> None:
        """What is told from now on reaches the store only later."""
        self._held = []

    def release(self) -> None:
        """What was held reaches the store."""
        held, self._held = self._held or [], None
        self._telling = held + self._telling
        self._ship()

    # Passes

    def look(self) -> list[Judgement]:
        """Make a pass now."""
        self._hear()
        self.last = promise_pass.look(self.store, now=self.clock)
        promise_pass.keep(self.store, self.last.kept, now=self.clock)
        return list(self.last.judgements)

    def judgement(self, task: str) -> Judgement:
        """Make a pass, and return what it says of the task's only promise."""
        (found,) = [one for one in self.look() if one.task == task]
        return found

    def verdict(self, task: str) -> str:
        """Make a pass, and return its verdict."""
        return self.judgement(task).verdict.value

    def until(self, end: float, step: float | None = None) -> None:
        """Let time pass with a pass at each step."""
        while self.clock + (step or self.interval) <= end:
            self.clock += step or self.interval
            self.look()
        self.clock = end

    def restart(self) -> None:
        """Go on as another process does that knows nothing."""
        if self.store.url.get_backend_name() == "sqlite":
            self.store.close()
            self.store = open_store(self._url)

    def status(self, task: str) -> ObjectiveStatus:
        """Return how the task's only promise does."""
        (found,) = [one for one in list_objectives(self.store, now=self.clock) if one.task == task]
        return found

    def dues(self) -> list[tuple[float, str]]:
        """Return the due times that are kept, with what became of them."""
        table = self.store.tables.watching.due
        with self.store.reading() as connection:
            query = sa.select(table.c.due_at, table.c.state).order_by(table.c.due_at)
            return [(row.due_at, row.state) for row in connection.execute(query)]

    def _hear(self) -> None:
        table = self.store.tables.journal
        heard = self.clock if self.heard is None else self.heard
        with self.store.writing() as connection:
            connection.execute(table.update().values(touched_at=heard, skew=self.ahead))

    def _tell(self, kind: str, run: Told, attempt: str | None, **data: Any) -> None:
        facts = {"task": run.task, "canvas": run.canvas or run.id, **data}
        wall = self.clock + self.ahead
        event = Event(
            kind=kind,
            wall=wall,
            mono=wall,
            run=run.id,
            attempt=attempt,
            data={name: value for name, value in facts.items() if value is not None},
            writer="w" * 32,
            segment=1,
            offset=next(self._offset),
        )
        if self._held is not None:
            self._held.append(event)
            return
        self._telling.append(event)
        self._ship()

    def _ship(self) -> None:
        told, self._telling = self._telling, []
        refused = self._shipper.ship((JOURNAL, event) for event in told)
        assert not refused
