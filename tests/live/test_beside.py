"""Runs that share one process never mix: what each says, counts and uses stays its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.scenarios import POOL_OPTIONS
from waiting import wait_until

from plet_celery import presence
from plet_celery.store import queries

MakeLive = Callable[..., Any]
ROUNDS = 60


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_two_tasks_at_once_never_mix(make_live: MakeLive, pool: str) -> None:
    live = make_live()
    live.worker(*POOL_OPTIONS[pool], app="poolsapp", PLET_META_RATE="20")
    app = live.app("poolsapp")

    results = {
        "anna": app.talk_beside.delay("anna", "bert"),
        "bert": app.talk_beside.delay("bert", "anna"),
    }
    seen: dict[str, list[dict[str, Any]]] = {"anna": [], "bert": []}

    def both_told() -> bool:
        for name, result in results.items():
            if result.state == "PROGRESS" and isinstance(result.info, dict):
                seen[name].append(result.info)
        return all(seen.values())

    wait_until(both_told, 40)
    live.go("beside")
    runs = {name: live.wait_state(result.id, "succeeded", timeout=60) for name, result in results.items()}

    for name, run in runs.items():
        said = [line for line in queries.stored_log(live.store(), run.id) if line.logger != "plet_celery"]
        expected = {
            f"{name} {what} {number}" for what in ("prints", "logs", "tells") for number in range(ROUNDS)
        }
        expected |= {f"{name} ends unfinished", f"{name}.py:1: UserWarning: {name} warns"}
        texts = [line.text.partition("\n")[0] for line in said]
        assert set(texts) == expected
        assert len(texts) == len(expected)
        assert run.metadata == {"name": name}
        stages = queries.stages(live.store(), run.id)
        assert [(one.name, one.unit, one.state) for one in stages] == [
            ("first", name, "succeeded"), ("second", name, "succeeded"), ("third", name, "succeeded"),
        ]  # fmt: skip
        assert [stages[0].current, stages[1].current] == [ROUNDS, ROUNDS]
        # Between two stages there is nothing to describe.
        assert {info["description"] for info in seen[name]} - {""} <= {
            *(f"{name} is at {number}" for number in range(ROUNDS)), f"{name} waits", "second", "third",
        }  # fmt: skip
        assert {stage["unit"] for info in seen[name] for stage in info["stages"]} == {name}
        (attempt,) = queries.attempts(live.store(), run.id)
        if pool == "threads":
            assert set(attempt.usage or {}) == {"cpu_user", "cpu_system"}
            assert (attempt.usage or {})["cpu_user"] < run.runtime
        else:
            assert not attempt.usage
    assert len({queries.attempts(live.store(), run.id)[0].pid for run in runs.values()}) == 1
    shipper = presence.read_beat(next(live.home.glob("journal/*")))
    assert shipper is not None
    maps = Path(f"/proc/{shipper.process.pid}/maps").read_text()
    assert re.search("sqlite", maps) and not re.search("gevent|greenlet.*hub", maps)
