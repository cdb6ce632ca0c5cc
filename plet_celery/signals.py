"""Celery's signals in the task process and in producers become events.

`task_prerun` starts an attempt, `task_postrun` ends it; both cost microseconds and hold no lock. What
only the worker's main process knows (hard limits, lost children, revokes) is in `reports.py`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, Protocol

from celery import Celery, signals
from celery._state import get_current_worker_task

from plet_celery import events, headers
from plet_celery.capture import Capture
from plet_celery.current import Binding, active_run
from plet_celery.ends import end_of
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.previews import preview, preview_arguments
from plet_celery.profiles import TaskProfile, is_recorded, make_profile
from plet_celery.redaction import Redactor
from plet_celery.run import EventWriter, Run, RunFacts, RunLimits

# Pools that execute one run at a time in a process: a thread without context belongs to that run.
_ONE_RUN_POOLS: Final = ("prefork", "solo")
_HOST: Final = socket.gethostname()


class JournalWriter(EventWriter, Protocol):
    """The journal's writer, as this module needs it."""

    role: str


@dataclass(slots=True)
class Recording:
    """What recording needs; `Plet` injects it once the app's settings are known."""

    writer: JournalWriter
    redactor: Redactor
    limits: RunLimits
    capture: Capture
    record_tasks: tuple[str, ...] = ("*",)
    ignore_tasks: tuple[str, ...] = ()
    tenants_allowed: tuple[str, ...] = ()
    arguments: bool = True
    is_open: Callable[[], bool] = lambda: True
    is_served: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class WorkerFacts:
    """What the worker's main process learned about itself before it forked."""

    pool: str = ""
    hostname: str = ""
    main_pid: int = 0


