"""Lists of runs: every filter finds what it names, page by page, from an index."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from plans import faults, faults_of
from services import ENGINES
from storing import store_on

from plet_celery.errors import PletError
from plet_celery.monitor import promise_pass
from plet_celery.objectives import Declared, FinishBy, Freshness, MaxRuntime, MaxWait, StartBy
from plet_celery.store import Store, bulk, queries
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.filters import Filters, Place
from plet_celery.store.listing import _cursor, expanded
from plet_celery.store.probing import statements
from plet_celery.store.settle import RunRow

pytestmark = pytest.mark.slow

COUNT = 100_000
T0 = 1_790_000_000.0
STATES = ("queued", "running", "retrying", "succeeded", "failed", "timed_out", "lost")
WEIGHTS = (1, 1, 1, 200, 20, 3, 1)
TASKS = ("other.task", "shop.import", "shop.index", "shop.mail", "shop.price", "shop.report")
WORKERS = ("celery@a", "celery@b", "celery@c")
QUEUES = ("celery", "imports", "mail")
HEADS = 500
BUSY = 2400
"""Of the newest runs every third is open."""


class Made(NamedTuple):
    """A run that was put into the store, with what filters ask."""

    row: RunRow
    meta: dict[str, str]

    @property
    def key(self) -> tuple[float, str]:
        return (self.row.created_at, self.row.id)


_made_once: list[Made] = []


@pytest.fixture(scope="module")
def made() -> list[Made]:
    if not _made_once:
        chance = random.Random(7)
        heads = [f"{n:08x}-0000-4000-8000-0000000000aa" for n in range(HEADS)]
        _made_once.extend(_made(chance, number, heads) for number in range(COUNT))
    return _made_once


@pytest.fixture(scope="module", params=ENGINES)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, made: list[Made]
) -> Iterator[Store]:
    found = store_on(request.param, tmp_path_factory.mktemp("listing"), "listing")
    fill(found, made)
    yield found
    if request.param == "sqlite":
        found.close()


def fill(store: Store, made: list[Made]) -> None:
    """Put runs into the store by the bulk path, and gather the engine's statistics."""
    tables = store.tables
    meta = [
        (one.row.id, key, value, one.row.created_at, f'[[0.0,"",0,0],"{value}"]')
        for one in made
        for key, value in one.meta.items()
    ]
    with store.writing() as connection:
        bulk.insert(connection, tables.run, sorted(tuple(one.row) for one in made))
        bulk.insert(connection, tables.run_metadata, sorted(meta))
        bulk.insert(connection, tables.task, [(name,) for name in sorted(TASKS)])
    analysed = "ANALYZE"
    if store.url.get_backend_name() == "mysql":
        analysed += f" TABLE {tables.run.name}, {tables.run_metadata.name}, {tables.task.name}"
    with store.writing() as connection:
        connection.exec_driver_sql(analysed).close()
    if store.url.get_backend_name() == "postgresql":
        # What autovacuum does soon after: without it nothing is read from an index alone.
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("VACUUM plet.run, plet.run_metadata")


