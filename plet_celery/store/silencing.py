"""What people do with alerts: say that they know of one, and silence some for a time."""

from __future__ import annotations

import fnmatch
import glob
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from plet_celery.errors import PletError, SilenceNotFound
from plet_celery.store import alertlists, bulk
from plet_celery.store.alertrows import (
    ACKNOWLEDGED,
    SilenceDoc,
    TransitionDoc,
    alert_of,
    silence_of,
    values_of,
)
from plet_celery.store.columns import WORD_MAX, asked, fit
from plet_celery.store.records import iso
from plet_celery.store.store import Store
from plet_celery.store.tenancy import is_covered
from plet_celery.store.watchtables import SUBJECT_MAX
from plet_celery.watchfacts import Alert, AlertState, Silence

REASON_MAX: Final = 500
WHO_MAX: Final = 255
UNTIL_MAX: Final = 366 * 86_400.0
"""Seconds a silence may last."""
PATTERN_MAX: Final = 1024
HOLDING_MAX: Final = 5000
"""So many silences hold at once; one for each of many alerts is still far from it."""
_SHOWN_MAX: Final = 500


def acknowledge(
    store: Store,
    alert_id: str,
    *,
    by: str,
    now: float,
    note: str = "",
    tenants: Sequence[str] | None = None,
) -> Alert:
    """Keep that somebody knows of an alert; saying the same again changes nothing.

    Args:
        by: who, as the page or the terminal knows them.
        tenants: paths that the viewer may see; None: all. So everywhere here.

    Raises:
        AlertNotFound: there is none that the viewer may see.
        PletError: it is over.
    """
    by, note = _text(by, WHO_MAX), _text(note, REASON_MAX)
    with store.writing() as connection:
        row = alertlists.row_of(connection, store.tables, alert_id, tenants, lock=True)
        alert = alert_of(row)
        if alert.state is AlertState.RESOLVED:
            raise PletError(f"alert {alert.id[:8]} is over; only one that is open can be acknowledged")
        same = (alert.doc.acknowledged_by, alert.doc.note) == (by, note)
        if alert.acknowledged_at is not None and same:
            return alert
        alert = replace(
            alert,
            acknowledged_at=now,
            updated_at=max(now, alert.updated_at),
            transitions=alert.transitions + 1,
            doc=replace(alert.doc, acknowledged_by=by, note=note),
        )
        doc = TransitionDoc(state=alert.state.value, severity=alert.severity.value, by=by, note=note)
        tables = store.tables.watching
        said = (alert.id, alert.transitions, now, ACKNOWLEDGED, msgspec.json.encode(doc).decode())
        bulk.insert(connection, tables.transition, [said])
        values = values_of(alert)
        bulk.update(connection, tables.alert, [tuple(values[one.name] for one in tables.alert.columns)])
    return alert


def silence(
    store: Store,
    *,
    rule: str = "*",
    subject: str = "*",
    until: float,
    reason: str,
    by: str,
    now: float,
    tenants: Sequence[str] | None = None,
) -> Silence:
    """Have nobody told of some alerts until a time; they live on, and their pages show it.

    Args:
        rule: pattern of rules (`*`, `?`, `[ab]`), such as `failure_rate` or `objective:*`.
        subject: pattern of subjects.
        until: seconds since the epoch, at most a year ahead.
        reason: why; it is asked for.
        by: who, as the page or the terminal knows them.
        tenants: what the maker may see; a silence of theirs covers no other tenants' alerts.

    Raises:
        PletError: there is no reason, its end has passed or is too far, or a pattern is too long.
    """
    made = Silence(
        id=secrets.token_hex(16),
        rule=_pattern("rule", rule),
        subject=_pattern("subject", subject),
        tenants=tuple(dict.fromkeys(tenants)) if tenants is not None else None,
        made_at=now,
        until=_checked_until(until, now),
        by=_text(by, WHO_MAX),
        reason=_reason(reason),
    )
    with store.writing() as connection:
        bulk.insert(connection, store.tables.watching.silence, [_row(made)])
    return made


