"""Alerts as readers ask for them: lists, one alert, its transitions, what was sent of it.

A viewer of some tenants sees the alerts of these. One that speaks of no tenant (a queue, a component, a
task of all tenants) has the empty one, so only who sees all or the empty one sees it, and of the runs in
it only their own.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.errors import AlertNotFound, PletError
from plet_celery.store import tenancy
from plet_celery.store.alertrows import OPEN, AlertCounts, Sent, Transition, alert_of, doc_of, transition_of
from plet_celery.store.columns import ID_MAX, TASK_MAX, WORD_MAX, asked
from plet_celery.store.engine import prefer_indexes
from plet_celery.store.load import batched
from plet_celery.store.records import Page
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.store.watchtables import SUBJECT_MAX
from plet_celery.watchfacts import Alert, AlertState

LIMIT_MAX: Final = 500
TRANSITIONS_MAX: Final = 1000
SENT_MAX: Final = 1000
_COUNTED_MAX: Final = 10_000
_CANDIDATES: Final = 5
_WAITING: Final = "waiting"


def list_alerts(
    store: Store,
    *,
    states: Sequence[str] = (),
    rule: str | None = None,
    subject: str | None = None,
    task: str | None = None,
    run: str | None = None,
    tenants: Sequence[str] | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[Alert]:
    """Return alerts, those that changed last first.

    Args:
        states: any of `pending`, `firing`, `resolved`; none: all but those that were pending and never fired.
        rule: this rule alone.
        subject: this subject alone.
        task: of this task alone.
        run: open ones that name this run.
        tenants: paths that the viewer may see, each with what lies below it; None: all. So everywhere here.
        limit: at most 500.
        after: the `next` of the page before.

    Raises:
        PletError: `after` is no cursor, or a state is none.
    """
    table, limit = store.tables.watching.alert, max(1, min(limit, LIMIT_MAX))
    where = [*tenancy.visible(table.c.tenant, tenants), _ever_mattered(table)]
    for column, value, width in (
        (table.c.rule, rule, WORD_MAX),
        (table.c.subject, subject, SUBJECT_MAX),
        (table.c.task, task, TASK_MAX),
    ):
        if value is not None:
            where.append(column == asked(value, width))
    if run is not None:
        # Those rows are few: no index is needed.
        named = msgspec.json.encode(asked(run, ID_MAX)).decode()
        where += [table.c.state.in_(OPEN), table.c.doc.contains(named, autoescape=True)]
    if after is not None:
        where.append(_behind(table, after))
    query = sa.select(table).where(*where).order_by(table.c.updated_at.desc(), table.c.id.desc())
    found: list[Alert] = []
    with store.reading() as connection:
        prefer_indexes(connection)
        # State by state each is an index read from its end; of several at once all would be sorted.
        for mine in _of_states(table, states):
            rows = connection.execute(query.where(*mine).limit(limit + 1))
            found += [alert_of(row) for row in rows]
        found.sort(key=lambda one: (one.updated_at, one.id), reverse=True)
        items = _with_visible_runs(connection, store.tables, found[:limit], tenants)
    return Page(items=items, next=_cursor(items[-1]) if len(found) > limit else None)


def get_alert(store: Store, alert_id: str, *, tenants: Sequence[str] | None = None) -> Alert:
    """Return an alert by its full id.

    Raises:
        AlertNotFound: there is none that the viewer may see.
    """
    with store.reading() as connection:
        alert = alert_of(row_of(connection, store.tables, alert_id, tenants))
        return _with_visible_runs(connection, store.tables, [alert], tenants)[0]


def resolve_alert(store: Store, text: str, *, tenants: Sequence[str] | None = None) -> str:
    """Return the full id of the alert that a unique start of it names.

    Raises:
        AlertNotFound: none begins so that the viewer may see, or several do.
    """
    table = store.tables.watching.alert
    prefix = asked(text.strip().lower(), WORD_MAX)
    mine = (table.c.id >= prefix, table.c.id < f"{prefix}g", *tenancy.visible(table.c.tenant, tenants))
    query = sa.select(table.c.id, table.c.rule, table.c.subject).where(*mine).order_by(table.c.id)
    with store.reading() as connection:
        rows = connection.execute(query.limit(_CANDIDATES + 1)).all() if prefix else []
    if not rows:
        raise _not_found(text)
    if len(rows) > 1:
        shown = ", ".join(f"{row.id[:12]} ({row.rule}, {row.subject})" for row in rows[:_CANDIDATES])
        raise AlertNotFound(f"{text!r} fits several alerts: {shown}; give more characters")
    return str(rows[0].id)


def transitions(store: Store, alert_id: str, *, tenants: Sequence[str] | None = None) -> list[Transition]:
    """Return what became of an alert, in order; of more than 1,000 the newest.

    Raises:
        AlertNotFound: there is no such alert that the viewer may see.
    """
    table = store.tables.watching.transition
    with store.reading() as connection:
        row = row_of(connection, store.tables, alert_id, tenants)
        query = sa.select(table).where(table.c.alert_id == row.id).order_by(table.c.number.desc())
        rows = connection.execute(query.limit(TRANSITIONS_MAX)).all()
    return [transition_of(one) for one in reversed(rows)]


def deliveries_of(
    store: Store, alert_ids: str | Iterable[str], *, tenants: Sequence[str] | None = None
) -> list[Sent]:
    """Return what was sent of one alert or of several, and what waits: by alert, transition and channel.

    What the viewer may not see has sent nothing. Of more than 1,000 messages the newest are here.
    """
    table, alert = store.tables.watching.delivery, store.tables.watching.alert
    ids = [alert_ids] if isinstance(alert_ids, str) else list(alert_ids)
    wanted = sorted({asked(one, WORD_MAX) for one in ids})[:LIMIT_MAX]
    query = (
        sa.select(table)
        .join(alert, alert.c.id == table.c.alert_id)
        .where(table.c.alert_id.in_(wanted), *tenancy.visible(alert.c.tenant, tenants))
        .order_by(table.c.made_at.desc(), table.c.number.desc(), table.c.channel)
        .limit(SENT_MAX)
    )
    with store.reading() as connection:
        found = [_sent(row) for row in connection.execute(query)]
    return sorted(found, key=lambda one: (one.alert_id, one.number, one.channel))


def count_alerts(store: Store, *, tenants: Sequence[str] | None = None) -> AlertCounts:
    """Return how many alerts are open, the figures of the tiles; counting stops at 10,000."""
    table = store.tables.watching.alert
    where = (table.c.state.in_(OPEN), *tenancy.visible(table.c.tenant, tenants))
    columns = (table.c.state, table.c.severity, table.c.acknowledged_at, table.c.doc)
    firing = pending = silenced = acknowledged = no_data = critical = 0
    with store.reading() as connection:
        for row in connection.execute(sa.select(*columns).where(*where).limit(_COUNTED_MAX)):
            doc, fires = doc_of(row.doc), row.state == AlertState.FIRING
            firing += fires
            pending += not fires
            no_data += not doc.has_data
            silenced += fires and doc.is_silenced
            acknowledged += fires and row.acknowledged_at is not None
            critical += fires and row.severity == "critical"
    return AlertCounts(
        firing=firing,
        pending=pending,
        silenced=silenced,
        acknowledged=acknowledged,
        no_data=no_data,
        critical=critical,
    )


def row_of(
    connection: Connection,
    tables: Tables,
    alert_id: str,
    tenants: Sequence[str] | None,
    *,
    lock: bool = False,
) -> Any:
    """Return the row of an alert.

    Raises:
        AlertNotFound: there is none that the viewer may see.
    """
    table = tables.watching.alert
    mine = (table.c.id == asked(alert_id, WORD_MAX), *tenancy.visible(table.c.tenant, tenants))
    query = sa.select(table).where(*mine)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _not_found(alert_id)
    return row


def _not_found(text: str) -> AlertNotFound:
    return AlertNotFound(f"no alert {text[:64]!r}; alerts are kept for plet_alert_days, `alerts` lists them")


def _of_states(table: sa.Table, states: Sequence[str]) -> list[list[sa.ColumnElement[bool]]]:
    """Return the conditions of each state that is asked for; one without any for all."""
    known = [state.value for state in AlertState]
    for state in states:
        if state not in known:
            raise PletError(f"{state[:64]!r} is no state of an alert; those are {', '.join(known)}")
    return [[table.c.state == state] for state in sorted(set(states))] or [[]]


def _ever_mattered(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition of what somebody may look for: not what was pending and never fired."""
    return sa.or_(table.c.fired_at.is_not(None), table.c.resolved_at.is_(None))