def _made(chance: random.Random, number: int, heads: list[str]) -> Made:
    head = number < HEADS
    odd = number % 700 == 3
    run = heads[number] if head else f"{chance.getrandbits(32):08x}-0000-4000-8000-{number:012d}"
    (state,) = chance.choices(STATES, WEIGHTS)
    if state == "retrying" and number < COUNT - BUSY:
        state = "running"
    elif number >= COUNT - BUSY and number % 3 == 0:
        state = "retrying"
    # Every tenth shares its time with the one before: the id breaks the tie.
    created = T0 + (number - (number % 10 == 0)) * 0.5
    canvas = chance.choice(heads) if not head and number % 5 == 0 else None
    row = RunRow(
        id=f"odd/{number}" if odd else run,
        digest=f"{chance.getrandbits(40):010x}" if odd else None,
        task=chance.choice(TASKS),
        state=state,
        tenant=chance.choice(["", "", "acme", "acme/north"]) if number % 1000 else f"solo/{number % 7}",
        trigger="api",
        user=None,
        queue=chance.choice(QUEUES) if number % 500 else "rare",
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
        worker=chance.choice(WORKERS) if number % 300 else "celery@rare",
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
    {"worker": "celery@a"},
    {"worker": "celery@rare", "states": ["failed"]},
    {"worker": "celery@b", "task": "shop.mail", "queue": "imports"},
    {"worker": "nobody"},
    {"queue": "imports"},
    {"queue": "rare", "until": T0 + 20_000.0},
    {"queue": "mail", "without": ["succeeded"]},
    {"without": ["succeeded", "failed"]},
    {"without": ["running", "retrying"]},
    {"without": ["lost"], "since": T0 + 10_000.0, "until": T0 + 10_100.0},
    {"without": ["lost"], "states": ["lost", "running"], "worker": "celery@a"},
    {"without": list(STATES)},
    {"since": T0 + 10_000.0, "until": T0 + 10_100.0},
    {"until": T0 + 3.0},
    {"search": "shop.m"},
    {"search": "shop."},
    {"search": "Shop."},
    {"search": "0000000"},
    {"search": "7"},
    {"search": "7", "states": ["running"]},
    {"search": "7", "states": ["retrying"]},
    {"search": "7f", "states": ["retrying"], "tenants": ["acme"]},
    {"meta": {"supplier": "s8"}, "states": ["retrying"]},
    {"meta": {"supplier": "s8", "kind": "a"}, "states": ["retrying"], "until": T0 + 49_900.0},
    {"search": "7f", "task": "shop.*", "until": T0 + 40_000.0},
    {"search": "shop.mail", "task": "other.task"},
    {"search": "shop.m", "meta": {"supplier": "s8"}},
    {"search": "0000", "canvas": "00000007-0000-4000-8000-0000000000aa"},
    {"search": "odd"},
    {"search": "e"},
    {"tenants": ["acme"]},
    {"tenants": ["acme/north"], "states": ["failed", "lost"]},
    {"tenants": ["acme", "solo"], "worker": "celery@b"},
    {"tenants": ["solo"]},
    {"tenants": ["solo"], "task": "shop.*"},
    {"tenants": ["solo"], "queue": "rare"},
    {"tenants": ["acme"], "queue": "rare", "without": ["succeeded"]},
    {"tenants": ["acme"], "task": "shop.mail", "states": ["timed_out"]},
    {"tenants": ["acme"], "search": "shop.m"},
    {"tenants": ["acme/south", "acme/north"], "search": "7"},
    {"tenants": ["acme"], "tenant": "acme/north"},
    {"tenants": ["solo"], "tenant": "acme/north"},
    {"tenants": ["acme"], "meta": {"supplier": "s8"}},
    {"tenants": ["acme"], "canvas": "00000007-0000-4000-8000-0000000000aa"},
    {"tenants": ["acme"], "since": T0 + 10_000.0, "until": T0 + 20_000.0},
    {"tenants": ["", "acme/north"]},
    {"tenants": ["acm"]},
    {"tenants": []},
)


def fits(one: Made, wanted: dict[str, Any]) -> bool:
    """What a filter means."""
    row, task, search = one.row, wanted.get("task"), wanted.get("search", "")
    return (
        (not wanted.get("states") or row.state in wanted["states"])
        and row.state not in wanted.get("without", ())
        and (task is None or (row.task.startswith(task[:-1]) if task.endswith("*") else row.task == task))
        and wanted.get("tenant") in (None, row.tenant)
        and wanted.get("worker") in (None, row.worker)
        and wanted.get("queue") in (None, row.queue)
        and wanted.get("since", 0.0) <= row.created_at < wanted.get("until", 9e9)
        and wanted.get("canvas") in (None, row.canvas, row.id)
        and all(one.meta.get(key) == value for key, value in wanted.get("meta", {}).items())
        and any(name.startswith(search) for name in (row.id, row.digest or "", row.task))
        and ("tenants" not in wanted or any(covers(path, row.tenant) for path in wanted["tenants"]))
    )


