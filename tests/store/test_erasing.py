"""What is erased is nowhere: not in a row, not in a file, not after a replay; and nothing else is touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from removing import DAY, Host, counts, texts
from storing import new_store

from plet_celery import events
from plet_celery.errors import PletError
from plet_celery.store import Store, erasing, open_store, queries, retention
from plet_celery.store.refusals import covers
from plet_celery.store.retention import Bounds

CANARY = "c4n4ry-of-acme"


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


def named(store: Store, *words: str) -> list[str]:
    return [text for text in texts(store) if any(word in text for word in words)]


def files_with(folder: Path, *words: str) -> list[str]:
    return [
        str(file)
        for file in folder.rglob("*")
        if any(word in str(file.relative_to(folder)) for word in words)
        or (file.is_file() and any(word.encode() in file.read_bytes() for word in words))
    ]


def test_nothing_names_an_erased_run(served: Store, tmp_path: Path) -> None:
    host = Host(served, tmp_path / "a", mirror=_folder(tmp_path / "mirror"))
    kept = host.run(text="something else")
    run = host.run(text=CANARY, tenant="acme", end=events.RUN_FAILED)
    child = host.run(text="child", parent=run, canvas=run, root=run)
    letter = ("w" * 32, 1, 0, host.id, 1.0, time.time(), "log.written", run, "why", f'{{"run":"{run}"}}')
    with served.writing() as connection:
        connection.execute(served.tables.dead_letter.insert().values(letter))
    assert host.mirror is not None
    host.mirror.turn()
    (folder,) = queries.get_run(served, run).log_folders
    assert len(named(served, CANARY)) >= 4
    assert len(files_with(tmp_path, CANARY)) >= 4  # control: the search finds it here and in the mirror

    done = erasing.erase_run(served, run, mirror=True)

    assert (done.runs, done.dead_letters) == (1, 1)
    assert named(served, CANARY, run) == []
    (left,) = erasing.waiting(served, done.digests)
    assert (left.host, left.folders, left.copies) == ("atlas", 1, 1)
    host.remover.turn(served)
    host.mirror.turn()
    host.remover.turn(served)
    assert erasing.waiting(served, done.digests) == []
    assert named(served, CANARY, run) == []
    assert not (host.runs / folder).exists()
    assert files_with(host.runs, CANARY) == []  # its child goes on naming its parent there
    assert files_with(tmp_path / "mirror", CANARY) == []
    assert CANARY not in (host.journal.directory / "logsink.json").read_text()
    assert {one.id for one in queries.list_runs(served).items} == {kept, child}
    assert len(host.folders()) == 2


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def test_the_database_file_holds_no_byte_of_it(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    for number in range(30):
        host.run(text=f"{number} " + "x" * 3000)
    run = host.run(text=CANARY + " " + CANARY.upper() * 800)
    for number in range(30):
        host.run(text=f"{number} " + "y" * 3000)
    assert files_with(tmp_path, CANARY)

    erasing.erase_run(store, run, mirror=False)
    while host.remover.turn(store):
        pass

    assert files_with(tmp_path, CANARY, CANARY.upper(), run) == []


def test_a_replayed_journal_does_not_bring_it_back(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    told = host.story(text=CANARY)
    host.tell(told)
    run = told[0].run
    assert run is not None
    erasing.erase_run(store, run, mirror=False)
    host.remover.turn(store)

    # The log files' checkpoint is lost, and the store was told half of it when it was restored.
    host.close()
    (host.journal.directory / "logsink.json").unlink()
    host.open_files()
    host.tell(told)

    assert named(store, CANARY, run) == []
    assert host.folders() == []

    # Negative control: without what refuses it, it comes back in both places.
    with store.writing() as connection:
        connection.execute(store.tables.removal.delete())
    host.close()
    for name in ("logsink.json", "erased.json"):
        (host.journal.directory / name).unlink()
    host.open_files()
    host.tell(told)
    assert named(store, CANARY) != []
    assert len(host.folders()) == 1


def test_a_tenant_covers_what_is_below_it_and_nothing_beside_it(served: Store, tmp_path: Path) -> None:
    host = Host(served, tmp_path / "a")
    gone = {host.run(tenant=one, text=CANARY) for one in ("acme", "acme/site1", "acme/site1/x")}
    kept = {
        host.run(tenant=one)
        for one in ("acme2", "acme-site1", "acm", "ACME", "acme0", "acme%", "acm_", "xacme/site1", "")
    }

    done = erasing.erase_tenant(served, "acme", mirror=False)
    while host.remover.turn(served):
        pass

    assert (done.runs, done.open_runs) == (len(gone), [])
    assert {one.id for one in queries.list_runs(served).items} == kept
    assert len(host.folders()) == len(kept)
    assert named(served, CANARY, '"acme/') == []
    assert not (host.runs / "acme").exists()
    with served.reading() as connection:
        for table in (served.tables.rollup, served.tables.rollup_tenant):
            tenants = {row.tenant for row in connection.execute(table.select())}
            assert "acme" not in tenants and "acme2" in tenants


@pytest.mark.parametrize(
    "tenant",
    ["", "/", "..", "acme/..", "../acme", ".", "%", "_", "acme/%", "*", "acme/", "/acme", "a\0b", "a//b"],
)
def test_a_tenant_that_names_none_is_refused(store: Store, tmp_path: Path, tenant: str) -> None:
    host = Host(store, tmp_path / "a")
    host.run(tenant="acme")
    host.run()

    with pytest.raises(PletError, match="names no tenant"):
        erasing.erase_tenant(store, tenant, mirror=False)

    assert counts(store)["run"] == 2
    assert counts(store)["removal"] == 0


def test_covering_is_by_whole_parts() -> None:
    assert covers("acme", "acme") and covers("acme", "acme/site1")
    assert not covers("acme", "acme2") and not covers("acme/site1", "acme")


def test_a_run_on_its_way_from_a_journal_does_not_slip_in_behind(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    told = host.story(tenant="acme/site1", text=CANARY)
    later = host.story(tenant="acme/site1", age=-60.0)
    other = host.story(tenant="acme2")
    erasing.erase_tenant(store, "acme", mirror=False)

    def ship(found: list[events.Event]) -> None:
        positions = {found[-1].writer: (1, found[-1].offset + 200)}
        store.ingest(host.lease, found, positions, now=time.time())

    ship(told[:2])
    ship(told[2:])  # these name no tenant
    ship(later)
    ship(other)

    assert {one.id for one in queries.list_runs(store).items} == {later[0].run, other[0].run}
    assert named(store, CANARY) == []


def test_open_runs_are_left_and_named_unless_asked_for(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    told = host.story(tenant="acme", text=CANARY, end=None)
    host.tell(told)
    host.run(tenant="acme")
    run = told[0].run
    assert run is not None

    done = erasing.erase_tenant(store, "acme", mirror=False)
    assert (done.runs, done.open_runs) == (1, [run])

    done = erasing.erase_tenant(store, "acme", mirror=False, with_open=True)
    assert (done.runs, done.open_runs) == (1, [])
    host.remover.turn(store)
    # It goes on: what it still tells is refused, by the store and by the log files.
    host.tell([host.event(events.LOG_WRITTEN, time.time(), run, told[0].attempt, level=40, text=CANARY, i=2)])
    host.tell([host.event(events.RUN_SUCCEEDED, time.time(), run, told[0].attempt, by="child", runtime=1.0)])
    assert named(store, CANARY, run) == []
    assert host.folders() == []


def test_what_is_expiring_can_be_erased(store: Store, tmp_path: Path) -> None:
    host = Host(store, tmp_path / "a")
    run = host.run(age=40 * DAY, text=CANARY)
    assert retention.prune(store, Bounds(), holder="t", wall=time.time()).waiting == 1

    done = erasing.erase_run(store, run, mirror=False)

    assert done.runs == 1
    assert named(store, CANARY, run) == []
    host.remover.turn(store)
    assert host.folders() == []
