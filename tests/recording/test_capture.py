"""Capture: logging, print and warnings reach the current run, and nobody else notices."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
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
    wanted = {f"{a}-{b} {what}" for a in range(8) for b in range(100) for what in ("whole", "half")}
    assert set(texts) <= wanted
    assert len(texts) == len(set(texts))
    if resident:
        assert set(texts) == wanted
    else:
        # Taken out while another one prints: some lines may pass by, none goes astray.
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
