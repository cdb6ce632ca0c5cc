"""The list of runs, newest first, by any offered filter, from an index each.

A filter that names several states or tasks is asked once per state and task, each time for no more
rows than the page has, and merged: an index then gives them in order, and nothing is sorted.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import PletError
from plet_celery.events import RunState
from plet_celery.store import assemble
from plet_celery.store.columns import META_KEY_MAX, META_VALUE_MAX, fit
from plet_celery.store.records import Page, Run
from plet_celery.store.schema import Tables
from plet_celery.store.settle import run_key
from plet_celery.store.store import Store

LIMIT_MAX: Final = 500
_TASKS_MAX: Final = 500
"""Task names that one prefix may stand for."""
_PROBES_MAX: Final = 64
"""More pairs of task and state than this are looked for in the order of time instead."""
_AFTER_ANY: Final = "\U0010ffff"
_STATES: Final = tuple(state.value for state in RunState)

Key = tuple[float, str]


class Filters(NamedTuple):
    """Which runs are wanted; empty means any."""

    states: tuple[str, ...]
    tasks: tuple[str, ...] | None
    """None: any task."""
    tenant: str | None
    meta: tuple[tuple[str, str], ...]
    since: float | None
    canvas: str | None


class Probe(NamedTuple):
    """One statement, put together once for all states and tasks, and the values of one of them."""

    query: sa.Select[Any]
    values: dict[str, str]


_TASK: Final = sa.bindparam("one_task", type_=sa.String())
_STATE: Final = sa.bindparam("one_state", type_=sa.String())


def list_runs(
    store: Store,
    *,
    states: Iterable[str] = (),
    task: str | None = None,
    tenant: str | None = None,
    meta: Mapping[str, str] | None = None,
    since: float | None = None,
    canvas: str | None = None,
    limit: int = 20,
    after: str | None = None,
) -> Page[Run]:
    """Return runs, newest first.

    Args:
        states: any of these.
        task: a name, or a prefix with a `*` behind it.
        tenant: this tenant path.
        meta: metadata keys with the text of their values, all of them.
        since: created (queued, else started) at this time or later, seconds since the epoch.
        canvas: the key that the runs of one canvas share.
        limit: at most 500.
        after: the `next` of the page before.

    Raises:
        PletError: `after` is no cursor.
    """
    limit, key = max(1, min(limit, LIMIT_MAX)), _parse(after) if after is not None else None
    with store.reading() as connection:
        wanted = Filters(
            tuple(dict.fromkeys(states)),
            _tasks(connection, store.tables, task) if task is not None else None,
            tenant,
            _fitted(meta or {}),
            since,
            canvas,
        )
        keys = _keys(connection, store.tables, wanted, key, limit + 1)
        ids = [found for _, found in keys[:limit]]
        items = assemble.runs_by_id(connection, store.tables, ids)
    return Page(items=items, next=_cursor(keys[limit - 1]) if len(keys) > limit else None)


def probes(tables: Tables, wanted: Filters, after: Key | None, limit: int) -> list[Probe]:
    """Return the questions whose merged answers are the list: (created_at, id), each in its order."""
    table = tables.run
    rest = _conditions(tables, wanted, after)
    if wanted.meta:
        return [Probe(_by_metadata(tables, wanted, after, rest, limit), {})]
    if wanted.canvas is not None:
        key = run_key(wanted.canvas)
        either = (table.c.canvas == key, table.c.id == key)
        return [Probe(_newest(tables, limit, *rest, mine), {}) for mine in either]
    if wanted.tasks is not None:
        return _by_task(tables, wanted, rest, limit)
    if wanted.tenant:
        # Spelled out, or the engine cannot know that the partial index holds this tenant.
        mine = sa.and_(table.c.tenant == wanted.tenant, table.c.tenant != sa.literal_column("''"))
        query = _newest(tables, limit, *rest, mine, table.c.state == _STATE)
        return [Probe(query, {"one_state": one}) for one in wanted.states or _STATES]
    if wanted.states:
        query = _newest(tables, limit, *rest, table.c.state == _STATE)
        return [Probe(query, {"one_state": one}) for one in wanted.states]
    return [Probe(_newest(tables, limit, *rest), {})]


def _keys(
    connection: Connection, tables: Tables, wanted: Filters, after: Key | None, limit: int
) -> list[Key]:
    found: set[Key] = set()
    for probe in probes(tables, wanted, after, limit):
        found.update((row[0], row[1]) for row in connection.execute(probe.query, probe.values).all())
    return sorted(found, reverse=True)[:limit]


def _by_task(
    tables: Tables, wanted: Filters, rest: Sequence[sa.ColumnElement[bool]], limit: int
) -> list[Probe]:
    table = tables.run
    tasks, states = wanted.tasks or (), wanted.states or _STATES
    if len(tasks) * len(states) > _PROBES_MAX:
        mine = [table.c.task.in_(tasks), *([table.c.state.in_(states)] if wanted.states else [])]
        return [Probe(_newest(tables, limit, *rest, *mine), {})]
    query = _newest(tables, limit, *rest, table.c.task == _TASK, table.c.state == _STATE)
    return [Probe(query, {"one_task": task, "one_state": state}) for task in tasks for state in states]


def _by_metadata(
    tables: Tables, wanted: Filters, after: Key | None, rest: Sequence[sa.ColumnElement[bool]], limit: int
) -> sa.Select[Any]:
    run, first = tables.run, tables.run_metadata.alias("first")
    (name, value), *others = wanted.meta
    mine = [first.c.key == name, first.c.value == value, run.c.id == first.c.run_id, *rest]
    for name, value in others:
        more = tables.run_metadata.alias()
        mine.append(sa.exists().where(more.c.run_id == run.c.id, more.c.key == name, more.c.value == value))
    if wanted.states:
        mine.append(run.c.state.in_(wanted.states))
    if wanted.tasks is not None:
        mine.append(run.c.task.in_(wanted.tasks))
    if wanted.canvas is not None:
        key = run_key(wanted.canvas)
        mine.append(sa.or_(run.c.canvas == key, run.c.id == key))
    if wanted.since is not None:
        mine.append(first.c.created_at >= wanted.since)
    if after is not None:
        mine.append(_older(first.c.created_at, first.c.run_id, after))
    order = (first.c.created_at.desc(), first.c.run_id.desc())
    return sa.select(first.c.created_at, first.c.run_id).where(*mine).order_by(*order).limit(limit)


def _conditions(tables: Tables, wanted: Filters, after: Key | None) -> list[sa.ColumnElement[bool]]:
    table = tables.run
    found: list[sa.ColumnElement[bool]] = []
    if wanted.tenant is not None:
        found.append(table.c.tenant == wanted.tenant)
    if wanted.meta:
        return found
    if wanted.canvas is not None:
        if wanted.states:
            found.append(table.c.state.in_(wanted.states))
        if wanted.tasks is not None:
            found.append(table.c.task.in_(wanted.tasks))
    if wanted.since is not None:
        found.append(table.c.created_at >= wanted.since)
    if after is not None:
        found.append(_older(table.c.created_at, table.c.id, after))
    return found


def _older(
    created: sa.ColumnElement[float], run: sa.ColumnElement[str], after: Key
) -> sa.ColumnElement[bool]:
    # Not (a, b) < (x, y): MariaDB reads the whole index for that.
    return sa.and_(created <= after[0], sa.or_(created < after[0], run < after[1]))


def _newest(tables: Tables, limit: int, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    table = tables.run
    order = (table.c.created_at.desc(), table.c.id.desc())
    return sa.select(table.c.created_at, table.c.id).where(*where).order_by(*order).limit(limit)


def _tasks(connection: Connection, tables: Tables, task: str) -> tuple[str, ...]:
    if not task.endswith("*"):
        return (task,)
    name, prefix = tables.task.c.name, task[:-1]
    query = sa.select(name).where(name >= prefix, name < prefix + _AFTER_ANY).order_by(name)
    return tuple(connection.execute(query.limit(_TASKS_MAX)).scalars())


def _fitted(meta: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((fit(name, META_KEY_MAX), fit(value, META_VALUE_MAX)) for name, value in meta.items())


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _parse(text: str) -> Key:
    try:
        created, run = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return (float(created), str(run))
    except (ValueError, TypeError, binascii.Error) as error:
        raise PletError(f"{text[:80]!r} is no cursor; use the `next` of the page before") from error
