"""What is asked of a list of runs."""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa

from plet_celery.events import RunState

AFTER_ANY: Final = "\U0010ffff"
STATES: Final = tuple(state.value for state in RunState)

Key = tuple[float, str]
"""created_at and id of a run."""
Condition = sa.ColumnElement[bool]


class Place(NamedTuple):
    """Where a page begins: behind this run, towards the older ones or the newer ones."""

    key: Key
    newer: bool = False


class Filters(NamedTuple):
    """Which runs are wanted; empty or None means any."""

    states: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    tenant: str | None = None
    tenants: tuple[str, ...] | None = None
    """Paths that the viewer may see, see `tenancy.py`."""
    worker: str | None = None
    queue: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    until: float | None = None
    canvas: str | None = None
    id_prefix: str | None = None
    digest_prefix: str | None = None


class Older(NamedTuple):
    """Runs of these tasks, in these states, that were created before a time."""

    tasks: tuple[str, ...]
    states: tuple[str, ...]
    until: float


def begins(column: sa.ColumnElement[str], prefix: str) -> Condition:
    """Return the condition that a text begins so, letter by letter."""
    return sa.and_(column >= prefix, column < prefix + AFTER_ANY)
