"""The Celery app: three lines of it are plet's."""

from celery import Celery

from plet_celery import Plet

# No broker here: `celery -A example_project plet up` brings one; elsewhere set CELERY_BROKER_URL.
app = Celery("example_project", include=["example_project.tasks"])
app.conf.update(
    task_default_queue="census",
    worker_prefetch_multiplier=1,  # batches take seconds: a worker should not hoard them
    result_expires=3600,
    beat_schedule={
        "census": {
            "task": "example_project.census",
            "schedule": 600.0,
            # Better none than two at once.
            "options": {"expires": 300},
        },
        "freshness": {"task": "example_project.freshness", "schedule": 15.0, "options": {"expires": 15}},
    },
)
plet = Plet(app)
