"""Killed anywhere, monitors lose no transition, and no transition reaches a channel with two keys.

The deliverers are real processes that send to a real receiver and die by SIGKILL at a random call; the
receiver is the witness. Two careless ways to deliver fail the same test.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from services import new_database
from waiting import wait_until
from webhooks import Receiver, Request, answer, close, receiving

from plet_celery.store import open_store

pytestmark = pytest.mark.slow

KILLS: Final = 40
CASES: Final = [("sqlite", 0), ("postgresql", 5), ("mariadb", 6)]
"""`benchmarks/killed_passes.py` kills 300 whole passes."""
SCRIPT: Final = Path(__file__).with_name("delivering.py")
SIGKILL: Final = 9
KINDS: Final = ("fired", "worse", "resolved")
"""What is told of each alert."""


class Witness:
    """What reached the receiver, and what it said to that."""

    def __init__(self, seed: int, *, is_reliable: bool) -> None:
        self.keys: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.bodies: dict[str, set[bytes]] = defaultdict(set)
        self.taken: set[tuple[str, str, str]] = set()
        self.requests = 0
        self._chance = random.Random(seed)
        self._is_reliable = is_reliable

    def behave(self, receiver: Receiver, peer: socket.socket, request: Request) -> None:
        """Take it, refuse it, or close without a word after having read it."""
        body = json.loads(request.body)
        one = (body["subject"], body["kind"], request.place)
        self.requests += 1
        self.keys[one].add(request.headers["Idempotency-Key"])
        self.bodies[request.headers["Idempotency-Key"]].add(request.body)
        mood = 0.0 if self._is_reliable else self._chance.random()
        if mood < 0.8:
            # Whoever is killed now has been heard: this counts as taken, whether it hears of it or not.
            self.taken.add(one)
            answer(200)(receiver, peer, request)
        elif mood < 0.9:
            answer(503)(receiver, peer, request)
        else:
            close(receiver, peer, request)


class Monitors:
    """Processes one after the other, on one store."""

    def __init__(self, process: subprocess.Popen[str], seed: int) -> None:
        self._process = process
        self._chance = random.Random(seed)
        self.kills = 0
        self.rounds = 0

    def run(self, subjects: list[str], kill_at: int | None) -> dict[str, Any]:
        """One of them."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"round": self.rounds, "subjects": subjects, "kill_at": kill_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        done: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.rounds += 1
        assert done.get("signal", SIGKILL) == SIGKILL, done
        self.kills += "signal" in done
        return done

    def die(self, count: int) -> list[str]:
        """Let `count` of them be killed anywhere; return the alerts that they were about."""
        calls = self.run(["warm up"], None)["calls"]
        subjects = ["warm up"]
        while self.kills < count:
            if self.kills % 3 == 0:
                subjects.append(f"alert {self.rounds}")
            done = self.run(subjects[-3:], self._chance.randint(1, calls))
            # A lively one tells how long a run is by now.
            calls = max(calls // 2, done.get("calls", calls))
        return subjects

    def finish(self, subjects: list[str]) -> None:
        """Let them live until all is written and nothing waits."""
        for _ in KINDS:
            self.run(subjects, None)
        wait_until(lambda: self.run(subjects, None)["waiting"] == 0, 120, every=0.2)


@contextmanager
def monitors(url: str, port: int, *, seed: int, careless: str = "") -> Iterator[Monitors]:
    given = {"url": url, "port": port, "careless": careless, "timeout": 5.0, "hold": 0.0}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=SCRIPT.parents[1],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    try:
        yield Monitors(process, seed)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def tortured(url: str, kills: int, *, seed: int, careless: str = "") -> tuple[Witness, set[tuple[str, str]]]:
    """Kill monitors, let the last ones live; return what the receiver saw, and the stored transitions."""
    store = open_store(url)
    store.ensure_schema()
    witness = Witness(seed, is_reliable=bool(careless))
    with (
        receiving(witness.behave) as receiver,
        monitors(url, receiver.port, seed=seed, careless=careless) as found,
    ):
        subjects = found.die(kills)
        found.finish(subjects)
        assert found.kills >= kills
    own = store.tables.watching
    query = (
        sa.select(own.alert.c.subject, own.transition.c.kind)
        .join(own.alert, own.alert.c.id == own.transition.c.alert_id)
        .where(own.transition.c.kind.in_(KINDS))
    )
    unsent = sa.select(own.delivery.c.state, own.delivery.c.status).where(own.delivery.c.state != "delivered")
    with store.reading() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
        assert connection.execute(unsent).all() == []
    store.close()
    # Each alert has fired, become worse and resolved, once.
    assert sorted(rows) == sorted((subject, kind) for subject in subjects for kind in KINDS)
    stored = set(rows)
    return witness, stored


def lost(witness: Witness, stored: set[tuple[str, str]]) -> set[tuple[str, str, str]]:
    """What no channel's receiver has taken."""
    return {(*one, f"/{name}") for one in stored for name in ("ops", "team")} - witness.taken


@pytest.mark.parametrize(("engine", "seed"), CASES)
@pytest.mark.timeout(900)
def test_killed_anywhere_nothing_is_lost_and_nothing_has_two_keys(
    engine: str, seed: int, tmp_path: Path
) -> None:
    with new_database(engine, tmp_path) as url:
        witness, stored = tortured(url, KILLS, seed=seed)

    assert lost(witness, stored) == set()
    assert {one for one, keys in witness.keys.items() if len(keys) > 1} == set()
    # Every key is of one transition and channel, and says the same each time.
    assert sum(map(len, witness.keys.values())) == len(witness.bodies)
    assert all(len(bodies) == 1 for bodies in witness.bodies.values())
    # Kills between sending and writing have happened: some messages came more than once.
    assert witness.requests > len(witness.taken)


@pytest.mark.timeout(900)
def test_the_negative_control_a_key_for_each_try_is_found_out(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as url:
        witness, _ = tortured(url, KILLS, seed=6, careless="key")

    assert {one for one, keys in witness.keys.items() if len(keys) > 1}


@pytest.mark.timeout(900)
def test_the_negative_control_marking_before_sending_is_found_out(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as url:
        witness, stored = tortured(url, KILLS, seed=7, careless="order")

    assert lost(witness, stored)
