"""What a batch brings besides runs: who may write, how far files were read, what hosts tell of themselves."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from histories import JOURNALS, T0, Teller
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table
from storing import Shipper, rows_of

from plet_celery import events
from plet_celery.errors import StaleWrite
from plet_celery.events import Event
from plet_celery.store import IngestLimits, Store, bulk, logtext, open_store, queries
from plet_celery.store import engine as engines

RUN = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
JOURNAL = JOURNALS[0]


@pytest.fixture
def shipper(store: Store) -> Shipper:
    return Shipper(store)


def holder(**changed: Any) -> dict[str, Any]:
    return {"host": "a", "machine": "m", "boot": "b", "pid": 1, "now": 0.0} | changed


def a_run(teller: Teller, run: str = RUN) -> list[Event]:
    writer, attempt = teller.writer(), f"{run[-1]}1"
    line: dict[str, Any] = {"level": 20, "stream": "log", "text": "hi", "i": 1, "o": 0}
    return [
        teller.start(writer, run, attempt),
        teller.tell(writer, events.LOG_WRITTEN, run, attempt, **line),
        teller.end(writer, events.RUN_SUCCEEDED, run, attempt),
    ]


def test_a_copied_journal_may_not_write_beside_its_original(store: Store) -> None:
    store.take_lease(JOURNAL, **holder(machine="m", host="a"))

    with pytest.raises(StaleWrite, match=r"being stored by host 'a'.*a copied journal needs its own id"):
        store.take_lease(JOURNAL, **holder(machine="n", host="b"))
    with engines.writing(store.engine) as connection:
        connection.execute(store.tables.journal.update().values(touched_at=0.0))

    assert store.take_lease(JOURNAL, **holder(machine="n", host="b")).epoch == 2


def test_every_write_needs_the_lease(store: Store) -> None:
    frozen = store.take_lease(JOURNAL, **holder(pid=1))
    store.take_lease(JOURNAL, **holder(pid=2))
    before = rows_of(store)

    words = "another shipper has taken over journal 11111111 from epoch 1"
    with pytest.raises(StaleWrite, match=words):
        store.beat(frozen, {"pid": 1}, now=T0)
    with pytest.raises(StaleWrite, match=words):
        store.forget_writers(frozen, ["x"])

    assert rows_of(store) == before


def test_positions_never_go_back_and_can_be_forgotten(store: Store) -> None:
    lease = store.take_lease(JOURNAL, **holder())
    writer, gone = "a" * 32, "b" * 32

    for place in ((2, 500), (1, 900), (2, 100)):
        store.ingest(lease, [], {writer: place, gone: place}, now=T0)
    store.forget_writers(lease, [gone])

    assert store.positions(JOURNAL) == queries.shipped_positions(store, JOURNAL) == {writer: (2, 500)}


def test_one_refused_line_does_not_cost_its_run(
    store: Store, shipper: Shipper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Teller()
    a_run(teller)
    poison = a_run(teller, OTHER)[1]
    line_of = logtext.line_of

    def refuse(event: Event) -> logtext.Line:
        if event.position == poison.position:
            raise ValueError("no such line")
        return line_of(event)

    monkeypatch.setattr(logtext, "line_of", refuse)
    with caplog.at_level(logging.WARNING, "plet_celery"):
        assert shipper.ship(teller.told) == 1

    assert queries.get_run(store, RUN).state == queries.get_run(store, OTHER).state == "succeeded"
    assert [len(queries.stored_log(store, run)) for run in (RUN, OTHER)] == [1, 0]
    (letter,) = rows_of(store)["dead_letter"]
    assert letter[:3] == poison.position
    assert "ValueError: no such line" in letter
    assert "event moved to dead_letter: kind=log.written" in caplog.text
    assert store.positions(JOURNAL)[poison.writer] == (1, 300)


def test_a_rival_beside_poison_costs_no_event(server_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host inserts the run just before us, while the batch is gone through event by event."""
    store, teller = server_store, Teller()
    ours = teller.start(teller.writer(), RUN, "a1")
    poison = a_run(teller, OTHER)[1]
    rival = open_store(store.url.render_as_string(hide_password=False))
    theirs = Shipper(rival)
    line_of, insert = logtext.line_of, bulk.insert
    # Both know the task already: who inserts its name first would hold up the other.
    theirs.ship([(JOURNALS[1], teller.start(teller.writer(JOURNALS[1]), f"{RUN[:-1]}c", "c1"))])
    rivals = [(JOURNALS[1], teller.start(teller.writer(JOURNALS[1]), RUN, "f1"))]

    def refuse(event: Event) -> logtext.Line:
        if event.position == poison.position:
            raise ValueError("no such line")
        return line_of(event)

    def raced(connection: Connection, table: Table, rows: Any) -> None:
        if table is store.tables.run and rivals:
            theirs.ship([rivals.pop()])
        insert(connection, table, rows)

    monkeypatch.setattr(logtext, "line_of", refuse)
    monkeypatch.setattr(bulk, "insert", raced)
    refused = Shipper(store).ship([(JOURNAL, ours), (JOURNAL, poison)])
    rival.close()

    assert (refused, rivals) == (1, [])
    assert queries.get_run(store, RUN).attempts == 2


