"""A real Django project: `runserver` with its reloader, a worker, requests that publish in transactions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pages import blocks, lines
from services import new_database
from stacks import environment, processes_of
from waiting import wait_until

from plet_celery import paths
from plet_celery.errors import PletError
from plet_celery.journal_reader import Reader
from plet_celery.store import open_store, queries
from plet_celery.supervision import end_shipper

PROJECT = Path(__file__).parent / "project"


OPEN = ("queued", "running", "retrying")


class Site:
    """A copy of the project with a database of its own."""

    def __init__(self, folder: Path, database: str, valkey: Any) -> None:
        self.folder = folder
        self.home = folder / "shop" / ".plet"
        self.journal = paths.journal_directory(self.home)
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        url = sa.make_url(database)
        self.env = environment(
            SHOP_BROKER=valkey.broker_url,
            SHOP_BACKEND=valkey.result_url,
            SHOP_DATABASE=str(url.database),
            SHOP_DATABASE_HOST=str(url.host or url.query["host"]),
            SHOP_DATABASE_PORT=str(url.port or ""),
            SHOP_DATABASE_USER=str(url.username),
            SHOP_DATABASE_PASSWORD=url.password or "",
            DJANGO_SETTINGS_MODULE="shop.settings",
            PYTHONUNBUFFERED="1",
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def python(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments to its end."""
        return subprocess.run(
            [sys.executable, *argv],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, name: str, *argv: str, ready: str) -> subprocess.Popen[bytes]:
        """Start Python with these arguments and wait until it has printed `ready`."""
        with (self.folder / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        wait_until(lambda: ready in self.said(name), 90, what=lambda: self.said(name))
        return process

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def get(self, path: str) -> Any:
        """Ask `runserver`, wherever its newest process listens."""
        port = re.findall(r"http://127\.0\.0\.1:(\d+)/", self.said("runserver"))[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return json.load(answer)

    def runs(self, task: str) -> list[Any]:
        """The runs of a task, newest first."""
        if not (self.home / "plet.db").exists():
            return []
        store = open_store(f"sqlite:///{self.home / 'plet.db'}", read_only=True)
        try:
            found = queries.list_runs(store, task=task, limit=100).items
            return [queries.get_run(store, one.id) for one in found]
        except PletError:
            return []
        finally:
            store.close()

    def log(self, run_id: str) -> list[str]:
        store = open_store(f"sqlite:///{self.home / 'plet.db'}", read_only=True)
        try:
            return [line.text for line in queries.stored_log(store, run_id)]
        finally:
            store.close()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        if self.journal.is_dir():
            assert end_shipper(self.journal, timeout=60)
        wait_until(lambda: processes_of(self.folder) == [], 30, what=lambda: str(processes_of(self.folder)))


@pytest.fixture(scope="module")
def idle(valkey: Any) -> Iterator[Site]:
    """The project on its database; nothing runs."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="plet-test-")))
        site = Site(folder / "site", ends.enter_context(new_database("postgresql")), valkey)
        ends.callback(site.close)
        done = site.python("manage.py", "migrate", "-v", "0")
        assert (done.returncode, done.stderr) == (0, "")
        yield site


@pytest.fixture(scope="module")
def site(valkey: Any) -> Iterator[Site]:
    """The project with a worker and `runserver`."""
    valkey.flush()
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="plet-test-")))
        site = Site(folder / "site", ends.enter_context(new_database("postgresql")), valkey)
        ends.callback(site.close)
        assert site.python("manage.py", "migrate", "-v", "0").returncode == 0
        site.start("worker", "-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "info", ready=" ready.")
        site.start(
            "runserver", "manage.py", "runserver", "127.0.0.1:0", ready="Starting development server at http"
        )
        yield site


def ended(site: Site, task: str, *orders: int) -> list[Any]:
    """Wait until the run of a task for each of these orders has ended."""

    def runs() -> dict[int, Any]:
        found = {run.args[0]: run for run in site.runs(task) if run.args}
        return {one: found[one] for one in orders if one in found and found[one].state not in OPEN}

    wait_until(lambda: len(runs()) == len(orders), 90, what=lambda: f"{runs()}\n{site.said('worker')}")
    return list(runs().values())


def queued_by(site: Site) -> dict[str | None, str]:
    """The writer of each `run.queued` in the journal, by run."""
    events = Reader(site.journal).read(max_records=10_000).events
    return {event.run: event.writer for event in events if event.kind == "run.queued"}


def test_an_order_is_recorded_from_its_commit_to_its_log(site: Site) -> None:
    wait_until(site.journal.joinpath("ship.beat").exists, 60)

    answers = [site.get("/orders/boots/"), site.get("/refused/hats/")]
    order = answers[0]["order"]
    (run,) = ended(site, "orders.tasks.pack", order)
    (billed,) = ended(site, "orders.tasks.bill", order)

    assert answers[1]["order"] is None
    assert (run.state, run.trigger) == ("succeeded", "manual")
    assert (billed.state, billed.trigger, billed.user) == ("succeeded", "api", "bob")
    assert len(site.runs("orders.tasks.pack")) == 1
    # Recorded by the web process, at the commit; the name of the argument is one of ours to hide.
    assert queued_by(site).keys() >= {run.id, billed.id}
    assert run.args == [order] and "canary" not in str(run.kwargs)
    # `orders` does not propagate, and its handlers came after ours: everything is there, once.
    assert sorted(site.log(run.id)) == sorted(
        [
            *(f"packed part {part}" for part in range(3)),
            "told by the task logger",
            "told by another logger",
            "packed for boots",
        ]
    )
    assert site.get(f"/progress/{run.id}/") == {"state": "SUCCESS", "percent": 100.0}
    assert (site.home / ".gitignore").read_text() == "*\n"


def test_connections_of_the_tasks_persist_and_are_not_shared(site: Site) -> None:
    orders = [site.get(f"/orders/shoes{number}/")["order"] for number in range(6)]

    runs = ended(site, "orders.tasks.pack", *orders)

    assert {run.state for run in runs} == {"succeeded"}
    # Two children, a connection each, kept over all their tasks as CELERY_DB_REUSE_MAX allows.
    backends = {run.result for run in runs}
    assert 1 <= len(backends) <= 2


def test_a_reloaded_server_goes_on_and_no_server_starts_a_process(site: Site) -> None:
    ended(site, "orders.tasks.bill", site.get("/orders/mittens/")["order"])
    old = queued_by(site)
    assert old
    views = site.folder / "orders" / "views.py"
    views.write_text(views.read_text().replace('"one"', '"two"'))

    def is_reloaded() -> bool:
        try:
            return bool(site.get("/version/")["version"] == "two")
        except OSError:
            return False

    wait_until(is_reloaded, 60, what=lambda: site.said("runserver"))
    (published,) = ended(site, "orders.tasks.bill", site.get("/orders/gloves/")["order"])

    assert queued_by(site)[published.id] not in old.values()
    family = [line for line in processes_of(site.folder) if "runserver" in line]
    assert len(family) == 2, family
    shippers = [line for line in processes_of(site.folder) if "plet_celery.shipper" in line]
    assert len(shippers) == 1, shippers


def test_what_the_shell_publishes_is_recorded(site: Site) -> None:
    done = site.python("manage.py", "shell", "-c", "from orders.tasks import bill; bill.delay(4711)")

    assert (done.returncode, done.stderr) == (0, "")
    (run,) = ended(site, "orders.tasks.bill", 4711)
    assert run.id in queued_by(site)


def test_the_documentation_shows_this_project() -> None:
    shown = blocks("django.md", "python")
    assert len(shown) >= 8

    for name, text in shown:
        assert text in (PROJECT / name).read_text(), name


@pytest.mark.parametrize("line", lines("django.md"))
def test_the_commands_of_the_documentation_work_and_leave_nothing_behind(idle: Site, line: str) -> None:
    program, *options = line.split()
    module = ["-m", "celery"] if program == "celery" else []

    done = idle.python(*module, *options)

    assert done.returncode == 0, done.stderr
    assert not idle.home.exists()


def test_eager_runs_of_a_test_can_be_looked_at(idle: Site) -> None:
    home = idle.folder / "looked"
    code = (
        "from orders.models import Order; from orders.tasks import pack; from shop.celery import app, plet\n"
        "from plet_celery import TrackedResult\n"
        "order = Order.objects.create(name='scarf')\n"
        "run = pack.delay(order.pk, customer='x').id\n"
        "assert plet.flush(60)\n"
        "result = TrackedResult(run, app=app)\n"
        "texts = [line.text for line in result.logs()]\n"
        "print([stage.name for stage in result.stages], 'packed for scarf' in texts)\n"
    )

    done = idle.python(
        "manage.py", "shell", "-c", code, CELERY_TASK_ALWAYS_EAGER="1", CELERY_PLET_HOME=str(home)
    )

    assert done.returncode == 0, done.stderr
    assert "['find', 'pack'] True" in done.stdout
    assert not idle.home.exists()


BAD = {"CELERY_PLET_GATHER": "much"}
PUBLISH_TWICE = (
    "import django; django.setup()\nfrom orders.tasks import bill\nbill.delay(1); bill.delay(1); print('out')"
)


def test_a_wrong_setting_keeps_runserver_from_starting(idle: Site) -> None:
    done = idle.python("manage.py", "runserver", "--noreload", "127.0.0.1:0", **BAD)

    assert done.returncode == 1
    assert "plet_celery.E001" in done.stderr
    assert "plet_gather = 'much' (from conf)" in done.stderr
    assert "CELERY_PLET_" in done.stderr


def test_a_wrong_setting_never_fails_a_server_and_is_told_once(idle: Site) -> None:
    # SHOP_DISABLES_LOGGERS: Django would have silenced the logger that tells it.
    done = idle.python("-c", PUBLISH_TWICE, SHOP_DISABLES_LOGGERS="1", **BAD)

    assert (done.returncode, done.stdout) == (0, "out\n")
    assert done.stderr.count("plet records nothing in this process") == 1
    assert not idle.home.exists()


def test_a_worker_refuses_a_wrong_setting(idle: Site) -> None:
    done = idle.python("-m", "celery", "-A", "shop", "worker", "-P", "solo", **BAD)

    assert done.returncode != 0
    assert "plet_gather = 'much' (from conf)" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({}, "print('fine')"),
        ({"CELERY_PLET_HOMES": "x"}, "E001"),
        ({"CELERY_PLET_HOME": "{folder}/media/plet"}, "E002"),
    ],
)
def test_the_checks_of_the_project(idle: Site, env: dict[str, str], code: str) -> None:
    given = {name: value.format(folder=idle.folder) for name, value in env.items()}
    settings = idle.folder / "shop" / "served_settings.py"
    settings.write_text("from shop.settings import *\nMEDIA_ROOT = BASE_DIR / 'media'\n")

    done = idle.python("manage.py", "check", DJANGO_SETTINGS_MODULE="shop.served_settings", **given)

    assert done.returncode == (0 if not env else 1), done.stderr
    assert not env or f"plet_celery.{code}" in done.stderr


def test_a_project_without_plet_is_warned(idle: Site) -> None:
    code = (
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['plet_celery.django'])\n"
        "import django; django.setup()\n"
        "from django.core.checks import run_checks\n"
        "print([message.id for message in run_checks()])\n"
    )

    done = idle.python("-c", code, DJANGO_SETTINGS_MODULE="")

    assert done.stdout == "['plet_celery.W001']\n", done.stderr


@pytest.mark.parametrize(
    ("app", "base"),
    [
        ("Celery('x')", "TrackedTask"),
        ("Celery('x', task_cls='plet_celery.django:TrackedDjangoTask')", "None"),
        ("Celery('x', task_cls=Own)", "None"),
    ],
)
def test_tracked_tasks_keep_delay_on_commit(idle: Site, app: str, base: str) -> None:
    code = f"""\
import sys
import plet_celery.django
assert "django" not in sys.modules
from celery import Celery
import django; django.setup()
from django.db import transaction
from plet_celery import Plet, TrackedTask
from plet_celery.django import TrackedDjangoTask
class Own(TrackedDjangoTask):
    abstract = True
app = {app}
app.conf.update(broker_url="memory://", plet_home={str(idle.folder / "never")!r})
Plet(app)
base = {{"base": {base}}} if {base} else {{}}
@app.task(name="x.y", bind=True, stages=("one",), **base)
def y(self):
    return self.stage
def waiting():
    with app.connection_for_write() as connection:
        return connection.default_channel.queue_declare("celery", passive=False).message_count
with transaction.atomic():
    y.delay_on_commit()
    y.apply_async_on_commit(())
    before = waiting()
print(before, waiting())
"""
    done = idle.python("-c", code)

    assert (done.returncode, done.stdout) == (0, "0 2\n"), done.stderr
