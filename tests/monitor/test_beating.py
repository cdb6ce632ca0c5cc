"""Beat calls for passes: with its own scheduler, django-celery-beat and redbeat; what is installed when."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, Service
from services import RedisPlace

from plet_celery import Plet
from plet_celery.celeryfacts import MONITOR_TASK

MakeApp = Callable[..., Any]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Make an app with a Plet in a process without a broker."""
    made: list[Celery] = []

    def make(**conf: Any) -> Any:
        app = Celery("shop", broker="memory://", set_as_current=False)
        made.append(app)
        app.conf.update(plet_home=str(tmp_path / "home"), **conf)
        Plet(app)
        return app

    yield make
    for app in made:
        app.close()


def _scheduled(app: Any, scheduler: Any, tmp_path: Path) -> dict[str, Any]:
    """What a beat has to do that is started, and ends before its first tick."""
    service: Any = Service(app, scheduler_cls=scheduler, schedule_filename=str(tmp_path / "schedule"))
    seen: dict[str, Any] = {}

    def look() -> float:
        seen.update(service.scheduler.schedule)
        service._is_shutdown.set()
        return 0.0

    service.scheduler.tick = look
    service.start()
    return seen


def test_an_app_schedules_passes(make_app: MakeApp) -> None:
    app = make_app(plet_monitor_interval=20.0)

    app.finalize()

    entry = app.conf.beat_schedule[MONITOR_TASK]
    assert entry["task"] == MONITOR_TASK
    assert entry["schedule"] == 20.0
    assert entry["options"]["expires"] < 20.0
    assert "queue" not in entry["options"]


def test_passes_may_have_a_queue_of_their_own(make_app: MakeApp) -> None:
    app = make_app(plet_monitor_queue="watch")

    app.finalize()

    assert app.conf.beat_schedule[MONITOR_TASK]["options"]["queue"] == "watch"


def test_nothing_is_read_before_the_app_is_used(make_app: MakeApp) -> None:
    app = make_app()
    app.conf.plet_monitor_interval = 7.0  # as a project's settings module does, behind Plet(app)

    app.finalize()

    assert app.conf.beat_schedule[MONITOR_TASK]["schedule"] == 7.0


def test_a_schedule_of_the_projects_own_keeps_it(make_app: MakeApp) -> None:
    app = make_app()
    app.conf.beat_schedule = {"mine": {"task": "shop.mine", "schedule": 60.0}}

    app.finalize()

    assert set(app.conf.beat_schedule) == {"mine", MONITOR_TASK}


def test_an_entry_that_the_project_wrote_itself_is_the_only_one(make_app: MakeApp) -> None:
    app = make_app()
    app.conf.beat_schedule = {"watch": {"task": MONITOR_TASK, "schedule": 60.0}}

    app.finalize()

    assert set(app.conf.beat_schedule) == {"watch"}
    assert MONITOR_TASK in app.tasks


def test_an_app_that_is_ready_before_its_plet_is_watched_too(tmp_path: Path) -> None:
    app: Any = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.plet_home = str(tmp_path / "home")
    app.finalize()

    Plet(app)

    assert MONITOR_TASK in app.conf.beat_schedule


@pytest.mark.parametrize("off", [{"plet_monitor": False}, {"plet_enabled": False}])
def test_with_plet_or_the_monitor_off_nothing_is_installed(make_app: MakeApp, off: dict[str, Any]) -> None:
    app = make_app(**off)

    app.finalize()

    assert MONITOR_TASK not in app.tasks
    assert app.conf.beat_schedule == {}


def test_settings_that_cannot_be_used_do_not_keep_an_app_from_its_tasks(make_app: MakeApp) -> None:
    app = make_app(plet_monitor_interval=-1)

    app.finalize()

    assert MONITOR_TASK not in app.tasks


def test_the_task_is_no_other_apps(make_app: MakeApp) -> None:
    app = make_app()
    app.finalize()
    other = Celery("other", broker="memory://", set_as_current=False)

    other.finalize()

    assert MONITOR_TASK not in other.tasks


def test_the_apps_defaults_do_not_hold_for_it(make_app: MakeApp) -> None:
    """What is acknowledged late comes back after a crash, and what has a result fills the backend."""
    app = make_app(task_acks_late=True, task_reject_on_worker_lost=True, task_track_started=True)

    app.finalize()

    task = app.tasks[MONITOR_TASK]
    assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result, task.track_started) == (
        False,
        False,
        True,
        False,
    )


