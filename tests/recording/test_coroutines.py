# mypy: disable-error-code="untyped-decorator"
"""`async def` bodies: one to its end in the task's thread, heard by limits, clean behind itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import random
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from waiting import wait_until

from plet_celery.coroutines import _Elsewhere, run_to_end


def soft_limit(*args: Any) -> None:
    """What billiard's handler does."""
    raise SoftTimeLimitExceeded()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = (signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM)
    before = [signal.signal(number, soft_limit) for number in numbers]
    yield
    left = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert left[0] is soft_limit and left[2] is soft_limit


def strike(number: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), number)


def strike_soon(number: int = signal.SIGUSR1) -> None:
    """Strike from another thread, wherever the main one is by then."""
    threading.Timer(0.05, strike, [number]).start()


def strike_while_waiting(number: int = signal.SIGUSR1) -> None:
    """Strike from another thread, once the main one has nothing left to do but wait."""
    looks: list[bool] = []

    def has_come_to_rest() -> bool:
        # Several looks: at the first it may be on its way there, or back.
        looks.append(is_waiting())
        return looks[-3:] == [True] * 3

    def wait_and_strike() -> None:
        wait_until(has_come_to_rest, what="the main thread waits")
        strike(number)

    threading.Thread(target=wait_and_strike).start()


def is_waiting() -> bool:
    """Whether the main thread is in a loop's select, with nothing ready, or waits for a body elsewhere."""
    found = sys._current_frames()[threading.main_thread().ident or 0]
    if found.f_code is selectors.DefaultSelector.select.__code__:
        return bool(found.f_locals["timeout"])
    above = [frame.f_code for frame, _ in traceback.walk_stack(found.f_back)]
    return _Elsewhere._wait.__code__ in above


def strike_in_callback(number: int = signal.SIGUSR1) -> None:
    """Strike while the loop calls something back, where an exception would be swallowed."""
    asyncio.get_running_loop().call_soon(strike, number)


STRIKES = [strike_while_waiting, strike_in_callback]
for_ever = 60.0


def test_it_returns_and_raises_what_the_body_does() -> None:
    async def give(value: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value

    assert run_to_end(give(7)) == 7
    for error in (ValueError("x"), Retry("r"), Ignore("i"), Reject("j"), SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            run_to_end(give(error))
        assert caught.value is error


def test_the_traceback_has_no_frames_of_the_loop() -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        raise ValueError("here")

    async def outer() -> None:
        await inner()

    with pytest.raises(ValueError, match="here") as caught:
        run_to_end(outer())

    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["outer", "inner"]
    assert names[-4:-2] == ["run_to_end", "run"]


@pytest.mark.parametrize("how", STRIKES)
def test_a_soft_limit_is_raised_at_the_await(how: Callable[[], None]) -> None:
    told: list[str] = []

    @contextlib.asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            told.append("closed")

    async def body() -> str:
        try:
            async with resource():
                how()
                await asyncio.sleep(for_ever)
        except SoftTimeLimitExceeded:
            told.append("caught")
            # The task is not being cancelled any more: it can go on awaiting, and time out.
            async with asyncio.timeout(30):
                await asyncio.sleep(0.001)
        return "partial result"

    assert run_to_end(body()) == "partial result"
    assert told == ["closed", "caught"]


def test_without_it_the_body_would_not_hear_the_limit() -> None:
    """The negative control: what asyncio.run makes of the same handler."""
    told: list[str] = []

    async def body() -> None:
        try:
            strike_while_waiting()
            await asyncio.sleep(for_ever)
        except SoftTimeLimitExceeded:
            told.append("limit")
        except asyncio.CancelledError:
            told.append("cancelled")

    with pytest.raises(SoftTimeLimitExceeded):
        asyncio.run(body())
    assert told == ["cancelled"]


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGTERM, signal.SIGVTALRM])
def test_what_any_handler_raises_is_raised_at_the_await(number: int) -> None:
    """SIGVTALRM is none of those we route: there the exception leaves the loop, and is brought back."""

    def handler(*args: Any) -> None:
        raise TimeoutError(number)

    before = signal.signal(number, handler)
    try:

        async def body() -> Any:
            try:
                strike_while_waiting(number)
                await asyncio.sleep(for_ever)
            except TimeoutError as error:
                return error.args[0]

        assert run_to_end(body()) == number
    finally:
        signal.signal(number, before)


def test_a_handler_that_the_body_sets_is_left_in_place() -> None:
    def handler(*args: Any) -> None:
        raise TimeoutError("the body's own")

    async def body() -> None:
        signal.signal(signal.SIGALRM, handler)
        strike_while_waiting(signal.SIGALRM)
        await asyncio.sleep(for_ever)

    with pytest.raises(TimeoutError, match="the body's own"):
        run_to_end(body())
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_soft_limit_strikes_code_that_awaits_nothing() -> None:
    async def body() -> None:
        strike_soon()
        while True:
            time.sleep(0.001)

    with pytest.raises(SoftTimeLimitExceeded):
        run_to_end(body())


