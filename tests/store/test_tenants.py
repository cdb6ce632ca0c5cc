"""What a viewer of some tenants may not see is never returned, and looks like what is not there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from histories import JOURNALS, T0, Teller
from hypothesis import given
from hypothesis import strategies as st
from storing import Shipper, emptied, examples

from plet_celery import events
from plet_celery.errors import RunAmbiguous, RunNotFound
from plet_celery.store import Store, queries, tenancy

PATHS = ("a", "a/b", "a/b/c", "ab", "a0", "a-", "A", "a%", "b", "other", "a/", "", "é/x", "a/" + "x" * 300)
RUNS = tuple(f"{number:08x}-0000-4000-8000-00000000000{number}" for number in range(6))
ABSENT = "ffffffff-0000-4000-8000-000000000000"

Tenants = Sequence[str] | None
OF_A_RUN: dict[str, Callable[[Store, str, Tenants], Any]] = {
    "get_run": lambda store, run, tenants: queries.get_run(store, run, tenants=tenants),
    "attempts": lambda store, run, tenants: queries.attempts(store, run, tenants=tenants),
    "stages": lambda store, run, tenants: queries.stages(store, run, tenants=tenants),
    "run_events": lambda store, run, tenants: queries.run_events(store, run, tenants=tenants),
    "children": lambda store, run, tenants: queries.children(store, run, tenants=tenants),
    "canvas_runs": lambda store, run, tenants: queries.canvas_runs(store, run, tenants=tenants),
    "measures": lambda store, run, tenants: queries.measures(store, run, tenants=tenants),
    "stored_log": lambda store, run, tenants: queries.stored_log(store, run, tenants=tenants),
    "resolve_run": lambda store, run, tenants: queries.resolve_run(store, run, tenants=tenants),
}
LISTS: tuple[dict[str, Any], ...] = (
    {},
    {"states": ["failed"]},
    {"without": ["failed"]},
    {"task": "shop.*"},
    {"tenant": "a/b"},
    {"worker": "celery@canary1"},
    {"queue": "shared"},
    {"meta": {"shared": "yes"}},
    {"search": "0000"},
    {"search": "shop"},
    {"canvas": RUNS[0]},
)


OVERVIEWS: dict[str, Callable[[Store, Tenants], Any]] = {
    "known_tasks": lambda store, tenants: queries.known_tasks(store, "shop", tenants=tenants),
    "running_by_worker": lambda store, tenants: queries.running_by_worker(store, tenants=tenants),
    "lost_runs": lambda store, tenants: queries.lost_runs(store, tenants=tenants),
    "list_workers": lambda store, tenants: queries.list_workers(store, tenants=tenants),
}


def covers(path: str, tenant: str) -> bool:
    """What a path means: itself, and what lies below it."""
    return tenant == path or (path != "" and tenant.startswith(f"{path}/"))


def told(tenants: Sequence[str]) -> Teller:
    """Tell one run for each tenant, all of one canvas; each says `canary<n>` in every field."""
    teller = Teller()
    for number, (run, tenant) in enumerate(zip(RUNS, tenants, strict=False)):
        canary, writer = f"canary{number}", teller.writer(JOURNALS[0])
        facts: dict[str, Any] = {"tenant": tenant or None, "user": canary, "args": [canary]}
        facts |= {"canvas": RUNS[0], "parent": RUNS[(number + 1) % len(tenants)], "group": "g"}
        facts |= {"task": f"shop.{canary}", "worker": f"celery@{canary}", "queue": "shared"}
        teller.start(writer, run, f"a{number}", **facts)
        teller.tell(writer, events.STAGE_STARTED, run, f"a{number}", stage=1, name=canary)
        line: dict[str, Any] = {"level": 40, "stream": "log", "text": canary, "i": 1, "o": 0}
        teller.tell(writer, events.LOG_WRITTEN, run, f"a{number}", **line)
        teller.tell(writer, events.MEASURE_RECORDED, run, f"a{number}", values={canary: 1.0}, i=1)
        for key, value in (("shared", "yes"), ("own", canary)):
            teller.tell(writer, events.METADATA_SET, run, f"a{number}", key=key, value=value, i=2)
        teller.tell(teller.writer(JOURNALS[0]), events.WORKER_STARTED, None, None, worker=f"celery@{canary}")
        if number % 3 == 1:
            error = {"type": "ValueError", "message": canary}
            teller.end(writer, events.RUN_FAILED, run, f"a{number}", error=error, tenant=tenant or None)
        elif number % 3 == 2:
            teller.end(writer, events.RUN_LOST, run, f"a{number}", reason=canary, tenant=tenant or None)
    return teller


def ends(store: Store, tenants: Tenants) -> int:
    """Return how many ends a viewer is told of."""
    found = queries.ends_over_time(store, since=T0 - 600, until=T0 + 600, step=300, tenants=tenants)
    return sum(one.succeeded + one.failed + one.other for one in found)


def canaries(found: Any) -> set[int]:
    """Return the numbers of the runs whose facts are in what a query gave."""
    return {int(number) for number in re.findall(r"canary(\d)", msgspec.json.encode(found).decode())}


def test_a_viewer_never_gets_what_is_not_theirs(kept_store: Store) -> None:
    some = st.lists(st.sampled_from(PATHS), min_size=2, max_size=len(RUNS))

    @examples(kept_store, 60)
    @given(tenants=some, viewer=st.lists(st.sampled_from(PATHS), max_size=3))
    def holds(tenants: list[str], viewer: list[str]) -> None:
        store = emptied(kept_store)
        assert Shipper(store).ship(told(tenants).told) == 0
        mine = {number for number, one in enumerate(tenants) if any(covers(path, one) for path in viewer)}

        for wanted in LISTS:
            everyones = canaries(queries.list_runs(store, **wanted))
            assert canaries(queries.list_runs(store, **wanted, tenants=viewer)) == everyones & mine, wanted
        for name, overview in OVERVIEWS.items():
            assert canaries(overview(store, viewer)) == canaries(overview(store, None)) & mine, name
        seen = queries.glance(store, now=T0, tenants=viewer)
        assert seen.running.number == len([number for number in mine if number % 3 == 0])
        assert seen.failed_24h.number == len([number for number in mine if number % 3])
        assert ends(store, viewer) == len([n for n in mine if n % 3 and tenants[n] != "other"])
        for name, ask in OF_A_RUN.items():
            for number, run in enumerate(RUNS[: len(tenants)]):
                if number in mine:
                    assert canaries(ask(store, run, viewer)) <= mine, name
                else:
                    with pytest.raises(RunNotFound):
                        ask(store, run, viewer)

    holds()


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_foreign_run_looks_like_an_absent_one(store: Store, name: str) -> None:
    assert Shipper(store).ship(told(["a", "b"]).told) == 0

    with pytest.raises(RunNotFound) as foreign:
        OF_A_RUN[name](store, RUNS[1], ["a"])
    with pytest.raises(RunNotFound) as absent:
        OF_A_RUN[name](store, ABSENT, ["a"])

    assert str(foreign.value).replace(RUNS[1], ABSENT) == str(absent.value)
    assert canaries(OF_A_RUN[name](store, RUNS[1], ["b"])) <= {1}


def test_names_are_resolved_among_ones_own_runs(store: Store) -> None:
    assert Shipper(store).ship(told(["a", "b", "b", "a"]).told) == 0

    assert queries.resolve_run(store, "@last", tenants=["a"]) == RUNS[3]
    assert queries.resolve_run(store, "@last-failed", tenants=["b"]) == RUNS[2]
    with pytest.raises(RunNotFound):
        queries.resolve_run(store, "@last-failed", tenants=["a"])
    with pytest.raises(RunAmbiguous) as found:
        queries.resolve_run(store, "0000", tenants=["b"])
    assert [run in str(found.value) for run in RUNS[:4]] == [False, True, True, False]


def test_children_of_other_tenants_are_not_shown(store: Store) -> None:
    assert Shipper(store).ship(told(["a", "b", "a/x"]).told) == 0

    assert [run.id for run in queries.children(store, RUNS[0], tenants=["a"])] == [RUNS[2]]


def test_the_names_of_tenants_are_those_with_runs(store: Store) -> None:
    assert Shipper(store).ship(told(["a", "a/b", "a/c", "ab", "b"]).told) == 0

    with store.reading() as connection:
        assert tenancy.names(connection, store.tables, ["a"], 9) == ("a", "a/b", "a/c")
        assert tenancy.names(connection, store.tables, ["a", "b"], 3) is None
        assert tenancy.names(connection, store.tables, ["c", ""], 3) == ("c",)
