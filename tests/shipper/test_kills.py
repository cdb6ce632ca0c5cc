"""SIGKILL at random points: what was acknowledged is in the store and in the log files, once."""

from __future__ import annotations

import contextlib
import functools
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, end, faults, is_served_by, writing
from waiting import wait_until

from plet_celery.shipper import drain
from plet_celery.spawning import spawn_shipper

SEED = 20261
CARELESS = Path(__file__).parent / "careless.py"


def is_over(until: float) -> bool:
    return time.monotonic() >= until


def kill_again_and_again(
    config: dict[str, Any], chance: random.Random, times: int, spawn: Callable[[], subprocess.Popen[bytes]]
) -> int:
    """Spawn a shipper and kill it, `times` times; return how many had done something."""
    busy = 0
    for number in range(times):
        shipper = spawn()
        try:
            # A few are killed while they start, most at work.
            if number % 8:
                wait_until(functools.partial(is_served_by, config, shipper), 30, every=0.005)
                busy += 1
            until = time.monotonic() + chance.uniform(0.0, 0.6)
            wait_until(functools.partial(is_over, until), every=0.002)
        finally:
            end(shipper)
    return busy


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_sixty_kills(tmp_path: Path) -> None:
    config = document(tmp_path / "home", gather=0.05, batch_max_records=200)
    chance = random.Random(SEED)
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(writing(config, seed, runs=90, lines=40, pause=0.008)) for seed in range(3)
        ]
        busy = kill_again_and_again(config, chance, 60, lambda: spawn_shipper(config))
        still_writing = sum(writer.process.poll() is None for writer in writers)
        for writer in writers:
            writer.wait()
        said = Said.in_files(*(writer.notes for writer in writers))

    assert drain(config, timeout=120)

    print(
        f"\nkills=60 at_work={busy} writers_left={still_writing} events={said.events} runs={len(said.kinds)}"
    )
    assert faults(config, said) == []


@pytest.mark.slow
def test_the_comparison_notices_a_careless_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: checkpoints apart from their data do lose rows and double lines."""
    config = document(tmp_path / "home", gather=0.01, batch_max_records=100)
    popen = subprocess.Popen

    def careless(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return popen([argv[0], str(CARELESS)], **options)

    with writing(config, 1, runs=200, lines=40) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
    monkeypatch.setattr("plet_celery.spawning.subprocess.Popen", careless)
    kill_again_and_again(config, random.Random(SEED), 12, lambda: spawn_shipper(config))
    monkeypatch.undo()

    assert drain(config, timeout=120)

    found = faults(config, said)
    assert any(fault.startswith("store:") for fault in found)
    assert any(fault.startswith("files:") for fault in found)
