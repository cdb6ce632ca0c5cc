"""What several checks look at, found out once a pass: hosts, workers, queues, what workers answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plet_celery.monitor.checks import brokers, remote
from plet_celery.monitor.checks.asking import Once
from plet_celery.monitor.world import World
from plet_celery.store import queries, waiting
from plet_celery.store.health import HealthRow
from plet_celery.store.overviews import WorkerStatus
from plet_celery.store.records import HostStatus

_HOSTS_MAX: Final = 1000
_WORKERS_MAX: Final = 1000
# The queues are asked once it is known which ones workers consume: both within the time of one check.
_FOR_WORKERS: Final = 0.5
_FOR_QUEUES: Final = 0.35


@dataclass(frozen=True)
class Looks:
    """The shared looks of one pass; each raises what looking raises."""

    world: World
    now: float
    """When the pass began, seconds since the epoch."""
    seconds: float
    """How long a check may take."""
    hosts: Once[list[HostStatus]]
    workers: Once[list[WorkerStatus]]
    """The workers that the store knows."""
    queued: Once[waiting.Queued]
    """Runs that wait, by queue, as the store knows them."""
    depths: Once[dict[str, brokers.Depth]]
    """Messages in each queue, as the broker counts them."""
    answers: Once[dict[str, remote.WorkerAnswer]]
    """What workers answer over remote control, by node name, beat's own node left out."""

    def before(self, name: str, subject: str = "") -> HealthRow | None:
        """Return what the pass before kept of a check's subject."""
        return self.world.before.get((name, subject))

    @property
    def broker(self) -> str:
        """Where the broker is, without its password."""
        return brokers.shown(self.world.app)


def looks(world: World, *, now: float, seconds: float) -> Looks:
    """Return the looks of a pass; nothing is looked at yet."""
    app, store = world.app, world.store
    queued = Once(lambda: waiting.waiting_by_queue(store, now=now))
    workers = Once(lambda: queries.list_workers(store, limit=_WORKERS_MAX))

    def ask() -> dict[str, remote.WorkerAnswer]:
        try:
            ours = {one.name for one in workers() if one.is_living}
        except Exception:
            # Celery's own questions then; the check of the store says why.
            ours = set()
        return remote.ask_workers(app, seconds=seconds * _FOR_WORKERS, ours=ours)

    answers = Once(ask)

    def names() -> list[str]:
        found: dict[str, None] = dict.fromkeys(world.facts.get("queues") or [])
        for source in (lambda: queued().by_queue, answers):
            try:
                found.update(dict.fromkeys(_queues_of(source())))
            except Exception:
                # Told by the check whose question this is; what the conf names is asked all the same.
                continue
        return list(found)

    return Looks(
        world=world,
        now=now,
        seconds=seconds,
        hosts=Once(lambda: queries.list_hosts(store, limit=_HOSTS_MAX)),
        workers=workers,
        queued=queued,
        depths=Once(lambda: brokers.depths(app, names(), seconds=seconds * _FOR_QUEUES)),
        answers=answers,
    )


def _queues_of(found: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for name, one in found.items():
        if isinstance(one, remote.WorkerAnswer):
            names.extend(one.queues or ())
        else:
            names.append(name)
    return names
