"""What expires goes, in order and in small steps; nothing else does, and what is gone stays gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from removing import DAY, Host, counts, folders_below
from storing import new_store

from plet_celery import events
from plet_celery.errors import RunNotFound
from plet_celery.store import IngestLimits, Store, clockwatch, open_store, queries, removal, retention
from plet_celery.store.retention import Bounds, Choice, Report
from plet_celery.store.settle import Retention


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = new_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def served(database_url: str) -> Iterator[Store]:
    """A store on each engine."""
    made = open_store(database_url)
    made.ensure_schema()
    yield made
    made.close()


def prune(store: Store, bounds: Bounds | None = None, choice: Choice | None = None, **more: object) -> Report:
    return retention.prune(store, bounds or Bounds(), holder="test", wall=time.time(), choice=choice, **more)  # type: ignore[arg-type]


def settled(store: Store, *hosts: Host) -> Report:
    """Prune, let the hosts remove their folders, prune again."""
    first = prune(store)
    for host in hosts:
        while host.remover.turn(store):
            pass
    second = prune(store)
    first.removed += second.removed
    first.waiting = second.waiting
    return first


def ids(store: Store) -> set[str]:
    return {one.id for one in queries.list_runs(store, limit=500).items}


def test_only_ended_runs_whose_time_is_over_go(served: Store, tmp_path: Path) -> None:
    host = Host(served, tmp_path / "a")
    old = {host.run(age=31 * DAY), host.run(age=91 * DAY, end=events.RUN_FAILED)}
    kept = {
        host.run(age=29 * DAY),
        host.run(age=31 * DAY, end=events.RUN_FAILED),
        host.run(age=100 * DAY, end=None),
        host.run(),
    }

    report = settled(served, host)

    assert (report.marked, report.removed, report.waiting) == (2, 2, 0)
    assert ids(served) == kept
    assert len(host.folders()) == len(kept)
    found = counts(served)
    assert (found["attempt"], found["stage"], found["log_chunk"], found["measure"]) == (4, 4, 4, 4)
    assert (found["removal_part"], found["removal"]) == (0, 2)
    for run in old:
        with pytest.raises(RunNotFound):
            queries.get_run(served, run)


def test_the_rows_wait_for_the_folders_of_a_host_that_lives(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    run = host.run(age=40 * DAY)

    report = prune(store)

    assert (report.marked, report.removed, report.waiting) == (1, 0, 1)
    assert queries.get_run(store, run).log_folders == host.folders()
    assert settled(store, host).removed == 1
    assert host.folders() == []


def test_a_host_that_is_gone_for_ever_holds_nothing_back(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a", name="gone")
    host.run(age=40 * DAY)
    journal = store.tables.journal
    with store.writing() as connection:
        connection.execute(journal.update().values(touched_at=time.time() - 8 * DAY))

    report = prune(store)

    assert (report.marked, report.removed, report.waiting) == (1, 1, 0)
    assert [name for name, _ in report.unseen] == ["gone"]


def test_a_host_that_dies_while_it_is_waited_for_is_waited_for_only_so_long(
    store: Store, tmp_path: Path
) -> None:
    host = Host(store, tmp_path / "a")
    host.run(age=40 * DAY)
    assert prune(store, Bounds(patience=7 * DAY)).waiting == 1

    with store.writing() as connection:
        connection.execute(store.tables.removal.update().values(rows_after=time.time() - 1))

    assert prune(store).removed == 1


def test_late_events_do_not_bring_half_a_run_back(served: Store, tmp_path: Path) -> None:
    host = Host(served, tmp_path / "a")
    run = host.run(age=40 * DAY)
    attempt = queries.attempts(served, run)[0].id

    def late() -> None:
        told = [
            host.event(
                events.LOG_WRITTEN, time.time(), run, attempt, level=40, stream="log", text="late", i=2
            ),
            host.event(events.RUN_STARTED, time.time(), run, "another", task="shop.load"),
        ]
        positions = {told[-1].writer: (1, told[-1].offset + 200)}
        result = served.ingest(host.lease, told, positions, now=time.time())
        assert (result.late, result.changed_runs, result.dead_letters) == (2, [], 0)

    assert prune(served).waiting == 1
    late()  # marked, its rows still there
    assert settled(served, host).removed == 1
    late()  # gone
    assert ids(served) == set()
    found = counts(served)
    assert (found["attempt"], found["event"], found["log_chunk"]) == (0, 0, 0)
    with served.reading() as connection:
        assert connection.execute(sa.select(served.tables.removal.c.late)).scalar_one() == 4

    # Negative control: without its tombstone it does come back.
    with served.writing() as connection:
        connection.execute(served.tables.removal.delete())
    with pytest.raises(AssertionError):
        late()
    assert ids(served) == {run}


def test_runs_that_never_ended_go_at_last_unless_their_host_lives(store: Store, tmp_path: Path) -> None:
    alive, dead = Host(store, tmp_path / "a"), Host(store, tmp_path / "b")
    running = alive.run(age=200 * DAY, end=None)
    forsaken = dead.run(age=200 * DAY, end=None)
    alive.tell([alive.event(events.RUN_QUEUED, time.time() - 200 * DAY, "q" * 32, None, task="shop.load")])
    young = dead.run(age=100 * DAY, end=None)
    with store.writing() as connection:
        silent = store.tables.journal.c.journal_id == dead.id
        connection.execute(
            store.tables.journal.update().where(silent).values(touched_at=time.time() - 30 * DAY)
        )

    report = settled(store, alive)

    assert report.marked == 2
    assert ids(store) == {running, young}
    assert forsaken not in ids(store)


def test_a_dry_run_changes_nothing_and_counts_right(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    for age in (31, 45, 60):
        host.run(age=age * DAY)
    host.run(age=31 * DAY, task="shop.other")
    before = counts(store)

    found = retention.preview(store, Bounds(), wall=time.time())
    chosen = retention.preview(store, Bounds(), wall=time.time(), choice=Choice(older_than=40 * DAY))
    named = retention.preview(store, Bounds(), wall=time.time(), choice=Choice(task="*.other"))

    assert (found.marked, chosen.marked, named.marked) == (4, 2, 1)
    assert found.oldest == pytest.approx(time.time() - 60 * DAY, abs=60)
    assert counts(store) == before
    assert prune(store, choice=Choice(task="*.other")).marked == 1
    assert prune(store, choice=Choice(task="nothing.*")).marked == 0


def test_one_prunes_at_a_time(store: Store) -> None:
    assert clockwatch.claim(store, "other")

    assert prune(store).busy

    clockwatch.release(store, "somebody")  # not theirs to release
    assert prune(store).busy
    clockwatch.release(store, "other")
    assert not prune(store).busy


@pytest.mark.parametrize("days", [3, 400])
def test_a_clock_that_jumps_ahead_removes_nothing_for_a_day(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    host = Host(store, tmp_path / "a")
    host.run(age=29 * DAY)
    host.run(age=31 * DAY)
    assert prune(store).marked == 1
    shift = [days * DAY]
    true = removal.now_of
    for module in (removal, retention, clockwatch):
        monkeypatch.setattr(module, "now_of", lambda connection: true(connection) + shift[0])

    def at_that_time() -> Report:
        return retention.prune(store, Bounds(), holder="test", wall=time.time() + shift[0])

    report = at_that_time()
    assert report.paused is not None and "ahead of the last look" in report.paused
    assert report.marked == 0
    shift[0] += 0.9 * DAY
    assert at_that_time().paused is not None
    shift[0] += 0.2 * DAY
    assert at_that_time().paused is None
    assert ids(store) == set() or counts(store)["removal"] == 2

    # Put back: nothing waits, and nothing more is old.
    shift[0] = 0.0
    assert at_that_time().paused is None


def test_a_jump_that_is_put_right_is_forgotten(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Host(store, tmp_path / "a").run(age=29 * DAY)
    shift = [0.0]
    true = removal.now_of
    for module in (removal, retention, clockwatch):
        monkeypatch.setattr(module, "now_of", lambda connection: true(connection) + shift[0])

    def at_that_time(**more: bool) -> Report:
        return retention.prune(store, Bounds(), holder="test", wall=time.time() + shift[0], **more)  # type: ignore[arg-type]

    assert at_that_time().paused is None
    shift[0] = 300 * DAY
    assert at_that_time().paused is not None
    shift[0] = 0.0
    assert at_that_time().paused is None
    assert counts(store)["removal"] == 0
    shift[0] = 300 * DAY
    assert at_that_time(trust_clock=True).marked == 1  # a person says so


def test_a_host_whose_clock_differs_from_the_stores_removes_nothing(store: Store, tmp_path: Path) -> None:
    Host(store, tmp_path / "a").run(age=31 * DAY)

    report = retention.prune(store, Bounds(), holder="test", wall=time.time() + 2 * DAY)

    assert report.paused is not None and "differ by 2.0 days" in report.paused
    assert report.marked == 0


def test_what_belongs_to_no_run_is_bounded_too(served: Store, tmp_path: Path) -> None:
    host = Host(served, tmp_path / "a")
    host.run(age=401 * DAY)
    host.tell([host.event(events.WORKER_STARTED, time.time() - 91 * DAY, None, None, worker="w")])
    host.tell([host.event(events.WORKER_STOPPED, time.time() - 91 * DAY, None, None, worker="w")])
    host.tell([host.event("host.rebooted", time.time() - 91 * DAY, None, None, why="power")])
    letter = ("w" * 32, 1, 0, host.id, 1.0, time.time() - 91 * DAY, "log.written", None, "why", "{}")
    with served.writing() as connection:
        connection.execute(served.tables.dead_letter.insert().values(letter))
    assert counts(served)["rollup"] == 1

    settled(served, host)

    found = counts(served)
    for table in ("run", "rollup", "rollup_bin", "worker", "event", "dead_letter"):
        assert found[table] == 0, table
    assert found["journal"] == 1


def test_a_journal_that_is_silent_for_very_long_is_forgotten(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    host.run(age=40 * DAY)
    Host(store, tmp_path / "b").run()
    with store.writing() as connection:
        silent = store.tables.journal.c.journal_id == host.id
        connection.execute(
            store.tables.journal.update().where(silent).values(touched_at=time.time() - 450 * DAY)
        )

    prune(store)

    found = counts(store)
    assert (found["journal"], found["writer"], found["rollup_tenant"]) == (1, 1, 1)


def test_under_constant_load_the_store_stops_growing(store: Store, tmp_path: Path) -> None:
    """Days pass, with the retention of a week."""
    host = Host(store, tmp_path / "a")
    limits = IngestLimits(retention=Retention(7 * DAY, 7 * DAY))
    bounds = Bounds(runs=7 * DAY, failed=7 * DAY, rollups=7 * DAY, tombstone=DAY)
    sizes = []
    for _ in range(12):
        for _ in range(5):
            host.tell(host.story(text="x" * 2000), limits=limits)
        # Another day begins: everything that was becomes a day older.
        _age(store, DAY)
        retention.prune(store, bounds, holder="test", wall=time.time())
        while host.remover.turn(store):
            pass
        retention.prune(store, bounds, holder="test", wall=time.time())
        # Runs on both sides of a span's end are a row of counts more: of those, the pages tell enough.
        rows = sum(count for table, count in counts(store).items() if not table.startswith("rollup"))
        sizes.append((rows, len(host.folders()), _pages(store)))
    assert sizes[-1][:2] == sizes[-3][:2]
    assert sizes[-1][2] <= 1.05 * sizes[-3][2]  # freed pages are used again
    assert sizes[-1][1] == 6 * 5


def _age(store: Store, seconds: float) -> None:
    """Make every time in the store so many seconds older, except what says how a shipper lives."""
    with store.writing() as connection:
        for table in store.tables.metadata.sorted_tables:
            if table.name in ("info", "journal", "attempt", "stage", "event"):
                continue
            times = [
                column
                for column in table.columns
                if (column.name.endswith("_at") and column.name != "forget_at")
                or column.name in ("bucket", "forget_at", "rows_after")
            ]
            if times:
                values = {column.name: column - int(seconds) for column in times}
                connection.execute(table.update().values(values))


def _pages(store: Store) -> int:
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())


@pytest.mark.parametrize(
    "folder", ["../precious/x_0123456789", "/x_0123456789", "..", "", "a/../../precious"]
)
def test_a_crafted_folder_name_leads_nowhere(store: Store, tmp_path: Path, folder: str) -> None:
    share = tmp_path / "share"
    share.mkdir()
    host = Host(store, tmp_path / "a", mirror=share)
    host.run()
    assert host.mirror is not None
    host.mirror.turn()
    precious = [host.home / "precious", share / "precious", tmp_path / "x_0123456789"]
    for one in precious:
        (one / "x_0123456789").mkdir(parents=True)
        (one / "run.log").write_text("mine")
    part = (host.id, "d" * 32, folder, removal.EXPIRED, time.time(), 1, 1)
    with store.writing() as connection:
        connection.execute(store.tables.removal_part.insert().values(part))

    for _ in range(3):
        host.remover.turn(store)
        host.mirror.turn()

    assert all((one / "run.log").exists() and (one / "x_0123456789").is_dir() for one in precious)
    assert len(host.folders()) == 1
    assert len(folders_below(share)) == 1 + 1  # the copy, and what was planted


def test_what_expires_is_found_by_an_index(store: Store) -> None:
    with store.reading() as connection:
        for where in retention._conditions(connection, store.tables, Bounds(), Choice(), time.time()):
            query = (
                sa.select(store.tables.run.c.id).where(where, retention._unmarked(store.tables)).limit(500)
            )
            text = str(query.compile(connection.engine, compile_kwargs={"literal_binds": True}))
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            assert all("SCAN" not in step for step in plan), plan
            assert any("ix_run_expires" in step or "ix_run_state" in step for step in plan), plan
            assert any("ix_removal_run" in step for step in plan), plan


def test_folders_of_others_and_strange_things_are_left_alone(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    run = host.run(age=40 * DAY)
    host.run(age=41 * DAY)
    (folder,) = queries.get_run(store, run).log_folders
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "run.log").write_text("mine")
    planted = host.runs / folder
    for file in planted.iterdir():
        file.unlink()
    planted.rmdir()
    planted.symlink_to(outside)

    report = settled(store, host)

    assert (outside / "run.log").read_text() == "mine"
    assert planted.is_symlink()
    assert (report.removed, report.waiting) == (1, 1)
    assert folders_below(host.runs) == []