@pytest.mark.parametrize("how", STRIKES)
@pytest.mark.parametrize("wait", ["at the end", "inside", "gather", "wait_for", "blocking child"])
def test_a_soft_limit_ends_what_runs_side_by_side(how: Callable[[], None], wait: str) -> None:
    told: list[str] = []

    async def child() -> None:
        try:
            if wait == "blocking child":
                strike_soon()
                while True:
                    time.sleep(0.001)
            await asyncio.sleep(for_ever)
        finally:
            told.append("child ended")

    async def body() -> None:
        if wait != "blocking child":
            how()
        if wait == "gather":
            await asyncio.gather(child(), child())
        elif wait == "wait_for":
            await asyncio.wait_for(child(), for_ever)
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                await asyncio.sleep(for_ever if wait == "inside" else 0)
        told.append("never")

    with pytest.raises(SoftTimeLimitExceeded) as caught:
        run_to_end(body())

    assert type(caught.value) is SoftTimeLimitExceeded  # no cancellation any more: Celery pickles it
    assert told == ["child ended"] * (2 if wait == "gather" else 1)


def test_storms_of_limits_neither_hang_nor_get_lost() -> None:
    """A busy loop is struck at random places; each strike is heard in the body, and the loop goes on."""
    chance = random.Random(7)
    heard = 0

    async def child(count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
        return count

    async def body() -> int:
        heard = 0
        struck = 0
        while struck < 150:
            struck += 1
            try:
                # Inside: on a busy machine it strikes before the next line begins.
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-3))
                while True:
                    children = [asyncio.create_task(child(3)) for _ in range(5)]
                    await asyncio.gather(*children)
            except SoftTimeLimitExceeded:
                heard += 1
        return heard

    heard = run_to_end(body())

    assert heard == 150


@pytest.mark.parametrize("error", [Retry("again"), Ignore("no"), Reject("bad"), SoftTimeLimitExceeded()])
def test_celerys_ways_to_leave_come_out_of_a_group(error: Exception) -> None:
    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(for_ever))
            raise error

    async def in_child() -> None:
        async def child() -> None:
            raise error

        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    for one in (body, in_child):
        with pytest.raises(type(error)) as caught:
            run_to_end(one())
        assert caught.value is error


def test_another_error_stays_in_its_group() -> None:
    async def body() -> None:
        async with asyncio.TaskGroup():
            raise ValueError("x")

    with pytest.raises(ExceptionGroup) as caught:
        run_to_end(body())
    assert isinstance(caught.value.exceptions[0], ValueError)


@pytest.mark.parametrize("how", ["raises", "cancels itself"])
def test_a_cancellation_that_escapes_is_an_ordinary_failure(how: str) -> None:
    """As the BaseException it is in asyncio, it would end the process of a prefork worker."""

    async def body() -> None:
        if how == "raises":
            raise asyncio.CancelledError("why")
        task = asyncio.current_task()
        assert task is not None
        task.cancel("why")
        await asyncio.sleep(for_ever)

    with pytest.raises(concurrent.futures.CancelledError, match="why") as caught:
        run_to_end(body())
    assert isinstance(caught.value, Exception)


def test_a_timeout_inside_is_the_bodys_own() -> None:
    async def body() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(for_ever)
        except TimeoutError:
            return "late"
        return "in time"

    assert run_to_end(body()) == "late"


def test_what_is_left_behind_is_ended_and_closed() -> None:
    told: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(for_ever)
        finally:
            await asyncio.sleep(0)
            told.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            told.append("generator")

    kept: list[Any] = []

    async def body() -> None:
        kept.append(asyncio.create_task(linger()))
        kept.append(numbers())
        await anext(kept[1])
        kept.append(asyncio.get_running_loop())
        kept.append(asyncio.to_thread(told.append, "thread"))
        await asyncio.create_task(kept[3])

    run_to_end(body())

    assert sorted(told) == ["generator", "task", "thread"]
    assert kept[0].cancelled() and kept[2].is_closed()


def test_a_thousand_runs_leave_no_descriptor() -> None:
    async def body() -> None:
        await asyncio.sleep(0)

    run_to_end(body())
    gc.collect()  # what tests before this one have left open
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(1000):
        run_to_end(body())

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_the_loop_that_a_thread_has_set_stays_set() -> None:
    async def nothing() -> None: ...

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        run_to_end(nothing())
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_body_runs_elsewhere_while_a_loop_runs_here() -> None:
    told: list[Any] = []

    async def body() -> str:
        await asyncio.sleep(0)
        told.append(threading.current_thread() is threading.main_thread())
        try:
            strike_while_waiting()
            await asyncio.sleep(for_ever)
        except SoftTimeLimitExceeded:
            told.append("limit")
        return "done"

    async def caller() -> Any:
        return run_to_end(body())

    assert asyncio.run(caller()) == "done"
    assert told == [False, "limit"]
