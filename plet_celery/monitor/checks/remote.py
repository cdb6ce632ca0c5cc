"""What workers answer over Celery's remote control: who lives, what it consumes, how full its pool is."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plet_celery.celeryfacts import WORKER_COMMAND
from plet_celery.monitor.checks.brokers import connected

if TYPE_CHECKING:
    from celery import Celery

BEAT_NODE: Final = "celerybeat@"
"""How the node of beat itself begins, where `beat_enable_remote_control` is set: it is no worker."""
_PING_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class WorkerAnswer:
    """One worker, as it told."""

    name: str
    queues: tuple[str, ...] | None
    """Those it consumes now; None where it did not say."""
    slots: int | None
    """How many tasks it can run at the same time."""
    running: int | None
    reserved: int | None
    """Received and not started, those with an ETA among them; None where it was not asked."""
    total: int | None
    """How many tasks it has received since it started."""
    pid: int | None

    @property
    def is_idle(self) -> bool:
        """Whether it runs nothing and holds nothing, as far as is known."""
        return self.running == 0 and self.reserved == 0


def ask_workers(
    app: Celery, *, seconds: float, ours: Container[str] = (), only: Sequence[str] | None = None
) -> dict[str, WorkerAnswer]:
    """Return what every worker that answers tells, by node name.

    Args:
        seconds: for all of it; the first question takes a second, or a third of this.
        ours: names of workers that know our command: others would log an error for each question.
        only: ask these alone; all by default.

    Raises:
        Exception: what the transport raises where the broker cannot be reached.
    """
    first = min(_PING_SECONDS, seconds / 3)
    with connected(app, seconds=seconds) as connection:
        living = _ask(app, connection, "ping", seconds=first, only=only)
        names = sorted(name for name in living if not name.startswith(BEAT_NODE))
        rest = (seconds - first) / 4
        mine = [name for name in names if name in ours]
        told = _ask(app, connection, WORKER_COMMAND, seconds=rest, only=mine) if mine else {}
        found = {name: _own_answer(name, one) for name, one in told.items() if _is_answer(one)}
        strangers = [name for name in names if name not in found]
        for command in ("active_queues", "stats", "active") if strangers else ():
            more = {"safe": True} if command == "active" else {}
            told[command] = _ask(app, connection, command, seconds=rest, only=strangers, **more)
    for name in strangers:
        found[name] = _stock_answer(name, told["active_queues"], told["stats"], told["active"])
    return dict(sorted(found.items()))


def beat_answers(app: Celery, *, seconds: float) -> list[str]:
    """Return the node names of beats that answer, where they are told to (`beat_enable_remote_control`)."""
    with connected(app, seconds=seconds) as connection:
        found = _ask(app, connection, "ping", seconds=min(_PING_SECONDS, seconds), only=None)
        return sorted(name for name in found if name.startswith(BEAT_NODE))


def _ask(
    app: Celery,
    connection: Any,
    command: str,
    *,
    seconds: float,
    only: Sequence[str] | None,
    **more: Any,
) -> dict[str, Any]:
    found: Any = app.control.broadcast(
        command,
        arguments=more or None,
        reply=True,
        timeout=seconds,
        destination=list(only) if only is not None else None,
        limit=len(only) if only is not None else None,
        connection=connection,
    )
    return {name: told for one in found or [] if isinstance(one, dict) for name, told in one.items()}


def _is_answer(told: Any) -> bool:
    """Tell an answer from an error: an older plet does not know the question."""
    return isinstance(told, dict) and isinstance(told.get("queues"), list)


def _own_answer(name: str, told: dict[str, Any]) -> WorkerAnswer:
    return WorkerAnswer(
        name=name,
        queues=tuple(str(one) for one in told["queues"]),
        slots=_integer(told.get("slots")),
        running=_integer(told.get("running")),
        reserved=_integer(told.get("reserved")),
        total=_integer(told.get("total")),
        pid=_integer(told.get("pid")),
    )


def _stock_answer(
    name: str, queues: Mapping[str, Any], stats: Mapping[str, Any], active: Mapping[str, Any]
) -> WorkerAnswer:
    consumed, facts, running = queues.get(name), stats.get(name), active.get(name)
    facts = facts if isinstance(facts, dict) else {}
    pool, total = facts.get("pool"), facts.get("total")
    return WorkerAnswer(
        name=name,
        queues=(
            tuple(str(one["name"]) for one in consumed if isinstance(one, dict) and "name" in one)
            if isinstance(consumed, list)
            else None
        ),
        slots=_integer(pool.get("max-concurrency")) if isinstance(pool, dict) else None,
        running=len(running) if isinstance(running, list) else None,
        reserved=None,
        total=sum(one for one in total.values() if isinstance(one, int)) if isinstance(total, dict) else None,
        pid=_integer(facts.get("pid")),
    )


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
