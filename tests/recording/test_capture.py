"""Capture: logging, print and warnings reach the current run, and nobody else notices."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from listwriter import ListWriter

from plet_celery.capture import Capture, CaptureOptions, Tee
from plet_celery.current import Binding
from plet_celery.run import Run


@contextmanager
def capturing(run: Run) -> Iterator[None]:
    """Capture inside the test's own call: pytest swaps sys.stdout between set-up and call."""
    capture = Capture(CaptureOptions())
    binding = Binding(run, owns_process=True)
    capture.enter(run)
    yield
    capture.leave(run)
    binding.release()
    for logger in (logging.getLogger(), logging.getLogger("celery.task")):
        for handler in [h for h in logger.handlers if type(h).__name__ == "RunHandler"]:
            logger.removeHandler(handler)


@pytest.fixture
def captured(make_run: Callable[..., Run]) -> Iterator[Run]:
    run = make_run()
    with capturing(run):
        yield run


def test_print_is_one_record_a_line_and_still_printed(
    make_run: Callable[..., Run], writer: ListWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    with capturing(make_run()):
        print("a", 1, end="")
        print(" b\nsecond")
        print("\n", end="")
        sys.stdout.writelines(["third\n", "fourth\n"])

    assert writer.texts() == ["a 1 b", "second", "third", "fourth"]
    assert capsys.readouterr().out == "a 1 b\nsecond\n\nthird\nfourth\n"


def test_a_progress_bar_leaves_its_last_state(make_run: Callable[..., Run], writer: ListWriter) -> None:
    with capturing(make_run()):
        for number in range(1000):
            sys.stderr.write(f"\r{number}/1000")
        sys.stderr.write("\rdone\r\n")

    assert writer.texts() == ["done"]


def test_what_has_no_newline_comes_at_the_end(
    make_run: Callable[..., Run], writer: ListWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, capture = make_run(), Capture(CaptureOptions())
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    binding = Binding(run, owns_process=False)
    capture.enter(run)

    print("half", end="")
    capture.leave(run)
    binding.release()

    assert writer.texts() == ["half"]
    assert sys.stdout is stdout
    assert stdout.getvalue() == "half"


def test_a_stream_swapped_by_the_user_meanwhile_stays(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, capture = make_run(), Capture(CaptureOptions())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    capture.enter(run)
    theirs = io.StringIO()

    sys.stdout = theirs
    capture.leave(run)

    assert sys.stdout is theirs


def test_records_carry_logger_level_and_traceback(captured: Run, writer: ListWriter) -> None:
    try:
        raise KeyError("supplier")
    except KeyError:
        logging.getLogger("shop").exception("failed for %s", "acme")

    line = writer.of("log.written")[0]
    assert (line["level"], line["logger"], line["stream"]) == (40, "shop", "log")
    assert line["text"].startswith("failed for acme\nTraceback (most recent call last)")
    assert line["text"].endswith("KeyError: 'supplier'")


def test_our_own_and_celerys_repeats_are_not_captured(captured: Run, writer: ListWriter) -> None:
    for name in ("plet_celery.journal", "celery.app.trace", "celery.redirected"):
        logging.getLogger(name).error("noise")

    assert writer.texts() == []


class Hostile:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error

    __repr__ = __str__


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), RecursionError()])
def test_a_record_with_hostile_arguments_is_kept_as_a_placeholder(
    captured: Run, writer: ListWriter, error: BaseException
) -> None:
    logger = logging.getLogger("shop.hostile")
    for handler in captured_handlers():
        handler.emit(logger.makeRecord("shop", 30, "f.py", 1, "got %s", (Hostile(error),), None))

    assert len(writer.texts()) == 1
    assert "Hostile" in writer.texts()[0]


def captured_handlers() -> list[logging.Handler]:
    return [one for one in logging.getLogger().handlers if type(one).__name__ == "RunHandler"]


def test_a_warning_is_recorded_and_still_shown(captured: Run, writer: ListWriter) -> None:
    with warnings.catch_warnings(record=False):
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning("old way"), UserWarning, "shop.py", 7)

    assert writer.texts() == ["shop.py:7: UserWarning: old way"]
    assert writer.of("log.written")[0]["stream"] == "warning"


def test_a_warning_that_python_prints_is_recorded_once(
    make_run: Callable[..., Run], writer: ListWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process where nobody has put a function in the place of Python's own."""

    def show(*args: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*args[:4]))

    monkeypatch.setattr(warnings, "showwarning", show)
    with capturing(make_run()):
        warnings.showwarning(UserWarning("old way"), UserWarning, "shop.py", 7)

    assert writer.texts() == ["shop.py:7: UserWarning: old way"]


