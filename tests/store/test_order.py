"""Any permutation, repetition and batch split of recorded runs gives equal rows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from histories import histories
from hypothesis import given, note
from hypothesis import strategies as st
from services import ENGINES
from storing import Shipper, emptied, examples, rows_of, store_on

from plet_celery.events import Event
from plet_celery.store import IngestLimits, Store

# So small that every cap is reached by a handful of events.
TIGHT = IngestLimits(log_head_bytes=16 << 10, log_tail_bytes=32 << 10, run_max_events=3, measure_max_points=4)

Told = list[tuple[str, Event]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("order")


@pytest.mark.parametrize("engine", ENGINES)
def test_any_order_repetition_and_split_gives_equal_rows(folder: Path, engine: str) -> None:
    stores = store_on(engine, folder, "straight"), store_on(engine, folder, "other")

    @examples(stores[0], 150)
    @given(told=histories(), chance=st.randoms(use_true_random=False), tight=st.booleans())
    def holds(told: Told, chance: random.Random, tight: bool) -> None:
        check(stores, told, chance, tight=tight)

    holds()
    if engine == "sqlite":
        for store in stores:
            store.close()


def check(stores: tuple[Store, Store], told: Told, chance: random.Random, *, tight: bool) -> None:
    """Tell two stores the same, one of them in another way; compare all rows."""
    limits = TIGHT if tight else IngestLimits()
    straight, other = (Shipper(emptied(store), limits) for store in stores)
    assert straight.ship(told) == 0

    for batch in shuffled(told, chance):
        assert other.ship(batch) == 0

    expected, found = rows_of(straight.store), rows_of(other.store)
    # The first tenants have series of their own: a loss that turned out wrong may have named one.
    del expected["rollup_tenant"]
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
