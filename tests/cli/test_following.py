"""`watch`, `logs -f`, `runs -w`: what is told while a run goes on, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from recorded_runs import RunStory
from waiting import wait_until

from plet_celery import events


class Followed:
    """A following command, its output in pipes that threads read."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options
        )
        self._told: list[bytes] = []
        self._said: list[bytes] = []
        self._readers = [
            threading.Thread(target=_drain, args=(self.process.stdout, self._told)),
            threading.Thread(target=_drain, args=(self.process.stderr, self._said)),
        ]
        for reader in self._readers:
            reader.start()

    def until(self, words: str) -> str:
        """Wait until `words` have come; return all so far."""
        wait_until(lambda: words in self.told, timeout=40, what=f"{words!r} in the output")
        return self.told

    @property
    def told(self) -> str:
        """What came on stdout so far."""
        return b"".join(self._told).decode()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, stdout, stderr."""
        code = self.process.wait(timeout=120)
        for reader in self._readers:
            reader.join(20)
        return code, self.told, b"".join(self._said).decode()

    def close(self) -> None:
        """End the command, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _drain(stream: IO[bytes], into: list[bytes]) -> None:
    while data := os.read(stream.fileno(), 65536):
        into.append(data)


@pytest.fixture
def follow(project: Any) -> Iterator[Callable[..., Followed]]:
    """Start a following command of the project."""
    opened: list[Followed] = []

    def start(*args: str) -> Followed:
        opened.append(Followed(project.command(*args), cwd=project.folder, env=project.environment({})))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def running(project: Any) -> RunStory:
    """A run in its first stage."""
    run: RunStory = project.story.run("shop.import_catalogue", started=time.time() - 3)
    run.stage("scan", total=668, done=300, unit="files", state="running")
    run.log("hello")
    project.story.ship()
    return run


def _finish_stage(run: RunStory) -> None:
    run.now = time.time()
    run._tell(events.STAGE_SUCCEEDED, stage=1, done=668, total=668, elapsed=1.5)


def test_watch_tells_each_change_and_leaves_with_the_outcome(
    project: Any, follow: Callable[..., Followed], running: RunStory
) -> None:
    watch = follow("watch", running.id)
    watch.until("◐ running    scan  300/668 files")
    _finish_stage(running)
    project.story.ship()
    watch.until("✔ succeeded  scan  668/668 files  1.5 s")
    running.succeed()
    project.story.ship()

    code, told, said = watch.end()

    assert (code, said) == (0, "")
    assert re.search(rf"\nrun {running.id[:8]} succeeded in [\d.]+ s\n$", told)
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "kind", [events.RUN_LOST, events.RUN_TIMED_OUT, events.RUN_CANCELLED, events.RUN_IGNORED]
)
def test_every_end_but_success_is_one(project: Any, running: RunStory, kind: str) -> None:
    running.end(kind, reason="because", limit="hard", terminated=True)
    project.story.ship()

    assert project.invoke("watch", running.id).exit_code == 1


def test_watch_names_the_error(project: Any, running: RunStory) -> None:
    running.fail("SyntaxError", "invalid syntax\nsecond")
    project.story.ship()

    done = project.invoke("watch", running.id)

    assert done.stdout.splitlines()[-1].endswith("s: SyntaxError: invalid syntax")


def test_watch_goes_on_over_a_retry_and_tells_of_children(
    project: Any, follow: Callable[..., Followed], running: RunStory
) -> None:
    watch = follow("watch", "--task", "shop.import_catalogue")
    watch.until("scan")
    child = project.story.run("shop.parse", started=time.time(), canvas=running.id, parent=running.id)
    child.fail()
    running.now = time.time()
    running.retry(after=0.01)
    project.story.ship()
    watch.until("attempt 2")
    running.succeed()
    project.story.ship()

    code, told, _ = watch.end()

    assert code == 0
    assert "✖ failed     child shop.parse" in told
    assert "no such row" in told


def test_watch_as_json_is_a_line_a_change(
    project: Any, follow: Callable[..., Followed], running: RunStory
) -> None:
    watch = follow("watch", running.id, "--fields", "state,stages")
    watch.until("\n")
    running.succeed()
    project.story.ship()

    code, told, _ = watch.end()

    values = [json.loads(line) for line in told.splitlines()]
    assert code == 0
    assert [value["state"] for value in values] == ["running", "succeeded"]
    assert values[0]["stages"][0]["name"] == "scan"


def test_watch_of_a_run_called_this_moment_waits_for_it(
    project: Any, follow: Callable[..., Followed]
) -> None:
    project.story.ship()
    with (project.folder / "shop.py").open("a") as module:
        # For users a wrong id is told soon; here telling the run takes as long as it takes.
        module.write("from plet_celery.cli import observe\nobserve._APPEAR = 120.0\n")
    run_id = "4b4dd2b1-9c7b-4d3f-9ed7-2d1a35aa7d60"
    watch = follow("watch", run_id, "--json")
    # Its modules take their time; what matters is that it comes after the first look.
    project.story.run("shop.load", started=time.time(), id=run_id).succeed()
    wait_until(lambda: _has_opened(watch.process.pid, "plet.db"), what="the watch has opened the store")
    project.story.ship()

    assert watch.end()[0] == 0


