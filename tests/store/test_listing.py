"""Lists of runs: every filter finds what it names, page by page, from an index."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from storing import new_store

from plet_celery.errors import PletError
from plet_celery.store import Store, bulk, queries
from plet_celery.store import engine as engines
from plet_celery.store.listing import Filters, probes
from plet_celery.store.settle import RunRow

COUNT = 100_000
T0 = 1_790_000_000.0
STATES = ("queued", "running", "retrying", "succeeded", "failed", "timed_out", "lost")
WEIGHTS = (1, 1, 1, 200, 20, 3, 1)
TASKS = ("other.task", "shop.import", "shop.index", "shop.mail", "shop.price", "shop.report")
HEADS = 500


class Made(NamedTuple):
    """A run that was put into the store, with what filters ask."""

    row: RunRow
    meta: dict[str, str]

    @property
    def key(self) -> tuple[float, str]:
        return (self.row.created_at, self.row.id)


@pytest.fixture(scope="module")
def made() -> list[Made]:
    chance = random.Random(7)
    heads = [f"{n:08x}-0000-4000-8000-0000000000aa" for n in range(HEADS)]
    return [_made(chance, number, heads) for number in range(COUNT)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, made: list[Made]) -> Iterator[Store]:
    found = new_store(tmp_path_factory.mktemp("listing"))
    fill(found, made)
    yield found
    found.close()


def fill(store: Store, made: list[Made]) -> None:
    """Put runs into the store by the bulk path, and gather the engine's statistics."""
    tables = store.tables
    meta = [
        (one.row.id, key, value, one.row.created_at, f'[[0.0,"",0,0],"{value}"]')
        for one in made
        for key, value in one.meta.items()
    ]
    with engines.writing(store.engine) as connection:
        bulk.insert(connection, tables.run, [tuple(one.row) for one in made])
        bulk.insert(connection, tables.run_metadata, sorted(meta))
        bulk.insert(connection, tables.task, [(name,) for name in sorted(TASKS)])
        connection.execute(sa.text("ANALYZE"))


def _made(chance: random.Random, number: int, heads: list[str]) -> Made:
    head = number < HEADS
    run = heads[number] if head else f"{chance.getrandbits(32):08x}-0000-4000-8000-{number:012d}"
    (state,) = chance.choices(STATES, WEIGHTS)
    # Every tenth shares its time with the one before: the id breaks the tie.
    created = T0 + (number - (number % 10 == 0)) * 0.5
    canvas = chance.choice(heads) if not head and number % 5 == 0 else None
    row = RunRow(
        id=run,
        digest=None,
        task=chance.choice(TASKS),
        state=state,
        tenant=chance.choice(["", "", "acme", "acme/north"]),
        trigger="api",
        user=None,
        queue="celery",
        created_at=created,
        queued_at=created,
        started_at=created,
        ended_at=created + 1,
        runtime=1.0,
        attempts=1,
        face=None,
        replaced=0,
        canvas=canvas,
        root_id=canvas,
        parent_id=canvas if number % 10 == 0 else None,
        group_id=None,
        log_lines=0,
        dropped=0,
        expires_at=created + 100,
        doc=None,
        journal_id="1" * 32,
        change_seq=number // 1000,
        version=1,
    )
    meta = {"supplier": f"s{number % 50}", "kind": chance.choice(["a", "b"])} if number % 4 == 0 else {}
    return Made(row, meta)


FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"since": T0 + 40_000.0},
    {"states": ["failed"]},
    {"states": ["lost", "timed_out", "running"]},
    {"states": ["lost"], "since": T0 + 20_000.0},
    {"task": "shop.mail"},
    {"task": "shop.mail", "states": ["failed", "lost"]},
    {"task": "shop.*"},
    {"task": "shop.*", "states": ["lost"]},
    {"task": "shop.m*", "states": list(STATES)},
    {"task": "nosuch.*"},
    {"tenant": "acme"},
    {"tenant": "acme/north", "states": ["failed"]},
    {"tenant": ""},
    {"tenant": "acme", "task": "shop.mail"},
    {"meta": {"supplier": "s8"}},
    {"meta": {"supplier": "s8", "kind": "a"}, "states": ["failed"]},
    {"meta": {"supplier": "s12"}, "task": "shop.*", "tenant": "acme", "since": T0 + 10_000.0},
    {"meta": {"supplier": "none"}},
    {"canvas": "00000007-0000-4000-8000-0000000000aa"},
    {"canvas": "00000007-0000-4000-8000-0000000000aa", "states": ["succeeded"], "task": "shop.*"},
)


