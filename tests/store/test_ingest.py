"""An ingest is one fenced transaction: all or nothing, once or often, poison set aside, trouble told."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from histories import JOURNALS, Teller
from storing import Shipper, dump, new_store, positions_of, url_of

from plet_celery import events
from plet_celery.errors import StaleWrite, StoreUnavailable
from plet_celery.store import IngestLimits, Store, open_store, queries

RUN = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
KIB = 1 << 10


def rich_run(teller: Teller, run: str = RUN, **facts: Any) -> None:
    """Tell a run with some of everything."""
    producer, main, child = (teller.writer(name=name) for name in ("producer", "main", "child"))
    published: dict[str, Any] = {"task": "shop.import", "trigger": "api", "canvas": run, "retries": 0}
    teller.tell(producer, events.RUN_QUEUED, run, None, **published)
    attempt = f"{run[-1]}1"
    teller.start(child, run, attempt, stages=[["a", 1], ["b", 2]], **facts)

    def tell(kind: str, **data: Any) -> None:
        teller.tell(child, kind, run, attempt, **data)

    tell(events.STAGE_STARTED, stage=1, name="a", total=2)
    tell(events.STAGE_PROGRESSED, stage=1, done=1, percent=20.0)
    tell(events.LOG_WRITTEN, level=40, stream="log", text="oh", i=1, o=0)
    tell(events.MEASURE_RECORDED, values={"rows": 1.5}, i=1)
    tell(events.METADATA_SET, key="shop", value="berlin", i=1)
    tell(events.EVENTS_DROPPED, count=3, reasons={"rate_limit": 3})
    tell(events.STAGE_SUCCEEDED, stage=1, done=2, elapsed=0.1)
    teller.end(child, events.RUN_SUCCEEDED, run, attempt, result=[1])
    teller.report(main, events.RUN_LOST, run, reason="signal 9 (SIGKILL)")


def test_the_same_batch_again_changes_no_run(store: Store) -> None:
    teller = Teller()
    rich_run(teller)
    found = teller.of(JOURNALS[0])
    lease = Shipper(store).lease(JOURNALS[0])

    first = store.ingest(lease, found, positions_of(found), now=2e9)
    before = dump(store)
    again = store.ingest(lease, found, positions_of(found), now=2e9)

    assert (first.changed_runs, again.changed_runs) == ([RUN], [])
    assert (first.dead_letters, again.dead_letters) == (0, 0)
    # Nothing differs but when the lease was touched, not even a version.
    assert dump(store) == before


def test_a_lease_that_was_taken_over_writes_nothing(store: Store) -> None:
    teller = Teller()
    rich_run(teller)
    half = len(teller.told) // 2
    found = teller.of(JOURNALS[0])
    old = Shipper(store).lease(JOURNALS[0])
    store.ingest(old, found[:half], positions_of(found[:half]), now=2e9)

    new = store.take_lease(JOURNALS[0], host="a", machine="m", boot="b", pid=2, now=0.0)
    before = dump(store)
    late = found[half:]
    for refused in (
        lambda: store.ingest(old, late, positions_of(late), now=2e9),
        lambda: store.ingest(old, [], {}, now=2e9),
        lambda: store.beat(old, {"host": "a"}, now=2e9),
        lambda: store.forget_writers(old, [found[0].writer]),
    ):
        with pytest.raises(StaleWrite, match="taken over journal"):
            refused()

    assert new.epoch == old.epoch + 1
    assert dump(store) == before
    assert store.ingest(new, late, positions_of(late), now=2e9).changed_runs == [RUN]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [({"args": object()}, "TypeError"), ({"user": "\ud800"}, "UnicodeEncodeError")],
    ids=["what is no JSON", "half a character"],
)
def test_poison_goes_to_the_dead_letters_and_the_rest_is_stored(
    store: Store, poison: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Teller()
    rich_run(teller, RUN)
    rich_run(teller, OTHER, **poison)
    third = "00000000-0000-4000-8000-00000000000c"
    rich_run(teller, third)
    found = teller.of(JOURNALS[0])
    culprit = next(one for one in found if one.kind == events.RUN_STARTED and one.run == OTHER)
    lease = Shipper(store).lease(JOURNALS[0])

    result = store.ingest(lease, found, positions_of(found), now=2e9)

    assert (result.changed_runs, result.dead_letters) == ([RUN, OTHER, third], 1)
    with store.reading() as connection:
        (letter,) = connection.execute(sa.select(store.tables.dead_letter)).all()
    assert (letter.writer, letter.segment, letter.offset) == culprit.position
    assert (letter.kind, letter.run_id, letter.journal_id) == (events.RUN_STARTED, OTHER, JOURNALS[0])
    assert letter.reason.startswith(reason)
    assert "dead_letter" in caplog.text
    assert store.positions(JOURNALS[0]) == positions_of(found)
    assert {one.id: one.state for one in queries.list_runs(store).items} == dict.fromkeys(
        (RUN, OTHER, third), "succeeded"
    )
    # Again, as after a crash: still one letter.
    assert store.ingest(lease, found, positions_of(found), now=2e9).dead_letters == 1
    with store.reading() as connection:
        assert len(connection.execute(sa.select(store.tables.dead_letter)).all()) == 1


def test_a_locked_database_is_unavailable_and_tried_again(sqlite_store: Store) -> None:
    teller = Teller()
    rich_run(teller)
    shipper = Shipper(sqlite_store)
    shipper.lease(JOURNALS[0])
    before = dump(sqlite_store)
    # Waits for no lock: the answer is the same after ten seconds.
    with sqlite_store.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
    other = sqlite3.connect(str(sqlite_store.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        shipper.ship(teller.told)
    other.close()

    assert dump(sqlite_store) == before
    assert shipper.ship(teller.told) == 0
    assert queries.get_run(sqlite_store, RUN).state == "succeeded"


def test_a_full_disk_is_unavailable_and_buries_nothing(sqlite_store: Store) -> None:
    teller = Teller()
    rich_run(teller)
    shipper = Shipper(sqlite_store)
    shipper.lease(JOURNALS[0])
    before = dump(sqlite_store)
    with sqlite_store.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
    log_of(teller, bytes_=512 * KIB)

    with pytest.raises(StoreUnavailable, match="disk is full"):
        shipper.ship(teller.told)

    assert dump(sqlite_store) == before
    with sqlite_store.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert shipper.ship(teller.told) == 0


def test_a_database_that_went_away_is_unavailable(tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    store = new_store(home)
    teller = Teller()
    rich_run(teller)
    shipper = Shipper(store)
    shipper.lease(JOURNALS[0])
    store.close()
    home.rename(away)

    with pytest.raises(StoreUnavailable, match="cannot be made"):
        shipper.ship(teller.told)

    store.close()
    away.rename(home)
    assert shipper.ship(teller.told) == 0
    with store.reading() as connection:
        assert connection.execute(sa.select(store.tables.dead_letter)).all() == []
    store.close()


def log_of(teller: Teller, *, bytes_: int) -> int:
    """Tell a running attempt with a log of that size; return how many lines it has."""
    child = teller.writer(name="logger")
    teller.start(child, OTHER, "long")
    written = lines = 0
    while written < bytes_:
        lines += 1
        text = f"line {lines} " + f"{lines * 7919 % 100_003:x}" * 18
        data: dict[str, Any] = {"level": 20, "stream": "log", "text": text, "i": lines, "o": written}
        teller.tell(child, events.LOG_WRITTEN, OTHER, "long", **data)
        written += len(text)
    return lines


def test_of_a_long_log_head_and_tail_are_kept_and_the_gap_is_named(store: Store) -> None:
    teller = Teller()
    count = log_of(teller, bytes_=1 << 20)
    limits = IngestLimits()
    shipper = Shipper(store, limits)
    for start in range(0, len(teller.told), 1000):
        assert shipper.ship(teller.told[start : start + 1000]) == 0

    lines = queries.stored_log(store, OTHER)

    assert [line.stream for line in lines].count("gap") == 1
    at = next(index for index, line in enumerate(lines) if line.stream == "gap")
    head, gap, tail = lines[:at], lines[at], lines[at + 1 :]
    assert [line.line for line in head] == list(range(1, gap.line))
    assert [line.line for line in tail] == list(range(tail[0].line, count + 1))
    assert int(re.sub(r"\D", "", gap.text)) == tail[0].line - gap.line
    assert all(line.text.startswith(f"line {line.line} ") for line in head + tail)
    # Whole chunks are kept: up to one more at each side.
    sizes = [sum(len(line.text) for line in part) for part in (head, tail)]
    assert limits.log_head_bytes - KIB <= sizes[0] <= limits.log_head_bytes + 17 * KIB
    assert limits.log_tail_bytes - KIB <= sizes[1] <= limits.log_tail_bytes + 17 * KIB
    assert queries.get_run(store, OTHER).log_lines == count


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = open_store(url_of(tmp_path / "plet.db"))
        store.ensure_schema()
        teller = Teller()
        rich_run(teller)
        Shipper(store).ship(teller.told)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(old)

    assert modes == dict.fromkeys(("plet.db", "plet.db-wal", "plet.db-shm"), 0o600)
