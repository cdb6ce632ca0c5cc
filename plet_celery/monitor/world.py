"""What the checks may look at: store, broker, the places of this host; with the user's app or without.

Without it a stand-in is made of plain facts (`celeryfacts.py`): it knows the broker and the result backend,
and no task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plet_celery.celeryfacts import celery_facts
from plet_celery.settings import Settings
from plet_celery.store import Store
from plet_celery.store.health import HealthRow
from plet_celery.store.watching import LastPass

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True, kw_only=True)
class World:
    """One project as the monitor sees it. Nothing is opened by making one."""

    settings: Settings
    store: Store
    """For reading; where it has `query_seconds`, no check waits longer for it."""
    writer: Store | None = None
    """For writing: whether that can be done is tried; None: not asked."""
    app: Celery
    """The user's app, or the stand-in that `app_of` makes."""
    has_app: bool
    facts: Mapping[str, Any]
    """What `celery_facts` returns."""
    home: Path
    journal: Path
    before: Mapping[tuple[str, str], HealthRow] = field(default_factory=dict)
    """What the pass before kept, by name and subject."""
    passed: LastPass | None = None
    """None: there was no pass, or it is not known."""


def before_of(rows: list[HealthRow]) -> dict[tuple[str, str], HealthRow]:
    """Return rows by name and subject."""
    return {(row.result.name, row.result.subject): row for row in rows}


def app_of(facts: Mapping[str, Any]) -> Celery:
    """Return an app that knows what `celery_facts` told: broker, result backend, queues; no task."""
    from celery import Celery

    app = Celery(str(facts.get("main") or "plet"), set_as_current=False, fixups=[])
    app.conf.update(dict(facts.get("conf") or {}))
    return app


def facts_of(app: Celery) -> dict[str, Any]:
    """Return what `app_of` needs to make a stand-in for an app."""
    return celery_facts(app)
