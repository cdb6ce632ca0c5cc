"""Result meta: when it is written, when it must not be, and what others read in it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery_progress.backend import Progress
from listwriter import ListWriter

from plet_celery import progress
from plet_celery.progress import MetaWriter
from plet_celery.run import Run

MakeRun = Callable[..., Run]


def hurry(run: Run) -> None:
    """Let the next meta be due now."""
    meta = run._stages()._meta
    assert meta is not None
    meta._next = 0.0


def meta_writer(hard_limit: float | None = None) -> tuple[MetaWriter, list[dict[str, Any]]]:
    stored: list[dict[str, Any]] = []
    meta = MetaWriter(stored.append, now=100.0, rate=1.0, hard_limit=hard_limit, thread=threading.get_ident())
    return meta, stored


def test_no_meta_in_the_first_second_then_one_a_second() -> None:
    meta, stored = meta_writer()

    for tick in range(400):
        now = 100.0 + tick / 100
        if meta.is_due(now):
            meta.write({"at": now}, now)

    assert [round(one["at"]) for one in stored] == [101, 102, 103]


@pytest.mark.parametrize("fails", [False, True])
def test_a_backend_that_hangs_takes_a_twentieth_of_the_tasks_time(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    clock = [100.0]

    def hang(meta: dict[str, Any]) -> None:
        clock[0] += 2.0
        if fails:
            raise TimeoutError("no answer")

    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    meta = MetaWriter(hang, now=clock[0], rate=1.0, hard_limit=None, thread=threading.get_ident())

    written = 0
    while clock[0] < 500.0:
        clock[0] += 0.25
        if meta.is_due(clock[0]):
            written += 1
            with contextlib.suppress(TimeoutError):
                meta.write({}, clock[0])

    assert written == 10


def test_no_meta_while_an_exception_unwinds() -> None:
    meta, _ = meta_writer()

    try:
        raise SystemExit
    except SystemExit:
        unwinding = meta.is_due(110.0)

    assert not unwinding
    assert meta.is_due(110.0)


def test_no_meta_from_another_thread() -> None:
    meta, _ = meta_writer()
    answers: list[bool] = []

    thread = threading.Thread(target=lambda: answers.append(meta.is_due(110.0)))
    thread.start()
    thread.join()

    assert answers == [False]


def test_no_meta_close_to_the_hard_limit_or_after_the_body() -> None:
    meta, _ = meta_writer(hard_limit=10.0)

    assert meta.is_due(108.9)
    assert not meta.is_due(109.1)
    meta.closed = True
    assert not meta.is_due(105.0)


def test_a_backend_that_fails_does_not_fail_the_task(make_run: MakeRun, writer: ListWriter) -> None:
    def refuse(meta: dict[str, Any]) -> None:
        raise ConnectionError("backend down")

    run = make_run(store_meta=refuse)
    hurry(run)

    with run.stage("load"):
        pass

    assert [kind for kind, _ in writer.events] == ["stage.started", "stage.succeeded"]


def test_celery_progress_reads_the_meta(make_run: MakeRun) -> None:
    stored: list[dict[str, Any]] = []
    run = make_run(store_meta=stored.append, declared=(("scan", 1.0), ("load", 1.0)))
    hurry(run)

    with run.stage("scan"):
        pass
    with run.stage("load", total=10, unit="rows") as stage:
        stage.message = "loading"
        stage.set(5)
        hurry(run)
        stage.flush(time.monotonic() + 2000)

    app = Celery("meta", backend="cache+memory://", set_as_current=False)
    app.backend.store_result("a-run", stored[-1], "PROGRESS")
    read = Progress(app.AsyncResult("a-run")).get_info()

    assert (read["state"], read["complete"]) == ("PROGRESS", False)
    assert read["progress"]["percent"] == 75.0
    assert (read["progress"]["current"], read["progress"]["total"]) == (5, 10)
    assert stored[-1]["current"] == 5 and stored[-1]["total"] == 10
    assert stored[-1]["description"] == "loading"
    assert stored[-1]["pending"] is False
    assert stored[-1]["eta"] is None
    assert [one["state"] for one in stored[-1]["stages"]] == ["succeeded", "running"]


@pytest.mark.parametrize("unknown", ["percent", "total"])
def test_what_is_unknown_is_zero_for_progress_bars(make_run: MakeRun, unknown: str) -> None:
    stored: list[dict[str, Any]] = []
    run = make_run(store_meta=stored.append)
    hurry(run)

    with run.stage("blind"):
        pass

    assert stored[0][unknown] == 0
