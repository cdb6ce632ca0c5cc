"""Beat, `celery call`, and people who type: a REPL whose app lives in `__main__`, cells run again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pages import block
from stacks import Terminal
from waiting import wait_until


def test_what_beat_publishes_is_queued_by_beat(served: Any) -> None:
    with served.running("celery", "-A", "calling", "beat", "-l", "info") as beat:
        runs = wait_until(lambda: served.runs("calling.add")[1:], 60, what=beat.said)
        family = beat.family()

    assert {run.trigger for run in served.runs("calling.add")} == {"beat"}
    assert {run.state for run in runs} == {"queued"}
    assert family == []
    assert len(served.shippers()) == 1
    assert beat.process.returncode == 0


def test_beat_on_a_host_without_a_worker_writes_nothing(host: Any) -> None:
    with host.running("celery", "-A", "calling", "beat", "-l", "info") as beat:
        wait_until(lambda: host.waiting_messages() >= 2, 60, what=beat.said)

    assert not host.home.exists()
    assert host.shippers() == []


def test_celery_call_is_recorded(served: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "calling", "call", "calling.add", "--args", "[1, 2]"],
        env=served.env,
        cwd=served.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert done.stderr == ""
    (run,) = served.queued(done.stdout.strip())
    # Its command line loads no task: arguments are first written by the worker, which knows their names.
    assert (run.trigger, run.state, run.args) == ("manual", "queued", None)


CELL = block("producers.md", "cell.py")


def test_cells_that_are_run_again_record_each_publish_once(make_host: Callable[..., Any]) -> None:
    host = make_host("user/.plet")
    host.home.parent.mkdir()
    host.serve()
    (host.folder / "cell.py").write_text(f"BROKER = {host.env['CALLING_BROKER']!r}\n{CELL}")
    env = host.env | {"HOME": str(host.home.parent), "PLET_HOME": "", "PYTHON_BASIC_REPL": "1"}
    run_cell = "exec(open('cell.py').read())"

    with Terminal([sys.executable, "-q", "-i"], cwd=host.folder, environ=env) as repl:
        repl.read_until(">>>")
        for number in (1, 2, 3):
            shown = f"print('run', double.delay({number}).id, plet.home, 'e' 'nd{number}')"
            repl.type(f"{run_cell}; {shown}\n".encode())
            repl.read_until(f"end{number}")
        repl.type(b"import threading; print('threads', threading.active_count(), 'e' 'nd')\n")
        repl.read_until("threads 1 end")
        repl.type(b"import importlib, os; os.environ['PLET_HOME'] = os.path.expanduser('~/.plet')\n")
        repl.type(b"import calling; _ = importlib.reload(calling)\n")
        repl.type(b"print('reloaded', calling.add.delay(1, 2).id, 'e' 'nd4')\n")
        repl.read_until("end4")
        repl.type(b"exit()\n")
        assert repl.wait() == 0

    ids = [line.split()[1] for line in repl.seen.splitlines() if line.startswith(("run ", "reloaded "))]
    assert repl.seen.count(str(host.home)) == 3
    assert len(ids) == 4
    assert len(host.queued(*ids)) == 4
    assert host.writers_of(ids).total() == 4
    assert len(host.shippers()) == 1


def test_a_typed_app_leaves_nothing_in_the_working_directory(host: Any) -> None:
    code = f"BROKER = {host.env['CALLING_BROKER']!r}\n{CELL}\nprint(double.delay(1).id, plet.home)\n"
    env = {**host.env, "PLET_HOME": "", "HOME": str(host.folder)}

    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        env=env,
        cwd=host.folder,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout.split()[1] == str(host.folder / ".plet")
    assert list(host.folder.iterdir()) == []
