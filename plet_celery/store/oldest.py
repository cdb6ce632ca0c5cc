"""Since when runs in a state have been there: what is older than the oldest open run is not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from plet_celery.store.schema import Tables

_NEVER: Final = 1e18
"""Later than any run."""


def oldest_in(tables: Tables, states: Sequence[str]) -> sa.ColumnElement[float]:
    """Return when the oldest run in any of these states was created, as the statement sees it."""
    firsts = []
    for state in states:
        one = tables.run.alias(f"first_{state}")
        first = sa.select(one.c.created_at).where(one.c.state == state).order_by(one.c.created_at).limit(1)
        firsts.append(sa.func.coalesce(first.scalar_subquery(), _NEVER))
    return firsts[0] if len(firsts) == 1 else _Least(*firsts)


class _Least(sa.sql.functions.GenericFunction[float]):
    """The smallest of several numbers."""

    type = sa.Double()
    name = "least"
    inherit_cache = True


@compiles(_Least, "sqlite")
def _least_of_sqlite(element: _Least, compiler: Any, **options: Any) -> str:
    return f"min({compiler.process(element.clauses, **options)})"
