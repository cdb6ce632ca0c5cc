"""Rows in bulk: the same effect by each driver's own way, for one row and for many."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from histories import Teller
from storing import Shipper, emptied

from plet_celery import events
from plet_celery.store import Store, bulk
from plet_celery.store.multivalues import RowTooLarge, statements

SQL = "INSERT INTO `t` (`a`, `b`) VALUES (%s, %s) ON DUPLICATE KEY UPDATE `b` = VALUES(`b`)"


def chunks(count: int, size: int = 10) -> list[tuple[Any, ...]]:
    """Return rows of `log_chunk`: a key of four parts, and bytes of all values."""
    return [(f"r{n:05d}", "a' \\ %s \"", "w" * 32, n, bytes(range(256)) + b"x" * size) for n in range(count)]


@pytest.mark.parametrize("count", [1, 7, 8, 60, 1203])
def test_rows_go_in_change_and_go_by_their_keys(store: Store, count: int) -> None:
    table, rows = store.tables.log_chunk, chunks(count)
    with store.writing() as connection:
        bulk.insert(connection, table, rows)
        keys = [row[:4] for row in rows]
        assert list(bulk.fetch(connection, table, keys, lock=True)) == rows
        assert list(bulk.fetch(connection, table, [key[:1] for key in keys[::2]])) == rows[::2]
        some = list(bulk.fetch(connection, table, [*keys, *keys], columns=("number", "run_id")))
        assert some == [(row[0], row[3]) for row in rows]

        changed = [(*row[:4], b"new %d" % row[3]) for row in rows[::3]]
        bulk.update(connection, table, changed)
        bulk.delete(connection, table, keys[1::3])
        left = sorted([*changed, *rows[2::3]])
        assert [tuple(row) for row in connection.execute(sa.select(table).order_by(table.c.run_id))] == left


def test_many_new_rows_go_in_by_the_drivers_bulk_path(store: Store) -> None:
    """Not a statement a row: executemany on SQLite, COPY on PostgreSQL, one text of rows on MariaDB."""
    sent: list[tuple[str, bool]] = []

    def note(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        sent.append((statement.partition(" ")[0], many))

    with store.writing() as connection:
        before = statements_seen(connection)
        sa.event.listen(connection, "before_cursor_execute", note)
        bulk.insert(connection, store.tables.log_chunk, chunks(1000))
        sa.event.remove(connection, "before_cursor_execute", note)
        after = statements_seen(connection)

    engine = store.url.get_backend_name()
    assert sent == [("COPY" if engine == "postgresql" else "INSERT", True)]
    # What reached the server: asking twice is one of them.
    assert after - before <= 2


def test_a_batch_of_many_runs_takes_no_statement_for_each(store: Store) -> None:
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    def ship(count: int) -> int:
        teller, shipper = Teller(), Shipper(emptied(store))
        for number in range(count):
            run, writer = f"{number:08x}-0000-4000-8000-000000000000", teller.writer()
            teller.start(writer, run, f"a{number}")
            teller.end(writer, events.RUN_SUCCEEDED, run, f"a{number}", runtime=1.0)
        sent.clear()
        assert shipper.ship(teller.told) == 0
        return len(sent)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    few, many = ship(10), ship(400)
    sa.event.remove(store.engine, "before_cursor_execute", note)

    assert few > 0
    # More keys are looked for in several statements, a few hundred in each.
    assert many - few < 20, (few, many)


def statements_seen(connection: sa.Connection) -> int:
    """How many statements MariaDB has had from this session; the other drivers have none of their own."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return 0
    return int(connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'").one()[1])


@pytest.mark.parametrize("count", [1, 600])
def test_counters_are_made_or_added_to(store: Store, count: int) -> None:
    table = store.tables.rollup
    # Every column that is no key counts, however many there are.
    width = len(table.columns) - 6
    rows = [("1" * 32, n, "t", "q", "", "failed", *range(1, width + 1)) for n in range(count)]
    with store.writing() as connection:
        bulk.add(connection, table, rows[: count // 2])
        bulk.add(connection, table, rows)
        found = [tuple(row)[6:] for row in connection.execute(sa.select(table).order_by(table.c.bucket))]

    twice = [tuple(2 * value for value in row[6:]) for row in rows[: count // 2]]
    assert found == [*twice, *(row[6:] for row in rows[count // 2 :])]


def test_a_statement_never_exceeds_the_servers_packet() -> None:
    rows = [(str(n), "é" * 300) for n in range(100)]

    made = list(statements(SQL, rows, packet_bytes=8192))

    assert max(map(len, made)) <= 8192 - 512
    assert len(made) > 8
    assert re.findall(rb"\('(\d+)',", b"".join(made)) == [str(n).encode() for n in range(100)]
    assert all(one.endswith(b"ON DUPLICATE KEY UPDATE `b` = VALUES(`b`)") for one in made)
    with pytest.raises(RowTooLarge, match=r"a row of 8999 bytes .* max_allowed_packet is 8192"):
        list(statements(SQL, [("1", "x" * 8990)], packet_bytes=8192))
    with pytest.raises(UnicodeEncodeError):
        list(statements(SQL, [("1", "\udc80")], packet_bytes=8192))


def test_a_small_packet_is_kept_to_and_a_larger_row_is_refused(mariadb_store: Store) -> None:
    table = mariadb_store.tables.log_chunk
    with mariadb_store.writing() as connection:
        driver: Any = connection.connection.driver_connection
        asked, driver.plet_packet_bytes = driver.plet_packet_bytes, 16 << 10
        try:
            bulk.insert(connection, table, chunks(100, size=1000))
            with pytest.raises(RowTooLarge):
                bulk.insert(connection, table, [("big", "a", "w", 1, b"x" * (16 << 10))])
        finally:
            driver.plet_packet_bytes = asked
        assert asked == connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar()
        assert len(connection.execute(sa.select(table.c.number)).all()) == 100
