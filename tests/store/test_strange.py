"""Events of any shape are stored, and readers get an answer: a writer may be of another version."""

from __future__ import annotations

import json
from typing import Any

from histories import JOURNALS
from hypothesis import given
from hypothesis import strategies as st
from storing import Shipper, emptied, examples

from plet_celery import events
from plet_celery.events import Event
from plet_celery.store import Store, queries, records

RUNS = ("00000000-0000-4000-8000-00000000000a", "../odd\n", "x" * 300)
# What a field is named, in any kind: a value lands where another type is expected.
FIELDS = """
task queue tenant trigger user worker host pid pool retries redelivered queued_at started canvas
root parent group args kwargs stages tracked by runtime percent usage result error upstream limit
seconds when reason replaced requeue terminated signal how writer after stage name weight total done
unit message elapsed level logger stream text i o part cut context values key value count reasons
run
"""
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.sampled_from(["child", "main", "shipper", "x" * 400, "é" * 300]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KINDS = st.sampled_from([*sorted(events.KINDS), "moon.landed", "k" * 100])
STRANGE = st.builds(
    Event,
    kind=KINDS,
    wall=st.floats(1.0, 2e9),
    mono=st.just(0.0),
    run=st.sampled_from([*RUNS, None]),
    attempt=st.sampled_from(["a1", "a2", "z" * 100, None]),
    data=st.dictionaries(st.sampled_from(FIELDS.split()), VALUES, max_size=8),
    writer=st.sampled_from(["1" * 32, "2" * 32]),
    segment=st.just(1),
    offset=st.integers(0, 1 << 40),
    number=st.integers(0, 10_000),
)


def test_no_shape_of_an_event_is_refused_or_breaks_a_reader(kept_store: Store) -> None:
    @examples(kept_store, 200)
    @given(st.lists(STRANGE, min_size=1, max_size=12, unique_by=lambda event: event.position))
    def holds(found: list[Event]) -> None:
        shipper = Shipper(emptied(kept_store))
        for event in found:
            assert shipper.ship([(JOURNALS[0], event)]) == 0
        read_all(kept_store)

    holds()


def read_all(store: Store) -> None:
    """Ask for everything of every run."""
    for run in queries.list_runs(store).items:
        asked: list[Any] = [run, queries.get_run(store, run.id)]
        for ask in (queries.attempts, queries.stages, queries.run_events, queries.children):
            asked += ask(store, run.id)
        asked += [*queries.measures(store, run.id), *queries.stored_log(store, run.id)]
        assert json.loads(json.dumps(records.to_json(asked)))
        assert queries.resolve_run(store, run.id) == run.id
