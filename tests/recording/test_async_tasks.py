# mypy: disable-error-code="untyped-decorator"
"""TrackedTasks whose body is `async def`: retries, models, stages, eager calls from anywhere, plain calls."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any, cast

import pytest
from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel, ValidationError

from plet_celery import TrackedTask, current_run, stage, track

MakeApp = Callable[..., Any]


class Order(BaseModel):
    """An argument and a result."""

    rows: int


async def letters(text: str = "abc") -> AsyncIterator[str]:
    for letter in text:
        await asyncio.sleep(0)
        yield letter


def test_it_runs_to_its_end_and_is_recorded(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="load")
    async def load(self: TrackedTask, rows: int, *, unit: str = "x") -> Any:
        with self.stage("download"):
            await asyncio.sleep(0)
            self.log("info", "downloaded")
        self.metadata["supplier"] = "acme"
        return [rows, unit, self.request.id, current_run().id]

    result = load.apply((2,), {"unit": "rows"})

    assert result.get() == [2, "rows", result.id, result.id]
    assert recorded.kinds(result.id) == [
        "run.started",
        "stage.started",
        "log.written",
        "stage.succeeded",
        "metadata.set",
        "run.succeeded",
    ]
    assert recorded.events(result.id)[0].data["kwargs"] == {"unit": "rows"}


@pytest.mark.parametrize(
    ("error", "kind", "state"),
    [
        (ValueError("x"), "run.failed", "FAILURE"),
        (SoftTimeLimitExceeded(), "run.timed_out", "FAILURE"),
        (Ignore("no"), "run.ignored", "IGNORED"),
        (Reject("bad", requeue=False), "run.rejected", "REJECTED"),
        (asyncio.CancelledError(), "run.failed", "FAILURE"),
    ],
)
def test_each_exception_gives_its_end(make_app: MakeApp, error: BaseException, kind: str, state: str) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, shared=False, name="leave")
    async def leave() -> None:
        await asyncio.sleep(0)
        raise error

    result = leave.apply()

    assert result.state == state
    end = recorded.events(result.id)[-1]
    assert end.kind == kind
    if kind == "run.failed":
        assert end.data["error"]["type"] == type(error).__name__
        assert end.data["error"]["frames"][-1]["function"].endswith("leave")


@pytest.mark.parametrize("declared", ["decorator", "class"])
def test_autoretry_catches_what_the_body_raises(make_app: MakeApp, declared: str) -> None:
    recorded = make_app()
    options: dict[str, Any] = {"autoretry_for": (ConnectionError,), "max_retries": 3, "retry_backoff": True}

    class Stubborn(TrackedTask):
        """A base that retries."""

        abstract = True
        locals().update(options if declared == "class" else {})

    more = options if declared == "decorator" else {}

    @recorded.app.task(base=Stubborn, bind=True, shared=False, name="flaky", **more)
    async def flaky(self: Any) -> int:
        await asyncio.sleep(0)
        if self.request.retries < 2:
            raise ConnectionError("not yet")
        return int(self.request.retries)

    result = flaky.apply()

    assert result.get() == 2
    ends = [kind for kind in recorded.kinds(result.id) if kind != "run.started"]
    assert sorted(ends) == ["run.retried", "run.retried", "run.succeeded"]


def test_pydantic_models_are_validated_and_dumped(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="bound", pydantic=True)
    async def bound(self: TrackedTask, order: Order) -> Order:
        await asyncio.sleep(0)
        return Order(rows=order.rows + 1)

    @recorded.app.task(base=TrackedTask, shared=False, name="free", pydantic=True, autoretry_for=(OSError,))
    async def free(order: Order, factor: int = 1) -> Order | None:
        return Order(rows=order.rows * factor)

    assert bound.apply(({"rows": 1},)).get() == {"rows": 2}
    assert free.apply((), {"order": {"rows": 2}, "factor": 3}).get() == {"rows": 6}
    with pytest.raises(ValidationError):
        free.apply(({"rows": "many"},)).get()
    assert asyncio.run(free({"rows": 2}, 2)) == Order(rows=4)


def test_called_as_a_function_it_is_the_function(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, shared=False, name="double")
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="twice")
    async def twice(self: TrackedTask, x: int) -> Any:
        inner = double(x)
        assert inspect.iscoroutine(inner)
        return await inner + await double.run(x) + await double.__wrapped__(x)

    assert asyncio.run(double(2)) == 4
    assert twice.apply((1,)).get() == 6
    assert list(inspect.signature(double.run).parameters) == ["x"]
    assert list(inspect.signature(twice.run).parameters) == ["x"]
    with pytest.raises(TypeError):
        double.delay()  # Celery checks the arguments before it sends them


def test_a_class_with_an_async_run_and_its_heirs(make_app: MakeApp) -> None:
    recorded = make_app()

    class Load(TrackedTask):
        """A class-based task."""

        name = "load"

        async def run(self, rows: int) -> int:
            await asyncio.sleep(0)
            return rows

    class LoadMore(Load):
        """Adds to what it inherits."""

        name = "load-more"

        async def run(self, rows: int) -> int:
            return 1 + await super().run(rows)

    class Wrapped(Load):
        """With a `__call__` of its own, as Flask's documentation has it."""

        name = "wrapped"

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    for cls, expected in ((Load, 5), (LoadMore, 6), (Wrapped, 5)):
        assert recorded.app.register_task(cls()).apply((5,)).get() == expected


