"""The guard: our errors stay ours, what strikes from outside passes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Retry
from listwriter import ListWriter

from plet_celery.guard import contained
from plet_celery.run import Run


class FailingWriter(ListWriter):
    """A journal that is broken, or is struck while it writes."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def append(self, kind: str, run: str | None, attempt: str | None, data: dict[str, Any]) -> bool:
        self._act()
        return True


def _raise(error: BaseException) -> None:
    raise error


def use_everything(run: Run) -> None:
    with run.stage("load", total=3) as stage:
        stage.advance()
        stage.message = "moving"
        run.log("info", "line")
        run.metadata["key"] = "value"
        run.measure(gap=1.0)
    assert list(run.track("ab", "letters")) == ["a", "b"]


def test_errors_of_ours_are_contained_counted_and_told_once(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run()
    monkeypatch.setattr(run, "_writer", FailingWriter(lambda: _raise(ZeroDivisionError("ours"))))
    before = sum(contained().values())

    use_everything(run)
    use_everything(run)

    assert sum(contained().values()) >= before + 10
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) <= len({record.getMessage() for record in told}) + 1


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), Retry(), SystemExit(), KeyboardInterrupt()])
def test_limits_and_celerys_exceptions_pass(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run = make_run()
    monkeypatch.setattr(run, "_writer", FailingWriter(lambda: _raise(error)))

    with pytest.raises(type(error)):
        run.log("info", "line")
    with pytest.raises(type(error)):
        run.metadata["key"] = "value"


def test_an_alarm_of_the_users_passes(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def on_alarm(number: int, frame: Any) -> None:
        raise TimeoutError("the user's own limit")

    before = signal.signal(signal.SIGALRM, on_alarm)
    run = make_run()
    monkeypatch.setattr(run, "_writer", FailingWriter(lambda: signal.raise_signal(signal.SIGALRM)))

    try:
        with pytest.raises(TimeoutError, match="the user's own limit"):
            run.log("info", "line")
    finally:
        signal.signal(signal.SIGALRM, before)
