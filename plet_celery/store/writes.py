"""Rows to be written by one batch: gathered first, written sorted by key, unchanged ones not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.store import bulk

Row = tuple[Any, ...]


class Writes:
    """Inserts, updates and deletes, by table."""

    def __init__(self) -> None:
        self._inserts: dict[Table, list[Row]] = {}
        self._updates: dict[Table, list[Row]] = {}
        self._deletes: dict[Table, list[Row]] = {}

    def put(self, table: Table, row: Row, stored: Row | None) -> bool:
        """Write `row`; `stored` is what the table holds under its key. Returns whether it differs."""
        if stored is None:
            self._inserts.setdefault(table, []).append(row)
        elif stored != row:
            self._updates.setdefault(table, []).append(row)
        else:
            return False
        return True

    def delete(self, table: Table, keys: Iterable[Row]) -> None:
        """Delete the rows with these keys."""
        self._deletes.setdefault(table, []).extend(keys)

    def flush(self, connection: Connection) -> None:
        """Write everything, table by table: deletes, inserts, updates."""
        for write, rows in (
            (bulk.delete, self._deletes),
            (bulk.insert, self._inserts),
            (bulk.update, self._updates),
        ):
            # By name, so that two hosts take the locks of the tables in one order.
            for table in sorted(rows, key=lambda found: found.name):
                # A row begins with its key, so what comes behind is never compared.
                write(connection, table, sorted(rows[table]))