def test_a_body_that_its_own_call_tries_again_runs_again(make_app: MakeApp) -> None:
    recorded, tries = make_app(), []

    class Load(TrackedTask):
        name = "load"

        async def run(self) -> int:
            tries.append(1)
            if len(tries) == 1:
                raise KeyError("first")
            return 5

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.run(*args, **kwargs)
            except KeyError:
                return self.run(*args, **kwargs)

    assert recorded.app.register_task(Load()).apply().get() == 5
    assert len(tries) == 2


def test_a_decorator_between_is_kept(make_app: MakeApp) -> None:
    recorded = make_app()

    def logged(function: Any) -> Any:
        @wraps(function)
        async def wrapper(*args: Any) -> Any:
            return [await function(*args)]

        return wrapper

    def synchronous(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any) -> Any:
            return [asyncio.run(function(*args))]

        return wrapper

    for number, decorator in enumerate((logged, synchronous)):

        @recorded.app.task(base=TrackedTask, shared=False, name=f"task{number}")
        @decorator
        async def work(x: int) -> int:
            return x

        assert work.apply((1,)).get() == [1]


def test_an_eager_call_from_async_code_runs_to_its_end(make_app: MakeApp) -> None:
    recorded = make_app(task_always_eager=True)

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="inner")
    async def inner(self: TrackedTask, x: int) -> Any:
        await asyncio.sleep(0)
        with stage("in a helper thread"):
            logging.getLogger("shop").warning("heard")
        return [x, self.request.id, current_run().id]

    @recorded.app.task(base=TrackedTask, shared=False, name="outer")
    async def outer() -> Any:
        with stage("outer"):
            return inner.delay(2).get(disable_sync_subtasks=False)

    async def caller() -> Any:
        result = inner.delay(1)
        return result.get(), result.id

    (value, run, active), own = asyncio.run(caller())
    assert (value, run, active) == (1, own, own)
    assert recorded.kinds(own)[1:4] == ["stage.started", "log.written", "stage.succeeded"]

    below = outer.delay().get()
    (started,) = [e for e in recorded.events(below[1]) if e.kind == "stage.started"]
    assert "parent" not in started.data  # a stage of another run encloses nothing


def test_a_sync_task_and_a_plain_celery_task_stay_as_they_are(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, shared=False, name="sync")
    def sync(x: int) -> int:
        return x

    @recorded.app.task(shared=False, name="plain", base=Task)
    async def plain() -> None: ...

    assert sync.apply((1,)).get() == 1 == sync(1)
    assert not hasattr(sync.run, "_plet_drives")
    left = plain.apply().result
    assert inspect.iscoroutine(left)  # as without us: Celery does not run it
    left.close()


