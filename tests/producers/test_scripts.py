"""Programs that publish and end at once: the message is out, the run is queued, nothing else happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pages import block
from shipping import document
from waiting import wait_until

from plet_celery.election import ShipLock
from plet_celery.supervision import end_shipper

PUBLISH = """\
import os, signal, sys, threading
from calling import add
result = add.delay(2, 3)
print(result.id, flush=True)
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
"""
# Each way to end, with its exit code.
ENDINGS = {
    "return": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(4)", 4),
    "exception": ("raise ValueError('the end')", 1),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
}


def test_however_a_script_ends_its_run_is_queued_and_nobody_notices_us(served: Any) -> None:
    ids = []
    for ending, code in ENDINGS.values():
        done = served.script(PUBLISH + ending)

        assert done.returncode == code
        assert done.stderr == "" or done.stderr.endswith("ValueError: the end\n")
        assert "plet" not in done.stderr
        ids.append(done.stdout.strip())

    runs = served.queued(*ids)

    assert {run.state for run in runs} == {"queued"}
    assert {(run.task, run.trigger, run.queue) for run in runs} == {("calling.add", "manual", "celery")}
    assert served.waiting_messages() == len(ENDINGS)
    # A writer each; none of them is a process any more, and only the host's shipper lives.
    assert len(served.writers_of(ids)) == len(ENDINGS)
    assert len(served.shippers()) == 1


def test_without_a_shipper_a_script_leaves_nothing_behind(host: Any) -> None:
    done = host.script(PUBLISH, "-X", "dev")

    assert (done.returncode, done.stderr) == (0, "")
    assert host.waiting_messages() == 1
    assert not host.home.exists()
    assert host.shippers() == []


def test_with_plet_off_a_script_publishes_as_with_celery_alone(served: Any) -> None:
    on, off = (served.script(PUBLISH, PLET_ENABLED=value) for value in ("1", "0"))

    assert (on.returncode, off.returncode, off.stderr) == (0, 0, "")
    # The newest message comes first.
    without, with_context = (
        json.loads(message)["headers"] for message in served.broker.lrange("celery", 0, 1)
    )
    assert any(name.startswith("plet_") for name in with_context)
    assert not any(name.startswith("plet_") for name in without)
    served.queued(on.stdout.strip())
    assert off.stdout.strip() not in {event.run for event in served.events()}


def test_a_shipper_that_has_gone_is_not_written_for(host: Any) -> None:
    document(host.home)  # the journal of a worker that ran once

    done = host.script(PUBLISH)

    assert done.returncode == 0
    assert host.events() == []


# Everything is loaded before the rights to read it are given up; the broker of both lives in the process.
AS_NOBODY = """\
import os
from celery import Celery
from plet_celery import Plet
first = Celery("first", broker="memory://", set_as_current=False)
Plet(first)
first.send_task("anything", queue="another")
from calling import add, app
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
add.delay(2, 3)
add.delay(2, 3)
with app.connection_for_write() as connection:
    print(connection.default_channel.queue_declare("celery", passive=True).message_count)
"""
NOBODY = 65534 if os.getuid() == 0 else os.getuid()


@pytest.mark.parametrize("way", ["missing", "a file", "below a file", "another user's"])
def test_a_home_that_cannot_be_used_harms_no_publish(host: Any, way: str) -> None:
    home = host.folder / "home"
    if way == "a file":
        home.write_text("")
    elif way == "below a file":
        (host.folder / "file").write_text("")
        home = host.folder / "file" / "home"
    elif way == "another user's":
        home.mkdir(0o700 if os.getuid() == 0 else 0o000)

    done = host.script(AS_NOBODY, PLET_HOME=str(home), CALLING_BROKER="memory://")

    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    assert home.is_file() if way == "a file" else way == "another user's" or not home.exists()


def test_a_served_journal_that_cannot_be_written_harms_no_publish(host: Any) -> None:
    """As in a container that sees the host's home read-only."""
    with tempfile.TemporaryDirectory(prefix="plet-test-") as name:
        folder = Path(name)
        journal = folder / "home" / "journal" / str(NOBODY)
        journal.mkdir(parents=True)
        for path in (folder, folder / "home", journal.parent):
            path.chmod(0o755)
        lock = ShipLock(journal)
        assert lock.acquire()
        for path in (journal, journal / "ship.lock"):
            os.chown(path, NOBODY, -1)
        journal.chmod(0o500)

        done = host.script(AS_NOBODY, PLET_HOME=str(folder / "home"), CALLING_BROKER="memory://")

        lock.close()
        journal.chmod(0o700)
        assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        assert [path.name for path in journal.iterdir()] == ["ship.lock"]


