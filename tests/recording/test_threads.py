"""Threads and executor jobs that a task starts: whose they are, and that nothing outlives its run."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from listwriter import ListWriter

from plet_celery import current_run, stage
from plet_celery.capture import Capture, CaptureOptions
from plet_celery.current import Binding, active_run
from plet_celery.run import Run
from plet_celery.threads import follow_threads

MakeRun = Callable[..., Run]
say = logging.getLogger("shop").warning


class Process:
    """Executes runs as a prefork child does (one at a time), or as a pool of threads."""

    def __init__(self, make_run: MakeRun) -> None:
        self._make_run = make_run
        self.capture = Capture(CaptureOptions(print=False, warnings=False))

    def begin(self, *, owns_process: bool) -> Callable[[], None]:
        follow_threads()
        run = self._make_run()
        self.capture.enter(run)
        binding = Binding(run, owns_process=owns_process)
        run.emit("run.started", {})

        def end() -> None:
            self.capture.leave(run)
            run.finish("run.succeeded", {})
            binding.release()

        return end


@pytest.fixture
def process(make_run: MakeRun) -> Iterator[Process]:
    yield Process(make_run)
    assert active_run() is None


def join(target: Callable[[], Any]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("owns_process", [True, False])
def test_threads_and_what_they_start_belong_to_the_run(
    process: Process, writer: ListWriter, owns_process: bool
) -> None:
    end = process.begin(owns_process=owns_process)
    with ThreadPoolExecutor(1) as pool:
        join(lambda: say("thread"))
        join(lambda: join(lambda: say("thread of a thread")))
        pool.submit(say, "job").result()
        join(lambda: pool.submit(say, "job of a thread").result())
        assert list(pool.map(lambda number: say("mapped %d", number), [1])) == [None]
        timer = threading.Timer(0, say, ["timer"])
        timer.start()
        timer.join()

        async def from_loop() -> None:
            await asyncio.to_thread(say, "to_thread")
            await asyncio.get_running_loop().run_in_executor(None, say, "run_in_executor")

        asyncio.run(from_loop())
        join(lambda: asyncio.run(from_loop()))
    end()

    assert writer.texts() == [
        "thread",
        "thread of a thread",
        "job",
        "job of a thread",
        "mapped 1",
        "timer",
        *("to_thread", "run_in_executor") * 2,
    ]


@pytest.mark.parametrize("owns_process", [True, False])
def test_a_thread_that_outlives_its_run_never_writes_into_the_next(
    process: Process, writer: ListWriter, owns_process: bool
) -> None:
    go, said = threading.Event(), threading.Event()

    def linger() -> None:
        go.wait(30)
        say("late")
        current_run().metadata["late"] = 1
        join(lambda: say("late, by another thread"))
        said.set()

    end = process.begin(owns_process=owns_process)
    thread = threading.Thread(target=linger)
    thread.start()
    end()
    count = len(writer.events)
    end = process.begin(owns_process=owns_process)
    say("mine")
    go.set()
    thread.join(30)
    end()

    assert said.is_set()
    assert [kind for kind, _ in writer.events[count:]] == ["run.started", "log.written", "run.succeeded"]
    assert writer.texts() == ["mine"]


def test_a_thread_from_before_the_run_belongs_to_nobody(process: Process, writer: ListWriter) -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(30)
        say("a background thread of the worker")

    thread = threading.Thread(target=work)
    thread.start()
    end = process.begin(owns_process=True)
    go.set()
    thread.join(30)
    end()

    assert writer.texts() == []


def test_a_thread_that_is_not_pythons_own_belongs_to_the_only_run(
    process: Process, writer: ListWriter
) -> None:
    import _thread

    done = threading.Event()

    def work() -> None:
        say("from C, say")
        done.set()

    end = process.begin(owns_process=True)
    _thread.start_new_thread(work, ())
    assert done.wait(30)
    end()

    assert writer.texts() == ["from C, say"]


def test_a_shared_executor_serves_each_run_that_submits(process: Process, writer: ListWriter) -> None:
    with ThreadPoolExecutor(1) as pool:
        end = process.begin(owns_process=False)
        pool.submit(say, "first").result()
        end()
        end = process.begin(owns_process=False)
        before = len(writer.events)
        pool.submit(say, "second").result()
        # From outside any run, while one is active: the thread was started by the first.
        outside = contextvars.Context().run(
            threading.Thread, target=lambda: pool.submit(say, "nobody's").result()
        )
        contextvars.Context().run(outside.start)
        outside.join(30)
        end()
        pool.submit(say, "after").result()

    assert writer.texts() == ["first", "second"]
    assert [kind for kind, _ in writer.events[before:]] == ["log.written", "run.succeeded"]


def test_runs_side_by_side_keep_their_threads_apart(make_run: MakeRun) -> None:
    follow_threads()
    barrier = threading.Barrier(2, timeout=30)
    found: dict[str, list[str]] = {}

    def execute(name: str) -> None:
        run = make_run()
        binding = Binding(run, owns_process=False)
        with ThreadPoolExecutor(1) as pool, stage(name):
            barrier.wait()
            inner: list[Any] = []
            join(lambda: inner.append(current_run()))
            inner.append(pool.submit(current_run).result())
            barrier.wait()
        found[name] = ["own" if one is run else "other" for one in inner]
        binding.release()

    threads = [
        contextvars.Context().run(threading.Thread, target=execute, args=(name,)) for name in ("a", "b")
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)

    assert found == {"a": ["own", "own"], "b": ["own", "own"]}


def test_stages_of_threads_nest_below_the_one_they_were_started_in(
    process: Process, writer: ListWriter
) -> None:
    barrier = threading.Barrier(2, timeout=30)

    def work(name: str) -> None:
        with stage(name):
            barrier.wait()
            say("in %s", name)
            with stage(f"{name}.inner"):
                barrier.wait()

    end = process.begin(owns_process=True)
    with stage("outer"), ThreadPoolExecutor(1) as pool:
        job = pool.submit(work, "job")
        join(lambda: work("thread"))
        job.result()
        with stage("own"):
            pass
    with stage("next"):
        pass
    end()

    started = writer.of("stage.started")
    name = {one["stage"]: one["name"] for one in started}
    above = {one["name"]: name.get(one.get("parent")) for one in started}
    assert above == {
        "outer": None,
        "job": "outer",
        "job.inner": "job",
        "thread": "outer",
        "thread.inner": "thread",
        "own": "outer",
        "next": None,
    }
    assert {one["text"]: name[one["stage"]] for one in writer.of("log.written")} == {
        "in job": "job",
        "in thread": "thread",
    }


def test_a_thread_gets_nothing_else_of_the_context(process: Process) -> None:
    """With all of the context a thread would round as its starter does: it would compute otherwise."""
    found: list[int] = []
    end = process.begin(owns_process=True)
    with decimal.localcontext(prec=3), ThreadPoolExecutor(1) as pool:
        join(lambda: found.append(decimal.getcontext().prec))
        found.append(pool.submit(lambda: decimal.getcontext().prec).result())
    end()

    assert found == [decimal.DefaultContext.prec] * 2


def test_a_job_keeps_its_arguments_result_and_error(process: Process) -> None:
    def work(fn: int, *, self: int) -> int:
        if fn < 0:
            raise ValueError(fn)
        return fn + self

    end = process.begin(owns_process=True)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(work, 1, self=2).result()
        with pytest.raises(ValueError, match="-1"):
            pool.submit(work, -1, self=2).result()
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]
    end()

    assert answer == 3


def test_without_the_mark_nobody_knows_whose_a_thread_is(process: Process, writer: ListWriter) -> None:
    """The negative control: the same thread and job, started by the functions that we wrap."""
    start: Any = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit
    end = process.begin(owns_process=True)
    with ThreadPoolExecutor(1) as pool:
        thread = threading.Thread(target=lambda: submit.__wrapped__(pool, say, "job").result())
        start.__wrapped__(thread)
        thread.join(30)
    end()

    assert writer.texts() == []
