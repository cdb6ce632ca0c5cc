"""Where promises are declared: at a task, or by pattern in the conf or the environment."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, _state, shared_task

from plet_celery import P95, MaxRuntime, MaxWait, Plet, StartBy, SuccessRate, TrackedTask
from plet_celery.errors import SettingsError
from plet_celery.objectives import Declared, Objective


@pytest.fixture(autouse=True)
def tasks_of_this_test() -> Iterator[None]:
    """Give the tasks of a test to no other test's apps: all of them are called the same."""
    shared: set[object] = _state._on_app_finalizers  # type: ignore[attr-defined]
    before = set(shared)
    yield
    shared.intersection_update(before)


def told(plet: Plet) -> list[tuple[str, Objective, str]]:
    """Return what an app promises."""
    return [(one.task, one.objective, one.source) for one in plet.objectives()]


def make_app(**conf: Any) -> tuple[Celery, Plet]:
    """Return an app with a Plet."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update({f"plet_{name}": value for name, value in conf.items()})
    return app, Plet(app)


def test_a_tracked_task_declares_promises() -> None:
    app, plet = make_app()

    @app.task(base=TrackedTask, name="shop.load", objectives=[MaxWait(60), MaxRuntime(900)])
    def load() -> None: ...

    assert load.objectives == (MaxWait(60), MaxRuntime(900))
    assert told(plet) == [("shop.load", MaxWait(60), "task"), ("shop.load", MaxRuntime(900), "task")]
    assert {one.app for one in plet.objectives()} == {"shop"}


def test_a_class_declares_promises() -> None:
    app, plet = make_app()

    class Loading(TrackedTask):
        objectives = [P95(30)]  # noqa: RUF012

    @app.task(base=Loading, name="shop.load")
    def load() -> None: ...

    assert told(plet) == [("shop.load", P95(30), "task")]


def test_a_plain_task_declares_promises_too() -> None:
    app, plet = make_app()

    @app.task(name="shop.plain", objectives=[MaxWait(60)])
    def plain() -> None: ...

    assert told(plet) == [("shop.plain", MaxWait(60), "task")]


def test_a_shared_task_declares_promises() -> None:
    _, plet = make_app()

    @shared_task(base=TrackedTask, name="shop.shared", objectives=[MaxWait(60)])
    def shared() -> None: ...

    assert ("shop.shared", MaxWait(60), "task") in told(plet)


def test_what_a_plain_task_calls_objectives_for_itself_is_none_of_ours() -> None:
    app, plet = make_app()

    @app.task(name="shop.plain", objectives=["sell more"])
    def plain() -> None: ...

    assert told(plet) == []


def test_a_bad_promise_of_a_tracked_task_is_refused_where_it_is_written() -> None:
    app, _ = make_app()

    with pytest.raises(SettingsError, match=re.escape("task 'shop.load': objective 60 is no promise")):

        @app.task(base=TrackedTask, name="shop.load", objectives=[60], lazy=False)
        def load() -> None: ...


def test_the_conf_promises_by_name_pattern_for_plain_tasks_too() -> None:
    app, plet = make_app(objectives={"shop.*": [MaxWait(60)], "*": [SuccessRate(0.9)]})

    @app.task(name="shop.load")
    def load() -> None: ...

    @app.task(name="billing.pay")
    def pay() -> None: ...

    assert told(plet) == [
        ("billing.pay", SuccessRate(0.9), "*"),
        ("shop.load", MaxWait(60), "shop.*"),
        ("shop.load", SuccessRate(0.9), "*"),
    ]


def test_the_nearest_declaration_holds() -> None:
    app, plet = make_app(objectives={"shop.load": [MaxWait(30)], "shop.*": [MaxWait(60), MaxRuntime(60)]})

    @app.task(base=TrackedTask, name="shop.load", objectives=[MaxRuntime(900)])
    def load() -> None: ...

    assert told(plet) == [("shop.load", MaxRuntime(900), "task"), ("shop.load", MaxWait(30), "shop.load")]


def test_a_plain_name_holds_for_a_task_that_only_others_have() -> None:
    _, plet = make_app(objectives={"reports.nightly": [StartBy("02:00")]})

    assert told(plet) == [("reports.nightly", StartBy("02:00", zone="UTC"), "reports.nightly")]


def test_clock_times_follow_the_zone_of_the_app() -> None:
    app, plet = make_app(objectives={"a": [StartBy("02:00")], "b": [StartBy("02:00", zone="Asia/Tokyo")]})
    app.conf.update(timezone="Europe/Berlin")

    assert [getattr(one.objective, "zone", None) for one in plet.objectives()] == [
        "Europe/Berlin",
        "Asia/Tokyo",
    ]


def test_promises_of_what_is_not_recorded_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    app, plet = make_app(objectives={"*": [MaxWait(60)]}, ignore_tasks=("celery.*", "shop.noise"))

    @app.task(name="shop.noise", objectives=[MaxWait(5)])
    def noise() -> None: ...

    with caplog.at_level(logging.WARNING):
        assert told(plet) == []

    assert [record.message for record in caplog.records] == [
        "objective of a task that is not recorded: task=shop.noise kind=max_wait"
    ]


def test_a_shipper_gets_them_as_plain_json(tmp_path: Any) -> None:
    app, plet = make_app(home=str(tmp_path), objectives={"shop.*": [MaxWait(60)]})

    @app.task(name="shop.load")
    def load() -> None: ...

    # That is the project's to do, and when; before, nobody is told that there are none.
    assert "objectives" not in plet.shipper_config()
    assert not getattr(app, "finalized")  # noqa: B009, celery-types does not know it
    app.finalize()
    config = json.loads(json.dumps(plet.shipper_config()))

    assert "objectives" not in config["settings"]
    assert [Declared.from_plain(one) for one in config["objectives"]] == list(plet.objectives())


def test_a_shipper_need_not_step_down_for_another_promise() -> None:
    _, one = make_app()
    _, other = make_app(objectives={"shop.*": [MaxWait(60)]})

    assert one.shipper_config()["fingerprint"] == other.shipper_config()["fingerprint"]


def test_an_app_that_may_not_finalize_itself_promises_what_its_conf_names() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False, autofinalize=False)
    app.conf.plet_objectives = {"shop.load": [MaxWait(60)]}

    assert told(Plet(app)) == [("shop.load", MaxWait(60), "shop.load")]


def test_the_environment_promises_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLET_OBJECTIVES", '{"shop.load": [{"kind": "max_wait", "seconds": 60}]}')
    _, plet = make_app()

    assert told(plet) == [("shop.load", MaxWait(60), "shop.load")]


def test_a_bad_promise_in_the_conf_is_refused() -> None:
    _, plet = make_app(objectives={"shop.*": [{"kind": "max_wait", "seconds": -1}]})

    with pytest.raises(SettingsError, match=re.escape("'shop.*': MaxWait: seconds = -1 cannot be used")):
        plet.objectives()
