# mypy: disable-error-code="untyped-decorator"
"""Thinned tasks: which runs are written, that nothing that matters is lost, and that counts stay honest."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from celery import Task
from hypothesis import given
from hypothesis import strategies as st
from listwriter import ListWriter

from plet_celery import TrackedTask, sampling
from plet_celery.errors import SettingsError
from plet_celery.sampling import HELD_MAX, Thinned
from plet_celery.settings import settings_from_json, settings_to_json
from plet_celery.settings_sources import load_settings

MakeApp = Callable[..., Any]
shares = st.floats(0.0, 1.0)


class Timed(ListWriter):
    """Also keeps when each event is said to have happened; None stands for now."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, float] | None] = []

    def append(self, kind: str, run: str | None, attempt: str | None, data: Any, at: Any = None) -> bool:
        self.times.append(at)
        return super().append(kind, run, attempt, data)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def writer() -> Timed:
    return Timed()


def thinned(writer: Timed, *, is_picked: bool = False, keep_after: float = 3600.0, **more: Any) -> Thinned:
    return Thinned(writer, is_picked=is_picked, weight=100, keep_after=keep_after, **more)


def tell(to: Thinned, *events: Any) -> None:
    for event in events:
        kind, data = event if isinstance(event, tuple) else (event, {})
        to.append(kind, "r", "a", data)


INFO = ("log.written", {"level": 20, "text": "info"})
WARNING = ("log.written", {"level": 30, "text": "warning"})


def test_the_first_pattern_that_fits_decides() -> None:
    given = {"shop.ping": 0.01, "shop.*": 0.5, "shop.pong": 0.1}

    assert [sampling.share_of(name, given) for name in ("shop.ping", "shop.pong", "bank.x")] == [
        0.01,
        0.5,
        1.0,
    ]