@pytest.mark.parametrize("ships", [False, True])
def test_a_home_that_cannot_be_made_is_told_once_by_whoever_would_make_it(host: Any, ships: bool) -> None:
    (host.folder / "file").write_text("")
    code = PUBLISH.replace("result =", "add.delay(1, 1); result =")

    done = host.script(
        code, PLET_HOME=str(host.folder / "file" / "home"), PLET_PRODUCER_SHIPS=str(int(ships))
    )

    assert done.returncode == 0
    assert host.waiting_messages() == 2
    assert len(done.stderr.splitlines()) == int(ships), done.stderr
    assert not ships or "set plet_home" in done.stderr


def test_a_script_that_may_ship_has_its_run_stored_by_a_shipper_that_ends_by_itself(host: Any) -> None:
    done = host.script(PUBLISH, "-X", "dev", PLET_PRODUCER_SHIPS="1")

    assert (done.returncode, done.stderr) == (0, "")
    (run,) = host.queued(done.stdout.strip())
    assert (run.state, run.trigger) == ("queued", "manual")
    wait_until(lambda: host.shippers() == [], 60, what="the shipper has gone")


@pytest.mark.parametrize("mode", ["external", "off"])
def test_where_workers_spawn_none_a_script_does_not_either(host: Any, mode: str) -> None:
    done = host.script(PUBLISH, PLET_PRODUCER_SHIPS="1", PLET_SHIPPER=mode)

    assert (done.returncode, done.stderr) == (0, "")
    assert not host.home.exists()
    assert host.shippers() == []


def test_eager_runs_of_a_process_that_may_ship_are_stored(host: Any) -> None:
    done = host.script(
        "from calling import add, app\napp.conf.task_always_eager = True\nprint(add.delay(2, 3).id)\n",
        PLET_PRODUCER_SHIPS="1",
    )

    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: getattr(host.run(done.stdout.strip()), "state", "") == "succeeded", 40)
    wait_until(lambda: host.shippers() == [], 60, what="the shipper has gone")


def test_many_scripts_at_once_have_one_shipper(host: Any) -> None:
    code = """\
import subprocess, sys
publish = [sys.executable, "-c", "from calling import add; print(add.delay(1, 2).id)"]
children = [subprocess.Popen(publish, stdout=subprocess.PIPE, text=True) for _ in range(4)]
print(*[child.communicate()[0].strip() for child in children])
"""
    done = host.script(code, PLET_PRODUCER_SHIPS="1", PLET_SHIPPER_LINGER="5")

    ids = done.stdout.split()
    assert len(host.queued(*ids)) == 4
    wait_until(lambda: len(host.shippers()) <= 1, what="all but one have gone")
    assert end_shipper(host.journal, timeout=60)


def test_the_home_of_a_program_run_as_a_module_is_where_its_worker_looks(host: Any) -> None:
    package = host.folder / "store" / "jobs"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "nightly.py").write_text(
        "from celery import Celery\nfrom plet_celery import Plet\n"
        "app = Celery('store', broker='memory://')\nprint(Plet(app).home)\n"
    )
    env = {**host.env, "PLET_HOME": ""}

    homes = {
        subprocess.run(
            [sys.executable, *argv], cwd=host.folder, env=env, capture_output=True, text=True, check=True
        ).stdout.strip()
        for argv in (["-m", "store.jobs.nightly"], ["-c", "import store.jobs.nightly"])
    }

    assert homes == {str(host.folder / "store" / ".plet")}


def test_the_script_of_the_documentation_is_queued(served: Any) -> None:
    done = served.script(block("producers.md", "nightly.py"))

    (run,) = served.queued(done.stdout.strip())
    assert (run.state, run.task) == ("queued", "calling.add")


def test_the_fastapi_of_the_documentation_is_the_one_that_is_tested() -> None:
    shown = block("producers.md", "fastapi_app.py")

    assert shown == (Path(__file__).parent / "apps" / "fastapi_app.py").read_text()
