"""The list of runs, newest first, by any offered filter, a page at a time.

Pages begin behind a key, never at an offset. How each filter finds an index is `probing.py`'s subject.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import PletError
from plet_celery.store import assemble
from plet_celery.store.columns import (
    ID_MAX,
    META_KEY_MAX,
    META_VALUE_MAX,
    QUEUE_MAX,
    TASK_MAX,
    TENANT_MAX,
    asked,
)
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.probing import STATES, Filters, Key, Older, Place, begins, in_time_order, probes
from plet_celery.store.records import Page, Run
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store

LIMIT_MAX: Final = 500
_TASKS_MAX: Final = 500
"""Task names that one prefix may stand for."""
_SKIPPED_MAX: Final = 100
"""Of runs in states that are left out, so many are read past."""


def list_runs(
    store: Store,
    *,
    states: Iterable[str] = (),
    without: Iterable[str] = (),
    task: str | None = None,
    tenant: str | None = None,
    tenants: Sequence[str] | None = None,
    worker: str | None = None,
    queue: str | None = None,
    meta: Mapping[str, str] | None = None,
    search: str | None = None,
    since: float | None = None,
    until: float | None = None,
    canvas: str | None = None,
    older: Sequence[Older] | None = None,
    limit: int = 20,
    after: str | None = None,
    before: str | None = None,
) -> Page[Run]:
    """Return runs, newest first; a run is listed that passes all filters.

    Args:
        states: any of these.
        without: none of these.
        task: a name, or a prefix with a `*` behind it.
        tenant: this tenant path alone.
        tenants: paths that the viewer may see, each with what lies below it; None: all.
        worker: node name of the worker whose attempt decides the state.
        queue: name of the queue.
        meta: metadata keys with the text of their values, all of them.
        search: how the run's id, its short id or its task's name begins; case-sensitive.
        since: created (queued, else started) at this time or later, seconds since the epoch.
        until: created before this time.
        canvas: the key that the runs of one canvas share.
        older: only runs that any of these names: what a promise says of tasks, looked up by index.
        limit: at most 500.
        after: the `next` of the page before.
        before: the `previous` of the page behind.

    Raises:
        PletError: `after` or `before` is no cursor, or both are given.
    """
    limit, place = max(1, min(limit, LIMIT_MAX)), place_of(after, before)
    wanted = Filters(
        states=tuple(dict.fromkeys(states)),
        tenant=asked(tenant, TENANT_MAX) if tenant is not None else None,
        tenants=tuple(tenants) if tenants is not None else None,
        worker=asked(worker, 255) if worker is not None else None,
        queue=asked(queue, QUEUE_MAX) if queue is not None else None,
        meta=_fitted(meta or {}),
        since=since,
        until=until,
        canvas=canvas,
    )
    with store.reading() as connection:
        but, keys = frozenset(without), None
        is_plain = task is None and not search and older is None
        if but and is_plain and wanted._replace(since=None, until=None) == Filters():
            keys = _newest_but(connection, store.tables, wanted, but, place, limit + 1)
        if keys is None:
            some = expanded(connection, store.tables, wanted, but, task, search)
            if older is not None:
                some = _older(some, older)
            keys = newest_keys(connection, store.tables, some, place, limit + 1)
        page = page_of(keys, place, limit)
        page.items = assemble.runs_by_id(connection, store.tables, [key[1] for key in keys[:limit]])
    if place is not None and place.newer:
        page.items.reverse()
    return page


def newest_keys(
    connection: Connection, tables: Tables, some: Iterable[Filters], place: Place | None, limit: int
) -> list[Key]:
    """Return the keys (created_at, id) of the runs that pass any of `some`, nearest to `place` first."""
    found: set[Key] = set()
    prefer_indexes(connection)
    for wanted in some:
        for probe in probes(connection, tables, wanted, place, limit):
            found.update((row[0], row[1]) for row in connection.execute(probe.query, probe.values).all())
    return sorted(found, reverse=place is None or not place.newer)[:limit]


def _newest_but(
    connection: Connection,
    tables: Tables,
    wanted: Filters,
    without: frozenset[str],
    place: Place | None,
    limit: int,
) -> list[Key] | None:
    """Return the keys of runs in none of these states, nearest to `place` first.

    None: too many of those nearest are in one of them; then each other state is asked for by itself.
    """
    prefer_indexes(connection)
    rows = connection.execute(in_time_order(tables, wanted, place, limit + _SKIPPED_MAX)).all()
    keys = [(row[0], row[1]) for row in rows if row[2] not in without]
    return keys[:limit] if len(keys) >= limit or len(rows) < limit + _SKIPPED_MAX else None


def page_of(keys: Sequence[Key], place: Place | None, limit: int) -> Page[Any]:
    """Return an empty page with its cursors; `keys` has one more than the page where there are more."""
    shown, more = keys[:limit], len(keys) > limit
    page: Page[Any] = Page(items=[])
    if place is not None and place.newer:
        page.previous = _cursor(shown[-1]) if more else None
        page.next = _cursor(shown[0] if shown else place.key)
    else:
        page.next = _cursor(shown[-1]) if more else None
        if place is not None:
            page.previous = _cursor(shown[0] if shown else place.key)
    return page


def expanded(
    connection: Connection,
    tables: Tables,
    wanted: Filters,
    without: frozenset[str],
    task: str | None,
    search: str | None,
) -> Iterator[Filters]:
    """Yield the filters of which any must be passed: what is searched for may be an id, or a task."""
    if without or wanted.states:
        states = tuple(one for one in STATES if one in (wanted.states or STATES) and one not in without)
        if not states:
            return
        wanted = wanted._replace(states=states if len(states) < len(STATES) else ())
    tasks = _tasks(connection, tables, task) if task is not None else None
    wanted = wanted._replace(tasks=tasks)
    if not search:
        yield wanted
        return
    prefix = asked(search, ID_MAX)
    yield wanted._replace(id_prefix=prefix)
    yield wanted._replace(digest_prefix=prefix)
    named = _named(connection, tables, asked(search, TASK_MAX))
    if tasks is None or set(tasks) & set(named):
        yield wanted._replace(tasks=tuple(one for one in named if tasks is None or one in tasks))


def _older(some: Iterable[Filters], older: Sequence[Older]) -> Iterator[Filters]:
    """Yield what passes any of `some` and any of `older`."""
    for wanted in some:
        for one in older:
            tasks = tuple(t for t in one.tasks if wanted.tasks is None or t in wanted.tasks)
            states = tuple(s for s in one.states if not wanted.states or s in wanted.states)
            if tasks and states:
                until = one.until if wanted.until is None else min(wanted.until, one.until)
                yield wanted._replace(tasks=tasks, states=states, until=until)


def _tasks(connection: Connection, tables: Tables, task: str) -> tuple[str, ...]:
    if not task.endswith("*"):
        return (asked(task, TASK_MAX),)
    return _named(connection, tables, asked(task[:-1], TASK_MAX))


def _named(connection: Connection, tables: Tables, prefix: str) -> tuple[str, ...]:
    name = tables.task.c.name
    query = sa.select(name).where(begins(name, prefix)).order_by(name).limit(_TASKS_MAX)
    return tuple(connection.execute(query).scalars())


def _fitted(meta: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((asked(name, META_KEY_MAX), asked(value, META_VALUE_MAX)) for name, value in meta.items())


def is_cursor(text: str) -> bool:
    """Tell whether `text` can be the `next` or `previous` of a page."""
    try:
        _parse(text)
    except PletError:
        return False
    return True


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def place_of(after: str | None, before: str | None) -> Place | None:
    """Return where a page begins; None: with the newest row.

    Raises:
        PletError: `after` or `before` is no cursor, or both are given.
    """
    if after is not None and before is not None:
        raise PletError("a page lies after a run or before one; give one of both cursors")
    if before is not None:
        return Place(_parse(before), newer=True)
    return Place(_parse(after)) if after is not None else None


def _parse(text: str) -> Key:
    try:
        created, run = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if math.isfinite(created):
            return (float(created), asked(str(run), ID_MAX))
        fault: Exception | None = None
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        fault = error
    raise PletError(f"{text[:80]!r} is no cursor; use the `next` or `previous` of a page") from fault
