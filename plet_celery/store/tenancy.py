"""Which runs a viewer may see: the one place where tenants become a condition.

A viewer has tenant paths, each of which covers what lies below it (`acme` covers `acme/north`), or None:
all runs. Every query that takes `tenants` puts what is built here into each of its statements, so that
what a viewer may not see looks like what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store.columns import TENANT_MAX, asked
from plet_celery.store.schema import Tables


def visible(column: sa.ColumnElement[str], tenants: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that rows with this tenant column must meet; none for who sees all.

    An empty list of tenants sees nothing. The empty path stands for runs without a tenant alone.
    """
    if tenants is None:
        return []
    if not tenants:
        return [sa.false()]
    return [sa.or_(*(covered(column, path) for path in dict.fromkeys(tenants)))]


def covered(column: sa.ColumnElement[str], path: str) -> sa.ColumnElement[bool]:
    """Return the condition that a tenant is this path, or lies below it."""
    own = asked(path, TENANT_MAX)
    if not path or own != path:  # of a path that is kept as a hash nothing below is known
        return column == own
    return sa.or_(column == own, _below(column, path))


def is_covered(tenant: str, path: str) -> bool:
    """Tell whether a tenant is this path, or lies below it: as `covered`, of a row that is there."""
    return tenant == path or bool(path and tenant.startswith(f"{path}/"))


def names(
    connection: Connection, tables: Tables, tenants: Sequence[str], limit: int
) -> tuple[str, ...] | None:
    """Return the tenants with runs that a viewer may see, or None where there are more than `limit`.

    The empty one is never among them: the index by tenant leaves it out.
    """
    found: set[str] = set()
    column = tables.run.c.tenant
    for path in dict.fromkeys(tenants):
        own = asked(path, TENANT_MAX)
        found |= {own} if own else set()
        behind = column >= f"{path}/"
        while path and own == path and len(found) <= limit:
            mine = (behind, _below(column, path), column != sa.literal_column("''"))
            row = connection.execute(sa.select(column).where(*mine).order_by(column).limit(1)).first()
            if row is None:
                break
            found.add(row[0])
            behind = column > row[0]
    return tuple(sorted(found)) if len(found) <= limit else None


def _below(column: sa.ColumnElement[Any], path: str) -> sa.ColumnElement[bool]:
    # A range, not LIKE: `_` and `%` mean themselves, and letters are compared by their bytes. "0"
    # comes right behind "/".
    return sa.and_(column >= f"{path}/", column < f"{path}0")
