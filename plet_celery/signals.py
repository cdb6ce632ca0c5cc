"""Celery's signals in the task process become events.

`task_prerun` starts an attempt, `task_postrun` ends it; both cost microseconds and hold no lock. What
only the worker's main process knows (hard limits, lost children, revokes) is in `reports.py`, what is
published in `publishing.py`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from celery import Celery, signals

from plet_celery import events, headers, resources, sampling
from plet_celery.current import Binding, active_run
from plet_celery.ends import being_stopped, end_of, is_told_by_main
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.previews import preview, preview_arguments
from plet_celery.profiles import TaskProfile
from plet_celery.publishing import Publishing
from plet_celery.recording import KnownTasks, Recording
from plet_celery.redaction import is_asynchronous
from plet_celery.run import EventWriter, Run, RunFacts
from plet_celery.threads import follow_threads

# Pools that execute one run at a time in a process: a thread without context belongs to that run.
_ONE_RUN_POOLS: Final = ("prefork", "solo")
CONCURRENT_POOLS: Final = ("thread", "gevent", "eventlet")
"""Pools that execute many runs at a time in one process, as Celery's modules are called."""
# The others let a task run past its hard limit.
_LIMITING_POOLS: Final = ("prefork", "gevent", "eventlet")
# What can be told of one run among many: its thread's CPU time; nothing where all share one thread.
_USAGE_OF: Final = {"thread": resources.THREAD, "gevent": resources.NOTHING, "eventlet": resources.NOTHING}
_HOST: Final = socket.gethostname()
# Where they leave a hook, Celery takes them for failures. (A Reject it obeys there, too.)
_NOT_BEHIND_THE_BODY: Final = (events.RUN_RETRIED, events.RUN_IGNORED)


@dataclass(slots=True)
class WorkerFacts:
    """What the worker's main process learned about itself before it forked."""

    pool: str = ""
    hostname: str = ""
    main_pid: int = 0
    soft_limit: float | None = None
    """Of the worker's command line: seconds, of a task that has none of its own."""
    hard_limit: float | None = None


