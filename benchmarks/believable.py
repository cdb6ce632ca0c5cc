"""Runs as a busy service has them, made from their number alone: what `fill.py` puts into a store.

Run number n of N is the n-th in the order of time. All that is known of it follows from n, the seed and N,
so that runs may be made in any order, and those of a canvas name each other, in bounded memory. Ids are
UUIDs whose order has nothing to do with time, as in life; made in the order of their ids, they fill a
table from left to right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from plet_celery import events
from plet_celery.store.merge import AttemptState, Contribution, End, Glance, Start
from plet_celery.store.rollups import BUCKET_SECONDS
from plet_celery.store.settle import DAY

SPAN: Final = 30 * DAY
"""Seconds from the first run to the last."""
TASKS: Final = tuple(
    f"shop.{area}.{verb}"
    for area in (
        "orders",
        "mail",
        "prices",
        "stock",
        "media",
        "search",
        "reports",
        "billing",
        "users",
        "sync",
    )
    for verb in ("load", "check", "send", "index", "clean")
)
QUEUES: Final = ("celery", "imports", "mail", "slow")
HOSTS: Final = tuple(f"web{number:02d}" for number in range(6))
JOURNALS: Final = tuple(f"{number:032x}" for number in range(0xA1, 0xA1 + len(HOSTS)))
WORKERS: Final = tuple(f"celery@{host}-{letter}" for host in HOSTS for letter in "abcd")
TENANTS: Final = (
    "",
    *(f"customer{n:02d}" for n in range(8)),
    *(f"customer{n:02d}/site{n % 3}" for n in range(24)),
)
CUSTOMERS: Final = 200
STAGES: Final = ("fetch", "parse", "load", "index", "report")
ERRORS: Final = (
    ("ValueError", "builtins", "row 17 of prices.csv has 3 columns, not 4"),
    ("ConnectionError", "builtins", "mirror.example.org:443 refused the connection"),
    ("KeyError", "builtins", "'supplier'"),
    ("TimeoutError", "builtins", "no answer within 30 s"),
    ("IntegrityError", "sqlalchemy.exc", 'duplicate key value violates unique constraint "orders_pkey"'),
)
# How often a run ends so, in ten thousand.
_ENDS: Final = {
    events.RUN_SUCCEEDED: 9400,
    events.RUN_FAILED: 390,
    events.RUN_TIMED_OUT: 60,
    events.RUN_CANCELLED: 60,
    events.RUN_IGNORED: 40,
    events.RUN_LOST: 25,
    events.RUN_REJECTED: 15,
    events.RUN_INTERRUPTED: 10,
}
_TASK_ERRORS: Final = frozenset({events.RUN_FAILED, events.RUN_TIMED_OUT})
FAN_OUT: Final = 1000
_FAN_EVERY: Final = 50_000
_BLOCK: Final = 40
_MASK: Final = (1 << 64) - 1


def _dice(weights: dict[str, int] | tuple[float, ...], names: tuple[str, ...], size: int) -> tuple[str, ...]:
    """Return `size` names, each as often as its weight says."""
    given = list(weights.values()) if isinstance(weights, dict) else list(weights)
    chance = random.Random(1)
    return tuple(chance.choices(names, given, k=size))


_KINDS: Final = tuple(kind for kind, count in _ENDS.items() for _ in range(count))
_TASK_DICE: Final = _dice(tuple(1 / (n + 2) for n in range(len(TASKS))), TASKS, 4096)
_TENANT_DICE: Final = _dice((30.0, *(1 / (n + 1) for n in range(len(TENANTS) - 1))), TENANTS, 4096)
_FACTORS: Final = tuple(math.exp(random.Random(n).gauss(0.0, 1.0)) for n in range(1024))


class Kin(NamedTuple):
    """How a run belongs to a canvas; other runs by their numbers."""

    head: int
    parent: int | None = None
    group: str | None = None
    place: int | None = None
    """Its index in the group."""
    chord: int | None = None
    chain_left: int = 0


class Facts(NamedTuple):
    """What a run is."""

    number: int
    id: str
    task: str
    queue: str
    tenant: str
    worker: int
    kind: str | None
    """The kind of its end; None while it is open."""
    state: str
    created: float
    started: float | None
    ended: float | None
    runtime: float
    attempts: int
    kin: Kin | None
    dice: int


class World:
    """N runs up to `now`."""

    def __init__(self, count: int, *, seed: int, now: float) -> None:
        self.count, self.seed, self.now = count, seed, now
        # Any step without a common divisor visits all numbers, far apart from one to the next.
        self._step = next(
            n for n in range(int(count * 0.618) | 1, 2 * count + 3, 2) if math.gcd(n, count) == 1
        )
        self._back = pow(self._step, -1, count) if count > 1 else 0
        self._open = min(count // 10, 100 + count // 2000)

    def in_order_of_ids(self) -> Iterator[Facts]:
        """Yield all runs, the smallest id first."""
        for rank in range(self.count):
            yield self.facts(rank * self._step % self.count)

    def in_order_of_time(self) -> Iterator[Facts]:
        """Yield all runs, the oldest first."""
        for number in range(self.count):
            yield self.facts(number)

    def id_of(self, number: int) -> str:
        """Return a run's id: its rank among all ids in the upper bits, chance below."""
        rank = number * self._back % self.count
        low = self._dice(number, 7)
        text = f"{(rank << 64) // self.count + (low % max(1, (1 << 64) // self.count)):016x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{low & 0xFFF:03x}-{low >> 16:012x}"

    def facts(self, number: int) -> Facts:
        """Return what run `number` is."""
        dice = self._dice(number, 1)
        created = self.now - SPAN * (self.count - number - 1) / self.count - (dice & 1023) / 2048
        task = _TASK_DICE[dice >> 10 & 4095]
        index = TASKS.index(task)
        waited = 0.02 + 0.4 * _FACTORS[dice >> 22 & 1023]
        runtime = 0.2 * (1 + index % 7) * _FACTORS[dice >> 32 & 1023]
        kin = self._kin(number)
        kind, state = self._end(number, dice)
        started = min(created + waited, self.now) if state != "queued" else None
        ended = None
        if kind is not None and started is not None:
            ended = min(started + runtime, self.now)
            runtime = ended - started
        return Facts(
            number=number,
            id=self.id_of(number),
            task=task,
            queue=QUEUES[index % 4],
            tenant=_TENANT_DICE[self._dice(kin.head if kin is not None else number, 2) & 4095],
            worker=dice >> 54 & 0xFF,
            kind=kind,
            state=state,
            created=created,
            started=started,
            ended=ended,
            runtime=runtime,
            attempts=0 if state == "queued" else 2 if dice & 31 == 5 or state == "retrying" else 1,
            kin=kin,
            dice=dice,
        )

    def _end(self, number: int, dice: int) -> tuple[str | None, str]:
        if self.count - number <= self._open:
            state = ("queued", "running", "running", "queued", "running", "retrying")[dice % 6]
            return None, state
        kind = _KINDS[dice % len(_KINDS)]
        return kind, events.END_STATES[kind].value

    def _kin(self, number: int) -> Kin | None:
        """Return a run's place: a fan-out now and then, else chains and chords among single runs."""
        place = number % _FAN_EVERY
        if place <= FAN_OUT and number - place + FAN_OUT < self.count:
            head = number - place
            if place == 0:
                return Kin(head)
            return Kin(head, head, self._group(head), place - 1)
        place = number % _BLOCK
        head = number - place
        if head % _FAN_EVERY <= FAN_OUT or head + _BLOCK > self.count or place > 8:
            return None
        if place < 3:  # a chain of three
            return Kin(head, number - 1 if place else None, chain_left=2 - place)
        head += 3  # a run that publishes a chord of four and its body
        if place == 3:
            return Kin(head)
        if place == 8:
            return Kin(head, head)
        return Kin(head, head, self._group(head), place - 4, head + 5)

    def _group(self, head: int) -> str:
        return self.id_of(head)[:24] + "0000000000aa"

    def _dice(self, number: int, salt: int) -> int:
        """Return 64 bits of chance (splitmix64)."""
        z = (number * 0x9E3779B97F4A7C15 + self.seed * 0xD1342543DE82EF95 + salt) & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        return z ^ z >> 31


