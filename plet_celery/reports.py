"""What only the worker's main process knows: hard limits, lost children, revokes, shutdowns.

A hook here runs on the worker's event loop, so it does no more than append one event. Each report
carries `by: "main"` and the child's pid; the store matches it to the attempt of that child. A report
is the weaker fact: where the child wrote its own end, that one stands.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from celery.worker import state as worker_state
from celery.worker.request import Request

from plet_celery import events, headers
from plet_celery.ends import being_stopped
from plet_celery.guard import contain
from plet_celery.run import EventWriter

HOST: Final = socket.gethostname()
_SIGNAL = re.compile(r"signal (\d+) \((\w+)\)")
_EXIT = re.compile(r"exitcode (-?\d+)")

Append = Callable[[str, str, dict[str, Any]], None]


class ReportingRequest(Request):
    """A worker's request that also reports what happens to its child; mixed into each task's own class."""

    _plet_report: Append | None = None
    _plet_forks: bool = True
    """Tasks run in processes of their own; else in this one, and what Celery calls their pid is none."""

    if TYPE_CHECKING:  # what celery-types leaves out
        _app: Celery
        _hostname: str
        _request_dict: dict[str, Any]
        _already_cancelled: bool
        _already_revoked: bool

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit struck; the soft one is the child's to tell."""
        if not soft and not worker_state.should_terminate:
            self._tell(events.RUN_TIMED_OUT, {"limit": "hard", "seconds": timeout})
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The pool reports a failure; with return_ok the child has told it already."""
        if not return_ok:
            self._tell_loss(exc_info)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> Any:
        """A cold or soft shutdown, or a lost connection, stops the child."""
        self._note_stop(pool)
        try:
            answer = super().cancel(pool, signal, emit_retry)
        except NotImplementedError:
            raise  # This pool cannot stop a task: it goes on.
        except BaseException:
            # Under gevent Celery fails here after the kill: nothing may block in a signal handler.
            self._tell_interrupted()
            raise
        self._tell_interrupted()
        return answer

    def terminate(self, pool: Any, signal: Any = None) -> Any:
        """A revoke stops the child."""
        self._note_stop(pool)
        return super().terminate(pool, signal)

    def _note_stop(self, pool: Any) -> None:
        if self.time_start and getattr(pool, "is_green", False):
            being_stopped.add(self.id)

    def _tell_interrupted(self) -> None:
        if self.time_start:
            soft = bool(self._app.conf.worker_soft_shutdown_timeout)
            self._tell(events.RUN_INTERRUPTED, {"how": "soft" if soft else "cold"})

    def _announce_revoked(self, reason: Any, terminated: bool, signum: Any, expired: bool) -> Any:
        try:
            return super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]
        finally:
            # Also where the result backend does not take it: the run has ended all the same.
            if expired:
                self._tell(events.RUN_EXPIRED, {"expires": str(self._request_dict.get("expires") or "")})
            else:
                data = {"terminated": bool(terminated)}
                self._tell(events.RUN_CANCELLED, data | ({"signal": str(signum)} if signum else {}))

    def _tell_loss(self, exc_info: Any) -> None:
        error = getattr(exc_info, "exception", exc_info)
        error = getattr(error, "exc", None) or error
        if (
            self._already_cancelled
            or self._already_revoked
            or isinstance(error, (Terminated, TimeLimitExceeded))
        ):
            return
        if not isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            return
        if worker_state.should_terminate:
            self._tell(events.RUN_INTERRUPTED, {"how": "cold"})
        else:
            requeued = bool(self.task.acks_late and self.task.reject_on_worker_lost)
            self._tell(events.RUN_LOST, loss_fields(error) | {"requeued": requeued})

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        report = type(self)._plet_report
        if report is None:
            return
        try:
            report(kind, self.id, self._plet_facts() | data)
        except Exception as error:
            contain(error, "report")

    def _plet_facts(self) -> dict[str, Any]:
        message = self._request_dict
        context = headers.read(message, canvas=None)
        data: dict[str, Any] = {"by": "main", "task": self.name, "worker": self._hostname, "host": HOST}
        optional = {
            "pid": self.worker_pid if self._plet_forks else self.worker_pid and os.getpid(),
            "started": self.time_start,
            "queue": (self.delivery_info or {}).get("routing_key"),
            "tenant": context.tenant,
            "queued_at": context.queued_at,
        }
        return data | {key: value for key, value in optional.items() if value}


def loss_fields(error: BaseException) -> dict[str, Any]:
    """Return reason, signal and exit code of a lost child, from what billiard says in words."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return {"reason": f"the child exited with code {error.code}", "exitcode": error.code}
    text = str(error) or type(error).__name__
    data: dict[str, Any] = {"reason": text[:500]}
    if found := _SIGNAL.search(text):
        data["signal"] = found.group(2)
    elif found := _EXIT.search(text):
        data["exitcode"] = int(found.group(1))
    return data


def report_requests(
    app: Celery, writer: EventWriter, is_recorded: Callable[[str], bool], *, forks: bool
) -> None:
    """Give every task of `app` a request class that reports; a task's own class stays its base.

    Call it in the worker's main process before the consumer builds its strategies. `forks` says whether
    the pool runs tasks in processes of their own.
    """

    def report(kind: str, run_id: str, data: dict[str, Any]) -> None:
        writer.append(kind, run_id, None, data)

    made: dict[Any, Any] = {}
    for task in app.tasks.values():
        if not is_recorded(task.name):
            continue
        own = task.Request
        if own not in made:
            made[own] = _reporting(own, report, forks)
        task.Request = made[own]


def report_unknown(app: Celery, writer: EventWriter) -> None:
    """Record messages of tasks that this worker does not know: Celery discards them."""

    def on_unknown(sender: Any = None, name: Any = None, **kwargs: Any) -> None:
        run_id = kwargs.get("id")
        if getattr(sender, "app", None) is app and isinstance(run_id, str):
            data = {"by": "main", "task": str(name)[:200], "host": HOST, "requeue": False}
            writer.append(
                events.RUN_REJECTED,
                run_id,
                None,
                data | {"reason": f"task {str(name)[:200]!r} is not registered"},
            )

    signals.task_unknown.connect(on_unknown, weak=False)


def _reporting(own: Any, report: Append, forks: bool) -> type:
    from kombu.utils.imports import symbol_by_name

    base: type = symbol_by_name(own) if isinstance(own, str) else own
    bases = (ReportingRequest,) if base is Request else (ReportingRequest, base)
    facts = {"_plet_report": staticmethod(report), "_plet_forks": forks}
    return type("ReportingRequest", bases, facts)
