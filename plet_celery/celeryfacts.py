"""What a process without the user's app needs to know of it: where its broker is, what it consumes.

Plain JSON values that travel with a shipper's configuration (`Plet.shipper_config()`); they hold secrets:
for a pipe only.

| key | what |
|---|---|
| `main` | the app's name |
| `conf` | broker, result backend and remote control, as Celery's conf names them |
| `left_out` | names of such options whose value is no JSON |
| `queues` | names of the queues that a worker of the app consumes by default |
| `schedule` | names of periodic tasks that the app itself schedules, at most 100, without ours |
| `timetable` | when they are due, as `timetables.timetable_of` says |
| `scheduler` | beat's scheduler: a schedule may lie in a database that this does not know |
"""

from __future__ import annotations

import json
from typing import Any, Final

from celery import Celery

from plet_celery.timetables import timetable_of

MONITOR_TASK: Final = "plet.monitor"
WORKER_COMMAND: Final = "plet_worker"
"""Of remote control: answers `{queues, slots, running, reserved, total, pid}`."""
STACKS_COMMAND: Final = "plet_stacks"
"""Of `runs` (ids) answers `{run id: {text, why_not}}`: first with `ask`, and a moment later without."""
_SCHEDULE_MAX: Final = 100
_QUEUES_MAX: Final = 200
_CONF: Final = (
    "broker_url",
    "broker_read_url",
    "broker_write_url",
    "broker_transport",
    "broker_transport_options",
    "broker_use_ssl",
    "broker_login_method",
    "broker_connection_timeout",
    "broker_failover_strategy",
    "result_backend",
    "result_backend_transport_options",
    "redis_backend_use_ssl",
    "database_engine_options",
    "database_table_schemas",
    "cache_backend",
    "cache_backend_options",
    "task_default_queue",
    "task_queue_max_priority",
    "task_default_queue_type",
    "control_exchange",
    "control_queue_ttl",
    "control_queue_expires",
    "control_queue_exclusive",
    "control_queue_durable",
    "event_queue_prefix",
    "accept_content",
    "beat_enable_remote_control",
)


def celery_facts(app: Celery) -> dict[str, Any]:
    """Return the facts of an app as JSON values; what is none is named in `left_out`."""
    conf: dict[str, Any] = {}
    left_out: list[str] = []
    for name in _CONF:
        # As an attribute: CELERY_BROKER_URL and CELERY_RESULT_BACKEND of the environment are no keys of it.
        value = getattr(app.conf, name, None)
        if value is None:
            continue
        if isinstance(value, set | frozenset):
            value = sorted(value)
        try:
            conf[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            left_out.append(name)
    try:
        queues = list(app.amqp.queues)[:_QUEUES_MAX]
    except Exception:
        # A conf that Celery itself refuses is told by Celery, where it is needed.
        queues = []
        left_out.append("task_queues")
    schedule = [str(name) for name, entry in _schedule(app) if _task_of(entry) != MONITOR_TASK]
    return {
        "main": app.main or "",
        "conf": conf,
        "left_out": left_out,
        "queues": queues,
        "schedule": schedule[:_SCHEDULE_MAX],
        "timetable": timetable_of(app),
        "scheduler": str(app.conf.get("beat_scheduler") or ""),
    }


def _schedule(app: Celery) -> list[tuple[Any, Any]]:
    found = app.conf.get("beat_schedule")
    return list(found.items()) if isinstance(found, dict) else []


def _task_of(entry: Any) -> Any:
    return entry.get("task") if isinstance(entry, dict) else getattr(entry, "task", None)