def fits(one: Made, wanted: dict[str, Any]) -> bool:
    """What a filter means."""
    row, task = one.row, wanted.get("task")
    return (
        (not wanted.get("states") or row.state in wanted["states"])
        and (task is None or (row.task.startswith(task[:-1]) if task.endswith("*") else row.task == task))
        and wanted.get("tenant") in (None, row.tenant)
        and ("since" not in wanted or row.created_at >= wanted["since"])
        and wanted.get("canvas") in (None, row.canvas, row.id)
        and all(one.meta.get(key) == value for key, value in wanted.get("meta", {}).items())
    )


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_filter_finds_its_runs_newest_first(store: Store, made: list[Made], wanted: dict[str, Any]) -> None:
    expected = sorted((one.key for one in made if fits(one, wanted)), reverse=True)

    found: list[str] = []
    after = None
    for size in (1, 20, 50, 3):
        page = queries.list_runs(store, **wanted, limit=size, after=after)
        found += [run.id for run in page.items]
        after = page.next
        if after is None:
            break

    assert found == [run for _, run in expected[: len(found)]]
    assert len(found) == min(74, len(expected))
    assert (after is None) == (len(found) == len(expected))


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
@pytest.mark.parametrize("after", [None, (T0 + 30_000.0, "7")], ids=["first", "next"])
def test_a_filter_is_answered_from_an_index(
    store: Store, wanted: dict[str, Any], after: tuple[float, str] | None
) -> None:
    task = wanted.get("task")
    names = None if task is None else tuple(n for n in TASKS if n.startswith(task.rstrip("*")))
    filters = Filters(
        tuple(wanted.get("states", ())),
        names,
        wanted.get("tenant"),
        tuple(wanted.get("meta", {}).items()),
        wanted.get("since"),
        wanted.get("canvas"),
    )
    with store.reading() as connection:
        for probe in probes(store.tables, filters, after, 51):
            plan = explained(connection, probe.query.params(probe.values))
            # Runs of the same time are all that may be left to sort.
            assert not [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step], plan
            assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step], plan


def explained(connection: Any, query: sa.Select[Any]) -> list[str]:
    """Return the steps of SQLite's plan."""
    text = query.compile(connection, compile_kwargs={"literal_binds": True})
    return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("children", "parent_id = 'x'"),
        ("canvas", "canvas = 'x'"),
        ("digest", "digest >= 'a' AND digest < 'b'"),
        ("prefix", "id >= 'a' AND id < 'b'"),
        ("changes", "journal_id = 'x' AND change_seq > 3"),
        ("expired", "expires_at < 3"),
    ],
)
def test_other_questions_are_answered_from_an_index(store: Store, name: str, condition: str) -> None:
    with store.reading() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT * FROM run WHERE {condition}").all()

    assert all("SEARCH run USING INDEX" in step.detail for step in steps), (name, steps)


def test_counting_reads_an_index_only(store: Store, made: list[Made]) -> None:
    counts = queries.count_runs_by_state(store)
    expected = {state: sum(one.row.state == state for one in made) for state in STATES}

    assert counts == {state: min(1000, count) for state, count in expected.items()}


def test_a_page_has_at_most_500_runs(store: Store) -> None:
    assert len(queries.list_runs(store, limit=10_000).items) == 500
    assert len(queries.list_runs(store, limit=0).items) == 1


@pytest.mark.parametrize("after", ["", "x", "e30", "W10"])
def test_what_is_no_cursor_is_refused(store: Store, after: str) -> None:
    with pytest.raises(PletError, match="is no cursor; use the `next`"):
        queries.list_runs(store, after=after)
