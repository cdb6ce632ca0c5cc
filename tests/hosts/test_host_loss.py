"""A host that is gone for ever: who decides it, who writes it, and what happens when it comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hosting import HERE, THERE, Host, opened, silence
from hypothesis import given
from hypothesis import strategies as st

from plet_celery import events
from plet_celery.errors import StaleWrite
from plet_celery.store import Store, hostloss, open_store, queries
from plet_celery.store.hostloss import LOOK_GAP_MAX, Silent, View, looked, lost_hosts

RUN = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
AFTER = 900.0


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with opened(database_url) as made:
        yield made


def lease(touched_at: float) -> Silent:
    return Silent(journal=THERE, host="b", machine="n", boot="b", epoch=1, touched_at=touched_at)


def seen(*looks: tuple[float, float]) -> View:
    """The view after looks at (store's clock, own clock)."""
    view: View | None = None
    for store_clock, mono in looks:
        view = looked(view, store=store_clock, mono=mono)
    assert view is not None
    return view


def steady(start: float, until: float, every: float = 10.0) -> list[tuple[float, float]]:
    count = int((until - start) / every)
    return [(1e9 + start + every * number, start + every * number) for number in range(count + 1)]


def mark(store: Store, journal: str = THERE) -> hostloss.HostLoss | None:
    _, found = hostloss.silent(store)
    (gone,) = [one for one in found if one.journal == journal]
    return hostloss.mark_lost(store, gone, after=AFTER, by=HERE)


# The decision.


def test_a_host_is_lost_after_so_long_a_silence_in_an_unbroken_view() -> None:
    silent = lease(1e9)

    assert lost_hosts([silent], seen(*steady(0, 890)), after=AFTER) == []
    assert lost_hosts([silent], seen(*steady(0, 900)), after=AFTER) == [silent]


def test_a_database_outage_that_aged_every_lease_marks_nobody() -> None:
    """Down for half an hour: the lease is old, and nobody but the database is to blame."""
    silent = lease(1e9)
    after_it = seen(*steady(0, 100), *steady(1900, 2000))

    assert after_it.store - silent.touched_at > AFTER
    assert lost_hosts([silent], after_it, after=AFTER) == []
    # Without the unbroken view, this would be its end.
    credulous = View(since=1e9, store=after_it.store, mono=after_it.mono)
    assert lost_hosts([silent], credulous, after=AFTER) == [silent]


def test_a_clock_of_the_store_that_was_set_marks_nobody() -> None:
    jumped = [(clock + 3600, mono) for clock, mono in steady(900, 950)]

    assert lost_hosts([lease(1e9 + 890)], seen(*steady(0, 890), *jumped), after=AFTER) == []


def test_a_shipper_that_was_frozen_marks_nobody_when_it_wakes_up() -> None:
    assert lost_hosts([lease(1e9)], seen(*steady(0, 100), *steady(5000, 5010)), after=AFTER) == []


@given(
    st.lists(st.tuples(st.floats(0.1, 200.0), st.floats(-20.0, 20.0)), min_size=1, max_size=40),
    st.floats(0.0, 500.0),
)
def test_nobody_is_lost_without_that_much_unbroken_time(
    steps: list[tuple[float, float]], silent_from: float
) -> None:
    mono, clock, whole_since = 0.0, 1e9, 0.0
    view = looked(None, store=clock, mono=mono)
    for passed, drift in steps:
        if passed > LOOK_GAP_MAX or abs(drift) > 5.0:
            whole_since = mono + passed
        mono, clock = mono + passed, clock + passed + drift
        view = looked(view, store=clock, mono=mono)

        found = lost_hosts([lease(1e9 + silent_from)], view, after=AFTER)

        # Each accepted step may err by the jump that is still taken for drift.
        assert not found or mono - whole_since >= AFTER - 5.0 * len(steps)


# The act, on every engine.


def test_every_open_run_of_a_lost_host_is_marked_and_the_host_is_one_incident(store: Store) -> None:
    here, there = Host(store, HERE, "atlas"), Host(store, THERE, "borea")
    here.start("00000000-0000-4000-8000-000000000001")
    for number in range(2, 7):
        there.start(f"00000000-0000-4000-8000-{number:012}")
    silence(store, THERE, 1000)

    done = mark(store)

    assert done is not None
    assert (done.attempts, done.host) == (5, "borea")
    assert queries.count_runs_by_state(store) == {"running": 1, "lost": 5}
    (incident,) = queries.host_losses(store)
    facts = {name: incident.data[name] for name in ("host", "journal", "attempts", "by", "after")}
    assert facts == {"host": "borea", "journal": THERE, "attempts": 5, "by": HERE, "after": AFTER}
    run = queries.get_run(store, "00000000-0000-4000-8000-000000000002")
    assert run.reason == "its host borea was not heard of for 900 s"
    status = {one.host: one for one in queries.list_hosts(store)}["borea"]
    assert status.lost_at is not None
    assert status.unreachable_since == pytest.approx(incident.data["since"])


def test_a_lost_host_is_marked_once(store: Store) -> None:
    there = Host(store, THERE, "borea")
    there.start(RUN)
    silence(store, THERE, 1000)
    mark(store)

    assert hostloss.silent(store)[1] == []
    assert len(queries.host_losses(store)) == 1


def test_of_many_who_want_to_mark_one_acts(store: Store, database_url: str) -> None:
    there = Host(store, THERE, "borea")
    for number in range(30):
        there.start(f"00000000-0000-4000-8000-{number:012}")
    silence(store, THERE, 1000)
    (gone,) = hostloss.silent(store)[1]
    done: list[hostloss.HostLoss | None] = []
    ready = threading.Barrier(4)

    def act() -> None:
        other = open_store(database_url)
        other.check_schema()
        ready.wait()
        done.append(hostloss.mark_lost(other, gone, after=AFTER, by=HERE))
        other.close()

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(one.attempts for one in done if one is not None) == [30]
    assert len(done) == 4
    assert queries.count_runs_by_state(store) == {"lost": 30}
    assert lost_events(store) == 30


def lost_events(store: Store) -> int:
    return sum(
        event.kind == events.RUN_LOST
        for run in queries.list_runs(store, limit=100).items
        for event in queries.run_events(store, run.id)
    )


def test_whoever_dies_in_the_middle_is_followed_by_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostloss, "_AT_ONCE", 2)
    there = Host(store, THERE, "borea")
    for number in range(5):
        there.start(f"00000000-0000-4000-8000-{number:012}")
    silence(store, THERE, 1000)
    real = store.ingest
    calls: list[Any] = []

    def dying(*args: Any, **named: Any) -> Any:
        if calls:
            raise SystemExit
        calls.append(args)
        return real(*args, **named)

    monkeypatch.setattr(store, "ingest", dying)
    with pytest.raises(SystemExit):
        mark(store)
    monkeypatch.setattr(store, "ingest", real)
    assert queries.count_runs_by_state(store) == {"lost": 2, "running": 3}

    mark(store)

    assert queries.count_runs_by_state(store) == {"lost": 5}
    assert lost_events(store) == 5
    (incident,) = queries.host_losses(store)
    assert incident.data["attempts"] == 5


