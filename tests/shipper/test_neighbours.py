"""A shipper and the journals of other hosts that fell silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosting import HERE, THERE, Host, silence
from storing import new_store
from waiting import wait_until

from plet_celery.shipper.neighbours import Neighbours
from plet_celery.store import IngestLimits, Store, queries

RUN = "00000000-0000-4000-8000-00000000000a"


class OpenSink:
    """What a shipper's store sink is to it."""

    limits = IngestLimits()

    def __init__(self, store: Store) -> None:
        self._store = store

    def store(self) -> Store:
        return self._store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


def neighbours(store: Store, *, fence: bool = True, journal: str = HERE) -> Neighbours:
    return Neighbours(OpenSink(store), journal, lost_after=0.5, fence=lambda: fence)


def looks_until_lost(subject: Neighbours, store: Store, timeout: float = 30.0) -> None:
    def lost() -> bool:
        subject.look(time.monotonic())
        return queries.get_run(store, RUN).state == "lost"

    wait_until(lost, timeout)


def looks_for_a_second(subject: Neighbours) -> None:
    until = time.monotonic() + 1.0

    def looked() -> bool:
        subject.look(time.monotonic())
        return time.monotonic() >= until

    wait_until(looked, every=0.1)


def test_a_silent_host_is_marked_after_a_while_of_looking(store: Store) -> None:
    Host(store, THERE, "borea").start(RUN)
    silence(store, THERE, 1000)
    subject = neighbours(store)

    subject.look(time.monotonic())
    # However old the lease: what was before our first look may have been the database's fault.
    assert queries.get_run(store, RUN).state == "running"
    looks_until_lost(subject, store)

    assert len(queries.host_losses(store)) == 1


def test_while_the_store_fails_now_and_then_nobody_is_marked(store: Store) -> None:
    Host(store, THERE, "borea").start(RUN)
    silence(store, THERE, 1000)
    subject = neighbours(store)
    until = time.monotonic() + 1.0

    def looked_and_failed() -> bool:
        subject.look(time.monotonic())
        subject.broken()
        return time.monotonic() >= until

    wait_until(looked_and_failed, every=0.1)

    assert queries.get_run(store, RUN).state == "running"


def test_a_shipper_without_the_lock_marks_nobody(store: Store) -> None:
    Host(store, THERE, "borea").start(RUN)
    silence(store, THERE, 1000)

    looks_for_a_second(neighbours(store, fence=False))

    assert queries.get_run(store, RUN).state == "running"


def test_a_shipper_never_marks_its_own_journal(store: Store) -> None:
    Host(store, THERE, "borea").start(RUN)
    silence(store, THERE, 1000)

    looks_for_a_second(neighbours(store, journal=THERE))

    assert queries.get_run(store, RUN).state == "running"
