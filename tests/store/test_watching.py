"""The lease of a pass: one holder at a time, by the store's clock, fenced by its epoch."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from storing import store_on

from plet_celery.errors import SchemaError, StaleWrite
from plet_celery.store import Store, open_store, watching


def _let_run_out(store: Store, **values: object) -> None:
    """Make the lease as old as one whose holder died a while ago."""
    table = store.tables.watching.watch
    with store.writing() as connection:
        connection.execute(table.update().values({"held_until": 1.0} | values))


def test_two_callers_at_once_one_holds_the_lease(store: Store) -> None:
    first = watching.take(store, "first", seconds=60)
    second = watching.take(store, "second", seconds=60)

    assert first is not None
    assert (first.owner, first.epoch) == ("first", 1)
    assert second is None
    assert watching.last_pass(store).is_held


def test_ten_that_race_for_it_are_one_holder(store: Store) -> None:
    barrier = threading.Barrier(10)
    held: list[str] = []

    def race(name: str) -> None:
        barrier.wait()
        if watching.take(store, name, seconds=60) is not None:
            held.append(name)

    threads = [threading.Thread(target=race, args=(f"m{number}",)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(held) == 1


def test_a_pass_that_was_released_is_followed_by_the_next(store: Store) -> None:
    first = watching.take(store, "first", seconds=60)
    assert first is not None
    watching.release(store, first, passed=True, has_app=True, doc={"alerts": 2})

    second = watching.take(store, "second", seconds=60)

    assert second is not None
    assert second.epoch == 2
    last = watching.last_pass(store)
    assert (last.owner, last.has_app, last.doc) == ("second", True, {"alerts": 2})
    assert last.age is not None
    assert last.age < 30


def test_a_pass_is_not_due_right_after_a_complete_one(store: Store) -> None:
    first = watching.take(store, "first", seconds=60)
    assert first is not None
    watching.release(store, first, passed=True, doc={})

    assert watching.take(store, "second", seconds=60, spacing=20) is None
    _let_run_out(store, begun_at=sa.text("begun_at - 21"))
    assert watching.take(store, "second", seconds=60, spacing=20) is not None


def test_after_an_incomplete_pass_the_next_is_due_at_once(store: Store) -> None:
    first = watching.take(store, "first", seconds=60)
    assert first is not None
    watching.release(store, first, passed=False, doc={})

    assert watching.take(store, "second", seconds=60, spacing=20) is not None
    assert watching.last_pass(store).age is None


def test_the_lease_of_a_dead_holder_runs_out(store: Store) -> None:
    assert watching.take(store, "dead", seconds=60) is not None
    _let_run_out(store)

    assert watching.take(store, "next", seconds=60, spacing=20) is not None


def test_a_frozen_holder_that_wakes_up_writes_nothing_any_more(store: Store) -> None:
    frozen = watching.take(store, "frozen", seconds=60)
    assert frozen is not None
    _let_run_out(store)
    after = watching.take(store, "next", seconds=60)
    assert after is not None

    with pytest.raises(StaleWrite), store.writing() as connection:
        watching.fence(connection, store.tables, frozen)
    with pytest.raises(StaleWrite):
        watching.renew(store, frozen, seconds=60)
    with pytest.raises(StaleWrite):
        watching.release(store, frozen, passed=True, doc={})
    with store.writing() as connection:  # the control: the new holder may
        watching.fence(connection, store.tables, after)


def test_a_holder_whose_lease_ran_out_goes_on_where_nobody_took_over(store: Store) -> None:
    held = watching.take(store, "slow", seconds=60)
    assert held is not None
    _let_run_out(store)

    with store.writing() as connection:
        watching.fence(connection, store.tables, held)
    renewed = watching.renew(store, held, seconds=60)

    assert renewed.held_until > held.held_until - 60
    assert watching.last_pass(store).is_held


def test_a_clock_that_was_put_back_holds_nobody_up(store: Store) -> None:
    """A lease, or a pass, of next year is what a clock left that has been set right since."""
    year = 365 * 86_400.0
    first = watching.take(store, "first", seconds=60)
    assert first is not None
    watching.release(store, first, passed=True, doc={})
    with store.writing() as connection:
        table = store.tables.watching.watch
        connection.execute(
            table.update().values(
                held_until=table.c.held_until + year,
                begun_at=table.c.begun_at + year,
                passed_at=table.c.passed_at + year,
            )
        )

    assert watching.take(store, "next", seconds=60, spacing=20) is not None


def test_before_the_first_pass_nothing_is_known(store: Store) -> None:
    last = watching.last_pass(store)

    assert (last.age, last.idle, last.is_held, last.doc) == (None, None, False, {})


def test_a_pass_that_was_begun_counts_as_a_sign_of_life(store: Store) -> None:
    assert watching.take(store, "first", seconds=60) is not None

    last = watching.last_pass(store)

    assert last.age is None
    assert last.idle is not None
    assert last.idle < 30


def test_a_store_without_tables_says_so(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'none.db'}")
    try:
        with pytest.raises(SchemaError):
            watching.take(store, "first", seconds=60)
    finally:
        store.close()


def test_a_lease_is_never_held_for_longer_than_an_hour(tmp_path: Path) -> None:
    store = store_on("sqlite", tmp_path)
    held = watching.take(store, "greedy", seconds=1e9)

    assert held is not None
    assert watching.last_pass(store).held_until <= watching.last_pass(store).now + watching.HELD_MAX
    store.close()
