"""P8, the workers: who runs what since when, who is silent, which runs went with one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from plet_celery.store import queries
from plet_celery.store.overviews import WorkerStatus
from plet_celery.store.records import Run
from plet_celery.web.access import permitted
from plet_celery.web.handler import PletHandler, Region
from plet_celery.web.runs import refresh_seconds

_WORKERS: Final = 200
_RUNNING: Final = 500
_SHOWN: Final = 12
_LOST: Final = 20
_DAY: Final = 86_400.0


@dataclass(frozen=True)
class Heard:
    """What Flower itself heard of a worker, over the broker."""

    beat_at: float | None
    memory_bytes: int | None
    """The most that its main process has held."""
    slots: int | None


@dataclass(frozen=True)
class Row:
    """One worker as it is shown."""

    name: str
    state: str
    """`online`, `stopping`, `stopped`, `lost`, `silent` (with its host), `gone` or `unknown`."""
    status: WorkerStatus | None
    heard: Heard
    running: list[Run]
    more_running: int

    @property
    def has_page(self) -> bool:
        """Flower has a page of it: it answers, or has answered before."""
        has_answered = self.heard.slots is not None or self.heard.memory_bytes is not None
        return has_answered or self.state in ("online", "stopping")


class WorkersPage(PletHandler):
    """`/plet/workers`."""

    right = "runs"
    main_region = "workers"

    async def get(self) -> None:
        """Show the workers, or one region of the page."""
        # Asked on the loop: Flower changes these while its events come in.
        heard = {name: self._heard(name) for name in self._known_to_flower()}
        regions: dict[str, Region] = {
            "workers": lambda: self._workers(heard),
            "lost": self._lost,
            "footer": self.footer,
        }
        if self.words("region"):
            await self.send_region(regions)
            return
        self.show(
            "workers.html",
            regions=await self.regions(regions),
            refresh=refresh_seconds(self.words("refresh")),
        )

    head = get

    def _workers(self, heard: dict[str, Heard]) -> str:
        tenants = self.viewer.tenants
        found = queries.list_workers(self.store, limit=_WORKERS, tenants=tenants)
        running = queries.running_by_worker(self.store, limit=_RUNNING, tenants=tenants)
        shown = {
            worker: [permitted(run, self.viewer) for run in runs]
            for worker, runs in running.by_worker.items()
        }
        return self.part(
            "workers_list.html",
            rows=rows(found, shown, heard if tenants is None else _known(heard, found, shown)),
            worker_url=lambda name: self.desk.url(self._flowers_base() + "worker/", name),
            is_cut=len(found) >= _WORKERS,
            is_more_running=running.truncated,
            limit=_WORKERS,
        )

    def _lost(self) -> str:
        found = queries.lost_runs(
            self.store, since=self.reader.now // 60 * 60 - _DAY, limit=_LOST, tenants=self.viewer.tenants
        )
        return self.part(
            "workers_lost.html",
            runs=found,
        )

    def _flowers_base(self) -> str:
        base: str = self.reverse_url("main")
        return base if base.endswith("/") else base + "/"

    def _known_to_flower(self) -> list[str]:
        return [*self.application.events.state.workers]

    def _heard(self, name: str) -> Heard:
        worker = self.application.events.state.workers.get(name)
        beats = list(getattr(worker, "heartbeats", ()) or ())
        stats = (self.application.workers.get(name) or {}).get("stats") or {}
        return heard_of(beats, stats)


def heard_of(beats: list[float], stats: Any) -> Heard:
    """Return what heartbeats and a worker's own statistics say, whatever their shape is."""
    stats = stats if isinstance(stats, dict) else {}
    usage, pool = stats.get("rusage"), stats.get("pool")
    kilobytes = usage.get("maxrss") if isinstance(usage, dict) else None
    slots = pool.get("max-concurrency") if isinstance(pool, dict) else None
    return Heard(
        beat_at=float(beats[-1]) if beats and _is_finite(beats[-1]) else None,
        memory_bytes=int(kilobytes) * 1024 if _is_finite(kilobytes) else None,
        slots=slots if isinstance(slots, int) else None,
    )


def _is_finite(number: Any) -> TypeGuard[float]:
    return isinstance(number, int | float) and math.isfinite(number)


def _known(
    heard: dict[str, Heard], found: list[WorkerStatus], running: dict[str, list[Run]]
) -> dict[str, Heard]:
    """Return what was heard of workers that have run something of the viewer's: no other name is told."""
    mine = {one.name for one in found} | set(running)
    return {name: one for name, one in heard.items() if name in mine}


def rows(found: list[WorkerStatus], running: dict[str, list[Run]], heard: dict[str, Heard]) -> list[Row]:
    """Return one row a worker's name, its newest life; workers that only have runs or heartbeats, too."""
    newest: dict[str, WorkerStatus] = {}
    for one in found:
        newest.setdefault(one.name, one)
    names = list(dict.fromkeys([*newest, *running, *heard]))
    nobody = Heard(None, None, None)
    made = [_row(name, newest.get(name), running.get(name, []), heard.get(name, nobody)) for name in names]
    order = {"online": 0, "stopping": 1, "lost": 2, "silent": 3, "unknown": 4, "gone": 5, "stopped": 6}
    return sorted(made, key=lambda row: (order[row.state], row.name))


def _row(name: str, status: WorkerStatus | None, running: list[Run], heard: Heard) -> Row:
    return Row(name, _state(status), status, heard, running[:_SHOWN], max(0, len(running) - _SHOWN))


def _state(status: WorkerStatus | None) -> str:
    if status is None:
        return "unknown"
    if status.stopped_at is not None:
        return "stopped"
    if status.lost_at is not None:
        return "lost"
    if status.is_living:
        return "stopping" if status.stopping_at is not None else "online"
    return "silent" if status.unreachable_since is not None else "gone"