def _with_visible_runs(
    connection: Connection, tables: Tables, alerts: Sequence[Alert], tenants: Sequence[str] | None
) -> list[Alert]:
    """Return alerts without the runs that the viewer may not see."""
    if tenants is None:
        return list(alerts)
    run = tables.run
    named = sorted({one for alert in alerts for one in alert.doc.runs})
    seen: set[str] = set()
    for some in batched(named):
        query = sa.select(run.c.id).where(run.c.id.in_(some), *tenancy.visible(run.c.tenant, tenants))
        seen.update(connection.execute(query).scalars())
    return [
        replace(alert, doc=replace(alert.doc, runs=tuple(one for one in alert.doc.runs if one in seen)))
        for alert in alerts
    ]


def _sent(row: Any) -> Sent:
    return Sent(
        id=row.id,
        alert_id=row.alert_id,
        number=row.number,
        channel=row.channel,
        state=row.state,
        made_at=row.made_at,
        tries=row.tries,
        next_at=row.next_at if row.state == _WAITING else None,
        ended_at=row.ended_at,
        status=row.status,
    )


def _behind(table: sa.Table, after: str) -> sa.ColumnElement[bool]:
    try:
        at, last = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        at, last = float(at), asked(str(last), WORD_MAX)
        fault: Exception | None = None if math.isfinite(at) else ValueError(at)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        fault = error
    if fault is not None:
        raise PletError(f"{after[:80]!r} is no cursor; use the `next` of a page") from fault
    return sa.or_(table.c.updated_at < at, sa.and_(table.c.updated_at == at, table.c.id < last))


def _cursor(alert: Alert) -> str:
    return base64.urlsafe_b64encode(json.dumps((alert.updated_at, alert.id)).encode()).decode().rstrip("=")
