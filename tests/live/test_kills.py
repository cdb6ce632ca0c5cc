"""SIGKILL of whole workers: what was acknowledged is stored once, and its log has no doubled line."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from plet_celery.errors import LogNotFound
from plet_celery.logfiles import RunLog
from plet_celery.store import queries

MakeLive = Callable[..., Any]


def acknowledged(path: Path) -> int:
    """The last number whose append had returned; a torn last line does not count."""
    numbers = path.read_bytes().rpartition(b"\n")[0].split()
    return int(numbers[-1]) if numbers else 0


def lines_of(log: RunLog) -> Counter[str]:
    try:
        return Counter(line.text for line in log.tail(10**6) if line.stream == "task")
    except LogNotFound:
        return Counter()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_worker_loses_no_acknowledged_line(make_live: MakeLive, seed: int) -> None:
    live = make_live()
    wanted = random.Random(seed).randint(50, 3000)
    worker = live.worker("-c", "1", LIVE_NO_QUEUE="1")
    app = live.app()
    run_id = app.acknowledge.delay("told").id
    wait_until(lambda: live.has("told") and acknowledged(live.folder / "told") >= wanted, 30)

    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    run = live.wait_state(run_id, "lost")

    told = acknowledged(live.folder / "told")
    log = RunLog(live.home / "runs" / run.log_folders[0])
    wait_until(lambda: len(lines_of(log)) >= told, 20)
    counts = lines_of(log)
    assert set(counts.values()) == {1}
    assert {f"line {number}" for number in range(1, told + 1)} <= set(counts)
    stored = [line.text for line in queries.stored_log(live.store(), run_id) if line.stream == "task"]
    assert len(stored) == len(set(stored))
    assert f"line {told}" in stored
    assert run.log_lines >= told
