"""A shipper as a real process, from its lock to its end."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shipping import Said, document, ended, faults, serving, shipping, told, writing
from waiting import wait_until

from plet_celery import presence
from plet_celery.election import ShipLock
from plet_celery.errors import PletError
from plet_celery.journal_format import frame, salt_of, segment_name
from plet_celery.journal_keeping import segments
from plet_celery.shipper import drain
from plet_celery.spawning import spawn_shipper
from plet_celery.store import open_store, queries
from plet_celery.store.records import Run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def stored(config: dict[str, Any], run: str) -> Run | None:
    store = open_store(config["database_url"], read_only=True)
    try:
        return queries.get_run(store, run)
    except PletError:
        return None
    finally:
        store.close()


def state_of(config: dict[str, Any], run: str) -> str:
    found = stored(config, run)
    return found.state if found else ""


def test_all_that_was_said_is_in_the_store_and_in_the_log_files(home: Path) -> None:
    config = document(home)
    with shipping(config), writing(config, 1, runs=20, lines=30) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)

        assert presence.await_drain(Path(config["journal"]), timeout=30)

    assert said.events == 20 * (30 + 6 + 4)
    assert faults(config, said) == []


def test_a_second_shipper_ends_well_and_at_once(home: Path) -> None:
    config = document(home)
    with shipping(config) as first:
        started = time.monotonic()

        second = spawn_shipper(config)

        assert ended(second) == 0
        assert first.poll() is None
        assert time.monotonic() - started < 60


def test_a_shipper_that_finds_the_lock_held_loads_nothing_heavy(home: Path) -> None:
    config = document(home)
    lock = ShipLock(Path(config["journal"]))
    assert lock.acquire()
    script = (
        "import sys; from plet_celery.shipper.__main__ import main; assert main() == 0;"
        "heavy = {'sqlalchemy', 'pydantic', 'celery', 'alembic', 'tornado'} & set(sys.modules);"
        "assert not heavy, heavy"
    )

    found = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(config).encode(), capture_output=True, check=False
    )

    assert found.returncode == 0, found.stderr.decode()
    lock.close()


def test_without_writers_it_lingers_and_leaves(home: Path) -> None:
    config = document(home, shipper_linger=1.5)
    stop = home / "stop"
    with writing(config, 1, runs=10_000, lines=5, pause=0.01, stop=str(stop)) as writer:
        wait_until(lambda: writer.notes.exists() and writer.notes.stat().st_size)
        with shipping(config) as shipper:
            wrote = time.monotonic()
            stop.touch()
            writer.wait()
            gone = time.monotonic()

            assert ended(shipper) == 0

        # It may have seen the writer's end before we did.
        assert time.monotonic() - wrote >= 1.5
        assert time.monotonic() - gone < 60
        assert faults(config, Said.in_files(writer.notes)) == []
        beat = presence.read_beat(Path(config["journal"]))
        assert beat is not None
        assert beat.state == "left"


def test_a_writer_that_lives_keeps_it(home: Path) -> None:
    config = document(home, shipper_linger=0.2)
    # First the writer: a shipper that finds none is gone before one has started.
    with writing(config, 1, hold=True) as writer:
        run = writer.held()["run"]
        with shipping(config) as shipper:
            wait_until(lambda: state_of(config, run) == "running", 60)

            assert presence.await_drain(Path(config["journal"]), timeout=30)
            assert shipper.poll() is None


def test_the_last_worker_that_says_goodbye_ends_the_lingering(home: Path) -> None:
    config = document(home, shipper_linger=600.0)
    with shipping(config) as shipper, writing(config, 1, runs=1, lines=5) as writer:
        writer.wait()

        assert presence.await_drain(Path(config["journal"]), timeout=30, leave=True)

        assert ended(shipper) == 0
    assert faults(config, Said.in_files(writer.notes)) == []


def test_a_goodbye_does_not_end_it_for_others(home: Path) -> None:
    config = document(home)
    with shipping(config) as shipper, writing(config, 1, hold=True) as other:
        run = other.held()["run"]
        assert presence.await_drain(Path(config["journal"]), timeout=30, leave=True)
        assert state_of(config, run) == "running"

        with writing(config, 2, runs=3, lines=5) as later:
            later.wait()
            assert presence.await_drain(Path(config["journal"]), timeout=30)

        assert shipper.poll() is None
        assert faults(config, Said.in_files(later.notes)) == []


def test_asked_to_end_it_drains_what_living_writers_still_write(home: Path) -> None:
    config = document(home, drain_timeout=60.0)
    with shipping(config) as shipper, writing(config, 1, runs=40, lines=20, pause=0.002) as writer:
        # Before its first event, a shipper that is asked to end sees no writer.
        wait_until(lambda: writer.notes.exists() and writer.notes.stat().st_size)

        shipper.send_signal(signal.SIGTERM)

        writer.wait()
        assert ended(shipper) == 0
        assert faults(config, Said.in_files(writer.notes)) == []


def test_asked_to_end_it_waits_no_longer_than_the_drain_timeout(home: Path) -> None:
    config = document(home, drain_timeout=1.0)
    with shipping(config) as shipper, writing(config, 1, hold=True) as writer:
        writer.held()
        asked = time.monotonic()

        shipper.send_signal(signal.SIGTERM)

        assert ended(shipper) == 0
        assert 1.0 <= time.monotonic() - asked < 60


def test_a_worker_with_other_settings_makes_it_step_down(home: Path) -> None:
    config = document(home)
    with (
        shipping(config) as shipper,
        writing(config, 1, hold=True, role="worker", settings="other") as worker,
    ):
        worker.held()

        assert ended(shipper) == 0

        beat = presence.read_beat(Path(config["journal"]))
        assert beat is not None
        assert beat.state == "yielding"
        assert beat.yields_to.endswith(" other")
        assert len(beat.turns) == 1
        assert "steps down" in told(config)


def test_two_apps_with_different_settings_do_not_take_turns_for_ever(home: Path) -> None:
    """Three times the later worker's shipper takes over, then the one who serves stays."""
    config = document(home)
    for turn in range(3):
        with shipping(config) as shipper, writing(config, turn, hold=True, role="worker", settings=f"{turn}"):
            assert ended(shipper) == 0

    with shipping(config) as shipper, writing(config, 9, hold=True, role="worker", settings="9") as worker:
        run = worker.held()["run"]
        wait_until(lambda: state_of(config, run) == "running")
        assert presence.await_drain(Path(config["journal"]), timeout=30)
        assert shipper.poll() is None


