"""The short way of plain runs gives the rows that the merge gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histories import JOURNALS, Teller
from hypothesis import given
from hypothesis import strategies as st
from storing import Shipper, emptied, examples, rows_of

from plet_celery import events
from plet_celery.store import Store, plain

RUN = "00000000-0000-4000-8000-00000000000a"
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-1e3, 1e3),
    st.sampled_from(["", "x", "y" * 300, RUN]),
    st.just([1]),
)
FACTS = st.dictionaries(
    st.sampled_from(
        [
            "task",
            "queue",
            "tenant",
            "trigger",
            "user",
            "pid",
            "queued_at",
            "canvas",
            "root",
            "parent",
            "group",
            "x",
        ]
    ),
    ODD,
)
TOLD = st.dictionaries(
    st.sampled_from(["task", "queue", "pid", "started", "runtime", "percent", "result", "usage", "weight"]),
    ODD,
)


def test_a_run_in_one_batch_gives_the_rows_of_two_batches(kept_store: Store) -> None:
    @examples(kept_store, 150)
    @given(facts=FACTS, told=TOLD, back=st.sampled_from([0.0, 0.0, 5.0]))
    def holds(facts: dict[str, Any], told: dict[str, Any], back: float) -> None:
        teller = Teller()
        writer = teller.writer()
        teller.start(writer, RUN, "a1", **facts)
        teller.now -= back
        teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1", **told)

        assert Shipper(emptied(kept_store)).ship(teller.told) == 0
        together = rows_of(kept_store)
        shipper = Shipper(emptied(kept_store))
        for one in teller.told:
            assert shipper.ship([one]) == 0

        assert rows_of(kept_store) == together

    holds()


def test_an_ordinary_run_is_plain(tmp_path: Path) -> None:
    teller = Teller()
    writer = teller.writer()
    started = teller.start(writer, RUN, "a1")
    ended = teller.end(writer, events.RUN_SUCCEEDED, RUN, "a1", usage={"cpu_user": 0.1}, percent=100.0)

    assert plain.as_plain(RUN, {"a1": [started, ended]}) is not None
    assert plain.as_plain(RUN, {"a1": [ended, started]}) is None
    assert plain.as_plain("not-a-uuid", {"a1": [started, ended]}) is None
    assert teller.of(JOURNALS[0]) == [started, ended]