def test_ctrl_c_leaves_with_130(follow: Callable[..., Followed], running: RunStory) -> None:
    for args, word in (
        (["watch", running.id], "scan"),
        (["logs", "-f", running.id], "hello"),
        (["watch"], "running"),
    ):
        one = follow(*args)
        one.until(word)
        one.process.send_signal(signal.SIGINT)
        code, told, said = one.end()
        assert (code, said) == (130, ""), args
        assert "Aborted" not in told


def test_a_watch_nobody_reads_leaves(project: Any, running: RunStory) -> None:
    line = " ".join(project.command("watch", running.id)) + " | head -1; echo ${PIPESTATUS[0]}"
    watch = Followed(["bash", "-c", line], cwd=project.folder, env=project.environment({}))
    watch.until("running")
    _finish_stage(running)
    project.story.ship()

    _, told, said = watch.end()
    watch.close()

    assert told.splitlines()[-1] == "130"
    assert said == ""


@pytest.mark.parametrize("local", [True, False])
def test_logs_follow_to_the_end_of_the_run(
    project: Any, follow: Callable[..., Followed], running: RunStory, local: bool
) -> None:
    if not local:
        project.forget_logs()
    logs = follow("logs", "-f", running.id)
    logs.until("hello")
    for number in range(3):
        running.now = time.time()
        running.log(f"line {number}")
        project.story.ship()
        logs.until(f"line {number}")
    running.log("last words")
    running.succeed()
    project.story.ship()

    code, told, said = logs.end()

    assert code == 0
    assert [told.count(word) for word in ("hello", "line 0", "line 1", "line 2", "last words")] == [1] * 5
    assert ("what the store kept" in said) is not local


def test_last_words_are_waited_for_where_the_file_is_behind_the_store(
    project: Any, follow: Callable[..., Followed], running: RunStory
) -> None:
    logs = follow("logs", "-f", running.id)
    logs.until("hello")
    running.log("last words")
    running.succeed()
    project.story.ship(files_later=True)

    # Several looks, which find the end and nothing new.
    with pytest.raises(subprocess.TimeoutExpired):
        logs.process.wait(4)
    project.story.write_files()

    code, told, _ = logs.end()
    assert (code, told.count("last words")) == (0, 1)


def test_followed_logs_are_filtered(project: Any, follow: Callable[..., Followed], running: RunStory) -> None:
    logs = follow("logs", "-f", running.id, "--level", "ERROR", "--stage", "load", "--json")
    number = running.stage("load", state="running")
    running.log("too quiet", stage=number)
    running.log("elsewhere", level=40)
    running.log("this one", level=40, stage=number)
    project.story.ship()
    logs.until("this one")
    running.succeed()
    project.story.ship()

    code, told, _ = logs.end()

    assert code == 0
    assert [json.loads(line)["text"] for line in told.splitlines()] == ["this one"]


@pytest.mark.parametrize("late", [0, 60], ids=["at once", "a minute late"])
def test_watch_alone_tells_of_every_run_that_goes_on(
    project: Any, follow: Callable[..., Followed], running: RunStory, late: int
) -> None:
    """Also of an end that the store hears of late."""
    watch = follow("watch")
    watch.until(running.id)
    other = project.story.run("shop.load", started=time.time())
    project.story.ship()
    watch.until(other.id)
    running.now = time.time() - late
    running.succeed()
    project.story.ship()

    told = watch.until("succeeded")

    assert re.search(rf"{running.id}  shop.import_catalogue  ✔ succeeded", told)


def test_a_watched_list_as_json_is_a_line_a_change(
    project: Any, follow: Callable[..., Followed], running: RunStory
) -> None:
    runs = follow("runs", "-w", "--fields", "id,state")
    runs.until("running")
    running.succeed()
    project.story.ship()

    told = runs.until("succeeded")

    assert [json.loads(line)["state"] for line in told.splitlines()] == ["running", "succeeded"]


def test_live_bars_grow_and_the_cursor_comes_back(
    project: Any, terminal: Callable[..., Any], running: RunStory
) -> None:
    live = terminal("watch", running.id, columns=80, rows=24)
    live.read_until(lambda seen: b"300/668 files" in seen)
    _finish_stage(running)
    project.story.ship()
    live.read_until(lambda seen: b"668/668 files" in seen)
    running.fail("SyntaxError", "invalid syntax")
    project.story.ship()

    assert live.wait() == 1
    assert live.output.count(b"\x1b[?25l") == live.output.count(b"\x1b[?25h") == 1
    assert live.output.rstrip().endswith(b"s: SyntaxError: invalid syntax")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_live_picture_is_left_tidily(
    terminal: Callable[..., Any], running: RunStory, number: signal.Signals, code: int
) -> None:
    live = terminal("watch", running.id)
    live.read_until(lambda seen: b"300/668 files" in seen)
    live.process.send_signal(number)

    assert live.wait() == code
    assert live.output.count(b"\x1b[?25h") == 1
    assert b"Traceback" not in live.output


def _has_opened(pid: int, name: str) -> bool:
    try:
        return any(one.readlink().name == name for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
