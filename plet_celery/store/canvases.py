"""Canvases as wholes: what promises of a chain, group or chord are judged by. Each answer is bounded.

A canvas is all runs that share a key: the id of the run that began it, or of a group that nothing began. A
run that stands alone is one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.engine import tie_breaker
from plet_celery.store.filters import STATES
from plet_celery.store.schema import Tables
from plet_celery.store.settle import OPEN

if TYPE_CHECKING:
    from plet_celery.store.evidence import OpenRun

_OPEN_MAX: Final = 500
_AT_ONCE_MAX: Final = 50
_KEYS: Final = 40
"""So many canvases are asked about at once: of many, MariaDB thinks that reading the table is less work."""
# In the order of the table, in which rows come.
_ROOT: Final = ("id", "task", "tenant", "created_at", "queued_at", "started_at")


@dataclass(frozen=True, kw_only=True)
class OpenCanvas:
    """A canvas of which at least one run is open."""

    key: str
    task: str
    """Of the run that began it."""
    root: str
    created_at: float
    queued_at: float | None
    started_at: float | None
    runs: tuple[str, ...]
    """Its open runs."""
    tenant: str = ""
    ahead: float = 0.0
    silent_since: float | None = None


class EndedCanvas(NamedTuple):
    """A canvas of which all runs have ended. Times are those of the hosts that tell of it."""

    key: str
    created_at: float
    """When the run that began it was published, or started."""
    begun_at: float
    """When that run started, or was published."""
    ended_at: float


class Happened(NamedTuple):
    """Something that was waited for: a success, a start, a canvas that is done."""

    created_at: float
    """When the run was published that it happened in: by that it belongs to a due time."""
    at: float
    run: str


def open_canvases(connection: Connection, tables: Tables, runs: Iterable[OpenRun]) -> tuple[OpenCanvas, ...]:
    """Return the canvases that these open runs belong to, at most 500 of the oldest."""
    members: dict[str, list[OpenRun]] = {}
    for run in runs:
        members.setdefault(run.canvas or run.id, []).append(run)
    keys = sorted(members, key=lambda key: members[key][0].created_at)[:_OPEN_MAX]
    roots, found = _roots(connection, tables, keys), []
    for key in keys:
        root = roots.get(key)
        if root is not None:
            mine = members[key]
            silent = [run.silent_since for run in mine if run.silent_since is not None]
            found.append(
                OpenCanvas(
                    key=key,
                    task=root[1],
                    root=root[0],
                    tenant=root[2],
                    created_at=root[3],
                    queued_at=root[4],
                    started_at=root[5],
                    runs=tuple(run.id for run in mine),
                    ahead=mine[0].ahead,
                    silent_since=min(silent) if len(silent) == len(mine) else None,
                )
            )
    return tuple(found)


def canvas_end(connection: Connection, tables: Tables, key: str) -> float | None:
    """Return when the last run of a canvas ended; None while one is open."""
    by_state = _states_of(connection, tables, [key]).get(key, {})
    if not by_state or OPEN & by_state.keys():
        return None
    return max((at for at in by_state.values() if at is not None), default=None)


def ended_canvases(
    connection: Connection,
    tables: Tables,
    task: str,
    *,
    since: float,
    until: float,
    but: Collection[str] = (),
    limit: int,
) -> tuple[list[EndedCanvas], float]:
    """Return the canvases that runs of a task began in a span, and that have ended.

    Args:
        but: keys of canvases that are not looked at.
        limit: so many of the first runs are read, in a state each.

    Returns:
        The canvases, and up to which time of creation those are all.
    """
    rows, is_all = list[Any](), until
    for state in (one for one in STATES if one not in OPEN):
        found = of_task(connection, tables, task, state, since, until, limit)
        if len(found) >= limit:
            is_all = min(is_all, found[-1].created_at)
        rows += found
    keys = {row.canvas or row.id for row in rows if row.created_at <= is_all}
    begun = _begun_by(connection, tables, task, sorted(keys.difference(but)))
    states = _states_of(connection, tables, begun)
    done = []
    for key, root in begun.items():
        ends = [at for at in states[key].values() if at is not None]
        if ends and not OPEN & states[key].keys():
            _, _, _, created, queued, started = root
            done.append(EndedCanvas(key, created, started or queued or created, max(ends)))
    return done, is_all


def of_task(
    connection: Connection,
    tables: Tables,
    task: str,
    state: str,
    since: float,
    until: float,
    limit: int,
) -> list[Any]:
    """Return the first runs of a task in a state that were created in a span."""
    table = tables.run
    mine = (
        table.c.task == asked(task, TASK_MAX),
        table.c.state == state,
        table.c.created_at >= since,
        table.c.created_at < until,
    )
    names = ("id", "created_at", "started_at", "ended_at", "canvas", "journal_id")
    query = sa.select(*(table.c[name] for name in names)).where(*mine)
    order = (table.c.created_at, tie_breaker(table.c.id, connection.dialect.name))
    return list(connection.execute(query.order_by(*order).limit(limit)).all())


def _begun_by(connection: Connection, tables: Tables, task: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return by key the first run of those canvases that a run of this task began."""
    name = asked(task, TASK_MAX)
    return {key: root for key, root in _roots(connection, tables, keys).items() if root[1] == name}


