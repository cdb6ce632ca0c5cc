"""Rows that lie below runs and attempts, as one batch reads and writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.store import bulk
from plet_celery.store.gather import Owner
from plet_celery.store.load import RunWork
from plet_celery.store.merge import AttemptState
from plet_celery.store.schema import Tables
from plet_celery.store.writes import Row, Writes


@dataclass
class Below:
    """Access to the rows below the runs of a batch. An attempt that is new in it has none."""

    connection: Connection
    tables: Tables
    works: Mapping[str, RunWork]
    writes: Writes

    def rows(self, table: Table, owners: Iterable[Owner], *columns: str) -> Iterable[Row]:
        """Yield the stored rows of these attempts, or some columns of them."""
        stored = [owner for owner in owners if self._is_stored(owner)]
        return bulk.fetch(self.connection, table, stored, columns=columns)

    def by_name(self, table: Table, owners: Iterable[Owner]) -> dict[Owner, dict[Any, Row]]:
        """Return the stored rows of these attempts, by the third column of their key."""
        found: dict[Owner, dict[Any, Row]] = {}
        for row in self.rows(table, owners):
            run, attempt, name = row[:3]
            found.setdefault((run, attempt), {})[name] = row
        return found

    def with_keys(self, table: Table, keys: Iterable[Row]) -> dict[Row, Row]:
        """Return the stored rows with these primary keys, by key."""
        width = len(table.primary_key)
        return {row[:width]: row for row in bulk.fetch(self.connection, table, keys)}

    def put(self, table: Table, row: Row, stored: Row | None) -> None:
        """Write a row that differs from the stored one; its run has changed then."""
        if self.writes.put(table, tuple(row), stored):
            work = self.works.get(row[0])
            if work is not None:
                work.changed = True

    def state(self, owner: Owner) -> AttemptState:
        """Return an attempt's state, to be told what its rows below amount to."""
        state = self.works[owner[0]].attempts[owner[1]].state
        assert state is not None
        return state

    def _is_stored(self, owner: Owner) -> bool:
        run, attempt = owner
        if not attempt:
            return True
        known = self.works[run].attempts.get(attempt)
        return known is not None and known.stored is not None


def encoded(value: Any) -> str:
    """Return a `doc`."""
    return msgspec.json.encode(value).decode()
