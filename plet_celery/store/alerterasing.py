"""Erasure in alerts: ids of runs that are gone, and all alerts and silences of a tenant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import Table

from plet_celery.store import bulk, tenancy
from plet_celery.store.alertrows import silence_of
from plet_celery.store.load import batched
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store

_AT_ONCE: Final = 200


def forget_absent_runs(store: Store) -> None:
    """Take the ids of runs that are not there any more out of alerts, and of what was sent of them."""
    own = store.tables.watching
    for table in (own.alert, own.delivery):
        behind = ""
        while True:
            with store.writing() as connection:
                query = sa.select(table.c.id).where(table.c.id > behind).order_by(table.c.id)
                ids = list(connection.execute(query.limit(_AT_ONCE)).scalars())
                if ids:
                    _loosen(connection, store.tables, table, ids)
            if not ids:
                break
            behind = ids[-1]


def forget_tenant(store: Store, tenant: str) -> None:
    """Delete the alerts of a tenant and of those below it, and silences that cover nothing else."""
    own = store.tables.watching
    covered = tenancy.covered(own.alert.c.tenant, tenant)
    while True:
        with store.writing() as connection:
            ids = list(connection.execute(sa.select(own.alert.c.id).where(covered).limit(_AT_ONCE)).scalars())
            for table in (own.delivery, own.transition):
                connection.execute(table.delete().where(table.c.alert_id.in_(ids)))
            bulk.delete(connection, own.alert, [(one,) for one in ids])
        if len(ids) < _AT_ONCE:
            break
    with store.writing() as connection:
        found = [silence_of(row) for row in connection.execute(sa.select(own.silence))]
        theirs = [
            one.id
            for one in found
            if one.tenants and all(tenancy.is_covered(path, tenant) for path in one.tenants)
        ]
        bulk.delete(connection, own.silence, [(one,) for one in theirs])


def _loosen(connection: Connection, tables: Tables, table: Table, ids: Iterable[str]) -> None:
    rows = list(bulk.fetch(connection, table, [(one,) for one in ids], lock=True))
    docs = {row[0]: msgspec.json.decode(row[-1]) for row in rows}
    # A message has the alert as it was.
    inner = {one: doc.get("alert", {}).get("doc", doc) for one, doc in docs.items()}
    named = sorted({run for doc in inner.values() for run in doc.get("runs", ())})
    known: set[str] = set()
    for some in batched(named):
        query = sa.select(tables.run.c.id).where(tables.run.c.id.in_(some))
        known.update(connection.execute(query).scalars())
    changed: list[tuple[Any, ...]] = []
    for row in rows:
        doc = inner[row[0]]
        left = [run for run in doc.get("runs", ()) if run in known]
        if left != list(doc.get("runs", ())):
            doc["runs"] = left
            changed.append((*row[:-1], msgspec.json.encode(docs[row[0]]).decode()))
    bulk.update(connection, table, changed)
