"""Messages that leave an app: context goes into their headers, and `run.queued` into the journal.

Producers and tasks publish alike; what a task publishes inherits its run's tenant, user and canvas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from celery import Celery, signals
from celery._state import get_current_worker_task

from plet_celery import events, headers, sampling
from plet_celery.current import active_run
from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.previews import preview_arguments
from plet_celery.profiles import TaskProfile
from plet_celery.recording import KnownTasks, Recording


@dataclass(slots=True)
class Publishing:
    """Connects the signals of what one app publishes."""

    app: Celery
    load: Callable[[], Recording | None]
    known: KnownTasks
    _publishing: ContextVar[list[BaseException] | None] = field(
        default_factory=lambda: ContextVar("plet_publishing", default=None)
    )

    def connect(self) -> None:
        """Connect the receivers, strongly, and mark this app's publishes as ours."""
        signals.before_task_publish.connect(self.on_before_publish, weak=False)
        signals.after_task_publish.connect(self.on_after_publish, weak=False)
        self._mark_publishes()

    def on_before_publish(
        self, sender: Any = None, headers: Any = None, body: Any = None, **kwargs: Any
    ) -> None:
        """A message leaves: stamp the context into its headers."""
        struck = self._publishing.get()
        if struck is None or not isinstance(headers, dict):
            return
        try:
            self._stamp(headers, body)
        except PASS_THROUGH as error:
            struck.append(error)
        except Exception as error:
            _contain(error, "before_task_publish", struck)

    def on_after_publish(
        self, sender: Any = None, headers: Any = None, body: Any = None, **kwargs: Any
    ) -> None:
        """A message has left: write `run.queued` where a shipper serves this host."""
        struck = self._publishing.get()
        if struck is None or not isinstance(headers, dict):
            return
        try:
            recording = self.load()
            if (
                recording is not None
                and recording.is_served()
                and recording.names(str(sender))
                and self._is_kept(str(sender), headers, recording)
            ):
                data = self._queued(str(sender), headers, body, kwargs.get("routing_key"), recording)
                recording.writer.append(events.RUN_QUEUED, headers.get("id"), None, data)
        except PASS_THROUGH as error:
            struck.append(error)
        except Exception as error:
            _contain(error, "after_task_publish", struck)

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
                # A soft limit or an alarm struck inside our receiver, where Celery would have swallowed it.
                raise struck[0]
            return result

        self.app.send_task = marked  # type: ignore[method-assign]

    def _stamp(self, message: dict[str, Any], body: Any) -> None:
        recording = self.load()
        if recording is None:
            return
        task = get_current_worker_task()
        if task is None or task.request is None:
            behind = headers.group_behind(body)
            headers.stamp(message, None, None, time.time(), group_behind=behind)
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
        return self.known.profile(task, recording) if task is not None else None

    def _is_kept(self, task: str, message: Mapping[str, Any], recording: Recording) -> bool:
        """Whether the worker will write of this run for sure, decided by the same facts."""
        if not recording.sample:
            return True
        key = headers.read(message, canvas=None).canvas or str(message.get("id"))
        return sampling.must_keep(message) or sampling.is_picked(key, self.known.share(task, recording))


def _contain(error: Exception, where: str, struck: list[BaseException]) -> None:
    """Contain an error of ours; keep a user's alarm, which Celery would swallow if it were raised here."""
    try:
        contain(error, where)
    except Exception as passed:
        struck.append(passed)