def silence_alert(
    store: Store,
    alert_id: str,
    *,
    until: float,
    reason: str,
    by: str,
    now: float,
    tenants: Sequence[str] | None = None,
) -> Silence:
    """Silence the rule and subject of one alert, as `silence` does: also its next episodes until then.

    Raises:
        AlertNotFound: there is none that the viewer may see.
        PletError: as `silence`.
    """
    alert = alertlists.get_alert(store, alert_id, tenants=tenants)
    return silence(
        store,
        rule=glob.escape(alert.rule),
        subject=glob.escape(alert.subject),
        until=until,
        reason=reason,
        by=by,
        now=now,
        tenants=tenants,
    )


def end_silence(
    store: Store, silence_id: str, *, by: str, now: float, tenants: Sequence[str] | None = None
) -> Silence:
    """End a silence before its time; one that has ended stays as it is.

    Raises:
        SilenceNotFound: there is none that the viewer may see.
    """
    table = store.tables.watching.silence
    with store.writing() as connection:
        query = sa.select(table).where(table.c.id == asked(silence_id, WORD_MAX)).with_for_update()
        row = connection.execute(query).first()
        found = silence_of(row) if row is not None else None
        if found is None or not _may_see(found, tenants):
            raise SilenceNotFound(
                f"no silence {silence_id[:64]!r}; `alerts list --state silenced --json` has their ids"
            )
        if found.ended_at is not None or found.until <= now:
            return found
        found = replace(found, ended_at=now, ended_by=_text(by, WHO_MAX))
        bulk.update(connection, table, [_row(found)])
    return found


def silences(
    store: Store, *, now: float, ended: bool = False, tenants: Sequence[str] | None = None
) -> list[Silence]:
    """Return the silences that hold now, the one that ends first first; at most 5,000.

    Args:
        ended: those that are over instead, the newest first, at most 500.
        tenants: a viewer of some tenants gets the silences that cover nothing but those.
    """
    table = store.tables.watching.silence
    holds = sa.and_(table.c.ended_at.is_(None), table.c.until > now)
    query = sa.select(table)
    query = (
        query.where(sa.not_(holds)).order_by(table.c.until.desc(), table.c.id)
        if ended
        else query.where(holds).order_by(table.c.until, table.c.id)
    )
    with store.reading() as connection:
        found = [
            silence_of(row) for row in connection.execute(query.limit(_SHOWN_MAX if ended else HOLDING_MAX))
        ]
    return [one for one in found if _may_see(one, tenants)]


def _may_see(one: Silence, tenants: Sequence[str] | None) -> bool:
    if tenants is None:
        return True
    if one.tenants is None:
        return False
    return all(any(is_covered(path, mine) for mine in tenants) for path in one.tenants)


def _row(one: Silence) -> tuple[Any, ...]:
    doc = SilenceDoc(
        rule=one.rule,
        subject=one.subject,
        tenants=one.tenants,
        by=one.by,
        reason=one.reason,
        ended_by=one.ended_by,
    )
    # The columns are for people who look into the tables; a long pattern is whole in the document.
    rule, subject = fit(one.rule, WORD_MAX), fit(one.subject, SUBJECT_MAX)
    return (one.id, rule, subject, one.made_at, one.until, one.ended_at, msgspec.json.encode(doc).decode())


def _pattern(name: str, given: str) -> str:
    text = _text(given, PATTERN_MAX + 1) or "*"
    if len(text) > PATTERN_MAX:
        raise PletError(f"the {name} of a silence has {len(given)} characters; give at most {PATTERN_MAX}")
    fnmatch.fnmatchcase("", text)
    return text


def _checked_until(until: float, now: float) -> float:
    if now < until <= now + UNTIL_MAX:
        return until
    wrong = "is too long" if until > now else "is over before it begins" if until <= now else "has no end"
    raise PletError(f"a silence until {_named(until)} {wrong}; let it end within the next 366 days")


def _named(at: float) -> str:
    try:
        return iso(at)
    except ValueError:  # nan
        return str(at)


def _reason(given: str) -> str:
    reason = _text(given, REASON_MAX)
    if not reason:
        raise PletError("a silence without a reason puzzles the next one on call; say why")
    return reason


def _text(given: str, limit: int) -> str:
    return given.encode("utf-8", "replace").decode().strip()[:limit]