def test_open_attempts_are_those_of_the_writer_without_an_end(store: Store, shipper: Shipper) -> None:
    teller = Teller()
    writer = teller.writer()
    teller.start(writer, RUN, "a1", pid=7, tenant="acme")
    teller.tell(writer, "custom.thing", RUN, "a1")
    teller.start(writer, OTHER, "b1")
    teller.end(writer, events.RUN_SUCCEEDED, OTHER, "b1")
    shipper.ship(teller.told)

    (one,) = store.open_attempts(JOURNAL, writer.id)

    assert (one.run_id, one.attempt_id, one.task, one.queue) == (RUN, "a1", "shop.import", "celery")
    assert (one.tenant, one.worker, one.pid) == ("acme", "celery@a", 7)
    assert (one.last_segment, one.last_offset) == (1, 100)
    assert one.started == teller.told[0][1].wall
    assert store.open_attempts(JOURNAL, "f" * 32) == []
    assert store.writers_with_open_attempts(JOURNAL) == {writer.id}
    assert store.writers_with_open_attempts("0" * 32) == set()
    teller.lose(teller.writer(), writer, RUN, "a1", writer.after)
    shipper.ship(teller.told[-1:])
    assert store.open_attempts(JOURNAL, writer.id) == []
    assert store.writers_with_open_attempts(JOURNAL) == set()


def test_the_store_knows_as_of_when_it_is(store: Store) -> None:
    lease = store.take_lease(JOURNAL, **holder())
    assert queries.as_of(store) is None
    found = a_run(Teller())

    store.ingest(lease, found[:1], {}, now=T0 + 100)
    assert queries.as_of(store) == found[0].wall
    # A clock that runs ahead must not promise what is not stored yet.
    store.ingest(lease, found[1:], {}, now=found[0].wall + 0.001)
    assert queries.as_of(store) == found[0].wall + 0.001


def test_a_host_tells_of_itself(store: Store) -> None:
    lease = store.take_lease(JOURNAL, **holder())
    teller = Teller()
    main = teller.writer()
    teller.tell(main, events.WORKER_STARTED, None, None, worker="celery@a", host="a", pid=3)
    beat = teller.tell(main, events.HOST_BEAT, None, None, host="a", pid=3, backlog_bytes=10, writers=2)
    teller.tell(main, events.WORKER_STOPPED, None, None, worker="celery@a")
    store.ingest(lease, teller.of(JOURNAL), {}, now=T0 + 1)
    store.beat(lease, {"backlog_bytes": 5}, now=beat.wall - 1)

    (journal,) = rows_of(store)["journal"]
    (worker,) = rows_of(store)["worker"]

    assert beat.wall in journal
    assert '"backlog_bytes":10' in journal[-1]
    assert worker[:3] == (JOURNAL, main.id, "celery@a")
    assert worker[4] == teller.told[-1][1].wall
    assert [row[8] for row in rows_of(store)["event"]] == ["worker.started", "worker.stopped"]


def test_unknown_kinds_are_kept(store: Store, shipper: Shipper) -> None:
    teller = Teller()
    writer = teller.writer()
    teller.start(writer, RUN, "a1")
    teller.tell(writer, "moon.landed", RUN, "a1", crew=3)
    shipper.ship(teller.told)

    assert [(one.kind, one.data.get("crew")) for one in queries.run_events(store, RUN)] == [
        ("run.started", None),
        ("moon.landed", 3),
    ]


def test_limits_come_from_the_settings() -> None:
    from plet_celery.settings_sources import load_settings

    limits = IngestLimits.of(load_settings({"plet_retention_days": 2, "plet_run_max_events": 11}, {}))

    assert (limits.retention.succeeded, limits.run_max_events) == (2 * 86_400.0, 11)
    assert IngestLimits.of(load_settings({}, {})) == IngestLimits()
