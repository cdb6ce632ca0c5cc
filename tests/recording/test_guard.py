"""The guard: our errors stay ours, what strikes from outside passes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Retry
from listwriter import ListWriter

from plet_celery import current_run, headers, signals
from plet_celery.coroutines import run_to_end
from plet_celery.current import NULL_RUN, Binding, is_any_active
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


def test_a_logging_filter_that_raises_is_no_reason_to_fail(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It expects a field that its own project puts into each record, say."""

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return bool(record.request_id)  # type: ignore[attr-defined]

    handler = logging.StreamHandler()
    handler.addFilter(Filter())
    run = make_run()
    monkeypatch.setattr(run, "_writer", FailingWriter(lambda: _raise(BufferError("ours"))))

    logging.getLogger().addHandler(handler)
    try:
        run.metadata["key"] = "value"
    finally:
        logging.getLogger().removeHandler(handler)

    assert contained()["run.metadata: BufferError"] == 1


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


def _on_alarm(number: int, frame: Any) -> None:
    raise TimeoutError("the user's own limit")


class Limit:
    def __call__(self, number: int, frame: Any) -> None:
        _raise(TimeoutError("the user's own limit"))


HANDLERS: dict[str, Any] = {"function": _on_alarm, "partial": partial(partial(_on_alarm)), "object": Limit()}


@pytest.fixture(params=HANDLERS)
def strike(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Let an alarm of the user's go off, whose handler raises."""
    before = signal.signal(signal.SIGALRM, HANDLERS[request.param])
    yield lambda: signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)


def test_an_alarm_of_the_users_passes(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None]
) -> None:
    run = make_run()
    monkeypatch.setattr(run, "_writer", FailingWriter(strike))

    with pytest.raises(TimeoutError, match="the user's own limit"):
        run.log("info", "line")


def test_an_alarm_passes_in_a_coroutine(make_run: Callable[..., Run], strike: Callable[[], None]) -> None:
    """The loop has a handler of its own in its place."""
    run = make_run()

    class Count:
        def __float__(self) -> float:
            strike()
            return 1.0

    async def body() -> None:
        with run.stage("load") as stage:
            stage.set(Count())  # type: ignore[arg-type]

    with pytest.raises(TimeoutError, match="the user's own limit"):
        run_to_end(body())


def test_an_alarm_passes_while_a_loop_asks_for_a_length(
    make_run: Callable[..., Run], strike: Callable[[], None]
) -> None:
    """That of a query, say, which asks a database for it."""

    class Rows:
        def __len__(self) -> int:
            strike()
            return 2

        def __iter__(self) -> Iterator[str]:
            return iter("ab")

    with pytest.raises(TimeoutError, match="the user's own limit"):
        make_run().track(Rows(), "load")


@pytest.mark.parametrize("moment", ["stamp", "group_behind"])
def test_an_alarm_that_strikes_while_a_message_is_stamped_passes(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None], moment: str
) -> None:
    """Celery would swallow it: a signal's receivers may raise what they like."""
    app = make_app(broker_url="memory://").app

    @app.task(shared=False, name="send")  # type: ignore[untyped-decorator]
    def send() -> None: ...

    monkeypatch.setattr(headers, moment, lambda *args, **kwargs: strike())

    with pytest.raises(TimeoutError, match="the user's own limit"):
        send.delay()


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), None])
def test_a_limit_that_strikes_while_the_end_is_written_does_not_cost_it(
    make_app: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    strike: Callable[[], None],
    error: Exception | None,
) -> None:
    """The body is over, and Celery swallows it; a run without an end would be lost with its process."""
    recorded = make_app()
    left = [error]

    @recorded.app.task(shared=False, name="work")  # type: ignore[untyped-decorator]
    def work() -> int:
        return 7

    finish = Run.finish

    def struck_once(self: Run, *args: Any) -> None:
        if left:
            one = left.pop()
            strike() if one is None else _raise(one)
        finish(self, *args)

    monkeypatch.setattr(Run, "finish", struck_once)
    result = work.apply()

    assert result.state == "SUCCESS"
    assert recorded.kinds(result.id) == ["run.started", "run.succeeded"]


def test_a_limit_that_strikes_while_a_run_starts_leaves_it_in_nobodys_place(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None]
) -> None:
    """Celery swallows it there, too; what the process does next must not be told of that run."""
    recorded = make_app()

    class Struck(Binding):
        __slots__ = ()

        def __init__(self, run: Run, **more: Any) -> None:
            super().__init__(run, **more)
            strike()

    @recorded.app.task(shared=False, name="work")  # type: ignore[untyped-decorator]
    def work() -> str:
        return current_run().id

    with monkeypatch.context() as patch:
        patch.setattr(signals, "Binding", Struck)
        struck = work.apply()
    outside, after = current_run(), work.apply()

    assert struck.state == "SUCCESS"
    assert outside is NULL_RUN and not is_any_active()
    # Before it perhaps the line in which Celery tells of the receiver.
    assert recorded.kinds(struck.id)[-1] == "run.succeeded"
    assert recorded.kinds(after.id) == ["run.started", "run.succeeded"]