def test_what_a_run_of_another_app_says_is_recorded_once(
    make_run: Callable[..., Run], writer: ListWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """An eager task calls one of an app with a capture of its own: two tees lie one above the other."""
    with capturing(make_run()), capturing(make_run()):
        print("one line")
        print("unfinished", end="")
        sys.stderr.write("of the other stream\n")
        warnings.showwarning(UserWarning("old way"), UserWarning, "shop.py", 7)

    assert writer.texts() == [
        "one line",
        "of the other stream",
        "shop.py:7: UserWarning: old way",
        "unfinished",
    ]
    assert capsys.readouterr().out == "one line\nunfinished"


def test_threads_of_the_task_belong_to_its_run(captured: Run, writer: ListWriter) -> None:
    thread = threading.Thread(target=lambda: logging.getLogger("shop").warning("from a thread"))
    thread.start()
    thread.join()

    assert writer.texts() == ["from a thread"]


def test_a_sink_of_text_that_refuses_bytes_still_refuses(captured: Run) -> None:
    stream: Any = Tee(io.StringIO(), "stdout")

    with pytest.raises(TypeError):
        stream.write(b"bytes")


@pytest.mark.parametrize("resident", [False, True])
def test_runs_that_begin_and_end_in_many_threads_at_once_keep_their_own_lines(
    make_run: Callable[..., Run], writer: ListWriter, monkeypatch: pytest.MonkeyPatch, resident: bool
) -> None:
    """Failed with a count of runs: a run that began while another one did was not captured."""
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    capture = Capture(CaptureOptions(logging=False))
    capture.resident = resident
    failures: list[BaseException] = []

    def worker(name: int) -> None:
        try:
            for number in range(100):
                run = make_run()
                run.attempt = f"{name}-{number}"
                binding = Binding(run, owns_process=False)
                capture.enter(run)
                print(f"{name}-{number}", end="")
                print("", "whole")
                print(f"{name}-{number} half", end="")
                capture.leave(run)
                binding.release()
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=worker, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert not failures
    texts = writer.texts()
    runs = [f"{a}-{b}" for a in range(8) for b in range(100)]
    wanted = {f"{run} {what}" for run in runs for what in ("whole", "half")}
    if resident:
        assert sorted(texts) == sorted(wanted)
    else:
        # Taken out while another one prints: a piece may pass by, none goes astray.
        pieces = {*runs, *(f"{run}{run} half" for run in runs), " whole"}
        assert set(texts) <= wanted | pieces
        assert sys.stdout is stdout


def test_a_logger_that_does_not_propagate_is_captured_once(make_app: Any) -> None:
    recorded = make_app()
    closed = logging.getLogger("closed_of_test")
    closed.propagate = False
    for handler in [h for h in logging.getLogger().handlers if type(h).__name__ == "RunHandler"]:
        logging.getLogger().removeHandler(handler)  # of the tests before
    below = logging.getLogger("closed_of_test.below")

    @recorded.app.task(shared=False, name="talk")  # type: ignore[untyped-decorator]
    def talk() -> None:
        closed.warning("kept to itself")
        below.warning("below it")

    try:
        talk.apply(task_id="closed")
        closed.propagate = True
        talk.apply(task_id="opened")
    finally:
        closed.propagate = True

    for run in ("closed", "opened"):
        texts = [event.data["text"] for event in recorded.events(run) if event.kind == "log.written"]
        assert texts == ["kept to itself", "below it"]


class Wrapper:
    """What a task or a library of its leaves in the place of a stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return int(self.stream.write(text))

    def flush(self) -> None: ...


def test_a_stream_that_is_left_wrapped_makes_no_ring(
    make_run: Callable[..., Run], writer: ListWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    capture = Capture(CaptureOptions())
    for number in range(3):
        run = make_run()
        binding = Binding(run, owns_process=True)
        capture.enter(run)
        print("run", number)
        if number == 0:
            monkeypatch.setattr(sys, "stdout", Wrapper(sys.stdout))
        capture.leave(run)
        binding.release()

    assert out.getvalue() == "run 0\nrun 1\nrun 2\n"
    assert [data["text"] for kind, data in writer.events if kind == "log.written"] == [
        "run 0",
        "run 1",
        "run 2",
    ]


def test_apps_whose_runs_take_turns_make_no_ring(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    one, other = Capture(CaptureOptions()), Capture(CaptureOptions())
    first, second = make_run(), make_run()
    one.enter(first)
    for _ in range(2000):
        other.enter(second)
        one.leave(first)
        one.enter(first)
        other.leave(second)
    print("hello")
    one.leave(first)

    assert out.getvalue() == "hello\n"
    assert sys.stdout is out


@pytest.mark.filterwarnings("always")
def test_warnings_that_are_left_wrapped_make_no_ring(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: shown.append(str(message)))
    capture = Capture(CaptureOptions())
    for number in range(3):
        run = make_run()
        capture.enter(run)
        if number == 0:
            before = warnings.showwarning
            monkeypatch.setattr(warnings, "showwarning", lambda *given: before(*given))  # noqa: B023
        warnings.warn_explicit(f"run {number}", UserWarning, "shop.py", 7)
        capture.leave(run)
    warnings.warn_explicit("outside", UserWarning, "shop.py", 7)

    assert shown == ["run 0", "run 1", "run 2", "outside"]


def test_a_process_without_stdout_prints_nothing(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    capture, run = Capture(CaptureOptions()), make_run()
    capture.enter(run)
    print("nowhere")
    capture.leave(run)

    assert sys.stdout is None


def test_loggers_that_nobody_configured_still_reach_the_last_resort(
    make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Last(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            print(record.getMessage())

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging, "lastResort", Last(logging.WARNING))
    # Other tests have apps that stay in place.
    monkeypatch.setattr("plet_celery.capture._attached_by", weakref.WeakSet())
    recorded = make_app()

    @recorded.app.task(shared=False, name="talk")  # type: ignore[untyped-decorator]
    def talk() -> None:
        logging.getLogger("shop").error("inside")
        logging.getLogger("shop").info("too quiet")

    talk.apply(task_id="one")
    logging.getLogger("shop").error("after")

    assert told == ["inside", "after"]
    assert logging.root.handlers == []
    texts = [event.data["text"] for event in recorded.events("one") if event.kind == "log.written"]
    assert texts == ["inside"]