def _roots(connection: Connection, tables: Tables, keys: Sequence[str]) -> dict[str, Any]:
    """Return by key the first run of each canvas: the one that it is named by, or the oldest of a group."""
    rows = bulk.fetch(connection, tables.run, [(key,) for key in keys], columns=_ROOT)
    roots: dict[str, Any] = {row[0]: row for row in rows}
    oldest = {key: _oldest(connection, tables, key) for key in keys if key not in roots}
    return roots | {key: root for key, root in oldest.items() if root is not None}


def _states_of(
    connection: Connection, tables: Tables, keys: Iterable[str]
) -> dict[str, dict[str, float | None]]:
    """Return by canvas and state when its last run in that state ended."""
    table, found = tables.run, dict[str, dict[str, float | None]]()
    ordered = sorted(keys)
    for some in (ordered[at : at + _KEYS] for at in range(0, len(ordered), _KEYS)):
        # Two questions: one with OR finds no index on every engine.
        for key in (table.c.canvas, table.c.id):
            query = sa.select(key, table.c.state, sa.func.max(table.c.ended_at)).where(key.in_(some))
            for name, state, at in connection.execute(query.group_by(key, table.c.state)):
                mine = found.setdefault(name, {})
                mine[state] = max((one for one in (at, mine.get(state)) if one is not None), default=None)
    return found


def canvases_done(
    connection: Connection, tables: Tables, task: str, rows: Sequence[Any], skews: Mapping[str, float]
) -> list[Happened]:
    """Return the canvases that these runs of a task began and that have succeeded, of the 50 oldest."""
    begun: dict[str, Any] = {}
    for row in rows:
        begun.setdefault(row.canvas or row.id, row)
    keys = sorted(begun, key=lambda key: begun[key].created_at)[:_AT_ONCE_MAX]
    roots = _begun_by(connection, tables, task, keys)
    states = _states_of(connection, tables, roots)
    done = []
    for key in (one for one in keys if one in roots):
        by_state = states[key]
        if set(by_state) == {"succeeded"} and by_state["succeeded"] is not None:
            at = by_state["succeeded"] - skews.get(begun[key].journal_id, 0.0)
            done.append(Happened(begun[key].created_at, at, roots[key][0]))
    return done


def _oldest(connection: Connection, tables: Tables, key: str) -> Any:
    """Return the first run of a canvas whose key is no run: a group that nothing began."""
    table = tables.run
    query = (
        sa.select(*(table.c[name] for name in _ROOT))
        .where(table.c.canvas == key)
        .order_by(table.c.created_at, table.c.id)
        .limit(1)
    )
    return connection.execute(query).first()
