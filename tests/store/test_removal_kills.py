"""Killed anywhere, a removal that is done again ends in the same state, and nothing else is removed.

The work is done in forked children that send themselves SIGKILL at a random call; then by one that lives.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from removing import DAY, Host, counts, folders_below, texts
from storing import new_store, url_of

from plet_celery.store import erasing, open_store, queries, retention
from plet_celery.store.retention import Bounds

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-of-acme"
ROUNDS = 9
KILLS_PER_ROUND = 7


def build(folder: Path) -> None:
    """A host with runs that expire, runs of a tenant that is erased, and runs that stay."""
    folder.mkdir()
    (folder / "share").mkdir()
    store = new_store(folder)
    host = Host(store, folder / "a", mirror=folder / "share")
    for _ in range(3):
        host.run(age=40 * DAY)
        host.run(tenant="acme/site1", text=CANARY)
        host.run(tenant="acme2")
    assert host.mirror is not None
    host.mirror.turn()
    host.close()
    store.close()


def remove_all(folder: Path) -> None:
    """What the commands and the shipper do, until nothing is left to do."""
    store = open_store(url_of(folder / "plet.db"))
    host = Host(store, folder / "a", mirror=folder / "share")
    assert host.mirror is not None
    try:
        erasing.erase_tenant(store, "acme", mirror=True)
        for _ in range(4):
            retention.prune(store, Bounds(mirror=True), holder="one", wall=time.time())
            while host.remover.turn(store):
                host.mirror.turn()
            # Killed between a copy's removal and the word of it, only the mirror has something left to do.
            host.mirror.turn()
    finally:
        host.close()
        store.close()


def state(folder: Path) -> dict[str, Any]:
    """What can be seen of it, without what says when."""
    store = open_store(url_of(folder / "plet.db"))
    try:
        found = counts(store)
        del found["info"]
        return {
            "rows": found,
            "runs": sorted(one.tenant for one in queries.list_runs(store).items),
            "folders": [one.split("/")[0] for one in folders_below(folder / "a" / "runs")],
            "copies": [one.split("/")[1] for one in folders_below(folder / "share")],
            "canary": sum(CANARY in text for text in texts(store)) + _canaries(folder),
        }
    finally:
        store.close()


def _canaries(folder: Path) -> int:
    files = [file for place in ("a", "share") for file in (folder / place).rglob("*") if file.is_file()]
    return sum(CANARY.encode() in file.read_bytes() for file in files)


def forked(work: Callable[[], None], kill_at: int | None) -> int | None:
    """Do the work in a child, killed at its `kill_at`-th call; return how many calls it took, if it lived."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal made
            if event in ("call", "c_call"):
                made += 1
                if made == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.setprofile(count)
            work()
            sys.setprofile(None)
            os.write(writing, json.dumps(made).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as told:
        answer = told.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return int(answer) if answer else None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("kills") / "built"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(built: Path) -> tuple[dict[str, Any], int]:
    """How it ends without a kill, and how many calls that takes."""
    folder = built.with_name("undisturbed")
    shutil.copytree(built, folder)
    calls = forked(lambda: remove_all(folder), None)
    assert calls is not None
    return state(folder), calls


def test_the_undisturbed_end_is_the_right_one(built: Path, undisturbed: tuple[dict[str, Any], int]) -> None:
    before, (found, _) = state(built), undisturbed

    assert before["canary"] > 0 and len(before["runs"]) == 9
    assert found["runs"] == ["acme2"] * 3
    assert found["folders"] == found["copies"] == ["acme2"] * 3
    assert found["canary"] == 0
    assert found["rows"]["removal_part"] == 0


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_anywhere_and_repeated_it_ends_the_same(
    built: Path, undisturbed: tuple[dict[str, Any], int], tmp_path: Path, seed: int
) -> None:
    wanted, calls = undisturbed
    chance, folder = random.Random(seed), tmp_path / "copy"
    shutil.copytree(built, folder)

    kills = 0
    while kills < KILLS_PER_ROUND:
        # Where little is left to do, a late call never comes.
        if forked(lambda: remove_all(folder), chance.randrange(1, max(2, calls // (1 + kills)))) is None:
            kills += 1
        else:
            calls //= 2
    assert forked(lambda: remove_all(folder), None) is not None

    assert state(folder) == wanted


def test_what_it_would_leave_or_take_too_much_is_seen(
    built: Path, undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    """Negative control: half the work, and one folder too many, are other states."""
    wanted, calls = undisturbed
    folder = tmp_path / "copy"
    shutil.copytree(built, folder)
    assert forked(lambda: remove_all(folder), calls // 2) is None
    assert state(folder) != wanted
    assert forked(lambda: remove_all(folder), None) is not None
    assert state(folder) == wanted
    (one, *_) = folders_below(folder / "a" / "runs")
    shutil.rmtree(folder / "a" / "runs" / one)
    assert state(folder) != wanted
