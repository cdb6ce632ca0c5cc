"""Which end an exception gives to an attempt, and what is kept of it."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry

from plet_celery import events
from plet_celery.failure import message_of
from plet_celery.redaction import safe_repr
from plet_celery.run import Run

being_stopped: Final[set[str]] = set()
"""Ids of runs whose greenlet this worker is killing: `reports` tells why, once Celery has told it."""


def is_told_by_main(error: BaseException, run: Run, pool: str) -> bool:
    """Say whether a body that died in the worker's own process has its end told by `reports`.

    Args:
        error: a BaseException that is no Exception: Celery gives the attempt no state.
        pool: the worker's pool; "" in eager mode.
    """
    if pool != "gevent":
        return False
    if _is_a("greenlet", "GreenletExit", error):
        return run.id in being_stopped
    # Celery's hard limit is a gevent.Timeout, and it takes one of the task's own for it.
    return bool(run.facts.hard_limit) and _is_a("gevent.timeout", "Timeout", error)


def end_of(error: BaseException | None, run: Run) -> tuple[str, dict[str, Any]]:
    """Return the kind and fields of the end that `error` gives to an attempt."""
    if isinstance(error, SoftTimeLimitExceeded):
        data = {"limit": "soft", "seconds": run.facts.soft_limit, "error": run.describe_error(error)}
        return events.RUN_TIMED_OUT, data
    if isinstance(error, TimeLimitExceeded):
        return events.RUN_TIMED_OUT, {"limit": "hard", "error": run.describe_error(error)}
    if isinstance(error, Retry):
        return events.RUN_RETRIED, _retry_fields(error, run)
    if isinstance(error, Ignore):
        reason = _reason(error, run)
        return events.RUN_IGNORED, {"replaced": reason == "Replaced by new task", "reason": reason}
    if isinstance(error, Reject):
        return events.RUN_REJECTED, {
            "requeue": bool(getattr(error, "requeue", False)),
            "reason": _reason(error, run),
        }
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return _exit_fields(error, run)
    if error is not None and _is_a("greenlet", "GreenletExit", error):
        return _killed_greenlet(error, run)
    if isinstance(error, NotImplementedError) and "does not implement kill_job" in str(error):
        # A cold shutdown of a solo worker: Celery's own attempt to kill the job raises inside it.
        return events.RUN_INTERRUPTED, {"how": "cold", "error": run.describe_error(error)}
    if error is None:
        return events.RUN_FAILED, {
            "error": {"type": "Unknown", "module": "", "message": "no exception was given"}
        }
    return events.RUN_FAILED, {"error": run.describe_error(error)}


def _exit_fields(error: BaseException, run: Run) -> tuple[str, dict[str, Any]]:
    # Celery's WorkerShutdown and WorkerTerminate are SystemExits raised inside a solo worker's task.
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ in ("WorkerShutdown", "WorkerTerminate"):
        return events.RUN_INTERRUPTED, {"how": "cold"}
    code = getattr(error, "code", None)
    data = {
        # In a thread or greenlet it ends nothing, but Celery stores no result: nobody learns more.
        "reason": f"the task raised {safe_repr(error, 200)}",
        "error": run.describe_error(error),
    }
    return events.RUN_LOST, data | ({"exitcode": code} if isinstance(code, int) else {})


def _killed_greenlet(error: BaseException, run: Run) -> tuple[str, dict[str, Any]]:
    state = sys.modules.get("celery.worker.state")
    if getattr(state, "should_terminate", None) not in (None, False):
        return events.RUN_INTERRUPTED, {"how": "cold"}
    return events.RUN_LOST, {"reason": "its greenlet was killed", "error": run.describe_error(error)}


def _is_a(module: str, name: str, error: BaseException) -> bool:
    # Looked for, not imported: where the module is not loaded, nothing of it was raised.
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)


def _retry_fields(error: Retry, run: Run) -> dict[str, Any]:
    data: dict[str, Any] = {"reason": _reason(error, run), "retries": run.facts.retries}
    if isinstance(error.exc, BaseException):
        data["error"] = run.describe_error(error.exc)
    if isinstance(error.when, (int, float)):
        data["when"] = time.time() + error.when
    elif error.when is not None and hasattr(error.when, "timestamp"):
        data["when"] = error.when.timestamp()
    return data


def _reason(error: BaseException, run: Run) -> str:
    # str(Ignore("x")) is "x", str(Retry(…)) a sentence; Reject has its own words around both.
    value = getattr(error, "reason", None) if isinstance(error, Reject) else message_of(error)
    return str(run.plain(value if isinstance(value, str) else safe_repr(value, 500)))
