"""The list of runs, newest first, by any offered filter, a page at a time.

Pages begin behind a key, never at an offset. Which index a filter leads by is `leading.py`'s subject.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

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
from plet_celery.store.filters import AFTER_ANY, STATES, Filters, Key, Older, Place, begins
from plet_celery.store.keptruns import KeptRuns
from plet_celery.store.prepared import Statement, prepared
from plet_celery.store.probing import in_time_order, statements
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
    asked_for = _question(
        states=states,
        without=without,
        task=task,
        tenant=tenant,
        tenants=tenants,
        worker=worker,
        queue=queue,
        meta=meta,
        search=search,
        since=since,
        until=until,
        canvas=canvas,
        older=older,
        limit=limit,
        after=after,
        before=before,
    )
    return _pages(store, [asked_for], None)[0]


def list_together(
    store: Store, several: Sequence[Mapping[str, Any]], *, kept: KeptRuns | None = None
) -> list[Page[Run]]:
    """Return the pages that `list_runs` returns for each of these sets of arguments, all as of one moment.

    Args:
        kept: runs that were listed before; what has not changed of them is not read again.
    """
    return _pages(store, [_question(**one) for one in several], kept)


class _Question(NamedTuple):
    """What is asked of `list_runs`."""

    wanted: Filters
    without: frozenset[str]
    task: str | None
    search: str | None
    older: Sequence[Older] | None
    place: Place | None
    limit: int


def _question(
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
) -> _Question:
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
    return _Question(wanted, frozenset(without), task, search, older, place, limit)


def _pages(store: Store, several: Sequence[_Question], kept: KeptRuns | None) -> list[Page[Run]]:
    """Return a page for each question, from one state of the store."""
    with store.reading() as connection:
        prefer_indexes(connection)
        found = [_keys(connection, store.tables, one) for one in several]
        ids = dict.fromkeys(
            run for keys, one in zip(found, several, strict=True) for _, run in keys[: one.limit]
        )
        runs = dict(zip(ids, assemble.runs_by_id(connection, store.tables, [*ids], kept), strict=True))
    pages = []
    for keys, one in zip(found, several, strict=True):
        page = page_of(keys, one.place, one.limit)
        page.items = [runs[run] for _, run in keys[: one.limit]]
        if one.place is not None and one.place.newer:
            page.items.reverse()
        pages.append(page)
    return pages


def _keys(connection: Connection, tables: Tables, one: _Question) -> list[Key]:
    """Return the keys of a page, nearest to its place first, one more where there are more."""
    wanted, but, most = one.wanted, one.without, one.limit + 1
    is_plain = one.task is None and not one.search and one.older is None
    if but and is_plain and wanted._replace(since=None, until=None) == Filters():
        keys = _newest_but(connection, tables, wanted, but, one.place, most)
        if keys is not None:
            return keys
    some = expanded(connection, tables, wanted, but, one.task, one.search)
    if one.older is not None:
        some = _older(some, one.older)
    return newest_keys(connection, tables, some, one.place, most)


def newest_keys(
    connection: Connection, tables: Tables, some: Iterable[Filters], place: Place | None, limit: int
) -> list[Key]:
    """Return the keys (created_at, id) of the runs that pass any of `some`, nearest to `place` first."""
    found: set[Key] = set()
    for wanted in some:
        for one in statements(connection, tables, wanted, place, limit):
            found.update((at, run) for at, run in one.rows(connection))
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
    dialect, states = connection.dialect, tuple(sorted(without))
    keys = in_time_order(dialect, tables, wanted, place, limit, _SKIPPED_MAX, states).rows(connection)
    if len(keys) == limit:
        return [(at, run) for at, run in keys]
    # All there are, or too few of those that were looked at.
    seen = in_time_order(dialect, tables, wanted, place, limit + _SKIPPED_MAX).rows(connection)
    return [(at, run) for at, run in keys] if len(seen) < limit + _SKIPPED_MAX else None


def page_of(keys: Sequence[Key], place: Place | None, limit: int) -> Page[Any]:
    """Return an empty page with its cursors; `keys` has one more than the page where there are more."""
    shown, more = keys[:limit], len(keys) > limit
    page: Page[Any] = Page(items=[])
    # From an empty page the way back begins with the row that led to it: nowhere else is it shown.
    if place is not None and place.newer:
        page.previous = _cursor(shown[-1]) if more else None
        page.next = _cursor(shown[0] if shown else (place.key[0], place.key[1] + AFTER_ANY))
    else:
        page.next = _cursor(shown[-1]) if more else None
        if place is not None:
            page.previous = _cursor(shown[0] if shown else (place.key[0], ""))
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
    return tuple(name for (name,) in _names_query(connection.dialect, tables, prefix).rows(connection))


@functools.lru_cache
def _names_query(dialect: Dialect, tables: Tables, prefix: str) -> Statement:
    name = tables.task.c.name
    query = sa.select(name).where(begins(name, prefix)).order_by(name).limit(_TASKS_MAX)
    return prepared(query, dialect)


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
