"""Erasure in alerts: ids of runs that are gone, all alerts and silences of a tenant, its name in others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
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
# As a promise's judgement names the tenants of late runs.
_OF: Final = " of "
_BETWEEN: Final = ", "


def forget_absent_runs(store: Store) -> None:
    """Take the ids of runs that are not there any more out of alerts, and of what was sent of them."""
    own = store.tables.watching
    for table in (own.alert, own.delivery):
        _through(store, table, functools.partial(_loosen, tables=store.tables, table=table))


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
    # Alerts that spoke of it and speak of others by now.
    for table in (own.alert, own.delivery):
        _through(store, table, functools.partial(_unname, table=table, tenant=tenant))


def _through(store: Store, table: Table, act: Callable[[Connection, Sequence[str]], None]) -> None:
    """Do something to all rows of a table, some at a time, by their ids, each time in one transaction."""
    behind = ""
    while True:
        with store.writing() as connection:
            query = sa.select(table.c.id).where(table.c.id > behind).order_by(table.c.id)
            ids = list(connection.execute(query.limit(_AT_ONCE)).scalars())
            if not ids:
                return
            act(connection, ids)
        behind = ids[-1]


def _unname(connection: Connection, ids: Iterable[str], *, table: Table, tenant: str) -> None:
    """Take a tenant out of what is said of who is affected; a message about it alone goes."""
    changed: list[tuple[Any, ...]] = []
    gone: list[tuple[str]] = []
    for row in bulk.fetch(connection, table, [(one,) for one in ids], lock=True):
        doc = msgspec.json.decode(row[-1])
        alert = doc.get("alert", {})
        inner = alert.get("doc", doc)
        affected = inner.get("affected", "")
        left = _without(affected, tenant)
        if tenancy.is_covered(alert.get("tenant", ""), tenant):
            gone.append((row[0],))
        elif left != affected:
            inner["affected"] = left
            changed.append((*row[:-1], msgspec.json.encode(doc).decode()))
    bulk.update(connection, table, changed)
    bulk.delete(connection, table, gone)


def _without(affected: str, tenant: str) -> str:
    """Return `3 runs of acme, beta` without a tenant and those below it."""
    head, of, names = affected.partition(_OF)
    left = [name for name in names.split(_BETWEEN) if not tenancy.is_covered(name, tenant)]
    if _BETWEEN in tenant and tenant in names:
        left = []  # where one name ends and the next begins cannot be told
    return head + (of + _BETWEEN.join(left) if left and of else "")


def _loosen(connection: Connection, ids: Iterable[str], *, tables: Tables, table: Table) -> None:
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
