"""Runs that wait in queues: which is the oldest, and what hides it."""

from __future__ import annotations

import pytest
from scenes import DAY, HOUR, Scene, at

from plet_celery.store import Store, waiting


def test_runs_that_must_not_begin_yet_hide_none_that_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "COUNT_MAX", 20)
    scene = Scene(store, at("2031-03-03 08:00"))
    scene.hold()
    for number in range(70):
        scene.publish("shop.remind", eta=scene.clock + DAY)
        # Many at one moment, too.
        scene.clock += number // 30
    old = scene.publish("shop.load")
    scene.clock += 10
    scene.publish("shop.load")
    scene.release()

    found = waiting.waiting_by_queue(store, now=scene.clock + HOUR)

    assert found.is_whole
    (one,) = found.by_queue.values()
    assert (one.oldest_run, one.oldest_at, one.runs) == (old.id, old.queued_at, 2)
    assert (
        waiting.waiting_by_queue(store, now=scene.clock + 2 * DAY).by_queue["q"].oldest_task == "shop.remind"
    )


def test_where_too_many_must_not_begin_yet_it_is_not_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "COUNT_MAX", 5)
    monkeypatch.setattr(waiting, "PAGES_MAX", 2)
    scene = Scene(store, at("2031-03-03 08:00"))
    scene.hold()
    for _ in range(20):
        scene.publish("shop.remind", eta=scene.clock + DAY)
        scene.clock += 1
    scene.publish("shop.load")
    scene.release()

    assert waiting.waiting_by_queue(store, now=scene.clock + HOUR) == ({}, False)
