"""Worlds for checks: a store, a broker that is there or not, an app or the plain facts of one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery

from plet_celery import paths
from plet_celery.celeryfacts import celery_facts
from plet_celery.monitor.checks import run_check
from plet_celery.monitor.world import World, app_of
from plet_celery.settings_sources import load_settings
from plet_celery.store import Store, health, watching
from plet_celery.store.health import HealthRow
from plet_celery.store.watching import LastPass
from plet_celery.watchfacts import CheckResult, Level

NOWHERE = "redis://127.0.0.1:1/0"
"""A broker that refuses."""


def plain_app(broker: str = NOWHERE, **conf: Any) -> Celery:
    """Return an app without tasks."""
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(conf)
    return app


def world_of(
    store: Store,
    app: Celery | None = None,
    *,
    home: Path | None = None,
    writer: Store | None = None,
    has_app: bool = False,
    before: Iterable[HealthRow] = (),
    passed: LastPass | None = None,
    **settings: Any,
) -> World:
    """Return a world whose facts went through JSON, as those of a shipper do.

    Args:
        settings: options without `plet_`.
    """
    facts: Mapping[str, Any] = json.loads(json.dumps(celery_facts(app or plain_app())))
    place = home or Path("/nonexistent")
    return World(
        settings=load_settings({f"plet_{name}": value for name, value in settings.items()}, {}),
        store=store,
        writer=writer,
        app=app if has_app and app is not None else app_of(facts),
        has_app=has_app,
        facts=facts,
        home=place,
        journal=paths.journal_directory(place),
        before={(row.result.name, row.result.subject): row for row in before},
        passed=passed,
    )


def asked(world: World, name: str, *, now: float, seconds: float = 20.0) -> dict[str, CheckResult]:
    """Return what a check answers, by subject."""
    return {one.subject: one for one in run_check(world, name, now=now, seconds=seconds)}


def kept(results: Iterable[CheckResult], *, at: float) -> list[HealthRow]:
    """Return results as the next pass finds them."""
    return [
        HealthRow(result=one, since=one.since if one.since is not None else at, checked_at=at)
        for one in results
    ]


def levels(found: Mapping[str, CheckResult]) -> dict[str, Level]:
    """Return the level of each subject."""
    return {subject: one.level for subject, one in found.items()}


def pass_over(store: Store, results: Iterable[CheckResult], *, ago: float = 0.0) -> None:
    """Leave behind what a pass does that ended `ago` seconds before now."""
    health.keep(store, list(results), now=time.time() - ago)
    lease = watching.take(store, "test", seconds=60)
    assert lease is not None
    watching.release(store, lease, passed=True, doc={"took": 0.4})
    table = store.tables.watching.watch
    with store.writing() as connection:
        earlier = {"passed_at": table.c.passed_at - ago, "begun_at": table.c.begun_at - ago}
        connection.execute(table.update().values(earlier))


def result(level: Level, name: str = "broker", subject: str = "", **more: Any) -> CheckResult:
    """Return an answer that says what its level is."""
    given: dict[str, Any] = {"observation": f"seen: {level.value}"}
    return CheckResult(name=name, subject=subject, level=level, **(given | more))