@dataclass(slots=True)
class Recorder:
    """Connects one app's signals; everything is filtered by that app, for signals are global."""

    app: Celery
    load: Callable[[], Recording | None]
    worker: WorkerFacts = field(default_factory=WorkerFacts)
    known: KnownTasks = field(default_factory=KnownTasks)

    def connect(self) -> None:
        """Connect all receivers, strongly: those of publishing, too."""
        signals.task_prerun.connect(self.on_prerun, weak=False)
        signals.task_postrun.connect(self.on_postrun, weak=False)
        signals.task_failure.connect(self.on_body_left, weak=False)
        signals.task_retry.connect(self.on_body_left, weak=False)
        Publishing(self.app, self.load, self.known).connect()

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
        """An attempt ends, unless its process ends with it: then the main process reports."""
        if task is None or task.app is not self.app:
            return
        request = task.request
        binding: Binding | None = getattr(request, "_plet_binding", None)
        if binding is None:
            return
        try:
            self._end_for_sure(binding.run, request, kwargs.get("state"), kwargs.get("retval"))
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
        profile = self.known.profile(task, recording)
        if profile is None or not recording.is_open():
            return
        request = task.request
        facts = self._facts(task, request, task_id, recording)
        pool = "" if request.is_eager else self.worker.pool
        run = Run(
            facts,
            writer=self._writer_for(facts, request, recording),
            redactor=recording.redactor,
            limits=recording.limits,
            declared=profile.stages,
            store_meta=_meta_store(task, request, task_id) if profile.tells_progress else None,
            hard_limit_strikes=pool in _LIMITING_POOLS,
            usage_of=_USAGE_OF.get(pool, resources.PROCESS),
        )
        if recording.follow_threads:
            follow_threads()
        Binding(run, owns_process=pool in _ONE_RUN_POOLS, request=request)
        recording.capture.enter(run)
        run.emit(events.RUN_STARTED, self._started(task, request, run, profile, recording, args, kwargs))

    def _writer_for(self, facts: RunFacts, request: Any, recording: Recording) -> EventWriter:
        if not recording.sample:
            return recording.writer
        share = self.known.share(facts.task, recording)
        if share >= 1.0:
            return recording.writer
        picked = sampling.is_picked(facts.canvas or facts.id, share)
        return sampling.Thinned(
            recording.writer,
            is_picked=picked,
            weight=sampling.weight_of(facts.attempt, share) if picked else 1,
            keep_after=recording.sample_keep_after,
            must_keep=sampling.must_keep(request),
        )

    def _facts(self, task: Any, request: Any, task_id: str, recording: Recording) -> RunFacts:
        context = self._context(request, recording)
        delivery = request.delivery_info or {}
        worker = WorkerFacts() if request.is_eager else self.worker
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
            soft_limit=request.soft_time_limit or task.soft_time_limit or worker.soft_limit,
            hard_limit=request.time_limit or task.time_limit or worker.hard_limit,
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
        _add_links(data, facts, request, profile)
        if recording.arguments and (args or kwargs):
            data.update(preview_arguments(recording.redactor, profile.parameters, args, kwargs))
        return data

    def _end_for_sure(self, run: Run, request: Any, state: str | None, retval: Any) -> None:
        try:
            self._end(run, request, state, retval)
            return
        except Exception as error:
            if not is_asynchronous(error):
                raise
            struck = error
        # Behind the body a soft limit changes nothing any more, Celery itself swallows it here. But without
        # an end the run would be lost when this process goes; of two, the first counts.
        self._end(run, request, state, retval)
        raise struck

    def _end(self, run: Run, request: Any, state: str | None, retval: Any) -> None:
        recording = self.load()
        if recording is None:
            return
        error = retval if isinstance(retval, BaseException) and state != "SUCCESS" else None
        if state is None:
            error = sys.exc_info()[1]
            if error is not None:
                run.keep()
            if self._is_reported_by_main(request, run, error) or error is None:
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
        if error is not None and state is None and kind in _NOT_BEHIND_THE_BODY:
            kind, data = events.RUN_FAILED, {"error": run.describe_error(error)}
        run.finish(kind, data, error)
        if kind in (events.RUN_FAILED, events.RUN_TIMED_OUT):
            self._end_what_waited(recording, run, request, data.get("error"))

    def _is_reported_by_main(self, request: Any, run: Run, error: BaseException | None) -> bool:
        if request.is_eager:
            return False
        if error is None:
            return True
        if os.getpid() != self.worker.main_pid:
            # This process ends: the main process tells how.
            return isinstance(error, SystemExit | KeyboardInterrupt) or terminate_handler_fired()
        told = is_told_by_main(error, run, self.worker.pool)
        being_stopped.discard(run.id)
        return told

    def _end_what_waited(self, recording: Recording, run: Run, request: Any, error: Any) -> None:
        """End a replaced run whose chain or chord has just failed: its message will never come."""
        above = {run.facts.canvas, request.root_id, request.parent_id} - {run.id, None}
        for waiting in _waiting(request):
            run_id = _signature_id(waiting)
            if run_id in above:
                data = {"by": "child", "task": waiting.get("task"), "upstream": run.id, "error": error}
                recording.writer.append(events.RUN_FAILED, run_id, None, data)


def _add_links(data: dict[str, Any], facts: RunFacts, request: Any, profile: TaskProfile) -> None:
    """Add what not every run has: where it came from, what it belongs to, its limits."""
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
        ("stuck_after", profile.stuck_after),
    ):
        if value:
            data[key] = value
    if request.group_index is not None:
        data["group_index"] = request.group_index
    if request.chain:
        data["chain_left"] = len(request.chain)
    if request.chord:
        data["chord"] = _signature_id(request.chord)


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
