"""Threads for our pages: bounded, never on the loop, given back by whatever holds them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from plet_celery.web.pool import Busy, Pool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a job hangs on; opened at the end, so that no thread is left."""
    made = threading.Event()
    yield made
    made.set()


async def held(pool: Pool, gate: threading.Event, count: int) -> None:
    """Have `count` threads wait at the gate, with nobody waiting for them."""
    answers = await asyncio.gather(
        *(pool.run(gate.wait, seconds=0.05) for _ in range(count)), return_exceptions=True
    )
    assert all(isinstance(one, Busy) for one in answers), answers


def test_an_answer_and_an_error_come_from_a_thread() -> None:
    async def scenario() -> None:
        pool = Pool(threads=2)
        here = threading.current_thread()
        assert await pool.run(threading.current_thread) is not here
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)

    asyncio.run(scenario())


def test_a_thread_that_hangs_stays_counted_until_its_job_ends(gate: threading.Event) -> None:
    async def scenario() -> None:
        pool = Pool(threads=1)
        await held(pool, gate, 1)

        with pytest.raises(Busy, match=r"no answer within 0\.05 s"):
            await pool.run(lambda: "starved", seconds=0.05)
        gate.set()

        assert await pool.run(lambda: "served", seconds=10) == "served"

    asyncio.run(scenario())


def test_who_gives_up_leaves_the_queue_and_is_never_worked_for(gate: threading.Event) -> None:
    done: list[str] = []

    async def scenario() -> None:
        pool = Pool(threads=1, waiting_max=2)
        await held(pool, gate, 1)
        for _ in range(20):  # more than may wait at a time
            with pytest.raises(Busy, match="no answer"):
                await pool.run(lambda: done.append("late"), seconds=0.001)
        gate.set()
        await pool.run(lambda: done.append("mine"), seconds=10)

    asyncio.run(scenario())
    assert done == ["mine"]


def test_more_than_may_wait_are_refused_at_once(gate: threading.Event) -> None:
    async def scenario() -> None:
        pool = Pool(threads=1, waiting_max=2)
        await held(pool, gate, 1)
        waiting = [asyncio.ensure_future(pool.run(lambda: "served", seconds=10)) for _ in range(2)]
        await asyncio.sleep(0)

        with pytest.raises(Busy, match="2 questions wait"):
            await pool.run(lambda: "refused", seconds=10)
        gate.set()

        assert await asyncio.gather(*waiting) == ["served", "served"]

    asyncio.run(scenario())


def test_who_is_cancelled_while_waiting_takes_no_thread_along(gate: threading.Event) -> None:
    async def scenario() -> None:
        pool = Pool(threads=1)
        await held(pool, gate, 1)
        waiting = asyncio.ensure_future(pool.run(lambda: "served", seconds=10))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        gate.set()

        assert await pool.run(lambda: "served", seconds=10) == "served"

    asyncio.run(scenario())


def test_threads_held_for_too_long_are_rescued(gate: threading.Event) -> None:
    """Else a server that acknowledges everything and answers nothing would hold them for ever."""

    async def scenario() -> None:
        pool = Pool(threads=1, rescue=gate.set, rescue_seconds=0.01)
        await held(pool, gate, 1)

        assert await pool.run(lambda: "served", seconds=10) == "served"

    asyncio.run(scenario())


def test_a_hanging_job_does_not_keep_the_process_from_ending() -> None:
    """Flower must end by Ctrl-C while the database hangs."""
    program = """
import asyncio, threading
from plet_celery.web.pool import Busy, Pool

async def main():
    try:
        await Pool().run(threading.Event().wait, seconds=0.05)
    except Busy:
        print("told")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "told\n"
    assert done.stderr == ""
