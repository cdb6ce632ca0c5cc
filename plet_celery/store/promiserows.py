"""Promises that are declared: their rows, what became of times at which something was due, and how they do.

Whoever declares a promise names it by task and kind, so a new limit keeps its row, state and history.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import SettingsError
from plet_celery.objectives import (
    DAY,
    Declared,
    Objective,
    from_plain,
    to_plain,
)
from plet_celery.store import bulk, tallies
from plet_celery.store.columns import TASK_MAX, asked
from plet_celery.store.schema import Tables
from plet_celery.store.tallies import Tally

KEPT_DAYS: Final = 400
"""Days that dues and tallies are kept: longer than any window."""
GONE_DAYS: Final = 90
"""Days that the row of a promise is kept which nobody makes any more."""
SEEN_EVERY: Final = 600.0
"""Seconds after which a row is written only to say that its promise is still made."""
UNSEEN_MAX: Final = 3 * SEEN_EVERY
"""Seconds after which a promise is no longer made of whose task whoever passes knows nothing."""
RECHECKED_SECONDS: Final = DAY
"""How long a missed time is asked about again: what met it may be told late."""
_RECHECKED_MAX: Final = 20
_DELETED_MAX: Final = 5000

NEW: Final = "new"
"""State of a promise that no pass has judged."""


class Memory(msgspec.Struct, omit_defaults=True):
    """What a pass leaves behind for the next one, beside the row's columns."""

    objective: dict[str, Any] = {}
    source: str = ""
    app: str = ""
    limit: str = ""
    """What is promised, in words."""
    value: str = ""
    """What was seen at the last judgement, in words."""
    begun: float | None = None
    """Since when it is promised as it is now."""
    watched: float | None = None
    """Every due time up to this one is decided."""
    met: tuple[float, float, str] | None = None
    """The newest due time that something came for, when that came, and its run: it is not asked again."""
    success: tuple[float, str] | None = None
    """The newest success that was seen: it may be removed before the next one comes."""
    filled: int | None = None
    """From this hour on the tallies are counted."""
    kept_at: float | None = None
    """When a pass wrote this."""
    good: int | None = None
    """Of a share: what its window had at the last judgement."""
    bad: int | None = None
    canvases: dict[str, float] = {}
    """Canvases that were open, and by when they had to be done."""
    looked: float | None = None
    """Up to which time of creation canvases were looked for that began and ended between two passes."""
    counted: dict[str, float] = {}
    """Those that were counted in the newest minutes, by their creation: they are not counted again."""


memory_of = msgspec.json.Decoder(Memory).decode


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A promise as its row has it."""

    id: str
    task: str
    objective: Objective
    first_seen_at: float
    seen_at: float
    state: str = NEW
    """`kept`, `broken`, `no_data`, or `new`."""
    since: float | None = None
    """Since when it is in that state."""
    memory: Memory = field(default_factory=Memory)

    @property
    def begun_at(self) -> float:
        """Since when it is promised as it is now: what was due before is nobody's fault."""
        return self.memory.begun if self.memory.begun is not None else self.first_seen_at


