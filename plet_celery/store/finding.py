"""Finding one run: by its id, by what a person types. What a viewer may not see is not found.

An absent run and one of a foreign tenant give one error with one text, from one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import RunAmbiguous, RunNotFound
from plet_celery.store import assemble, tenancy
from plet_celery.store.columns import ID_MAX, asked
from plet_celery.store.filters import begins
from plet_celery.store.listing import list_runs
from plet_celery.store.schema import Tables
from plet_celery.store.settle import RunRow
from plet_celery.store.store import Store

FAILED_STATES: Final = ("failed", "timed_out", "lost", "interrupted", "rejected")
"""Ends that call for a look: what `@last-failed` names, and what is counted as failed."""
_CANDIDATES: Final = 5


def run_row(connection: Connection, tables: Tables, run_id: str, tenants: Sequence[str] | None) -> RunRow:
    """Return the row of a run.

    Raises:
        RunNotFound: there is none, or none that the viewer may see.
    """
    row = _row(connection, tables, run_id, tenants)
    if row is None:
        raise _not_found(run_id)
    return row


def resolve_run(store: Store, text: str, *, tenants: Sequence[str] | None = None) -> str:
    """Return the full id of the run that `text` names: an id, a unique prefix, `@last`, `@last-failed`.

    Raises:
        RunNotFound: none fits that the viewer may see.
        RunAmbiguous: several fit; the message lists some.
    """
    if text in ("@last", "@last-failed"):
        states = FAILED_STATES if text == "@last-failed" else ()
        found = list_runs(store, states=states, tenants=tenants, limit=1).items
        if not found:
            raise RunNotFound(f"{text}: no {'failed ' if text != '@last' else ''}run is recorded yet")
        return found[0].id
    with store.reading() as connection:
        exact = _row(connection, store.tables, text, tenants)
        if exact is not None:
            return assemble.run_id_of(exact)
        rows = {} if not text else _with_prefix(connection, store.tables, text, tenants)
    if not rows:
        raise _not_found(text)
    if len(rows) > 1:
        raise RunAmbiguous(_several(text, list(rows.values())))
    return assemble.run_id_of(next(iter(rows.values())))


def _not_found(text: str) -> RunNotFound:
    return RunNotFound(f"no run {text!r}; runs are kept for plet_retention_days, `runs` lists them")


def _row(connection: Connection, tables: Tables, run_id: str, tenants: Sequence[str] | None) -> RunRow | None:
    table = tables.run
    mine = (table.c.id == asked(run_id, ID_MAX), *tenancy.visible(table.c.tenant, tenants))
    row = connection.execute(sa.select(table).where(*mine)).first()
    return RunRow(*row) if row is not None else None


def _with_prefix(
    connection: Connection, tables: Tables, text: str, tenants: Sequence[str] | None
) -> dict[str, RunRow]:
    table = tables.run
    rows: dict[str, RunRow] = {}
    prefix = asked(text, ID_MAX)
    for column in (table.c.id, table.c.digest):
        mine = (begins(column, prefix), *tenancy.visible(table.c.tenant, tenants))
        query = sa.select(table).where(*mine).order_by(column).limit(_CANDIDATES + 1)
        rows.update({row.id: RunRow(*row) for row in connection.execute(query)})
    return rows


def _several(text: str, rows: Sequence[RunRow]) -> str:
    shown = [f"{assemble.run_id_of(row)} ({row.task}, {row.state})" for row in rows[:_CANDIDATES]]
    more = " and more" if len(rows) > _CANDIDATES else ""
    return f"{text!r} fits several runs: {', '.join(shown)}{more}; give more characters"
