"""Every end on every pool, and every end that the broker has a hand in on every broker; see matrix.py."""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed
from live.matrix import BROKERS, ENDS, SMOKE, STOPS, Outcome, outcome
from live.scenarios import Stage, play_eagerly, play_ends, play_stops
from services import new_redis_prefix, new_vhost
from waiting import wait_until

from plet_celery.store import queries

pytestmark = pytest.mark.slow

MakeLive = Callable[..., Any]
Places = Callable[[str], dict[str, str]]
WORKED = ("prefork", "threads", "gevent", "solo")
FULL = [(pool, "valkey") for pool in WORKED] + [("prefork", name) for name in BROKERS if name != "valkey"]


@pytest.fixture
def places() -> Iterator[Places]:
    """Make an empty place in a broker, and return what the app must know of it."""
    with ExitStack() as stack:

        def make(broker: str) -> dict[str, str]:
            if broker == "redis":
                place = stack.enter_context(new_redis_prefix())
                return {"LIVE_BROKER": place.url, "LIVE_BACKEND": place.url, "LIVE_PREFIX": place.prefix}
            if broker.startswith("rabbitmq"):
                env = {"LIVE_BROKER": stack.enter_context(new_vhost())}
                return env | ({"LIVE_QUORUM": "1"} if broker.endswith("quorum") else {})
            return {}

        yield make


def wanted(ends: Iterable[str], pool: str) -> dict[str, Outcome]:
    found = {end: outcome(end, pool) for end in ends}
    return {end: there._replace(why="") for end, there in found.items() if there is not None}


@pytest.mark.parametrize(("pool", "broker"), [*FULL, *SMOKE])
def test_a_run_ends_as_the_matrix_says(make_live: MakeLive, places: Places, pool: str, broker: str) -> None:
    stage = Stage(make_live(**places(broker)), pool)
    expected = wanted((end for end in ENDS if end not in STOPS), pool)

    play_ends(stage, expected)

    assert stage.settle(expected) == expected


@pytest.mark.parametrize(("pool", "broker"), FULL)
def test_a_worker_that_ends_leaves_its_runs_as_the_matrix_says(
    make_live: MakeLive, places: Places, pool: str, broker: str
) -> None:
    stage = Stage(make_live(**places(broker)), pool)
    expected = wanted(STOPS, pool)

    play_stops(stage, expected)

    assert stage.settle(expected) == expected


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_queues_of_the_matrix_are_of_the_kind_it_names(
    make_live: MakeLive, places: Places, kind: str
) -> None:
    """RabbitMQ refuses to declare a queue again as another kind."""
    stage = Stage(make_live(**places(f"rabbitmq-{kind}")), "prefork")
    stage.plain.ok.delay()
    connection = stage.app.connection_for_write()

    def declare(as_kind: str) -> None:
        with connection.channel() as channel:
            channel.queue_declare(
                "celery", durable=True, auto_delete=False, arguments={"x-queue-type": as_kind}
            )

    with connection:
        declare(kind)
        with pytest.raises(PreconditionFailed, match="x-queue-type"):
            declare("quorum" if kind == "classic" else "classic")


def test_the_page_is_what_the_matrix_says() -> None:
    """After a change of the matrix: python docs/matrix_page.py."""
    docs = Path(__file__).parents[2] / "docs"

    assert (docs / "pools.md").read_text() == runpy.run_path(str(docs / "matrix_page.py"))["page"]()


def test_an_eager_run_ends_as_the_matrix_says(make_live: MakeLive) -> None:
    live = make_live()
    stage = Stage(live, "eager")
    expected = wanted(ENDS, "eager")

    results = play_eagerly(stage)
    assert stage.tasks.plet.flush()

    seen = {}
    for end in stage.runs:
        run = live.run(stage.runs[end])
        states = tuple(one.state for one in queries.attempts(live.store(), run.id))
        result = results[end].state if end in results else ""
        seen[end] = Outcome(run.state, result, states if len(states) > 1 or expected[end].attempts else ())
    assert seen == expected


def test_an_expired_message_that_rabbitmq_drops_leaves_its_run_queued(
    make_live: MakeLive, rabbitmq_url: str
) -> None:
    """The worker's one slot is held by a message that is not acknowledged: the next ones wait."""
    live = make_live(LIVE_BROKER=rabbitmq_url)
    stage = Stage(live, "solo")
    stage.worker()
    stage.tasks.wait_late.delay("slot")
    stage.started("slot")
    wait_until(lambda: list(live.home.glob("journal/*/ship.beat")), 60, what="somebody ships")

    dropped = stage.plain.ok.apply_async(expires=0.2)
    behind = stage.plain.ok.delay()
    live.wait_state(dropped.id, "queued")
    connection = stage.app.connection_for_read()
    with connection, connection.channel() as channel:
        wait_until(lambda: stage.app.amqp.queues["celery"](channel).queue_declare(passive=True)[1] == 1, 40)
    live.go("slot")

    live.wait_state(behind.id, "succeeded")
    assert live.run(dropped.id).state == "queued"
    assert dropped.state == "PENDING"
    assert dropped.id.encode() not in live.output()


def test_a_message_that_redis_delivers_twice_gives_two_running_attempts(make_live: MakeLive) -> None:
    """Each is told apart, the second one marked; the run has succeeded when one of them has."""
    live = make_live(LIVE_VISIBILITY="1")
    live.worker("-c", "1", app="poolsapp")
    result = live.app("poolsapp").twice.delay()
    wait_until(lambda: live.has("twice.started"), 40)
    started = (live.folder / "twice.started").stat().st_mtime
    wait_until(lambda: time.time() - started > 2, what="the visibility timeout is over")
    # A worker that starts takes back what has not been acknowledged in time; others look every 100 s.
    live.worker("-c", "1", app="poolsapp")

    def states() -> list[str]:
        run = live.run(result.id)
        return [one.state for one in queries.attempts(live.store(), result.id)] if run else []

    wait_until(lambda: states()[:2] == ["running", "running"], 60, what=lambda: str(states()))
    assert live.run(result.id).state == "running"
    redelivered = [one.redelivered for one in queries.attempts(live.store(), result.id)]
    live.go("twice")
    live.wait_state(result.id, "succeeded")

    assert redelivered[:2] == [False, True]


def test_priorities_change_the_order_and_no_state(make_live: MakeLive, places: Places) -> None:
    live = make_live(**places("redis"))
    stage = Stage(live, "solo")
    stage.worker()
    stage.tasks.wait_late.delay("slot")
    stage.started("slot")

    runs = [stage.plain.ok.apply_async(priority=priority).id for priority in (9, 3, 0)]
    live.go("slot")
    ended = [live.wait_state(run_id, "succeeded") for run_id in runs]

    # On Redis a smaller number comes first.
    assert sorted(ended, key=lambda run: float(run.started_at)) == ended[::-1]