def test_children_side_by_side_have_a_stage_each(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, shared=False, name="side-by-side")
    async def side_by_side() -> None:
        turn = asyncio.Barrier(2)

        async def child(name: str) -> None:
            with stage(name):
                await turn.wait()
                logging.getLogger("shop").warning("in %s", name)
                with stage(f"{name}.inner"):
                    await turn.wait()
                    logging.getLogger("shop").warning("in %s.inner", name)
                    await turn.wait()
                await turn.wait()
                logging.getLogger("shop").warning("back in %s", name)

        with stage("outer"):
            await asyncio.gather(child("a"), child("b"))
            logging.getLogger("shop").warning("in outer")

    found = recorded.events(side_by_side.apply().id)
    names = {e.data["stage"]: e.data["name"] for e in found if e.kind == "stage.started"}
    above = {e.data["name"]: names.get(e.data.get("parent")) for e in found if e.kind == "stage.started"}
    said = {e.data["text"].split()[-1]: names[e.data["stage"]] for e in found if e.kind == "log.written"}

    assert above == {"outer": None, "a": "outer", "b": "outer", "a.inner": "a", "b.inner": "b"}
    assert all(text == name for text, name in said.items()) and len(said) == 5


def test_a_failing_child_fails_its_own_stages_only(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, shared=False, name="one-fails")
    async def one_fails() -> None:
        async def fails() -> None:
            with stage("fails"):
                async for letter in track(letters(), "left by an error"):
                    await asyncio.sleep(0)
                    if letter == "b":
                        raise ValueError("b")

        async def goes_on() -> None:
            for number in range(20):
                with stage(f"step {number}"):
                    await asyncio.sleep(0)

        await asyncio.gather(fails(), goes_on(), return_exceptions=True)

    found = recorded.events(one_fails.apply().id)
    names = {e.data["stage"]: e.data["name"] for e in found if e.kind == "stage.started"}
    failed = {names[e.data["stage"]] for e in found if e.kind == "stage.failed"}

    assert failed == {"fails", "left by an error"}


def test_track_follows_an_async_iterable(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="follow")
    async def follow(self: TrackedTask) -> list[str]:
        seen = [letter async for letter in self.track(letters(), "all", total=3, unit="letters")]
        async for _ in self.track(letters(), "broken off"):
            break
        async for _ in track(letters(""), "empty"):
            pass
        assert (
            [n async for n in cast("Any", self.track(Both(), "both"))]
            == list(self.track(Both(), "both"))
            == [7]
        )
        assert next(self.track(Both(), "next")) == 7
        return seen

    class Both:
        """Iterates both ways, as a Django queryset does."""

        def __iter__(self) -> Any:
            yield 7

        async def __aiter__(self) -> AsyncIterator[int]:
            yield 7

    result = follow.apply()

    assert result.get() == ["a", "b", "c"]
    found = recorded.events(result.id)
    names = {e.data["stage"]: e.data["name"] for e in found if e.kind == "stage.started"}
    done = [(names[e.data["stage"]], e.data["done"]) for e in found if e.kind == "stage.succeeded"]
    assert done == [("all", 3), ("broken off", 0), ("empty", 0), ("both", 1), ("both", 1), ("next", 0)]


def test_a_tracked_async_loop_fails_with_what_it_iterates(make_app: MakeApp) -> None:
    # No progress by itself, however long a busy machine pauses.
    recorded = make_app(plet_progress_rate=0.001)

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("source")

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="breaks")
    async def breaks(self: TrackedTask) -> None:
        async for _ in self.track(broken(), "rows"):
            pass

    kinds = recorded.kinds(breaks.apply().id)

    assert kinds == ["run.started", "stage.started", "stage.failed", "run.failed"]


def test_a_retry_inside_a_group_is_a_retry(make_app: MakeApp) -> None:
    recorded = make_app()

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="grouped", max_retries=1)
    async def grouped(self: Any) -> int:
        async with asyncio.TaskGroup():
            if not self.request.retries:
                raise self.retry(countdown=0)
        return 1

    result = grouped.apply()

    assert result.get() == 1
    assert recorded.kinds().count("run.retried") == 1
