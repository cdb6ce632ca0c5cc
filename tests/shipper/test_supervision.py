"""What a worker does about the shipper of its journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from waiting import wait_until

from plet_celery import presence
from plet_celery.holder import STRANGE_SECONDS, Action, Stillness, Strangers, decide
from plet_celery.spawning import spawn_shipper
from plet_celery.supervision import FarewellStep, SupervisionStep, Watch, configure, watch_of


def beat(mono: float = 1.0, **changes: Any) -> presence.Beat:
    facts: dict[str, Any] = {
        "process": presence.this_process(),
        "role": "shipper",
        "wall": 1000.0,
        "plet": "1",
        "fingerprint": "mine",
        "state": "serving",
    }
    return presence.Beat(mono=mono, **(facts | changes))


def decided(**changes: Any) -> Action:
    facts: dict[str, Any] = {
        "held": False,
        "starting": False,
        "frozen": False,
        "visible": False,
        "beat": None,
        "key": "1 mine",
        "wall": 1000.0,
    }
    return decide(**(facts | changes))


def test_a_journal_that_nobody_serves_gets_a_shipper() -> None:
    assert decided() is Action.SPAWN


def test_a_served_journal_is_left_alone() -> None:
    assert decided(held=True, beat=beat()) is Action.NOTHING


def test_a_shipper_on_its_way_is_waited_for() -> None:
    assert decided(starting=True) is Action.NOTHING


def test_a_frozen_shipper_in_sight_is_ended() -> None:
    assert decided(held=True, frozen=True, visible=True, beat=beat()) is Action.END_FROZEN


def test_a_frozen_shipper_out_of_sight_loses_its_lock() -> None:
    assert decided(held=True, frozen=True, beat=beat()) is Action.SEIZE


def test_a_process_that_only_flushes_is_never_killed() -> None:
    assert decided(held=True, frozen=True, visible=True, beat=beat(role="drain")) is Action.SEIZE


def test_a_shipper_that_stepped_down_for_others_leaves_them_time() -> None:
    for_others = beat(yields_to="2 theirs", wall=995.0)

    assert decided(beat=for_others) is Action.NOTHING
    assert decided(beat=for_others, wall=1005.0) is Action.SPAWN
    assert decided(beat=for_others, key="2 theirs") is Action.SPAWN


def test_a_beat_that_changes_is_never_still() -> None:
    stillness = Stillness()

    assert [stillness.seconds(beat(mono=tick), tick) for tick in (2.0, 4.0, 6.0)] == [0.0, 0.0, 0.0]


def test_a_beat_that_stands_still_grows_old() -> None:
    stillness, same = Stillness(), beat()

    assert [stillness.seconds(same, now) for now in (2.0, 4.0, 6.0)] == [0.0, 2.0, 4.0]


def test_a_pause_of_our_own_does_not_make_a_shipper_look_frozen() -> None:
    """A stopped container wakes up as a whole: the worker may look before the shipper beats."""
    stillness, same = Stillness(), beat()
    stillness.seconds(same, 2.0)

    assert stillness.seconds(same, 3600.0) == 0.0


def test_a_shipper_with_other_settings_is_told_once_and_only_when_it_stays() -> None:
    strangers, theirs = Strangers(), beat(fingerprint="theirs")

    assert strangers.seen(theirs, "mine", 0.0) == ""
    assert strangers.seen(beat(fingerprint="mine"), "mine", 2.0) == ""
    assert strangers.seen(theirs, "mine", STRANGE_SECONDS) == ""
    assert strangers.seen(theirs, "mine", 2 * STRANGE_SECONDS) == "theirs"
    assert strangers.seen(theirs, "mine", 9 * STRANGE_SECONDS) == ""


def test_a_process_that_only_flushes_is_no_stranger() -> None:
    strangers, flushing = Strangers(), beat(fingerprint="theirs", role="drain")

    assert not any(strangers.seen(flushing, "mine", now) for now in (0.0, 2 * STRANGE_SECONDS))
    assert not strangers.seen(None, "mine", 9 * STRANGE_SECONDS)


def config(journal: Path, **settings: Any) -> dict[str, Any]:
    chosen = {"shipper": "spawn", "enabled": True, "lease_stale": 30.0, "drain_timeout": 0.2} | settings
    return {"settings": chosen, "journal": str(journal), "home": str(journal), "fingerprint": "mine"}


@pytest.mark.parametrize("settings", [{"shipper": "external"}, {"shipper": "off"}, {"enabled": False}])
def test_external_and_off_never_spawn(tmp_path: Path, settings: dict[str, Any]) -> None:
    watch = Watch(lambda: config(tmp_path, **settings))

    watch.start()

    assert not watch._is_coming()


def test_a_stopping_worker_spawns_no_shipper(tmp_path: Path) -> None:
    watch = Watch(lambda: config(tmp_path))
    watch._pid = os.getpid()
    watch.close()

    watch.look()

    assert not watch._is_coming()


def test_a_forked_child_does_not_watch(tmp_path: Path) -> None:
    watch = Watch(lambda: config(tmp_path))
    watch._pid = os.getppid()

    watch.look()

    assert not watch.is_active
    assert not watch._is_coming()


@pytest.mark.parametrize(("role", "code"), [("drain", 3), ("shipper", 0)])
def test_of_its_children_a_worker_reaps_shippers_only(tmp_path: Path, role: str, code: int) -> None:
    watch = Watch(lambda: config(tmp_path))
    watch._pid, watch._spawner._not_before = os.getpid(), float("inf")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 60)
        process = presence.process_of(child.pid)
        assert process is not None
        presence.write_beat(tmp_path, beat(role=role, process=process))

        watch.look()

        # Popen says 0 where somebody else has waited for its child.
        assert child.wait() == code


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_a_child_that_never_reads_its_document_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def deaf(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return popen([argv[0], "-c", "import signal; signal.pause()"], **options)

    popen = subprocess.Popen
    monkeypatch.setattr("plet_celery.spawning.subprocess.Popen", deaf)
    monkeypatch.setattr("plet_celery.spawning._WRITE_SECONDS", 0.1, raising=False)

    child = spawn_shipper(config(tmp_path) | {"objectives": "x" * size})

    try:
        assert child.poll() is None
        assert child.stdin is not None
        assert child.stdin.closed
    finally:
        child.kill()
        child.wait()


def test_a_farewell_without_a_shipper_does_not_wait(tmp_path: Path) -> None:
    said: list[str] = []
    watch = Watch(
        lambda: config(tmp_path, drain_timeout=60.0), before_drain=lambda: said.append("last event")
    )
    watch._pid = os.getpid()

    assert not watch.farewell()

    assert said == ["last event"]


def test_configuring_an_app_adds_both_steps_and_the_newest_watch_counts() -> None:
    app = Celery("supervised", set_as_current=False)

    configure(app, dict)
    newest = configure(app, dict)

    assert watch_of(app) is newest
    assert SupervisionStep in app.steps["worker"]
    assert FarewellStep in app.steps["consumer"]