@dataclass(frozen=True, kw_only=True)
class Due:
    """A time at which something was due."""

    objective_id: str
    at: float
    state: str
    """`met`, `late` (it came, but not in time) or `missed`."""
    met_at: float | None = None
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a pass keeps of its judgements; written after the alerts are, or with them."""

    promises: tuple[Promise, ...] = ()
    """Those whose state or memory has changed."""
    dues: tuple[Due, ...] = ()
    """New ones, and those that were decided anew."""
    tallies: Mapping[tuple[int, str], Tally] = field(default_factory=dict)
    """By hour and promise, in the place of what was there."""


@dataclass(frozen=True, kw_only=True)
class Declarations:
    """What has to be written so that the rows are what somebody promises."""

    new: tuple[tuple[Any, ...], ...] = ()
    changed: tuple[tuple[Any, ...], ...] = ()
    counted_anew: tuple[str, ...] = ()
    """Promises whose numbers have changed."""

    def __bool__(self) -> bool:
        return bool(self.new or self.changed)


def declarations(
    connection: Connection,
    tables: Tables,
    declared: Iterable[Declared],
    *,
    now: float,
    limits: Mapping[str, str],
    has_app: bool,
    app: str = "",
    tasks: Collection[str] | None = None,
) -> Declarations:
    """Return what has to be written of the promises that somebody makes; often nothing.

    Args:
        limits: what is promised in words, by id.
        has_app: it comes from the app itself: promises of this app which are not among them are made no
            more. Without, it may be what an older process was told: only what is not there at all is added.
        app: name of that app.
        tasks: those that are there in this process; another one of that app may have others, whose promises
            are withdrawn once nobody makes them for a while. None: all.
    """
    rows = {row.id: row for row in connection.execute(sa.select(tables.watching.objective))}
    mine = {one.id: one for one in declared}
    new, changed, anew = [], [], []
    for one_id, one in sorted(mine.items()):
        # A name may hold what no database stores: one of them must not keep the others from being judged.
        source, of_app = asked(one.source, TASK_MAX), asked(one.app, TASK_MAX)
        limit = limits.get(one_id, "")
        told = Memory(objective=to_plain(one.objective), source=source, app=of_app, limit=limit)
        row = rows.get(one_id)
        if row is None:
            new.append(_row(one, now, now, NEW, now, msgspec.structs.replace(told, begun=now)))
        elif has_app:
            found, is_anew = _changed(one, row, told, now)
            changed += [found] if found is not None else []
            anew += [one_id] if is_anew else []
    if has_app:
        there = {asked(task, TASK_MAX) for task in tasks} if tasks is not None else None
        for row in rows.values():
            is_known = there is None or row.task in there or now - row.seen_at > UNSEEN_MAX
            is_ours = row.id not in mine and memory_of(row.doc).app == asked(app, TASK_MAX)
            if row.gone_at is None and is_known and is_ours:
                changed.append((*row[:5], now, *row[6:]))
    return Declarations(new=tuple(new), changed=tuple(sorted(changed)), counted_anew=tuple(anew))


def declare(connection: Connection, tables: Tables, found: Declarations) -> None:
    """Write what `declarations` found."""
    bulk.insert(connection, tables.watching.objective, found.new)
    bulk.update(connection, tables.watching.objective, found.changed)
    tallies.forget(connection, tables, found.counted_anew)


def promises(connection: Connection, tables: Tables) -> list[Promise]:
    """Return the promises that are made, by task; one that this version cannot read is passed over."""
    table = tables.watching.objective
    query = sa.select(table).where(table.c.gone_at.is_(None)).order_by(table.c.task, table.c.id)
    found = []
    for row in connection.execute(query):
        memory = memory_of(row.doc)
        try:
            objective = _objective(msgspec.json.encode(memory.objective))
        except SettingsError:
            continue
        found.append(
            Promise(
                id=row.id,
                task=row.task,
                objective=objective,
                first_seen_at=row.first_seen_at,
                seen_at=row.seen_at,
                state=row.state,
                since=row.since,
                memory=memory,
            )
        )
    return found


@functools.lru_cache(maxsize=4096)
def _objective(text: bytes) -> Objective:
    # Reading a thousand crontabs takes longer than asking about them.
    return from_plain(msgspec.json.decode(text))


def missed_lately(connection: Connection, tables: Tables, *, now: float) -> dict[str, list[Due]]:
    """Return by promise the newest times of a day that were missed."""
    table = tables.watching.due
    where = (table.c.due_at >= now - RECHECKED_SECONDS, table.c.state == "missed")
    query = sa.select(table).where(*where).order_by(table.c.due_at.desc()).limit(_DELETED_MAX)
    found: dict[str, list[Due]] = {}
    for row in connection.execute(query):
        mine = found.setdefault(row.objective_id, [])
        if len(mine) < _RECHECKED_MAX:
            mine.append(_due(row))
    return found


def keep(connection: Connection, tables: Tables, kept: Kept, *, now: float) -> None:
    """Write what a pass keeps, and drop a little of what is older than any window."""
    watching = tables.watching
    before = {
        row[0]: row for row in bulk.fetch(connection, watching.objective, [(p.id,) for p in kept.promises])
    }
    rows = []
    for one in kept.promises:
        if one.id in before:
            doc = msgspec.json.encode(one.memory).decode()
            rows.append((*before[one.id][:6], one.state, one.since, doc))
    bulk.update(connection, watching.objective, sorted(rows))
    found = {due_key(due): due for due in kept.dues}
    known = {(row[0], row[1]) for row in bulk.fetch(connection, watching.due, sorted(found))}
    told = [(key, (*key, due.state, due.met_at, due.run)) for key, due in sorted(found.items())]
    bulk.insert(connection, watching.due, [row for key, row in told if key not in known])
    bulk.update(connection, watching.due, [row for key, row in told if key in known])
    tallies.keep(connection, tables, kept.tallies)
    _drop_old(connection, tables, now)


def due_key(due: Due) -> tuple[str, float]:
    """Return what makes a due time one: its promise and time."""
    return (due.objective_id, due.at)


def _due(row: Any) -> Due:
    return Due(
        objective_id=row.objective_id, at=row.due_at, state=row.state, met_at=row.met_at, run=row.run_id
    )


def _changed(one: Declared, row: Any, told: Memory, now: float) -> tuple[tuple[Any, ...] | None, bool]:
    """Return the row as it has to be, None where it is; and whether all that was counted is void."""
    memory = memory_of(row.doc)
    if row.gone_at is not None:
        return _row(one, now, now, NEW, now, msgspec.structs.replace(told, begun=now)), True
    if memory.objective != told.objective:
        told = msgspec.structs.replace(told, begun=now, success=memory.success)
        return _row(one, now, row.first_seen_at, NEW, now, told), True
    told = msgspec.structs.replace(memory, source=told.source, app=told.app, limit=told.limit)
    if told == memory and now - row.seen_at < SEEN_EVERY:
        return None, False
    return _row(one, now, row.first_seen_at, row.state, row.since, told), False


def _row(
    one: Declared,
    now: float,
    first: float,
    state: str,
    since: float | None,
    memory: Memory,
) -> tuple[Any, ...]:
    doc = msgspec.json.encode(memory).decode()
    return (one.id, asked(one.task, TASK_MAX), one.objective.kind, now, first, None, state, since, doc)


def _drop_old(connection: Connection, tables: Tables, now: float) -> None:
    watching, oldest = tables.watching, now - KEPT_DAYS * DAY
    due, tally, objective = watching.due, watching.tally, watching.objective
    query = sa.select(due.c.objective_id, due.c.due_at).where(due.c.due_at < oldest).order_by(due.c.due_at)
    bulk.delete(connection, due, [tuple(row) for row in connection.execute(query.limit(_DELETED_MAX))])
    hours = sa.select(tally.c.hour, tally.c.objective_id).where(tally.c.hour < oldest).order_by(tally.c.hour)
    bulk.delete(connection, tally, [tuple(row) for row in connection.execute(hours.limit(_DELETED_MAX))])
    connection.execute(objective.delete().where(objective.c.gone_at < now - GONE_DAYS * DAY))