def test_a_setting_of_another_version_is_passed_over(home: Path) -> None:
    """A worker runs on while its package is replaced: what it spawns then is the new version."""
    config = document(home)
    config["settings"]["gone_since"] = 7

    with shipping(config) as shipper:
        assert serving(config)
        assert "settings of another version are passed over: names=gone_since" in told(config)
        assert shipper.poll() is None


def test_a_child_that_dies_without_a_word_is_lost(home: Path) -> None:
    config = document(home)
    with shipping(config), writing(config, 1, hold=True) as writer:
        held = writer.held()
        wait_until(lambda: state_of(config, held["run"]) == "running")

        writer.process.kill()

        wait_until(lambda: state_of(config, held["run"]) == "lost", timeout=20)
        found = stored(config, held["run"])
        assert found is not None
        assert found.task == "stream.run"
        assert found.ended_at is not None


def test_a_childs_worker_has_time_to_report_what_happened_to_it(home: Path) -> None:
    config = document(home, lost_grace=3.0)
    with shipping(config), writing(config, 1, hold=True, role="worker") as worker:
        held = worker.held()
        with writing(config, 2, hold=True, parent=held["writer"]) as child:
            run = child.held()["run"]
            wait_until(lambda: state_of(config, run) == "running")

            died = time.monotonic()
            child.process.kill()

            wait_until(lambda: state_of(config, run) == "lost", timeout=20)
            assert time.monotonic() - died >= 3.0
            assert state_of(config, held["run"]) == "running"


def test_a_writer_that_died_before_the_shipper_came_is_lost_once(home: Path) -> None:
    config = document(home)
    with writing(config, 1, hold=True) as writer:
        held = writer.held()
    for _ in range(2):
        with shipping(config):
            wait_until(lambda: state_of(config, held["run"]) == "lost")
            assert presence.await_drain(Path(config["journal"]), timeout=30)

    losses = [path for path in segments(Path(config["journal"])) if b'"run.lost"' in path.path.read_bytes()]
    assert len(losses) == 1


@pytest.fixture
def locked(home: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(home / "plet.db", timeout=60, isolation_level=None)
    yield connection
    connection.close()


def test_a_store_that_is_locked_stalls_only_itself(home: Path, request: pytest.FixtureRequest) -> None:
    config = document(home)
    with shipping(config), writing(config, 1, runs=1, lines=3) as first:
        first.wait()
        assert presence.await_drain(Path(config["journal"]), timeout=30)
        connection: sqlite3.Connection = request.getfixturevalue("locked")
        connection.execute("BEGIN EXCLUSIVE")

        with writing(config, 2, runs=5, lines=20) as second:
            second.wait()
            said = Said.in_files(second.notes)
        wait_until(lambda: all(fault.startswith("store:") for fault in faults(config, said)))
        assert faults(config, said)

        connection.execute("ROLLBACK")
        wait_until(lambda: not faults(config, said), timeout=60)


def test_a_store_that_cannot_be_opened_at_the_start_stalls_only_itself(home: Path) -> None:
    config = document(home)
    (home / "plet.db").mkdir()
    with shipping(config), writing(config, 1, runs=5, lines=20) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)
        wait_until(lambda: len(list((home / "runs").glob("*/*/run.log"))) == 5)
        assert serving(config) is not None

        (home / "plet.db").rmdir()

        wait_until(lambda: (home / "plet.db").is_file(), timeout=60)
        wait_until(lambda: not faults(config, said), timeout=60)


