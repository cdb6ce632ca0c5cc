"""Counts and durations per five minutes: what is added, taken back, folded, and how exact quantiles are."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from histories import JOURNALS, Teller
from hypothesis import given
from hypothesis import strategies as st
from storing import Shipper, rows_of

from plet_celery import events
from plet_celery.store import IngestLimits, Store, histogram, queries

RUN = "00000000-0000-4000-8000-00000000000a"
JOURNAL = JOURNALS[0]
durations = st.floats(2e-6, 1e7)


def rollup(store: Store) -> list[tuple[Any, ...]]:
    """Return the rows without journal and bucket."""
    return [row[2:] for row in rows_of(store)["rollup"]]


@given(durations)
def test_a_bin_knows_its_values_to_two_percent(seconds: float) -> None:
    assert abs(histogram.value_of(histogram.bin_of(seconds)) - seconds) <= 0.0201 * seconds


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_a_value_of_that_rank_to_two_percent(values: list[float], q: float) -> None:
    bins: dict[int, int] = {}
    for value in values:
        place = histogram.bin_of(value)
        bins[place] = bins.get(place, 0) + 1

    found = histogram.quantile(bins, q)
    exact = sorted(values)[math.floor(q * (len(values) - 1))]

    assert found is not None
    assert abs(found - exact) <= 0.0201 * exact


def test_no_time_at_all_is_zero_and_nothing_is_none() -> None:
    assert histogram.value_of(histogram.bin_of(0.0)) == 0.0
    assert histogram.bin_of(1e-6) == histogram.ZERO_BIN < histogram.bin_of(1.1e-6)
    assert histogram.quantile({}, 0.5) is None


def test_an_end_is_counted_once_with_its_durations(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    started = teller.start(writer, RUN, "a1", tenant="acme")
    ended = teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1", runtime=0.25)
    shipper = Shipper(store)
    for _ in range(3):
        shipper.ship(teller.told)

    waited = round((started.wall - started.data["queued_at"]) * 1e6)
    (row,) = rows_of(store)["rollup"]
    bins = [row[6:] for row in rows_of(store)["rollup_bin"]]

    assert row[:2] == (JOURNAL, int(ended.wall // 300) * 300)
    assert row[2:] == ("shop.import", "celery", "acme", "succeeded", 1, 1, 250_000, 1, waited)
    assert bins == [
        ("runtime", histogram.bin_of(0.25), 1),
        ("waited", histogram.bin_of(waited / 1e6), 1),
    ]


def test_a_late_end_takes_back_exactly_what_the_loss_had_added(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    shipper = Shipper(store)
    teller.start(writer, RUN, "a1")
    teller.lose(teller.writer(), writer, RUN, "a1", writer.after)
    shipper.ship(teller.told)
    assert [row[3] for row in rollup(store)] == ["lost"]

    shipper.ship([(JOURNAL, teller.end(writer, events.RUN_FAILED, RUN, "a1", runtime=0.5))])

    (row,) = rollup(store)
    assert row[3:7] == ("failed", 1, 1, 500_000)
    assert sum(row[8] for row in rows_of(store)["rollup_bin"]) == 2


def test_a_placeholder_is_taken_back_when_its_start_turns_up(store: Store) -> None:
    teller = Teller()
    shipper = Shipper(store)
    writer = teller.writer()
    started = teller.start(writer, RUN, "a1")
    report = teller.report(teller.writer(), events.RUN_LOST, RUN, reason="signal 9")
    shipper.ship([(JOURNAL, report)])
    assert [row[3:6] for row in rollup(store)] == [("lost", 1, 0)]

    shipper.ship([(JOURNAL, started)])

    assert [row[3:6] for row in rollup(store)] == [("lost", 1, 1)]
    assert len(rows_of(store)["attempt"]) == 1


def test_every_attempt_counts(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    for number in range(3):
        teller.start(writer, RUN, f"a{number}", retries=number)
        kind = events.RUN_SUCCEEDED if number == 2 else events.RUN_RETRIED
        teller.end(writer, kind, RUN, f"a{number}")
    Shipper(store).ship(teller.told)

    assert [row[3:5] for row in rollup(store)] == [("retrying", 2), ("succeeded", 1)]


def test_tenants_above_the_cap_are_counted_together(store: Store) -> None:
    teller = Teller()
    shipper = Shipper(store, IngestLimits(rollup_tenants_max=2))
    writer = teller.writer()
    for number, tenant in enumerate(["a", "b", "c", "d", "a"]):
        run = f"{number:08x}-0000-4000-8000-000000000000"
        teller.start(writer, run, f"x{number}", tenant=tenant)
        teller.end(writer, events.RUN_FAILED, run, f"x{number}")
    for one in teller.told:
        shipper.ship([one])

    assert [(row[2], row[4]) for row in rollup(store)] == [("a", 2), ("b", 1), ("other", 2)]


def test_a_sampled_run_counts_for_those_it_stands_for_and_is_taken_back_whole(store: Store) -> None:
    teller = Teller()
    writer = teller.writer()
    shipper = Shipper(store)
    teller.start(writer, RUN, "a1")
    teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1", runtime=0.25, weight=100)
    shipper.ship(teller.told)
    (row,) = rollup(store)
    assert row[3:7] == ("succeeded", 100, 100, 25_000_000)
    assert {found[8] for found in rows_of(store)["rollup_bin"]} == {100}
    (run,) = queries.list_runs(store).items
    assert run.weight == 100

    # An end that counts more turns up: the hundred go, and one comes.
    earlier = teller.tell(writer, events.RUN_FAILED, RUN, "a1", by="child", runtime=0.5)
    shipper.ship([(JOURNAL, msgspec.structs.replace(earlier, wall=earlier.wall - 100.0))])

    assert [found[3:5] for found in rollup(store)] == [("failed", 1)]


@pytest.mark.parametrize("weight", [0, -5, 1.5, "many", True, None, 10**12])
def test_a_weight_that_is_none_counts_once(store: Store, weight: Any) -> None:
    teller = Teller()
    writer = teller.writer()
    teller.start(writer, RUN, "a1")
    teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1", weight=weight)

    Shipper(store).ship(teller.told)

    assert [row[3:5] for row in rollup(store)] == [("succeeded", 1)]
