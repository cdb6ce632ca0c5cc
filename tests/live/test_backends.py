"""Result backends: progress while it runs where the backend can carry it, and always the right end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from services import new_database
from waiting import wait_until

from plet_celery import TrackedResult

pytestmark = pytest.mark.slow

MakeLive = Callable[..., Any]
BACKENDS = ("redis", "rpc", "rpc over redis", "db", "filesystem", "none")
SILENT = ("rpc over redis", "filesystem", "none")


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], dict[str, str]]]:
    with ExitStack() as stack:

        def make(backend: str) -> dict[str, str]:
            if backend == "db":
                return {"LIVE_BACKEND": "db+" + stack.enter_context(new_database("postgresql"))}
            if backend == "filesystem":
                (tmp_path / "results").mkdir()
                return {"LIVE_BACKEND": f"file://{tmp_path / 'results'}"}
            if backend == "rpc":
                return {"LIVE_BROKER": request.getfixturevalue("rabbitmq_url"), "LIVE_BACKEND": "rpc://"}
            address = {"redis": None, "rpc over redis": "rpc://", "none": "disabled://"}[backend]
            return {"LIVE_BACKEND": address} if address else {}

        yield make


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_and_the_end_come_through(
    make_live: MakeLive, places: Callable[[str], dict[str, str]], backend: str
) -> None:
    live = make_live(**places(backend))
    live.worker("-c", "4", app="poolsapp", PLET_META_RATE="100")
    app = live.app("poolsapp")

    good = [app.hurry.delay("return") for _ in range(3)]
    bad = [app.hurry.delay("fail") for _ in range(2)]
    unseen = app.hurry_unseen.delay()
    told: set[str] = set()
    percents: list[float] = []

    def is_over(result: Any) -> bool:
        if backend == "none":
            return bool(live.run(result.id) and live.run(result.id).state in ("succeeded", "failed"))
        state = result.state
        told.add(state)
        if state == "PROGRESS":
            progress = TrackedResult(result.id, app=app.app, backend=result.backend).progress
            if progress.percent is not None:
                percents.append(progress.percent)
        return state in ("SUCCESS", "FAILURE")

    def are_over() -> bool:
        over = all(is_over(result) for result in good + bad)
        if percents or backend in SILENT:
            live.go("hurry")
        return over

    wait_until(are_over, 60)
    runs = [live.wait_state(result.id, "succeeded", "failed") for result in [*good, *bad, unseen]]

    assert [run.state for run in runs] == ["succeeded"] * 3 + ["failed"] * 2 + ["succeeded"]
    assert ("PROGRESS" in told) == (backend not in SILENT)
    if backend not in SILENT:
        assert percents
    live.stop(live.processes[0])
    if backend != "none":
        assert [result.state for result in good] == ["SUCCESS"] * 3
        assert [result.get(timeout=20) for result in good] == ["return"] * 3
        assert [result.state for result in bad] == ["FAILURE"] * 2
        assert isinstance(bad[0].result, ValueError)
    tracked = TrackedResult(good[0].id, app=app.app, fresh=10)
    if "rpc" not in backend:  # whose messages the caller's own result has taken
        assert tracked.progress.percent == 100.0
    assert [stage.name for stage in tracked.stages] == ["hurry", "last"]
    error = TrackedResult(bad[0].id, app=app.app).error
    assert error is not None and error["message"] == "at the very end"


def test_an_rpc_backend_tells_progress_to_the_caller_only(make_live: MakeLive, rabbitmq_url: str) -> None:
    live = make_live(LIVE_BROKER=rabbitmq_url, LIVE_BACKEND="rpc://")
    live.worker("-c", "1", app="poolsapp")
    app = live.app("poolsapp")

    result = app.attend.delay("caller")
    other = live.app("poolsapp")  # another caller, with a queue of its own
    wait_until(lambda: result.state == "PROGRESS", 40)

    assert TrackedResult(result.id, app=other.app).state == "PENDING"
    # What the store tells, everybody can read.
    wait_until(lambda: TrackedResult(result.id, app=other.app).progress.stage == "attend", 20)
    live.go("caller")
    assert result.get(timeout=40) == "caller"
    other.app.close()


def test_with_plet_off_results_are_what_celery_makes_of_them(make_live: MakeLive) -> None:
    live = make_live()
    worker = live.worker("-c", "2", app="poolsapp", PLET_ENABLED="0")
    app = live.app("poolsapp")

    live.go("hurry")
    good, bad = app.hurry.delay("return", 1.5), app.hurry.delay("fail", 1.5)
    states: set[str] = set()

    def is_over() -> bool:
        states.update((good.state, bad.state))
        return bool(good.ready() and bad.ready())

    wait_until(is_over, 40)

    assert (good.state, bad.state) == ("SUCCESS", "FAILURE")
    assert "PROGRESS" not in states
    live.stop(worker)
    assert not live.home.exists()
