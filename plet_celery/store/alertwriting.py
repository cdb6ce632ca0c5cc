"""What a pass writes of alerts: rows, transitions and what is to be sent, in one transaction.

Only who holds the monitor's lease writes. Beside it people acknowledge; what they wrote between a pass's
reading and its writing is kept, and their transition keeps its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plet_celery.store import bulk, outbox, watching
from plet_celery.store.alertrows import ACKNOWLEDGED, OPEN, TransitionDoc, alert_of, doc_of, values_of
from plet_celery.store.schema import Tables
from plet_celery.store.store import Store
from plet_celery.store.writes import Writes
from plet_celery.watchfacts import Alert, AlertState, Change, Route, WatchLease

RouteOf = Callable[[Alert, Change], Sequence[Route]]
"""Says which channels are told of a transition."""
_RECENT_MAX: Final = 10_000


def open_alerts(store: Store) -> list[Alert]:
    """Return the alerts that are pending or firing, those that were first first."""
    table = store.tables.watching.alert
    query = sa.select(table).where(table.c.state.in_(OPEN))
    with store.reading() as connection:
        found = [alert_of(row) for row in connection.execute(query)]
    return sorted(found, key=lambda one: (one.pending_at, one.id))


def recent_transitions(store: Store, since: float) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return when alerts that have resolved since a time fired and resolved, by rule and subject."""
    table = store.tables.watching.alert
    query = (
        sa.select(table.c.rule, table.c.subject, table.c.doc)
        .where(table.c.resolved_at >= since, table.c.fired_at.is_not(None))
        .order_by(table.c.resolved_at.desc(), table.c.id)
        .limit(_RECENT_MAX)
    )
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            # The newest episode's has those before it.
            found.setdefault((row.rule, row.subject), doc_of(row.doc).recent)
    return found


def keep(
    store: Store, lease: WatchLease, changes: Iterable[Change], *, route: RouteOf, now: float
) -> list[Change]:
    """Write what a pass has decided: all of it, or nothing.

    Args:
        changes: as `life.advance` gave them, from alerts that were read under this lease.
        route: the channels that are told of a transition with `is_told`; one named twice is told once.
        now: the pass's time, seconds since the epoch.

    Returns:
        The changes as they were written: numbered behind what people wrote in the meantime, and without
        those that a try before this one has written, whose answer was lost.

    Raises:
        StaleWrite: another monitor has taken over; nothing was written.
        StoreUnavailable: the database is down or locked; try again, at most once each is written.
    """
    by_alert: dict[str, list[Change]] = {}
    for change in changes:
        by_alert.setdefault(change.alert.id, []).append(change)
    with store.writing() as connection:
        watching.fence(connection, store.tables, lease)
        keeping = _Keeping(connection, store.tables, by_alert, route, now)
        return keeping.write()


class _Keeping:
    """The transaction in which a pass's changes are written."""

    def __init__(
        self,
        connection: Connection,
        tables: Tables,
        by_alert: Mapping[str, list[Change]],
        route: RouteOf,
        now: float,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._by_alert = by_alert
        self._route = route
        self._now = now
        self._names = tables.watching.alert.columns.keys()
        self._writes = Writes()

    def write(self) -> list[Change]:
        table = self._tables.watching.alert
        ids = [(one,) for one in self._by_alert]
        stored = {row[0]: row for row in bulk.fetch(self._connection, table, ids, lock=True)}
        done: list[Change] = []
        for alert_id, changes in self._by_alert.items():
            done += self._keep(changes, stored.get(alert_id))
        self._writes.flush(self._connection)
        # Behind the rows they speak of.
        for change in done:
            if change.is_told:
                self._tell(change)
        return done

    def _tell(self, change: Change) -> None:
        routes = self._route(change.alert, change)
        self._put(change, change.alert, routes)
        if change.alert.state is not AlertState.RESOLVED:
            return
        reached = {one.channel for one in routes}
        for channel, alert in outbox.last_told(self._connection, self._tables, change.alert.id).items():
            if channel not in reached:
                # Told while it spoke of another tenant or task: it hears the end in the words it knows.
                ended = replace(alert, state=change.alert.state, resolved_at=change.alert.resolved_at)
                mine = [one for one in self._route(ended, change) if one.channel == channel]
                self._put(change, ended, mine)

    def _put(self, change: Change, alert: Alert, routes: Sequence[Route]) -> None:
        told = outbox.Told(kind=change.kind, at=self._now, alert=alert)
        number = change.alert.transitions
        outbox.put(self._connection, self._tables, told, number, routes, now=self._now)

    def _keep(self, changes: Sequence[Change], stored: tuple[Any, ...] | None) -> list[Change]:
        row = dict(zip(self._names, stored, strict=True)) if stored is not None else None
        number = int(row["transitions"]) if row is not None else 0
        if number != _base(changes) and (row is None or self._is_written(changes)):
            return []
        done = []
        for change in changes:
            number += bool(change.kind)
            alert = replace(change.alert, transitions=number)
            if row is not None:
                alert = _acknowledged_as(alert, row)
            done.append(replace(change, alert=alert))
            if change.kind:
                self._writes.put(self._tables.watching.transition, _transition(done[-1], self._now), None)
        values = values_of(done[-1].alert)
        self._writes.put(self._tables.watching.alert, tuple(values[name] for name in self._names), stored)
        return done

    def _is_written(self, changes: Sequence[Change]) -> bool:
        """Tell whether anybody but a person has added transitions since the changes were decided."""
        table = self._tables.watching.transition
        query = sa.select(table.c.number).where(
            table.c.alert_id == changes[0].alert.id,
            table.c.number > _base(changes),
            table.c.kind != ACKNOWLEDGED,
        )
        return self._connection.execute(query.limit(1)).first() is not None


def _base(changes: Sequence[Change]) -> int:
    """Return how many transitions the alert had when the changes were decided."""
    first = changes[0]
    return first.alert.transitions - bool(first.kind)


def _acknowledged_as(alert: Alert, row: Mapping[str, Any]) -> Alert:
    doc = doc_of(row["doc"])
    return replace(
        alert,
        acknowledged_at=row["acknowledged_at"],
        doc=replace(alert.doc, acknowledged_by=doc.acknowledged_by, note=doc.note),
    )


def _transition(change: Change, now: float) -> tuple[Any, ...]:
    alert = change.alert
    doc = TransitionDoc(
        state=alert.state.value,
        severity=alert.severity.value,
        value=alert.doc.value,
        is_told=change.is_told,
    )
    return (alert.id, alert.transitions, now, change.kind, msgspec.json.encode(doc).decode())
