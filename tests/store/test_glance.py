"""The figures at a glance: counts that stop, ends over time, names for suggestions."""

from __future__ import annotations

from typing import Any

import pytest
from histories import JOURNALS, T0, Teller, Writer
from storing import Shipper

from plet_celery import events
from plet_celery.store import IngestLimits, Store, glance, queries
from plet_celery.store.overviews import Count, EndsBucket

DAY = 86_400.0
# The start of the five minutes in which T0 lies.
BUCKET = T0 // 300 * 300


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def writer(teller: Teller) -> Writer:
    return teller.writer()


def run_of(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def ended(teller: Teller, writer: Writer, number: int, kind: str, **facts: Any) -> None:
    """Tell a run that started and ended at the teller's time."""
    teller.start(writer, run_of(number), f"a{number}", queued_at=None, **facts)
    teller.end(writer, kind, run_of(number), f"a{number}", tenant=facts.get("tenant"))


def ship(store: Store, teller: Teller, limits: IngestLimits | None = None) -> None:
    assert Shipper(store, limits).ship(teller.told) == 0


def test_what_runs_waits_and_failed_is_counted(store: Store, teller: Teller, writer: Writer) -> None:
    ended(teller, writer, 0, events.RUN_FAILED)
    teller.now += 2 * DAY
    for number, kind in enumerate((events.RUN_FAILED, events.RUN_TIMED_OUT, events.RUN_LOST), 1):
        ended(teller, writer, number, kind)
    ended(teller, writer, 4, events.RUN_SUCCEEDED)
    teller.start(writer, run_of(5), "a5")
    teller.tell(writer, events.RUN_QUEUED, run_of(6), None, task="shop.import")
    ship(store, teller)

    found = queries.glance(store, now=teller.now)

    assert found.running == found.queued == Count(number=1)
    assert found.failed_24h == Count(number=3)
    failed = queries.list_runs(store, states=queries.FAILED_STATES, since=teller.now - DAY).items
    assert len(failed) == found.failed_24h.number


def test_a_count_is_exact_up_to_its_end(
    store: Store, teller: Teller, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "COUNT_MAX", 3)
    for number in range(3):
        ended(teller, writer, number, events.RUN_FAILED)
    ship(store, teller)
    assert queries.glance(store, now=teller.now).failed_24h == Count(number=3)

    ended(teller, writer, 3, events.RUN_LOST)
    ship(store, teller)
    assert queries.glance(store, now=teller.now).failed_24h == Count(number=3, capped=True)


def test_an_empty_store_has_nothing_at_a_glance(store: Store) -> None:
    found = queries.glance(store, now=T0)

    assert found.running == found.queued == found.failed_24h == Count(number=0)
    assert queries.recorded_since(store) is None
    assert queries.known_tasks(store) == []
    assert queries.ends_over_time(store, since=BUCKET, until=BUCKET + 600, step=300) == [
        EndsBucket(at=BUCKET),
        EndsBucket(at=BUCKET + 300),
    ]


def test_ends_are_summed_by_spans(store: Store, teller: Teller, writer: Writer) -> None:
    teller.now = BUCKET + 10
    ended(teller, writer, 0, events.RUN_SUCCEEDED)
    ended(teller, writer, 1, events.RUN_RETRIED)
    ended(teller, writer, 2, events.RUN_FAILED)
    teller.now = BUCKET + 310
    ended(teller, writer, 3, events.RUN_CANCELLED)
    ended(teller, writer, 4, events.RUN_LOST)
    teller.now = BUCKET + 910
    ended(teller, writer, 5, events.RUN_SUCCEEDED)
    ship(store, teller)

    fine = queries.ends_over_time(store, since=BUCKET + 20, until=BUCKET + 650, step=100)
    coarse = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 901, step=900)

    assert fine == [
        EndsBucket(at=BUCKET, succeeded=1, failed=1),
        EndsBucket(at=BUCKET + 300, failed=1, other=1),
        EndsBucket(at=BUCKET + 600),
    ]
    assert coarse[0].at % 900 == 0
    assert (len(coarse), sum(one.succeeded for one in coarse)) == (2, 2)


def test_a_replaced_attempt_is_no_end(store: Store, teller: Teller, writer: Writer) -> None:
    teller.now = BUCKET + 10
    for number, replaced in enumerate((True, False)):
        teller.start(writer, run_of(number), f"a{number}", queued_at=None)
        teller.end(writer, events.RUN_IGNORED, run_of(number), f"a{number}", replaced=replaced)
    ship(store, teller)

    found = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 300, step=300)

    assert found == [EndsBucket(at=BUCKET, other=1)]


def test_ends_of_many_journals_are_summed(
    store: Store, teller: Teller, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(teller, writer, 0, events.RUN_SUCCEEDED)
    ended(teller, teller.writer(JOURNALS[1]), 1, events.RUN_SUCCEEDED)
    ship(store, teller)

    (few,) = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 300, step=300)
    monkeypatch.setattr(glance, "_JOURNALS_MAX", 1)
    (many,) = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 300, step=300)

    assert few == many == EndsBucket(at=BUCKET, succeeded=2)


def test_a_sampled_run_counts_as_those_it_stands_for(store: Store, teller: Teller, writer: Writer) -> None:
    teller.start(writer, run_of(0), "a0")
    teller.end(writer, events.RUN_SUCCEEDED, run_of(0), "a0", weight=20)
    ship(store, teller)

    (found,) = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 300, step=300)

    assert found.succeeded == 20


def test_spans_are_at_most_two_thousand(sqlite_store: Store) -> None:
    found = queries.ends_over_time(sqlite_store, since=0.0, until=T0, step=300)

    assert 1000 < len(found) <= 2001


def test_what_is_counted_for_many_tenants_is_nobodys(store: Store, teller: Teller, writer: Writer) -> None:
    for number, tenant in enumerate(("acme", "beta", "other", "beta")):
        ended(teller, writer, number, events.RUN_SUCCEEDED, tenant=tenant)
    ship(store, teller, IngestLimits(rollup_tenants_max=1))

    def succeeded(tenants: list[str] | None) -> int:
        found = queries.ends_over_time(store, since=BUCKET, until=BUCKET + 300, step=300, tenants=tenants)
        return sum(one.succeeded for one in found)

    assert [succeeded(tenants) for tenants in (None, ["acme"], ["beta"], ["other"], [])] == [4, 1, 0, 0, 0]


def test_names_of_tasks_are_suggested(store: Store, teller: Teller, writer: Writer) -> None:
    for number, (task, tenant) in enumerate((("shop.mail", "acme"), ("shop.index", None), ("other.x", None))):
        teller.start(writer, run_of(number), f"a{number}", task=task, tenant=tenant)
    ship(store, teller)

    assert queries.known_tasks(store) == ["other.x", "shop.index", "shop.mail"]
    assert queries.known_tasks(store, "shop.") == ["shop.index", "shop.mail"]
    assert queries.known_tasks(store, "shop.", limit=1) == ["shop.index"]
    assert queries.known_tasks(store, "shop.", tenants=["acme"]) == ["shop.mail"]
    assert queries.known_tasks(store, "Shop") == []
    assert queries.recorded_since(store) == min(
        run.queued_at or 0.0 for run in queries.list_runs(store).items
    )