def covers(path: str, tenant: str) -> bool:
    """What a viewer's path means."""
    return tenant == path or (path != "" and tenant.startswith(f"{path}/"))


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
def test_a_page_knows_the_one_before_it(store: Store, wanted: dict[str, Any]) -> None:
    pages = [queries.list_runs(store, **wanted, limit=7)]
    while pages[-1].next is not None and len(pages) < 4:
        pages.append(queries.list_runs(store, **wanted, limit=7, after=pages[-1].next))

    assert pages[0].previous is None
    for earlier, later in itertools.pairwise(pages):
        again = queries.list_runs(store, **wanted, limit=7, before=later.previous)
        assert [run.id for run in again.items] == [run.id for run in earlier.items]
        assert (again.next, again.previous is None) == (earlier.next, earlier.previous is None)


PLACES = (None, Place((T0 + 30_000.0, "7")), Place((T0 + 30_000.0, "7"), newer=True))


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
@pytest.mark.parametrize("place", PLACES, ids=["first", "next", "previous"])
def test_a_filter_is_answered_from_an_index(
    store: Store, wanted: dict[str, Any], place: Place | None
) -> None:
    given = {name: wanted[name] for name in Filters._fields if name in wanted}
    given |= {name: tuple(given[name]) for name in ("states", "tenants") if name in given}
    given |= {"meta": tuple(given["meta"].items())} if "meta" in given else {}
    without, task, search = frozenset(wanted.get("without", ())), wanted.get("task"), wanted.get("search")
    with store.reading() as connection:
        prefer_indexes(connection)
        for some in expanded(connection, store.tables, Filters(**given), without, task, search):
            for one in statements(connection, store.tables, some, place, 51):
                assert faults(connection, one) == []


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("children", "parent_id = 'x'"),
        ("canvas", "canvas = 'x'"),
        ("digest", "digest >= 'a' AND digest < 'b'"),
        ("prefix", "id >= 'a' AND id < 'a1'"),
        ("changes", "journal_id = 'x' AND change_seq > 3"),
        ("expired", "expires_at < 3"),
    ],
)
def test_other_questions_are_answered_from_an_index(store: Store, name: str, condition: str) -> None:
    with store.reading() as connection:
        query = sa.select(store.tables.run).where(sa.text(condition))

        assert faults(connection, query) == [], name


@pytest.mark.parametrize("tenants", [None, ["acme"], ["solo"], ["", "acme/north"]], ids=str)
def test_figures_and_names_are_answered_from_an_index(store: Store, tenants: list[str] | None) -> None:
    asked: list[Any] = []

    def note(connection: Any, query: Any, several: Any, values: dict[str, Any], options: Any) -> None:
        asked.append(query.params(values) if isinstance(query, sa.Select) else None)

    sa.event.listen(store.engine, "before_execute", note)
    try:
        queries.glance(store, now=T0 + 86_400.0, tenants=tenants)
        queries.known_tasks(store, "shop.", tenants=tenants)
        queries.running_by_worker(store, tenants=tenants)
        queries.lost_runs(store, tenants=tenants)
        queries.list_runs(store, search="7", worker="celery@rare", tenants=tenants)
    finally:
        sa.event.remove(store.engine, "before_execute", note)

    about_runs = [one for one in asked if one is not None and store.tables.run in _tables_of(one)]
    assert len(about_runs) >= 5
    with store.reading() as connection:
        prefer_indexes(connection)
        for one in about_runs:
            assert faults(connection, one) == []


def test_what_a_pass_asks_about_promises_is_answered_from_an_index(store: Store) -> None:
    promised = [
        Declared(task, one)
        for task in TASKS[:3]
        for one in (
            MaxWait(60),
            MaxRuntime(60),
            MaxRuntime(60, scope="canvas"),
            StartBy("02:30"),
            FinishBy("02:30", scope="canvas"),
            Freshness(60),
            Freshness("* * * * *", name="by crontab"),
        )
    ]
    # By a clock that is long past: every due time has runs behind and before it.
    now = T0 + 86_400.0
    promise_pass.announce(store, promised, now=now - 86_400.0, has_app=True)
    asked: list[Any] = []

    def note(connection: Any, query: Any, several: Any, values: dict[str, Any], options: Any) -> None:
        asked.append(query.params(values) if isinstance(query, sa.Select) else None)

    sa.event.listen(store.engine, "before_execute", note)
    try:
        found = promise_pass.look(store, now=now)
    finally:
        sa.event.remove(store.engine, "before_execute", note)

    about_runs = [one for one in asked if one is not None and store.tables.run in _tables_of(one)]
    assert len(found.judgements) == len(promised)
    assert len(about_runs) >= 20
    with store.reading() as connection:
        prefer_indexes(connection)
        literal = {"literal_binds": True}
        for text in sorted({str(one.compile(connection, compile_kwargs=literal)) for one in about_runs}):
            assert faults_of(connection, text) == []


