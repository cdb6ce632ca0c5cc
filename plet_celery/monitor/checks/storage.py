"""`store`: does it answer, how fast, can it be written, are its tables this version's, how large are they."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from plet_celery.errors import StoreError, StoreUnavailable
from plet_celery.monitor.checks.asking import told
from plet_celery.monitor.checks.look import Looks
from plet_celery.store import SchemaStatus, Store, condition
from plet_celery.terminal.text import size, span
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "store"
SLOW_SECONDS: Final = 0.25
AFFECTED: Final = "pages, alerts and the newest runs; what is recorded meanwhile waits in the journals"
ADVICE: Final = "start the database, or correct plet_database_url; see docs/stores.md"


def check(looks: Looks) -> Iterator[CheckResult]:
    """Ask the store; of one that does not answer nothing else is said."""
    store = looks.world.store
    dialect = store.url.get_backend_name()
    try:
        answer = condition.answer(store)
    except StoreError as error:
        yield _result("", Level.CRITICAL, told(error), "an answer", affected=AFFECTED, advice=ADVICE)
        return
    values = {"engine": dialect, "latency": round(answer.latency, 6)}
    slow = answer.latency > SLOW_SECONDS
    yield _result(
        "",
        Level.WARNING if slow else Level.OK,
        f"{dialect} answers in {span(max(0.001, answer.latency))}",
        f"within {span(SLOW_SECONDS)}",
        affected="every batch of every shipper, and every page" if slow else "",
        advice="bring the store nearer, or see what keeps it busy" if slow else "",
        values=values,
    )
    schema = _schema(store.check_schema())
    yield schema
    if schema.level is Level.CRITICAL:
        return
    if looks.world.writer is not None:
        yield _writing(looks.world.writer)
    yield _size(condition.size_bytes(store), looks.world.settings.store_max_bytes)


def _schema(status: SchemaStatus) -> CheckResult:
    values = {"current": status.current, "head": status.head}
    if status.is_current:
        return _result("schema", Level.OK, f"tables at {status.current} (head)", "the newest", values=values)
    there = f"tables at {status.current}" if status.current else "no tables of plet"
    newer = status.is_newer
    return _result(
        "schema",
        Level.CRITICAL,
        f"{there}, this version needs {status.head}",
        "the tables of this version",
        affected="everything that reads or writes the store",
        advice="upgrade plet-celery here" if newer else "celery -A proj plet migrate",
        values=values,
    )


def _writing(store: Store) -> CheckResult:
    """Lock a row of ours as a writer does, and let it go: a lock that somebody holds shows here alone."""
    info = store.tables.info
    try:
        with store.writing() as connection:
            connection.execute(sa.select(info).where(info.c.name == "store_id").with_for_update())
            # A statement that changes: who may only read is refused here.
            connection.execute(info.update().where(info.c.name == "store_id").values(value=info.c.value))
    except StoreUnavailable as error:
        return _result("writing", Level.CRITICAL, told(error), "writing", affected=AFFECTED, advice=ADVICE)
    return _result("writing", Level.OK, "it can be written", "writing")


def _size(used: int, limit: int) -> CheckResult:
    large = used > limit
    return _result(
        "size",
        Level.WARNING if large else Level.OK,
        f"{size(used)} in tables",
        f"at most {size(limit)} (plet_store_max_bytes)",
        affected="the database's disk, and how long queries take" if large else "",
        advice="keep runs for a shorter time (plet_retention_days), or raise plet_store_max_bytes"
        if large
        else "",
        values={"bytes": used, "limit_bytes": limit},
    )


def _result(
    subject: str,
    level: Level,
    observation: str,
    expectation: str,
    *,
    affected: str = "",
    advice: str = "",
    values: dict[str, Any] | None = None,
) -> CheckResult:
    return CheckResult(
        name=NAME,
        subject=subject,
        level=level,
        observation=observation,
        expectation=expectation,
        affected=affected,
        advice=advice,
        values=values or {},
    )
