"""TrackedResult: Celery's result, with what the store knows of the run."""

from __future__ import annotations

import copy
import io
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeout
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from plet_celery import Plet, TrackedResult, result
from plet_celery.errors import SchemaError
from plet_celery.result import Progress, progress_from_meta
from plet_celery.store.records import LogLine
from plet_celery.terminal import waiting

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
KEYS = (
    "current",
    "total",
    "percent",
    "description",
    "pending",
    "stage",
    "stages",
    "eta",
    "attempt",
    "updated_at",
)
META = {
    "current": 412,
    "total": 668,
    "percent": 62.4,
    "description": "reading ast.py",
    "pending": False,
    "stage": "parse",
    "stages": [
        {"name": "scan", "state": "succeeded", "current": 668, "total": 668, "unit": "files", "elapsed": 1.1},
        {"name": "parse", "state": "running", "current": 412, "total": 668, "unit": "files", "elapsed": 9.8},
    ],
    "eta": None,
    "attempt": 1,
    "updated_at": "2026-11-21T14:02:11.123Z",
}


@pytest.fixture
def app(project: Any) -> Iterator[Celery[Any]]:
    """The project's app, with results in memory."""
    made: Celery[Any] = Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://")
    made.conf.plet_home = str(project.home)
    # The memory is one for all apps of a process.
    made.conf.result_backend_transport_options = {"global_keyprefix": uuid.uuid4().hex}
    Plet(made)
    yield made
    for store in result._stores.values():
        store.close()
    result._stores.clear()


def _store(app: Celery[Any], run_id: str, state: str, value: Any) -> None:
    app.backend.store_result(run_id, value, state)


def _succeeded(project: Any) -> str:
    run = project.story.run("shop.import_catalogue", started=time.time() - 30)
    run.stage("scan", total=668, took=1.1, unit="files")
    run.log("hello")
    run.metadata(supplier="acme")
    run.succeed({"rows": 3})
    project.story.ship()
    return str(run.id)


def test_it_is_an_async_result(app: Celery[Any]) -> None:
    _store(app, "r1", states.SUCCESS, 42)
    one = TrackedResult("r1", app=app)

    assert (one.state, one.get(), one.successful()) == ("SUCCESS", 42, True)
    assert one == app.AsyncResult("r1")
    assert copy.copy(one).get() == 42
    assert one.__reduce__()[0] is TrackedResult


def test_progress_comes_from_the_meta_while_it_runs(app: Celery[Any]) -> None:
    _store(app, "r1", "PROGRESS", META)

    progress = TrackedResult("r1", app=app).progress

    assert (progress.percent, progress.current, progress.total) == (62.4, 412, 668)
    assert (progress.stage, progress.description, progress.attempt) == ("parse", "reading ast.py", 1)
    assert [(stage.name, stage.amount) for stage in progress.stages] == [
        ("scan", "668/668 files"),
        ("parse", "412/668 files"),
    ]


def test_progress_of_a_run_without_meta_comes_from_the_store(app: Celery[Any], project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 5)
    run.stage("load", total=10, done=4, percent=40.0, state="running")
    project.story.ship()

    progress = TrackedResult(run.id, app=app).progress

    assert (progress.state, progress.percent, progress.stage) == (states.PENDING, 40.0, "load")
    assert progress.stages[0].amount == "4/10"


def test_what_the_store_knows(app: Celery[Any], project: Any) -> None:
    run_id = _succeeded(project)
    one = TrackedResult(run_id, app=app)

    assert [(stage.name, stage.state) for stage in one.stages] == [("scan", "succeeded")]
    assert one.metadata == {"supplier": "acme"}
    assert one.error is None
    assert one.eta is None
    lines: list[LogLine] = one.logs(tail=10)
    assert "hello" in [line.text for line in lines]
    assert one.logs(tail=0) == []
    assert one.as_of is not None
    assert one.as_of <= time.time()


