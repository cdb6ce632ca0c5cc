"""Promises as values: what they take, what they refuse, how they become JSON and back, and their ids."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import plet_celery
from plet_celery import FinishBy, Freshness, MaxRuntime, MaxWait, StartBy, SuccessRate
from plet_celery.errors import SettingsError
from plet_celery.objectives import KINDS, P95, Declared, Objective, declared, from_plain, to_plain
from plet_celery.settings_sources import load_settings

EACH = (
    MaxWait(60, severity="critical", pending_for=30, keep_firing_for=60, name="web", advice="Call Ada."),
    StartBy("02:30", zone="Europe/Berlin", days="mon-fri", within=3600),
    MaxRuntime(900, scope="canvas", target=0.95, window=86_400),
    FinishBy("06:00"),
    Freshness("*/15 8-17 * * mon-fri", grace=120, zone="Asia/Tokyo"),
    Freshness(3600),
    SuccessRate(0.99, window=3600, min_runs=20),
    P95(30, window=3600),
)


@pytest.mark.parametrize("objective", EACH, ids=lambda one: f"{one.kind} {one.name}")
def test_a_promise_survives_the_way_through_json(objective: Objective) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(objective)))) == objective
    assert pickle.loads(pickle.dumps(objective)) == objective
    assert hash(objective) == hash(from_plain(to_plain(objective)))


def test_every_kind_is_public_and_frozen() -> None:
    assert {one.kind for one in EACH} == set(KINDS)
    for made in KINDS.values():
        assert getattr(plet_celery, made.__name__) is made
    with pytest.raises(dataclasses.FrozenInstanceError):
        EACH[0].name = "x"  # type: ignore[misc]


def test_json_has_the_kind_and_what_is_no_default() -> None:
    assert to_plain(MaxWait(60)) == {"kind": "max_wait", "seconds": 60.0}
    assert to_plain(Freshness(3600, severity="critical")) == {
        "kind": "freshness",
        "severity": "critical",
        "every": 3600.0,
    }


def test_a_duration_may_be_a_timedelta() -> None:
    assert MaxWait(timedelta(minutes=2)) == MaxWait(120)
    assert Freshness(timedelta(hours=1), grace=timedelta(minutes=5)) == Freshness(3600, grace=300)


class Mute:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("mute")


def wrong(value: Any) -> Any:
    """Return a value of another type than is asked for."""
    return value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MaxWait(0), "MaxWait: seconds = 0 cannot be used; give seconds or a timedelta"),
        (lambda: MaxWait(float("nan")), "seconds = nan cannot be used"),
        (lambda: MaxWait(True), "seconds = True cannot be used"),
        (lambda: MaxWait(wrong("60")), "seconds = '60' cannot be used"),
        (lambda: MaxWait(60, scope="canvas"), "scope = 'canvas' cannot be used; it is one of 'run'"),
        (
            lambda: MaxWait(60, severity="high"),
            "severity = 'high' cannot be used; it is one of 'warning",
        ),
        (lambda: MaxWait(60, pending_for=-1), "pending_for = -1 cannot be used"),
        (lambda: MaxWait(60, name="n" * 65), "give text of at most 64 characters"),
        (lambda: MaxRuntime(60, target=1.5), "target = 1.5 cannot be used; give a share"),
        (lambda: MaxRuntime(60, window=10), "window = 10 cannot be used"),
        (lambda: StartBy("2:30"), "StartBy: time = '2:30' cannot be used; write it as \"HH:MM\""),
        (lambda: StartBy("24:00"), "time = '24:00' cannot be used"),
        (lambda: StartBy(wrong(230)), "time = 230 cannot be used"),
        (
            lambda: FinishBy("06:00", zone="Mars/Phobos"),
            "zone = 'Mars/Phobos' cannot be used; give the",
        ),
        (lambda: FinishBy("06:00", zone="../../etc/passwd"), "zone = '../../etc/passwd' cannot be used"),
        (lambda: FinishBy("06:00", days="workdays"), "days = 'workdays' cannot be used"),
        (lambda: FinishBy("06:00", days="1 2"), "days = '1 2' cannot be used"),
        (
            lambda: Freshness("every hour"),
            "every = 'every hour' cannot be used; write seconds",
        ),
        (lambda: Freshness("61 * * * *"), "every = '61 * * * *' cannot be used"),
        (lambda: Freshness("0 0 31 2 *"), "every = '0 0 31 2 *' cannot be used"),
        (lambda: Freshness(0.5), "every = 0.5 cannot be used"),
        (lambda: SuccessRate(0), "SuccessRate: target = 0 cannot be used"),
        (lambda: SuccessRate(0.9, min_runs=0), "min_runs = 0 cannot be used; give a whole number"),
        (
            lambda: from_plain({"kind": "max_weight"}),
            "objective kind 'max_weight' is unknown; the kinds are",
        ),
        (lambda: from_plain({"seconds": 3}), "objective kind None is unknown"),
        (
            lambda: from_plain({"kind": "max_wait", "second": 3}),
            "MaxWait has no 'second'; it takes advice",
        ),
        (lambda: from_plain({"kind": "max_wait"}), "missing 1 required positional argument: 'seconds'"),
        (
            lambda: MaxWait(60, name="a\x00b"),
            "name = 'a\\x00b' cannot be used; no database stores NUL or half a surrogate pair; take it out",
        ),
        (lambda: MaxWait(60, advice="call \ud83d"), "advice = 'call \\ud83d' cannot be used; no database"),
        (lambda: FinishBy("06:00", zone="UTC\x00"), "zone = 'UTC\\x00' cannot be used"),
        (lambda: FinishBy("06:00", zone="\udc80"), "zone = '\\udc80' cannot be used"),
        (lambda: FinishBy("06:00", days="mon\x00"), "days = 'mon\\x00' cannot be used"),
        (lambda: Freshness("0 2 * * \udc80"), "every = '0 2 * * \\udc80' cannot be used"),
        (lambda: MaxWait(10**400), "seconds = 1000"),
        (lambda: MaxWait(-(10**400)), "seconds = -1000"),
        (lambda: MaxWait(10**5000), "seconds = <a int> cannot be used; give seconds"),
        (lambda: MaxWait(60, pending_for=10**400), "pending_for = 1000"),
        (lambda: SuccessRate(10**400), "target = 1000"),
        (lambda: SuccessRate(0.9, min_runs=10**400), "min_runs = 1000"),
        (lambda: P95(30, window=10**400), "window = 1000"),
        (lambda: from_plain({"kind": "max_wait", "seconds": 10**400}), "MaxWait: seconds = 1000"),
        (lambda: MaxWait(wrong(Mute())), "MaxWait: seconds = <a Mute> cannot be used"),
        (lambda: from_plain({"kind": "max_wait", Mute(): 3}), "MaxWait has no <a Mute>; it takes"),
        (lambda: from_plain(60), "objective 60 is no promise; write MaxWait(60)"),
        (lambda: declared(MaxWait(60), "task 'a'"), "task 'a': objectives = MaxWait("),
        (lambda: declared("max_wait", "task 'a'"), "task 'a': objectives = 'max_wait' is no list"),
        (lambda: declared([MaxWait(60), 3], "task 'a'"), "task 'a': objective 3 is no promise"),
        (
            lambda: declared([MaxWait(60), MaxWait(90)], "task 'a'"),
            "task 'a': two MaxWait of severity 'warning'; give one a name or another severity",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_value_and_way_out(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        make()


def test_promises_of_one_kind_may_differ_in_severity_or_name() -> None:
    several = [MaxRuntime(60), MaxRuntime(600, severity="critical"), MaxRuntime(30, name="ideal")]

    assert declared(several, "task 'a'") == tuple(several)


def test_the_id_is_the_same_in_every_process_and_for_every_limit() -> None:
    ids = {
        Declared("shop.load", MaxWait(60)).id,
        Declared("shop.load", MaxWait(90, pending_for=5), "shop.*", "other").id,
    }

    assert ids == {"f3ea4ac2122f37b7"}


@pytest.mark.parametrize(
    "other",
    [
        Declared("shop.index", MaxWait(60)),
        Declared("shop.load", MaxRuntime(60)),
        Declared("shop.load", MaxWait(60, severity="critical")),
        Declared("shop.load", MaxWait(60, name="web")),
    ],
)
def test_the_id_differs_by_task_kind_severity_and_name(other: Declared) -> None:
    assert other.id != Declared("shop.load", MaxWait(60)).id


def test_a_declared_promise_survives_the_way_through_json() -> None:
    one = Declared("shop.load", MaxWait(60), "shop.*", "shop")

    plain = json.loads(json.dumps(one.to_plain()))

    assert Declared.from_plain(plain) == one
    assert plain["id"] == one.id


@pytest.mark.parametrize(
    "given",
    [
        {"shop.*": [{"kind": "max_wait", "seconds": 10**400}]},
        {"shop.*": [{"kind": "max_wait", "seconds": 10**5000}]},
        {"shop.*": [{"kind": "max_wait", "seconds": 60, "advice": "\ud83d"}]},
        {"shop.*": [{"kind": "max_wait", "seconds": Mute()}]},
        {"shop\x00*": [{"kind": "max_wait", "seconds": 60}]},
        {"shop\ud83d*": [{"kind": "max_wait", "seconds": 60}]},
    ],
)
def test_the_setting_refuses_what_a_promise_refuses(given: Any) -> None:
    with pytest.raises(SettingsError, match="plet_objectives = "):
        load_settings({"plet_objectives": given}, {})