def journal_of(one: Facts) -> str:
    """Return the journal that tells of a run."""
    return JOURNALS[one.worker % len(WORKERS) // 4]


def contribution(one: Facts) -> Contribution | None:
    """Return what a run's last attempt adds to the rollups; nothing while it runs."""
    if one.kind is None or one.ended is None or one.started is None:
        return None
    bucket = int(one.ended // BUCKET_SECONDS) * BUCKET_SECONDS
    times = round(one.runtime * 1e6), round((one.started - one.created) * 1e6)
    return Contribution(bucket, one.task, one.queue, one.tenant, one.state, *times)


def attempt_states(world: World, one: Facts) -> Iterator[tuple[str, AttemptState]]:
    """Yield a run's attempts, as (id, what the store keeps of it)."""
    for number in range(1, one.attempts + 1):
        is_last = number == one.attempts
        started = (one.started or one.created) - (0.0 if is_last else 0.015)
        stamp = (started, f"{one.worker:08x}", 1, one.number * 600)
        state = AttemptState(start=Start(stamp, _start(world, one, number - 1)))
        state.seen = {f"{one.worker:032x}": (1, one.number * 600 + 300)}
        if not is_last or one.state == "retrying":
            data = {"by": "child", "retries": number - 1, "error": _error(one)}
            state.ends = [End(events.RUN_RETRIED, (started + 0.01, *stamp[1:3], stamp[3] + 300), data)]
        elif one.kind is not None and one.ended is not None:
            state.ends = [End(one.kind, (one.ended, *stamp[1:3], stamp[3] + 300), _end(one))]
            state.counted = contribution(one)
        else:
            state.percent = float(one.dice % 100)
            name = STAGES[one.dice % len(STAGES)]
            state.running = Glance(name, float(one.dice % 400), 400.0, "rows")
        if one.kind in _TASK_ERRORS and is_last:
            state.failed = Glance(STAGES[one.dice % len(STAGES)], 120.0, 400.0, "rows")
        yield f"{one.dice:016x}{number:016x}", state


def _start(world: World, one: Facts, retries: int) -> dict[str, Any]:
    worker = WORKERS[one.worker % len(WORKERS)]
    told: dict[str, Any] = {
        "task": one.task,
        "tracked": one.dice & 7 == 0,
        "worker": worker,
        "host": worker.partition("@")[2][:5],
        "pid": 4000 + one.worker,
        "pool": "prefork",
        "retries": retries,
        "redelivered": False,
        "queue": one.queue,
        "queued_at": one.created,
        "trigger": "api" if one.dice & 3 else "beat",
        "args": [one.number],
        "kwargs": {"dry": False},
    }
    if one.tenant:
        told["tenant"] = one.tenant
    kin = one.kin
    if kin is not None:
        told["canvas"] = told["root"] = world.id_of(kin.head)
        links = {"parent": kin.parent, "chord": kin.chord}
        told |= {name: world.id_of(number) for name, number in links.items() if number is not None}
        rest = {"group": kin.group, "group_index": kin.place, "chain_left": kin.chain_left or None}
        told |= {name: value for name, value in rest.items() if value is not None}
    return told


def _end(one: Facts) -> dict[str, Any]:
    told: dict[str, Any] = {"by": "shipper" if one.kind == events.RUN_LOST else "child"}
    if one.kind == events.RUN_LOST:
        return told | {"reason": "its process died", "signal": 9}
    told |= {"runtime": one.runtime, "usage": {"cpu_user": one.runtime / 3, "cpu_system": 0.01}}
    if one.kind in _TASK_ERRORS:
        told["error"] = _error(one)
    elif one.kind == events.RUN_SUCCEEDED:
        told["result"] = {"rows": one.dice % 1000}
    return told


def _error(one: Facts) -> dict[str, Any]:
    kind, module, message = ERRORS[one.dice % len(ERRORS)]
    frames = [
        {"file": "/srv/shop/venv/lib/requests/api.py", "line": 59, "function": "request", "own": False},
        {"file": "/srv/shop/tasks.py", "line": 41 + one.dice % 200, "function": "load", "own": True},
    ]
    lines = [f'  File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}' for frame in frames]
    traceback = "\n".join(["Traceback (most recent call last):", *lines, f"{kind}: {message}"])
    return {"type": kind, "module": module, "message": message, "traceback": traceback, "frames": frames}
