"""SIGKILL at random points: what was acknowledged is in the store and in the log files, once."""

from __future__ import annotations

import contextlib
import functools
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, end, faults, writing
from waiting import wait_until

from plet_celery.shipper import drain
from plet_celery.spawning import spawn_shipper

SEED = 20261
CARELESS = Path(__file__).parent / "careless.py"


def shipped(config: dict[str, Any]) -> set[tuple[str, int, int]]:
    """How far the store has got, read past all our code."""
    file = Path(config["home"]) / "plet.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        try:
            return set(database.execute("select writer, segment, offset from writer"))
        except sqlite3.OperationalError:
            return set()


def is_over(until: float) -> bool:
    return time.monotonic() >= until


def kill_again_and_again(
    config: dict[str, Any], chance: random.Random, times: int, spawn: Callable[[], subprocess.Popen[bytes]]
) -> int:
    """Spawn a shipper and kill it, `times` times; return how many were killed at work."""
    at_work = 0
    for number in range(times):
        before = shipped(config) if (Path(config["home"]) / "plet.db").exists() else set()
        shipper = spawn()
        try:
            # A few are killed while they start, most when the store is getting rows.
            if number % 8:
                wait_until(functools.partial(is_at_work, config, before), 60, every=0.005)
                at_work += 1
            until = time.monotonic() + chance.uniform(0.0, 0.3 if number % 8 else 1.0)
            wait_until(functools.partial(is_over, until), every=0.002)
            assert shipper.poll() is None
        finally:
            end(shipper)
    return at_work


def is_at_work(config: dict[str, Any], before: set[tuple[str, int, int]]) -> bool:
    return (Path(config["home"]) / "plet.db").exists() and shipped(config) != before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_by_fifty_six_kills(tmp_path: Path) -> None:
    config = document(tmp_path / "home", gather=0.05, batch_max_records=200)
    chance, enough = random.Random(SEED), tmp_path / "enough"
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(writing(config, seed, runs=100_000, lines=40, pause=0.02, stop=str(enough)))
            for seed in range(3)
        ]
        at_work = kill_again_and_again(config, chance, 56, lambda: spawn_shipper(config))
        enough.touch()
        for writer in writers:
            writer.wait()
        said = Said.in_files(*(writer.notes for writer in writers))

    assert drain(config, timeout=120)

    print(f"\nkills=56 at_work={at_work} events={said.events} runs={len(said.kinds)}")
    assert faults(config, said) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_comparison_notices_a_careless_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: checkpoints apart from their data do lose rows and double lines."""
    config = document(tmp_path / "home", gather=0.01, batch_max_records=100)
    popen = subprocess.Popen

    def careless(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return popen([argv[0], str(CARELESS)], **options)

    with writing(config, 1, runs=500, lines=40) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
    monkeypatch.setattr("plet_celery.spawning.subprocess.Popen", careless)
    kill_again_and_again(config, random.Random(SEED), 8, lambda: spawn_shipper(config))
    monkeypatch.undo()

    assert drain(config, timeout=120)

    found = faults(config, said)
    print(
        f"\ncareless: faults={len(found)} of which store={sum(fault.startswith('store:') for fault in found)}"
    )
    assert any(fault.startswith("store:") for fault in found)
    assert any(fault.startswith("files:") for fault in found)
