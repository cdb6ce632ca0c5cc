"""A tracked task that Django's transactions know, also where the app names a task class of its own."""

from __future__ import annotations

from celery.contrib.django.task import DjangoTask

from plet_celery.task import TrackedTask


class TrackedDjangoTask(TrackedTask, DjangoTask):  # type: ignore[type-arg]
    """`TrackedTask` with `delay_on_commit` and `apply_async_on_commit`.

    `base=TrackedTask` has them too as long as Celery's Django support chooses the app's task class. It does
    not once the app names one (`Celery(task_cls=…)`): then name this one, or inherit from it.
    """

    abstract = True