def test_an_error_is_read_from_the_store(app: Celery[Any], project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 5)
    run.fail("SyntaxError", "invalid syntax")
    project.story.ship()

    error = TrackedResult(run.id, app=app).error

    assert error is not None
    assert (error["type"], error["message"]) == ("SyntaxError", "invalid syntax")


def test_a_run_the_store_does_not_know_is_empty(app: Celery[Any], project: Any) -> None:
    project.story.ship()
    one = TrackedResult("never-called", app=app)

    assert (one.stages, one.error, one.metadata, one.logs()) == ([], None, {}, [])
    assert one.progress == Progress(states.PENDING)


def test_without_a_store_there_is_still_progress(app: Celery[Any]) -> None:
    _store(app, "r1", states.SUCCESS, 42)

    assert TrackedResult("r1", app=app).progress == Progress(states.SUCCESS, percent=100.0)
    assert TrackedResult("r2", app=app).progress == Progress(states.PENDING)


def test_without_a_result_backend_there_is_still_the_store(project: Any) -> None:
    bare: Celery[Any] = Celery("shop", set_as_current=False, broker="memory://")
    bare.conf.plet_home = str(project.home)
    run_id = _succeeded(project)

    one = TrackedResult(run_id, app=bare)

    assert one.progress.stages[0].name == "scan"
    assert one.metadata == {"supplier": "acme"}
    for store in result._stores.values():
        store.close()
    result._stores.clear()


def test_fresh_waits_until_the_store_has_caught_up(app: Celery[Any], project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 5)
    run.metadata(supplier="early")
    project.story.ship()
    _store(app, run.id, states.SUCCESS, 42)
    assert TrackedResult(run.id, app=app).metadata == {"supplier": "early"}
    assert TrackedResult(run.id, app=app).catch_up(0.0) is False
    asked = threading.Event()
    one = _Asked(run.id, app=app, fresh=30)
    one.asked = asked
    found: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: found.append(one.metadata))

    reader.start()
    assert asked.wait(20)
    run.metadata(supplier="late")
    run.succeed(42)
    project.story.ship()
    reader.join(20)

    assert found == [{"supplier": "late"}]
    assert TrackedResult(run.id, app=app).catch_up(0.0) is True


class _Asked(TrackedResult):
    asked: threading.Event

    def _is_finished(self) -> bool:
        finished = super()._is_finished()
        self.asked.set()
        return finished


def test_fresh_does_not_wait_for_a_run_that_goes_on(app: Celery[Any], project: Any) -> None:
    run = project.story.run("shop.load", started=time.time() - 5)
    project.story.ship()
    _store(app, run.id, "PROGRESS", META)
    started = time.monotonic()

    assert TrackedResult(run.id, app=app, fresh=60).metadata == {}
    assert TrackedResult(run.id, app=app).catch_up(60) is True
    assert time.monotonic() - started < 30


@given(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)))
def test_a_meta_of_any_shape_is_some_progress(meta: Any) -> None:
    progress = progress_from_meta("PROGRESS", meta)

    assert progress.percent is None or 0 <= progress.percent <= 100
    assert isinstance(progress.description, str)


@pytest.mark.parametrize(
    ("meta", "percent", "description"),
    [
        ({"pending": False, "current": 3, "total": 10, "percent": 30.0, "description": "x"}, 30.0, "x"),
        ({"current": 3, "total": 10}, 30.0, ""),
        ({"current": "3", "total": "12"}, 25.0, ""),
        ({"current": 3, "total": 0, "percent": 0}, None, ""),
        ({"percent": 250}, 100.0, ""),
        ({"percent": "NaN"}, None, ""),
        ({"progress": 0.3, "status": "other tool"}, None, ""),
        ("half way", None, "half way"),
        ([1, 2], None, ""),
        (None, None, ""),
        ({"stages": [1, None, {"name": ["x"]}, {"name": "ok"}]}, None, ""),
    ],
)
def test_progress_of_other_tools_is_understood_as_far_as_possible(
    app: Celery[Any], meta: Any, percent: float | None, description: str
) -> None:
    _store(app, "r1", "PROGRESS", meta)

    progress = TrackedResult("r1", app=app).progress

    assert (progress.percent, progress.description) == (percent, description)


