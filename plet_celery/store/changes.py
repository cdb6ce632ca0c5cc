"""What changed since a cursor, for live readers: ids and versions, at least once, in commit order.

Each journal's shipper is alone (fenced), so its `change_seq` grows in the order of its commits; a cursor
remembers one number per journal.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.schema import Table

from plet_celery.errors import PletError
from plet_celery.store.engine import store_clock
from plet_celery.store.prepared import Statement, prepared
from plet_celery.store.store import Store


class Notice(msgspec.Struct, frozen=True):
    """A run has changed."""

    id: str
    """As its row is keyed: get_run takes it."""
    version: int


class Changes(msgspec.Struct, frozen=True):
    """What changed, and where to go on."""

    items: list[Notice]
    next: str
    """Opaque."""
    more: bool
    """The limit was reached: ask again at once."""


def changes(store: Store, cursor: str | None = None, *, limit: int = 500) -> Changes:
    """Return the runs that changed since `cursor`.

    Args:
        cursor: the `next` of the answer before; None begins now, with nothing.

    A run may come again without a change (after a take-over): compare its version.

    Raises:
        PletError: `cursor` is none of ours.
    """
    seen = _parse(cursor) if cursor is not None else None
    journal, run = store.tables.journal, store.tables.run
    with store.reading() as connection:
        newest = {
            row.journal_id: row.change_seq
            for row in connection.execute(sa.select(journal.c.journal_id, journal.c.change_seq))
        }
        if seen is None:
            return Changes([], _cursor(newest), False)
        found: list[Notice] = []
        more = False
        for one, seq in sorted(newest.items()):
            known = seen.get(one, 0)
            if seq <= known:
                continue
            rows = _rows(connection, run, run.c.journal_id == one, run.c.change_seq > known, limit)
            found += [Notice(row.id, row.version) for row in rows]
            # A batch has one number: what the limit cut in its middle is read again as a whole.
            cut = len(rows) > limit
            seen[one] = _whole(rows) if cut else seq
            more = more or cut
    return Changes(found, _cursor(seen), more)


def change_mark(store: Store) -> tuple[float, ...]:
    """Return what differs from before as soon as a batch was shipped, or a host fell silent or came back.

    What is removed leaves it as it is, and so do beats of hosts.
    """
    with store.reading() as connection:
        (found,) = _mark_query(store.tables.journal, connection.dialect).rows(connection)
        return tuple(float(one or 0) for one in found)


@functools.lru_cache
def _mark_query(table: Table, dialect: Dialect) -> Statement:
    is_silent = sa.and_(
        table.c.left_at.is_(None), store_clock(dialect.name) - table.c.touched_at >= table.c.stale_after
    )
    silent = sa.case((is_silent, 1), else_=0)
    lost = sa.case((table.c.lost_at.is_(None), 0), else_=1)
    sums = (sa.func.sum(one) for one in (table.c.change_seq, table.c.epoch, silent, lost))
    return prepared(sa.select(sa.func.count(), *sums).select_from(table), dialect)


def _rows(connection: Connection, run: Table, mine: Any, later: Any, limit: int) -> list[Any]:
    query = sa.select(run.c.id, run.c.version, run.c.change_seq).where(mine).order_by(run.c.change_seq)
    rows = list(connection.execute(query.where(later).limit(limit + 1)))
    if len(rows) > limit and rows[0].change_seq == rows[-1].change_seq:
        rows = list(connection.execute(query.where(run.c.change_seq == rows[0].change_seq)))
    return rows


def _whole(rows: Sequence[Any]) -> int:
    """Return the last number whose rows are all among these."""
    last = int(rows[-1].change_seq)
    return last if rows[0].change_seq == last else last - 1


def _cursor(seen: dict[str, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(seen, sort_keys=True).encode()).decode().rstrip("=")


def _parse(text: str) -> dict[str, int]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return {str(journal): int(seq) for journal, seq in found.items()}
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise PletError(f"{text[:80]!r} is no cursor; use the `next` of the answer before") from error