def test_a_host_that_came_back_in_between_is_left_alone(store: Store) -> None:
    there = Host(store, THERE, "borea")
    there.start(RUN)
    silence(store, THERE, 1000)
    (gone,) = hostloss.silent(store)[1]
    store.beat(there.lease, {}, now=1.0)

    assert hostloss.mark_lost(store, gone, after=AFTER, by=HERE) is None
    assert queries.get_run(store, RUN).state == "running"
    assert queries.host_losses(store) == []


def test_the_old_shipper_of_a_lost_host_cannot_write(store: Store) -> None:
    """It was frozen, or cut off, and knows nothing of what happened."""
    there = Host(store, THERE, "borea")
    writer = there.start(RUN)
    silence(store, THERE, 1000)
    mark(store)

    late = there.teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1")
    with pytest.raises(StaleWrite, match="another shipper has taken over"):
        there.ship([late])

    assert queries.get_run(store, RUN).state == "lost"


def test_a_real_end_replaces_the_loss_once_and_both_are_told(store: Store) -> None:
    there = Host(store, THERE, "borea")
    writer = there.start(RUN)
    silence(store, THERE, 1000)
    mark(store)
    there.take()
    late = there.teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1")

    there.ship([late])
    there.ship([late])

    run = queries.get_run(store, RUN)
    assert (run.state, run.attempts) == ("succeeded", 1)
    kinds = [event.kind for event in queries.run_events(store, RUN)]
    assert sorted(kinds) == ["run.lost", "run.started", "run.succeeded"]
    assert rolled_up(store) == {"succeeded": 1}


def rolled_up(store: Store) -> dict[str, int]:
    """What the rollups count by state."""
    table = store.tables.rollup
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(table.c.state, sa.func.sum(table.c.count)).group_by(table.c.state)
        )
        return {state: int(count) for state, count in rows if count}


def test_any_sign_of_life_voids_the_loss(store: Store) -> None:
    there = Host(store, THERE, "borea")
    writer = there.start(RUN)
    there.start(OTHER)
    silence(store, THERE, 1000)
    mark(store)
    there.take()

    there.ship([there.teller.tell(writer, events.STAGE_STARTED, RUN, "a1", stage=1, name="load")])

    assert queries.get_run(store, RUN).state == "running"
    assert queries.get_run(store, OTHER).state == "lost"
    assert queries.list_hosts(store)[0].lost_at is None


def test_a_host_without_open_runs_is_no_incident(store: Store) -> None:
    there = Host(store, THERE, "borea")
    writer = there.start(RUN)
    there.ship([there.teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1")])
    silence(store, THERE, 1000)

    assert mark(store) == hostloss.HostLoss(journal=THERE, host="borea", attempts=0)

    assert queries.host_losses(store) == []
    assert hostloss.silent(store)[1] == []


def test_a_host_that_was_left_is_not_lost(store: Store) -> None:
    there = Host(store, THERE, "borea")
    store.leave(there.lease)
    silence(store, THERE, 1000)

    assert hostloss.silent(store)[1] == []