def test_shipped_segments_go_and_their_writers_are_forgotten(home: Path) -> None:
    config = document(home, journal_keep=0.0)
    journal = Path(config["journal"])
    with shipping(config), writing(config, 1, runs=20, lines=30) as writer:
        writer.wait()
        wait_until(lambda: len({segment.writer for segment in segments(journal)}) == 1, timeout=40)
        wait_until(lambda: len(shipped(config)) == 1, timeout=20)

        assert faults(config, Said.in_files(writer.notes)) == []


def shipped(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    store = open_store(config["database_url"], read_only=True)
    try:
        journal = json.loads((Path(config["journal"]) / "journal.json").read_text())["journal_id"]
        return dict(store.positions(journal))
    finally:
        store.close()


def test_a_damaged_segment_is_shipped_as_far_as_it_goes_and_set_aside(home: Path) -> None:
    config = document(home)
    journal = Path(config["journal"])
    with writing(config, 1, runs=2, lines=10) as writer:
        writer.wait()
    (segment,) = segments(journal)
    content = bytearray(segment.path.read_bytes())
    damaged = content.index(b'"log.written"')
    content[damaged] ^= 1
    segment.path.write_bytes(content)

    with shipping(config):
        assert presence.await_drain(journal, timeout=30)
        wait_until(lambda: (journal / "quarantine" / segment.path.name).exists())

    said = Said.in_files(writer.notes)
    first = next(iter(said.lines))
    assert [fault for fault in faults(config, said) if first not in fault] == []
    assert "segment is damaged" in told(config)


def test_a_hanging_store_does_not_keep_a_shipper_that_shall_end(
    home: Path, request: pytest.FixtureRequest
) -> None:
    config = document(home, drain_timeout=1.0)
    with shipping(config) as shipper:
        assert presence.await_drain(Path(config["journal"]), timeout=30)
        connection: sqlite3.Connection = request.getfixturevalue("locked")
        connection.execute("BEGIN EXCLUSIVE")
        with writing(config, 1, runs=3, lines=5) as writer:
            writer.wait()
        asked = time.monotonic()

        shipper.send_signal(signal.SIGTERM)

        assert ended(shipper) == 0
        assert time.monotonic() - asked < 60
        connection.execute("ROLLBACK")
    assert drain(config, timeout=60)
    assert faults(config, Said.in_files(writer.notes)) == []


def test_a_journal_of_another_store_is_not_stored_and_says_so(home: Path) -> None:
    config = document(home)
    assert drain(config, timeout=60)
    (home / "plet.db").rename(home / "other.db")
    with shipping(config), writing(config, 1, runs=3, lines=5) as writer:
        writer.wait()
        said = Said.in_files(writer.notes)

        wait_until(lambda: "belongs to store" in told(config))
        wait_until(lambda: all(fault.startswith("store:") for fault in faults(config, said)))

        for file in home.glob("plet.db*"):
            file.unlink()
        (home / "other.db").rename(home / "plet.db")
        wait_until(lambda: not faults(config, said), timeout=60)


def test_segments_of_a_newer_format_are_kept_and_do_not_keep_the_shipper(home: Path) -> None:
    config = document(home, shipper_linger=1.0, journal_keep=0.0)
    journal = Path(config["journal"])
    writer = "f" * 32
    core = b'{"v":2,"k":"writer.started","n":1,"t":1.0,"m":1.0,"new":"field"}'
    segment = journal / segment_name(writer, 1)
    segment.write_bytes(frame(core, salt_of(writer, 1)))
    segment.chmod(0o600)

    with shipping(config) as shipper:
        assert ended(shipper) == 0

    assert segment.exists()
    assert "newer format" in told(config)


def test_a_store_whose_schema_is_missing_is_waited_for(home: Path) -> None:
    """Only the embedded store migrates itself; an operator runs `celery plet migrate` for any other."""
    config = document(home)
    config["database_url"] = f"sqlite:///{home / 'chosen.db'}"
    with shipping(config), writing(config, 1, runs=3, lines=5) as writer:
        writer.wait()
        wait_until(lambda: "celery plet migrate" in told(config))

        store = open_store(config["database_url"])
        store.ensure_schema()
        store.close()

        wait_until(lambda: not faults(config, Said.in_files(writer.notes)), timeout=60)