@dataclass(slots=True)
class Recorder:
    """Connects one app's signals; everything is filtered by that app, for signals are global."""

    app: Celery
    load: Callable[[], Recording | None]
    worker: WorkerFacts = field(default_factory=WorkerFacts)
    _profiles: dict[str, TaskProfile | None] = field(default_factory=dict)
    _publishing: ContextVar[list[BaseException] | None] = field(
        default_factory=lambda: ContextVar("plet_publishing", default=None)
    )

    def connect(self) -> None:
        """Connect all receivers, strongly, and mark this app's publishes as ours."""
        signals.task_prerun.connect(self.on_prerun, weak=False)
        signals.task_postrun.connect(self.on_postrun, weak=False)
        signals.task_failure.connect(self.on_body_left, weak=False)
        signals.task_retry.connect(self.on_body_left, weak=False)
        signals.before_task_publish.connect(self.on_before_publish, weak=False)
        signals.after_task_publish.connect(self.on_after_publish, weak=False)
        self._mark_publishes()

    # The task process

    def on_prerun(self, sender: Any = None, task_id: str = "", task: Any = None, **kwargs: Any) -> None:
        """An attempt starts."""
        if task is None or task.app is not self.app:
            return
        try:
            self._start(task, task_id, kwargs.get("args"), kwargs.get("kwargs"))
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "task_prerun")

    def on_body_left(self, sender: Any = None, **kwargs: Any) -> None:
        """The body raised: close its stages now, before Celery clears the frames that hold them."""
        if sender is None or getattr(sender, "app", None) is not self.app:
            return
        try:
            binding: Binding | None = getattr(sender.request, "_plet_binding", None)
            if binding is not None:
                reason = kwargs.get("exception", kwargs.get("reason"))
                binding.run.close_body(reason if isinstance(reason, BaseException) else None)
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "task_failure")

    def on_postrun(self, sender: Any = None, task: Any = None, **kwargs: Any) -> None:
        """An attempt ends, unless its body died by a BaseException: then the main process reports."""
        if task is None or task.app is not self.app:
            return
        request = task.request
        binding: Binding | None = getattr(request, "_plet_binding", None)
        if binding is None:
            return
        try:
            self._end(binding.run, request, kwargs.get("state"), kwargs.get("retval"))
        except PASS_THROUGH:
            raise
        except Exception as error:
            contain(error, "task_postrun")
        finally:
            binding.run.ended = True
            binding.release()

    def _start(self, task: Any, task_id: str, args: Any, kwargs: Any) -> None:
        recording = self.load()
        if recording is None:
            return
        profile = self._profile(task, recording)
        if profile is None or not recording.is_open():
            return
        request = task.request
        facts = self._facts(task, request, task_id, recording)
        run = Run(
            facts,
            writer=recording.writer,
            redactor=recording.redactor,
            limits=recording.limits,
            declared=profile.stages,
            store_meta=_meta_store(task, request, task_id),
        )
        one_run = not request.is_eager and self.worker.pool in _ONE_RUN_POOLS
        request._plet_binding = Binding(run, owns_process=one_run)
        recording.capture.enter()
        run.emit(events.RUN_STARTED, self._started(task, request, run, profile, recording, args, kwargs))

    def _facts(self, task: Any, request: Any, task_id: str, recording: Recording) -> RunFacts:
        context = self._context(request, recording)
        delivery = request.delivery_info or {}
        return RunFacts(
            id=events.safe_text(task_id, 16 << 10),
            attempt=os.urandom(12).hex(),
            task=task.name,
            worker=request.hostname or self.worker.hostname,
            host=_HOST,
            queue=delivery.get("routing_key"),
            tenant=context.tenant,
            user=context.user,
            trigger=context.trigger,
            canvas=context.canvas,
            queued_at=context.queued_at,
            retries=request.retries or 0,
            soft_limit=request.soft_time_limit or task.soft_time_limit,
            hard_limit=request.time_limit or task.time_limit,
        )

    def _context(self, request: Any, recording: Recording) -> headers.Context:
        own = request.headers or {}
        above = active_run() if request.is_eager else None
        if above is not None:
            # apply() publishes nothing, so nothing was stamped: inherit from the run it is called in.
            merged: dict[str, Any] = {**own, "id": request.id}
            facts = above.facts
            parent = headers.Context(facts.tenant, facts.trigger, facts.user, facts.canvas)
            headers.stamp(merged, parent, above.id, time.time())
            merged.pop(headers.QUEUED_AT)
            own = merged
        canvas = request.root_id or request.id
        return headers.read(own, canvas=canvas, tenants_allowed=recording.tenants_allowed)

    def _started(
        self,
        task: Any,
        request: Any,
        run: Run,
        profile: TaskProfile,
        recording: Recording,
        args: Any,
        kwargs: Any,
    ) -> dict[str, Any]:
        facts, delivery = run.facts, request.delivery_info or {}
        data: dict[str, Any] = {
            "task": facts.task,
            "tracked": profile.tracked,
            "worker": facts.worker,
            "host": facts.host,
            "pid": os.getpid(),
            "pool": "eager" if request.is_eager else self.worker.pool,
            "retries": facts.retries,
            "redelivered": bool(delivery.get("redelivered")),
            "trigger": facts.trigger,
        }
        for key, value in (
            ("queue", facts.queue),
            ("queued_at", facts.queued_at),
            ("tenant", facts.tenant),
            ("user", facts.user),
            ("canvas", facts.canvas),
            ("root", request.root_id),
            ("parent", request.parent_id),
            ("group", request.group),
            ("eta", request.eta),
            ("expires", request.expires),
            ("soft_limit", facts.soft_limit),
            ("hard_limit", facts.hard_limit),
            ("stages", profile.stages),
        ):
            if value:
                data[key] = value
        if request.group_index is not None:
            data["group_index"] = request.group_index
        if request.chain:
            data["chain_left"] = len(request.chain)
        if request.chord:
            data["chord"] = _signature_id(request.chord)
        if recording.arguments and (args or kwargs):
            data.update(preview_arguments(recording.redactor, profile.parameters, args, kwargs))
        return data

    def _end(self, run: Run, request: Any, state: str | None, retval: Any) -> None:
        recording = self.load()
        if recording is None:
            return
        error = retval if isinstance(retval, BaseException) and state != "SUCCESS" else None
        if state is None:
            error = sys.exc_info()[1]
            if self._is_reported_by_main(request) or error is None:
                run.close_body(error)
                recording.capture.leave(run)
                return
        recording.capture.leave(run)
        if state == "SUCCESS":
            data: dict[str, Any] = {}
            if retval is not None and recording.arguments:
                data["result"] = preview(run.plain(retval))
            run.finish(events.RUN_SUCCEEDED, data)
            return
        kind, data = end_of(error, run)
        run.finish(kind, data, error)
        if kind in (events.RUN_FAILED, events.RUN_TIMED_OUT):
            self._end_what_waited(recording, run, request, data.get("error"))

    def _is_reported_by_main(self, request: Any) -> bool:
        return not request.is_eager and os.getpid() != self.worker.main_pid

    def _end_what_waited(self, recording: Recording, run: Run, request: Any, error: Any) -> None:
        """End a replaced run whose chain or chord has just failed: its message will never come."""
        above = {run.facts.canvas, request.root_id, request.parent_id} - {run.id, None}
        for waiting in _waiting(request):
            run_id = _signature_id(waiting)
            if run_id in above:
                data = {"by": "child", "task": waiting.get("task"), "upstream": run.id, "error": error}
                recording.writer.append(events.RUN_FAILED, run_id, None, data)

    def _profile(self, task: Any, recording: Recording) -> TaskProfile | None:
        try:
            return self._profiles[task.name]
        except KeyError:
            profile = self._profiles[task.name] = make_profile(
                task, recording.record_tasks, recording.ignore_tasks
            )
            return profile

    # Whoever publishes

    def on_before_publish(self, sender: Any = None, headers: Any = None, **kwargs: Any) -> None:
        """A message leaves: stamp the context into its headers."""
        struck = self._publishing.get()
        if struck is None or not isinstance(headers, dict):
            return
        try:
            self._stamp(headers)
        except PASS_THROUGH as error:
            struck.append(error)
        except Exception as error:
            contain(error, "before_task_publish")

    def on_after_publish(
        self, sender: Any = None, headers: Any = None, body: Any = None, **kwargs: Any
    ) -> None:
        """A message has left: write `run.queued` where a shipper serves this host."""
        struck = self._publishing.get()
        if struck is None or not isinstance(headers, dict):
            return
        try:
            recording = self.load()
            if recording is not None and recording.is_served() and self._is_recorded(str(sender), recording):
                data = self._queued(str(sender), headers, body, kwargs.get("routing_key"), recording)
                recording.writer.append(events.RUN_QUEUED, headers.get("id"), None, data)
        except PASS_THROUGH as error:
            struck.append(error)
        except Exception as error:
            contain(error, "after_task_publish")

    def _mark_publishes(self) -> None:
        # before_task_publish does not say which app publishes; send_task is where all publishes pass.
        send_task = self.app.send_task
        publishing = self._publishing

        @wraps(send_task)
        def marked(*args: Any, **kwargs: Any) -> Any:
            struck: list[BaseException] = []
            token = publishing.set(struck)
            try:
                result = send_task(*args, **kwargs)
            finally:
                publishing.reset(token)
            if struck:
                # A soft limit struck inside our receiver, where Celery would have swallowed it.
                raise struck[0]
            return result

        self.app.send_task = marked  # type: ignore[method-assign]

    def _stamp(self, message: dict[str, Any]) -> None:
        recording = self.load()
        if recording is None:
            return
        task = get_current_worker_task()
        if task is None or task.request is None:
            headers.stamp(message, None, None, time.time())
            return
        request = task.request
        run = active_run()
        if run is not None and run.id == request.id:
            facts = run.facts
            parent = headers.Context(facts.tenant, facts.trigger, facts.user, facts.canvas)
        else:
            parent = headers.read(request.headers or {}, canvas=request.root_id or request.id)
        headers.stamp(message, parent, request.id, time.time())

    def _queued(
        self, task: str, message: Mapping[str, Any], body: Any, routing_key: Any, recording: Recording
    ) -> dict[str, Any]:
        context = headers.read(message, canvas=None, tenants_allowed=recording.tenants_allowed)
        data: dict[str, Any] = {
            "task": task,
            "trigger": context.trigger,
            "retries": message.get("retries") or 0,
        }
        optional = {
            "queue": routing_key if isinstance(routing_key, str) else None,
            "tenant": context.tenant,
            "user": context.user,
            "canvas": context.canvas,
            "root": message.get("root_id"),
            "parent": message.get("parent_id"),
            "group": message.get("group"),
            "eta": message.get("eta"),
            "expires": message.get("expires"),
        }
        data.update({key: value for key, value in optional.items() if value})
        profile = self._published_profile(task, recording)
        if profile is not None and recording.arguments and isinstance(body, (tuple, list)) and len(body) == 3:
            data.update(preview_arguments(recording.redactor, profile.parameters, body[0], body[1]))
        return data

    def _published_profile(self, name: str, recording: Recording) -> TaskProfile | None:
        # Without the task's parameter names a positional password cannot be told: then the worker,
        # which knows the task, is the first to write arguments. `_tasks` does not finalize the app.
        task = self.app._tasks.get(name)  # type: ignore[attr-defined]
        return self._profile(task, recording) if task is not None else None

    def _is_recorded(self, name: str, recording: Recording) -> bool:
        return is_recorded(name, recording.record_tasks, recording.ignore_tasks)


def _waiting(request: Any) -> list[Mapping[str, Any]]:
    """Return what would have run after this one: the chain's rest, the chord's body and its chain."""
    found = [one for one in request.chain or [] if isinstance(one, Mapping)]
    if isinstance(request.chord, Mapping):
        found.append(request.chord)
        rest = (request.chord.get("options") or {}).get("chain") or []
        found += [one for one in rest if isinstance(one, Mapping)]
    return found


def _signature_id(signature: Any) -> str | None:
    options = signature.get("options") if isinstance(signature, Mapping) else None
    found = options.get("task_id") if isinstance(options, Mapping) else None
    return found if isinstance(found, str) else None


def _meta_store(task: Any, request: Any, task_id: str) -> Callable[[dict[str, Any]], None] | None:
    """Return what puts a result meta into the backend, or None where nobody could or should read it."""
    ignored = request.ignore_result or task.ignore_result
    if ignored or (request.is_eager and not task.store_eager_result):
        return None

    def store(meta: dict[str, Any]) -> None:
        task.backend.store_result(task_id, meta, "PROGRESS", request=request)

    return store
