"""The part of a pass that looks at promises: say which there are, judge them, keep what was found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from sqlalchemy.engine import Connection

from plet_celery.monitor.promises import Assessment, assess
from plet_celery.monitor.snapshot import take_snapshot
from plet_celery.monitor.wording import promised
from plet_celery.objectives import Declared
from plet_celery.store import promiserows
from plet_celery.store.promiserows import Kept
from plet_celery.store.store import Store

Fence = Callable[[Connection], None]
"""Raises StaleWrite in a transaction of somebody who may not pass any more."""


def announce(
    store: Store,
    declared: Iterable[Declared],
    *,
    now: float,
    has_app: bool,
    app: str = "",
    tasks: Collection[str] | None = None,
    fence: Fence | None = None,
) -> None:
    """Keep the promises that the caller knows of; most passes have nothing to write.

    Args:
        has_app: the caller is the app itself: what it does not declare, it promises no more.
        app: its name, `Celery.main`.
        tasks: those that the app has in this process; None: all there are. Of others it cannot tell.
    """
    mine = list(declared)
    limits = {one.id: promised(one.objective) for one in mine}
    with store.reading() as connection:
        found = promiserows.declarations(
            connection, store.tables, mine, now=now, limits=limits, has_app=has_app, app=app, tasks=tasks
        )
    if found:
        with store.writing() as connection:
            if fence is not None:
                fence(connection)
            promiserows.declare(connection, store.tables, found)


def look(store: Store, *, now: float) -> Assessment:
    """Return what is to be said of every promise that is made, also by other apps; nothing is written.

    Args:
        now: seconds since the epoch, by the store's clock.
    """
    return assess(take_snapshot(store, now=now), now=now)


def keep(store: Store, kept: Kept, *, now: float, fence: Fence | None = None) -> None:
    """Write what was found: after the alerts, for what is written here is not found a second time."""
    with store.writing() as connection:
        if fence is not None:
            fence(connection)
        promiserows.keep(connection, store.tables, kept, now=now)
