"""Pages of alerts that are over, the last to end first, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from plet_celery.store import tenancy
from plet_celery.store.alertrows import alert_of
from plet_celery.store.columns import TASK_MAX, WORD_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.filters import begins
from plet_celery.store.listing import page_of, place_of
from plet_celery.store.records import Page
from plet_celery.store.store import Store
from plet_celery.store.watchtables import SUBJECT_MAX
from plet_celery.watchfacts import Alert

LIMIT_MAX: Final = 500


def past_alerts(
    store: Store,
    *,
    prefix: str = "",
    tenants: Sequence[str] | None = None,
    limit: int = 50,
    after: str | None = None,
    before: str | None = None,
) -> Page[Alert]:
    """Return alerts that had fired and are over.

    Args:
        prefix: how the rule, the subject or the task begins.
        tenants: paths that the viewer may see, each with what lies below it; None: all.
        limit: at most 500.
        after: the `next` of the page before.
        before: the `previous` of the page behind.

    Raises:
        PletError: `after` or `before` is no cursor, or both are given.
    """
    table, place, limit = store.tables.watching.alert, place_of(after, before), max(1, min(limit, LIMIT_MAX))
    newer = place is not None and place.newer
    ended, name = table.c.resolved_at, table.c.id
    # Said like this, the index of those that are over is taken.
    where = [ended.is_not(None), table.c.fired_at.is_not(None), *_begins(table, prefix)]
    where += tenancy.visible(table.c.tenant, tenants)
    if place is not None:
        at, last = place.key
        beside = sa.or_(ended > at, name > last) if newer else sa.or_(ended < at, name < last)
        where += [ended >= at if newer else ended <= at, beside]
    order = (ended, name) if newer else (ended.desc(), name.desc())
    with store.reading() as connection:
        prefer_indexes(connection)
        query = sa.select(table).where(*where).order_by(*order).limit(limit + 1)
        found = [alert_of(row) for row in connection.execute(query)]
    page: Page[Alert] = page_of([(one.resolved_at or 0.0, one.id) for one in found], place, limit)
    page.items = found[:limit]
    if newer:
        page.items.reverse()
    return page


def _begins(table: sa.Table, prefix: str) -> list[sa.ColumnElement[bool]]:
    if not prefix:
        return []
    widths = ((table.c.rule, WORD_MAX), (table.c.subject, SUBJECT_MAX), (table.c.task, TASK_MAX))
    return [sa.or_(*(begins(column, asked(prefix, width)) for column, width in widths))]