def test_beat_has_it_where_a_later_schedule_has_dropped_it(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    app.finalize()
    app.conf.beat_schedule = {"mine": {"task": "shop.mine", "schedule": 60.0}}

    found = _scheduled(app, PersistentScheduler, tmp_path)

    assert {"mine", MONITOR_TASK} <= set(found)


def test_another_apps_beat_is_left_alone(make_app: MakeApp, tmp_path: Path) -> None:
    make_app().finalize()
    other = Celery("other", broker="memory://", set_as_current=False)

    found = _scheduled(other, PersistentScheduler, tmp_path)

    assert MONITOR_TASK not in found


def test_a_beat_that_was_down_for_a_day_calls_once(make_app: MakeApp, tmp_path: Path) -> None:
    """The schedule file says that the last call was a day ago."""
    app = make_app()
    app.finalize()
    before: Any = PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))
    before.schedule[MONITOR_TASK].last_run_at = app.now() - timedelta(days=1)
    before.close()
    sent: list[str] = []
    scheduler: Any = PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))

    def apply_async(entry: Any, **_: Any) -> None:
        sent.append(entry.name)
        scheduler.reserve(entry)

    scheduler.apply_async = apply_async

    for _ in range(20):
        scheduler.tick()

    assert sent.count(MONITOR_TASK) == 1
    scheduler.close()


def test_redbeat_has_it(make_app: MakeApp, redis_place: RedisPlace, tmp_path: Path) -> None:
    redbeat = pytest.importorskip("redbeat.schedulers")
    app = make_app(
        redbeat_redis_url=redis_place.url, redbeat_key_prefix=redis_place.prefix, redbeat_lock_key=None
    )
    app.finalize()

    _scheduled(app, redbeat.RedBeatScheduler, tmp_path)

    entry = redbeat.RedBeatSchedulerEntry.from_key(f"{redis_place.prefix}{MONITOR_TASK}", app=app)
    assert entry.task == MONITOR_TASK
    assert entry.options["expires"] < 30


def test_redbeat_has_it_where_a_later_schedule_has_dropped_it(
    make_app: MakeApp, redis_place: RedisPlace, tmp_path: Path
) -> None:
    redbeat = pytest.importorskip("redbeat.schedulers")
    app = make_app(
        redbeat_redis_url=redis_place.url, redbeat_key_prefix=redis_place.prefix, redbeat_lock_key=None
    )
    app.finalize()
    app.conf.beat_schedule = {"mine": {"task": "shop.mine", "schedule": 60.0}}

    _scheduled(app, redbeat.RedBeatScheduler, tmp_path)

    entry = redbeat.RedBeatSchedulerEntry.from_key(f"{redis_place.prefix}{MONITOR_TASK}", app=app)
    assert entry.task == MONITOR_TASK


_DJANGO = """
    import sys
    import django
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["django_celery_beat"], USE_TZ=True, SECRET_KEY="x",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/django.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    from celery import Celery
    from celery.beat import Service
    from django_celery_beat.models import PeriodicTask
    from django_celery_beat.schedulers import DatabaseScheduler
    from plet_celery import Plet

    def started(**conf):
        app = Celery("shop", broker="memory://")
        app.conf.update(plet_home=sys.argv[1] + "/home", plet_monitor_queue="watch", **conf)
        Plet(app)
        app.finalize()
        if drop:
            app.conf.beat_schedule = {"mine": {"task": "shop.mine", "schedule": 60.0}}
        service = Service(app, scheduler_cls=DatabaseScheduler)
        service._is_shutdown.set()
        service.start()
        return app, service.scheduler

    for drop in (False, True):
        PeriodicTask.objects.all().delete()
        app, scheduler = started()
        row = PeriodicTask.objects.get(name="plet.monitor")
        assert (row.task, row.queue, row.interval.every, row.interval.period) == (
            "plet.monitor", "watch", 30, "seconds"), row
        assert "plet.monitor" in scheduler.schedule
        assert app.tasks["plet.monitor"].expires < 30
        row.enabled = False  # in the admin
        row.save()
        app, scheduler = started()
        assert not PeriodicTask.objects.get(name="plet.monitor").enabled
        assert "plet.monitor" not in scheduler.schedule, scheduler.schedule
    print("both")
"""


def test_django_celery_beat_has_it_and_a_person_may_disable_it(tmp_path: Path) -> None:
    """Also where a later schedule has dropped it; what the row has no column for, the task itself brings."""
    pytest.importorskip("django_celery_beat")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(_DJANGO), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "both"
