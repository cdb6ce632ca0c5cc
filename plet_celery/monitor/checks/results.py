"""`results`: does the result backend answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any, Final

from plet_celery.monitor.checks.asking import told
from plet_celery.monitor.checks.look import Looks
from plet_celery.terminal.text import span
from plet_celery.watchfacts import CheckResult, Level

NAME: Final = "results"
ADVICE: Final = "start it, or correct result_backend"
AFFECTED: Final = "whoever waits for a result; tasks that store theirs retry, then fail"
_ALIASES: Final = (
    "redis", "rediss", "sentinel", "rpc", "db", "database", "file", "cache", "mongodb", "couchbase",
    "couchdb", "cassandra", "elasticsearch", "s3", "gs", "azureblockblob", "consul", "dynamodb",
    "arangodb", "cosmosdbsql",
)  # fmt: skip
"""Backends that Celery brings: another one's module may import the user's project."""


def check(looks: Looks) -> Iterator[CheckResult]:
    """Ask the backend for a result that there is not."""
    world = looks.world
    url = str(world.app.conf.result_backend or "")
    if not url or url.startswith("disabled"):
        yield _result(Level.OK, "none is set: nothing is stored")
        return
    if not world.has_app:
        left_out = {"result_backend", "result_backend_transport_options", "redis_backend_use_ssl"}
        if left_out.intersection(world.facts.get("left_out") or []) or not _is_celerys(url):
            yield _result(
                Level.NO_DATA,
                "only a pass with the app can ask it",
                advice="run beat, so that passes have the app",
            )
            return
    backend = world.app.backend
    kind = type(backend).__name__
    began = time.perf_counter()
    try:
        _touch(backend)
    # Each backend has its own.
    except Exception as error:
        yield _result(
            Level.CRITICAL,
            f"{kind} does not answer: {told(error)}",
            affected=AFFECTED,
            advice=ADVICE,
            values={"backend": kind, "error": type(error).__name__},
        )
        return
    latency = time.perf_counter() - began
    values = {"backend": kind, "latency": round(latency, 6)}
    yield _result(Level.OK, f"{kind} answers in {span(latency)}", values=values)


def _touch(backend: Any) -> None:
    client: Any = getattr(backend, "client", None)
    if hasattr(client, "ping") and hasattr(client, "connection_pool"):
        # Redis: its own reads are tried again for many seconds.
        client.ping()
    elif type(backend).__module__ == "celery.backends.rpc":
        with backend.app.connection_for_write(connect_timeout=2.0) as connection:
            connection.ensure_connection(max_retries=1)
    else:
        backend.get_task_meta(str(uuid.uuid4()), cache=False)


def _is_celerys(url: str) -> bool:
    head = url.partition(":")[0].partition("+")[0]
    return head in _ALIASES


def _result(
    level: Level,
    observation: str,
    *,
    affected: str = "",
    advice: str = "",
    values: dict[str, Any] | None = None,
) -> CheckResult:
    return CheckResult(
        name=NAME,
        level=level,
        observation=observation,
        expectation="an answer",
        affected=affected,
        advice=advice,
        values=values or {},
    )