def _tables_of(query: Any) -> set[Any]:
    return {one for one in sa.sql.visitors.iterate(query) if isinstance(one, sa.Table)}


def test_a_question_without_an_index_is_seen(store: Store) -> None:
    run = store.tables.run
    with store.reading() as connection:
        assert faults(connection, sa.select(run).where(run.c.user == "x").limit(20))
        assert faults(connection, sa.select(run.c.id).order_by(run.c.runtime).limit(20))


def test_counting_reads_an_index_only(store: Store, made: list[Made]) -> None:
    counts = queries.count_runs_by_state(store)
    expected = {state: sum(one.row.state == state for one in made) for state in STATES}

    assert counts == {state: min(1000, count) for state, count in expected.items()}


def test_a_page_has_at_most_500_runs(store: Store) -> None:
    assert len(queries.list_runs(store, limit=10_000).items) == 500
    assert len(queries.list_runs(store, limit=0).items) == 1


NO_CURSORS = ("", "x", "é", "e30", "W10", "W05hTiwgIngiXQ", "WzFlOTk5LCAieCJd", "W1tdLCAieCJd")


@pytest.mark.parametrize("text", [*NO_CURSORS, base64.urlsafe_b64encode(b"[" * 9000).decode()], ids=str)
def test_what_is_no_cursor_is_refused(sqlite_store: Store, text: str) -> None:
    with pytest.raises(PletError, match="is no cursor; use the `next`"):
        queries.list_runs(sqlite_store, after=text)
    with pytest.raises(PletError, match="is no cursor; use the `next`"):
        queries.list_runs(sqlite_store, before=text)


def test_a_cursor_of_strange_text_finds_nothing(store: Store) -> None:
    for run in ("\0", "\ud800", "x" * 9000):
        text = base64.urlsafe_b64encode(json.dumps([1.0, run]).encode()).decode()
        assert queries.list_runs(store, after=text).items == []


def test_a_page_lies_on_one_side_of_a_run(sqlite_store: Store) -> None:
    with pytest.raises(PletError, match="one of both"):
        queries.list_runs(sqlite_store, after="x", before="y")


def test_the_way_back_from_an_empty_page_leaves_nothing_out(store: Store, made: list[Made]) -> None:
    keys = sorted(one.key for one in made)
    nothing = queries.list_runs(store, before=_cursor(keys[-1]), limit=3)
    assert nothing.items == []

    again = queries.list_runs(store, after=nothing.next, limit=3)

    assert [run.id for run in again.items] == [run for _, run in keys[:-4:-1]]
    nothing = queries.list_runs(store, after=_cursor(keys[0]), limit=3)
    assert nothing.items == []

    again = queries.list_runs(store, before=nothing.previous, limit=3)

    assert [run.id for run in again.items] == [run for _, run in keys[2::-1]]


@pytest.mark.parametrize("wanted", [{"search": "7"}, {"meta": {"supplier": "s8"}}], ids=str)
def test_what_is_older_than_all_open_runs_is_not_looked_at(store: Store, wanted: dict[str, Any]) -> None:
    """Where hundreds are open, their rows are not all read for a few that have a value or an id."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        asked.append(text)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    try:
        assert queries.list_runs(store, states=["retrying"], **wanted).items
        asked.clear()
        queries.list_runs(store, states=["succeeded"], **wanted)
        others = [*asked]
        asked.clear()
        queries.list_runs(store, states=["retrying"], **wanted)
    finally:
        sa.event.remove(store.engine, "before_cursor_execute", note)

    assert any("first_retrying" in text for text in asked)
    assert not any("first_succeeded" in text for text in others)