def test_a_meta_of_python_objects_does_not_raise() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    meta = {key: Hostile() for key in KEYS} | {"stages": [Hostile(), {"name": Hostile()}]}

    assert progress_from_meta("PROGRESS", meta).percent is None
    assert progress_from_meta("PROGRESS", Hostile()).description == ""


def test_wait_takes_what_get_takes(app: Celery[Any]) -> None:
    _store(app, "r1", states.SUCCESS, 42)
    _store(app, "r2", states.FAILURE, ValueError("no such row"))
    seen: list[Any] = []

    assert TrackedResult("r1", app=app).wait() == 42
    assert (
        TrackedResult("r1", app=app).wait(5, True, 0.1, callback=lambda i, v: seen.append((i, v))) is not None
    )
    assert seen == [("r1", 42)]
    with pytest.raises(ValueError, match="no such row"):
        TrackedResult("r2", app=app).wait(show_progress=True)
    failed = TrackedResult("r2", app=app).wait(propagate=False, show_progress=True)
    assert isinstance(failed, ValueError)
    with pytest.raises(CeleryTimeout):
        TrackedResult("r3", app=app).wait(timeout=0.1, show_progress=True)


def test_wait_tells_stages_where_stderr_is_no_terminal(
    app: Celery[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(waiting, "_END_WAIT", 60.0)
    _store(app, "r1", "PROGRESS", META | {"description": "x\x1b[2J"})
    waiter = threading.Thread(
        target=TrackedResult("r1", app=app).wait, kwargs={"show_progress": True, "interval": 0.05}
    )

    waiter.start()
    wait_until(lambda: "parse" in stream.getvalue())
    _store(app, "r1", states.SUCCESS, 42)
    waiter.join(120)

    lines = stream.getvalue().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "✔ scan  succeeded  668/668 files  1.1 s",
        "◐ parse  running  412/668 files  9.8 s",
    ]


def test_wait_draws_bars_on_a_terminal(app: Celery[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main, other = os.openpty()
    sent: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(main, sent))
    reader.start()
    _store(app, "r1", "PROGRESS", META | {"description": "x\x1b[2J"})
    with open(other, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(waiting, "_END_WAIT", 60.0)
        waiter = threading.Thread(
            target=TrackedResult("r1", app=app).wait, kwargs={"show_progress": True, "interval": 0.05}
        )
        waiter.start()
        try:
            wait_until(lambda: b"412/668 files" in b"".join(sent))
        finally:
            _store(app, "r1", states.SUCCESS, 42)
            waiter.join(120)
            monkeypatch.undo()
    reader.join(20)
    os.close(main)

    seen = b"".join(sent)
    text = seen.decode()
    assert "◐ running" in text
    assert "✔ succeeded" in text
    assert "62 %" in text
    assert "━" in text
    assert "\x1b[2J" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_a_broken_stderr_does_not_disturb_the_wait(app: Celery[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", _Broken())
    _store(app, "r1", states.SUCCESS, 42)

    assert TrackedResult("r1", app=app).wait(show_progress=True) == 42


def _drain(descriptor: int, into: list[bytes]) -> None:
    while True:
        try:
            into.append(os.read(descriptor, 65536))
        except OSError:  # the other side is closed
            return


class _Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_store_of_another_version_says_so_instead_of_looking_empty(app: Celery[Any], project: Any) -> None:
    project.story.close()
    with sqlite3.connect(project.home / "plet.db") as connection:
        connection.execute("UPDATE plet_alembic_version SET version_num = '9999'")
    connection.close()
    found = TrackedResult(str(uuid.uuid4()), app=app)

    for ask in (lambda: found.stages, lambda: found.error, lambda: found.metadata, found.logs):
        with pytest.raises(SchemaError, match="upgrade plet_celery here"):
            ask()
    assert found.progress.stages == ()