@given(st.text(max_size=50), shares, shares)
def test_what_a_share_picks_a_larger_one_picks_too(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))

    assert sampling.is_picked(key, large) or not sampling.is_picked(key, small)
    assert sampling.is_picked(key, 1.0) and not sampling.is_picked(key, 0.0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_weights_add_up_to_all_runs(share: float) -> None:
    """Over fixed ids, so that the answer is always the same; also where ids are counted up."""
    total = 20_000
    ids = [f"order-{number}" for number in range(total)]

    picked = [one for one in ids if sampling.is_picked(one, share)]
    counted = sum(sampling.weight_of(one, share) for one in picked)

    deviation = math.sqrt(total * share * (1 - share)) / share
    assert abs(counted - total) < 4 * deviation + 1
    assert {sampling.weight_of(one, share) for one in picked} <= {math.floor(1 / share), math.ceil(1 / share)}


def test_a_short_success_writes_nothing(writer: Timed) -> None:
    tell(thinned(writer), "run.started", "stage.started", INFO, "stage.succeeded", "run.succeeded")

    assert writer.events == []
    assert writer.drops == {}


@pytest.mark.parametrize(
    "reason",
    [
        WARNING,
        "stage.failed",
        *("run.failed", "run.timed_out", "run.retried", "run.ignored", "run.rejected", "run.interrupted"),
    ],
)
def test_a_reason_writes_what_was_held_with_the_true_times(writer: Timed, reason: Any) -> None:
    before = time.time()
    one = thinned(writer)
    tell(one, "run.started", INFO)
    between = time.time()
    tell(one, reason, INFO, "run.succeeded")

    kind = reason if isinstance(reason, str) else reason[0]
    assert writer.kinds == ["run.started", "log.written", kind, "log.written", "run.succeeded"]
    for at in writer.times[:2]:
        assert at is not None and before <= at[0] <= between
    assert writer.times[2:] == [None, None, None]
    assert "weight" not in writer.events[-1][1]


def test_a_long_run_is_kept_at_its_next_word(writer: Timed) -> None:
    one = thinned(writer, keep_after=0.0)
    tell(one, "run.started", "run.succeeded")

    assert writer.kinds == ["run.started", "run.succeeded"]
    assert "weight" not in writer.events[-1][1]


def test_a_picked_run_is_written_at_once_and_stands_for_others(writer: Timed) -> None:
    one = thinned(writer, is_picked=True)
    tell(one, "run.started", INFO)
    assert writer.kinds == ["run.started", "log.written"]

    tell(one, "run.succeeded")
    assert writer.events[-1] == ("run.succeeded", {"weight": 100})


@pytest.mark.parametrize("reason", [WARNING, "stage.failed"])
def test_a_picked_run_with_a_reason_stands_for_itself(writer: Timed, reason: Any) -> None:
    """It would have been written unpicked: counted for others, too, it would be counted twice."""
    tell(thinned(writer, is_picked=True), "run.started", reason, "run.succeeded")

    assert "weight" not in writer.events[-1][1]


def test_what_is_held_is_bounded_and_what_was_pushed_out_is_told(writer: Timed) -> None:
    one = thinned(writer)
    tell(one, "run.started", *[("log.written", {"level": 20, "i": n}) for n in range(HELD_MAX + 5)], WARNING)

    assert writer.kinds[0] == "run.started"
    assert [data["i"] for _, data in writer.events[1:-1]] == list(range(5, HELD_MAX + 5))
    assert writer.drops == {"sampled": 5}


def test_a_fork_writes_nothing_of_a_run_that_is_not_kept(writer: Timed) -> None:
    one = thinned(writer)
    tell(one, "run.started")
    one.forked()
    tell(one, WARNING, "run.failed")
    assert writer.events == []

    kept = thinned(writer)
    tell(kept, "run.started", WARNING)
    kept.forked()
    tell(kept, INFO)
    assert writer.kinds == ["run.started", "log.written", "log.written"]


@pytest.mark.parametrize(
    "message",
    [{"retries": 1}, {"replaced_task_nesting": 1}, {"delivery_info": {"redelivered": True}}],
)
def test_a_run_that_the_store_knows_is_kept(message: dict[str, Any], writer: Timed) -> None:
    assert sampling.must_keep(message)
    assert not sampling.must_keep({"retries": 0, "delivery_info": {"redelivered": None}, "id": "x"})

    tell(thinned(writer, must_keep=True), "run.started", "run.succeeded")
    assert writer.kinds == ["run.started", "run.succeeded"]


# In an app


def test_a_thinned_task_leaves_no_trace_until_something_happens(make_app: MakeApp) -> None:
    recorded = make_app(plet_sample={"quiet*": 0.0}, plet_sample_keep_after=3600)

    @recorded.app.task(base=TrackedTask, bind=True, shared=False, name="quiet")
    def quiet(self: Any, how: str) -> str:
        with self.stage("work"):
            logging.getLogger("shop").info("working")
            self.metadata["k"] = 1
            self.measure(x=1)
            if how == "fails":
                raise ValueError(how)
            if how == "warns":
                logging.getLogger("shop").warning("odd")
            if how == "retries" and not self.request.retries:
                raise self.retry(countdown=0)
            if how == "forks" and not (pid := os.fork()):
                logging.getLogger("shop").error("in the child")
                os._exit(0)
            elif how == "forks":
                os.waitpid(pid, 0)
        return how

    @recorded.app.task(shared=False, name="loud")
    def loud() -> None: ...

    assert quiet.apply(("ok",)).get() == "ok"
    assert quiet.apply(("forks",)).get() == "forks"
    assert recorded.events() == []
    assert recorded.kinds(loud.apply().id) == ["run.started", "run.succeeded"]

    failed = recorded.kinds(quiet.apply(("fails",)).id)
    assert failed[0] == "run.started" and failed[-2:] == ["stage.failed", "run.failed"]
    warned = recorded.events(quiet.apply(("warns",)).id)
    assert [event.kind for event in warned[:3]] == ["run.started", "stage.started", "metadata.set"]
    assert [event.wall for event in warned] == sorted(event.wall for event in warned)
    assert warned[-1].kind == "run.succeeded" and warned[0].data["args"] == ["warns"]
    quiet.apply(("retries",), task_id="again")
    kinds = recorded.kinds("again")
    assert kinds.count("run.started") == kinds.count("run.retried") + kinds.count("run.succeeded")


def test_a_canvas_is_kept_whole_or_left_out_whole(make_app: MakeApp) -> None:
    recorded = make_app(plet_sample={"member": 0.5}, plet_sample_keep_after=3600)

    @recorded.app.task(shared=False, name="member")
    def member(depth: int) -> None:
        if depth:
            member.apply((depth - 1,))

    canvases = [str(uuid.UUID(int=number)) for number in range(20)]
    for one in canvases:
        member.apply((3,), task_id=one)

    by_canvas: dict[str, int] = {}
    for event in recorded.events():
        if event.kind == "run.succeeded":
            assert event.data["weight"] == 2
        elif event.kind == "run.started":
            by_canvas[event.data["canvas"]] = by_canvas.get(event.data["canvas"], 0) + 1
    expected = {one: 4 for one in canvases if sampling.is_picked(one, 0.5)}
    assert by_canvas == expected and 0 < len(expected) < 20


def test_switched_off_it_writes_nothing_at_all(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLET_ENABLED", "0")
    recorded = make_app(plet_sample={"fail": 0.5})

    @recorded.app.task(shared=False, name="fail")
    def fail() -> None:
        raise ValueError

    fail.apply()

    assert not recorded.plet.home.exists()


def test_a_task_of_celerys_own_kind_can_be_thinned(make_app: MakeApp) -> None:
    recorded = make_app(plet_sample={"*": 0.0}, plet_sample_keep_after=3600)

    @recorded.app.task(base=Task, shared=False, name="plain")
    def plain() -> None: ...

    plain.apply()

    assert recorded.events() == []


# Its setting


def test_shares_come_from_the_conf_or_as_json_from_the_environment() -> None:
    by_conf = load_settings({"plet_sample": {"b": 1, "a.*": 0.5}}, {})
    by_environment = load_settings({}, {"PLET_SAMPLE": '{"b": 1, "a.*": 0.5}'})

    assert list(by_conf.sample.items()) == [("b", 1.0), ("a.*", 0.5)]
    assert by_environment.sample == by_conf.sample == settings_from_json(settings_to_json(by_conf)).sample
    assert load_settings({}, {}).sample == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"a.*": 2}', "'a.*': Input should be less than or equal to 1"),
        ('{"a.*": "half"}', "'a.*': Input should be a valid number"),
        ("a=0.1", "'{\"a.*\": 0.1}'"),
        ("[0.1]", "plet_sample"),
    ],
)
def test_a_share_that_is_none_is_refused(given: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"PLET_SAMPLE": given})

    assert told in str(caught.value)
