"""Any permutation, repetition and batch split of recorded runs gives equal rows."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from histories import histories
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from storing import Shipper, emptied, new_store, rows_of

from plet_celery.events import Event
from plet_celery.store import IngestLimits, Store

# So small that every cap is reached by a handful of events.
TIGHT = IngestLimits(log_head_bytes=16 << 10, log_tail_bytes=32 << 10, run_max_events=3, measure_max_points=4)

# Explaining a failure traces every line, which takes minutes here.
PHASES = [phase for phase in Phase if phase is not Phase.explain]

Told = list[tuple[str, Event]]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    folder = tmp_path_factory.mktemp("order")
    made = new_store(folder, "straight.db"), new_store(folder, "other.db")
    yield made
    for store in made:
        store.close()


@settings(max_examples=150, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(told=histories(), chance=st.randoms(use_true_random=False), tight=st.booleans())
def test_any_order_repetition_and_split_gives_equal_rows(
    stores: tuple[Store, Store], told: Told, chance: random.Random, tight: bool
) -> None:
    limits = TIGHT if tight else IngestLimits()
    straight, other = (Shipper(emptied(store), limits) for store in stores)
    assert straight.ship(told) == 0

    for batch in shuffled(told, chance):
        assert other.ship(batch) == 0

    expected, found = rows_of(straight.store), rows_of(other.store)
    for table, rows in expected.items():
        note(table)
        assert found[table] == rows


def shuffled(told: Told, chance: random.Random) -> list[Told]:
    """Return the events in batches: in another order, some of them several times."""
    order = list(told)
    if chance.random() < 0.8:
        chance.shuffle(order)
    order += chance.sample(told, chance.randint(0, len(told)))
    batches: list[Told] = []
    while order:
        size = chance.randint(1, max(1, len(order)))
        batches.append(order[:size])
        order = order[size:]
    return batches
