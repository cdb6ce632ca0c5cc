"""The life of an alert: what a pass makes of the open ones and of what is judged now.

    nothing ─ broken ─► pending ─ broken for `pending_for` ─► firing ─ kept for `keep_firing_for` ─► resolved
                            └─ kept ─► ended                    └─ worse, flapping, steady, no data

Pure: no clock, no database. Everything that a next pass needs is in the alerts themselves, so that a
monitor may be started anew in every state. What is told is decided here, whom is `routing.py`'s subject.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from plet_celery.monitor.fitting import Key, fitted, key_of, worst
from plet_celery.store.tenancy import is_covered
from plet_celery.watchfacts import (
    Alert,
    AlertDoc,
    AlertState,
    Change,
    Judgement,
    Severity,
    Silence,
    Verdict,
)

FLAP_SECONDS: Final = 3600.0
FLAP_COUNT: Final = 4
"""So many times fired and resolved within FLAP_SECONDS is flapping."""
GONE_AFTER: Final = 900.0
"""Seconds without a word of its rule after which an alert is over: its queue, task or objective is gone."""
RECENT_MAX: Final = 16
_QUIET_MAX: Final = 500
"""Beyond so many transitions of one alert, those that nobody is told of leave no row."""
_RANKS: Final = {Severity.WARNING: 0, Severity.CRITICAL: 1}


def advance(
    open_alerts: Iterable[Alert],
    judgements: Iterable[Judgement],
    *,
    now: float,
    new_id: Callable[[], str],
    recent: Mapping[Key, Sequence[float]],
    silences: Sequence[Silence] = (),
    blind: Sequence[str] = (),
) -> list[Change]:
    """Return what changes, alert by alert, each one's changes in their order.

    Args:
        open_alerts: those that are pending or firing.
        judgements: what the rules say in this pass; of two on one rule and subject the worse one counts.
        now: seconds since the epoch. It may be less than at the pass before.
        new_id: makes the id of a new alert.
        recent: when alerts that are resolved by now fired and resolved in the last hour, by rule and subject.
        silences: those that hold now, or did.
        blind: patterns of rules that could not be asked in this pass: their silence means nothing.
    """
    found = _by_subject(judgements)
    changes: list[Change] = []
    known: set[Key] = set()
    for alert in open_alerts:
        key = (alert.rule, alert.subject)
        known.add(key)
        episode = _Episode(alert, now, silences)
        judgement = found.get(key)
        if judgement is not None:
            episode.judge(judgement)
        elif any(fnmatch.fnmatchcase(alert.rule, pattern) for pattern in blind):
            episode.miss()
        else:
            episode.leave()
        changes += episode.end()
    for key, judgement in found.items():
        if key not in known and judgement.verdict is Verdict.BROKEN:
            episode = _Episode(_begun(judgement, new_id(), now, recent.get(key, ())), now, silences)
            episode.turn("pending")
            episode.judge(judgement)
            changes += episode.end()
    return changes


def is_silenced(alert: Alert, silences: Iterable[Silence], now: float) -> bool:
    """Tell whether a silence that holds covers an alert."""
    return any(
        one.ended_at is None
        and now < one.until
        and fnmatch.fnmatchcase(alert.rule, one.rule)
        and fnmatch.fnmatchcase(alert.subject, one.subject)
        and (one.tenants is None or any(is_covered(alert.tenant, path) for path in one.tenants))
        for one in silences
    )


class _Episode:
    """One alert while a pass looks at it."""

    def __init__(self, alert: Alert, now: float, silences: Sequence[Silence]) -> None:
        self._before = alert
        self._now = now
        self._alert = _rebased(alert, now)
        self._silenced = is_silenced(alert, silences, now)
        self._changes: list[Change] = []

    def judge(self, judgement: Judgement) -> None:
        """Take what the rule says."""
        if judgement.verdict is Verdict.NO_DATA:
            self.miss()
        elif judgement.verdict is Verdict.BROKEN:
            self._break(judgement)
        else:
            self._keep(judgement)

    def miss(self) -> None:
        """Take that nothing is known: an alert neither fires nor resolves by that."""
        self._note(unjudged_since=None)
        self._lose_data()

    def leave(self) -> None:
        """Take that no rule speaks of it."""
        doc = self._alert.doc
        since = doc.unjudged_since if doc.unjudged_since is not None else self._now
        self._note(unjudged_since=since)
        if self._now - since >= GONE_AFTER:
            self._note(is_gone=True)
            self._resolve()
        else:
            self._lose_data()

    def turn(self, kind: str, *, tell: bool = False) -> None:
        """Add a transition; channels are told of it unless the alert is silenced."""
        is_told = tell and not self._silenced
        if is_told:
            self._note(is_told=True)
        elif kind in ("no_data", "has_data") and self._alert.transitions >= _QUIET_MAX:
            return
        self._set(transitions=self._alert.transitions + 1, updated_at=self._now)
        self._changes.append(Change(alert=self._alert, kind=kind, is_told=is_told))

    def end(self) -> list[Change]:
        """Return the changes."""
        before, was_firing = self._before, self._before.state is AlertState.FIRING
        is_heard_again = before.doc.is_silenced and not self._silenced
        if (
            is_heard_again
            and was_firing
            and self._is_firing
            and not any(change.is_told for change in self._changes)
        ):
            self.turn("unsilenced", tell=True)
        self._note(is_silenced=self._silenced and self._alert.state is not AlertState.RESOLVED)
        if self._changes:
            self._set(updated_at=self._now)
            # What was learned after the last transition belongs to the row.
            return [*self._changes[:-1], replace(self._changes[-1], alert=self._alert)]
        return [Change(alert=replace(self._alert, updated_at=self._now))] if self._alert != before else []

    def _break(self, judgement: Judgement) -> None:
        self._say(judgement)
        self._hear()
        rose = _RANKS[judgement.severity] > _RANKS[self._alert.severity]
        if not self._is_firing or rose:
            # One that fires never falls back: who was told that it is critical hears of its end, too.
            self._set(severity=judgement.severity)
        self._set(broken_at=self._now)
        turned = self._alert.doc.kept_since is not None
        self._note(kept_since=None)
        if not self._is_firing:
            # From when a pass saw it, not from `since`: a service that was off for the night is no news.
            if self._now - self._alert.pending_at >= judgement.pending_for:
                self._fire()
            return
        if rose:
            self.turn("worse", tell=True)
        if self._alert.doc.is_flapping:
            self._swing(counts=turned)
            if len(self._alert.doc.recent) < FLAP_COUNT:
                self._note(is_flapping=False)
                self.turn("steady")

    def _keep(self, judgement: Judgement) -> None:
        said, doc = fitted(judgement), self._alert.doc
        self._note(value=said.value or doc.value, limit=said.limit or doc.limit)
        self._note(keep_firing_for=said.keep_firing_for)
        self._hear()
        if not self._is_firing:
            self._resolve()
            return
        turned = self._alert.doc.kept_since is None
        since = self._now if turned else self._alert.doc.kept_since
        self._note(kept_since=since)
        flapped = self._alert.doc.is_flapping
        if flapped:
            self._swing(counts=turned)
        if since is None or self._now - since < judgement.keep_firing_for:
            return
        if not flapped:
            self._swing(counts=True)
        if len(self._alert.doc.recent) < FLAP_COUNT:
            self._resolve()
        elif not flapped:
            # It stays one alert until it has been steady, rather than one episode after another.
            self._note(is_flapping=True)
            self.turn("flapping", tell=True)

    def _fire(self) -> None:
        self._swing(counts=True)
        self._set(state=AlertState.FIRING, fired_at=self._now)
        if len(self._alert.doc.recent) < FLAP_COUNT:
            self.turn("fired", tell=True)
            return
        self.turn("fired")
        self._note(is_flapping=True)
        self.turn("flapping", tell=True)

    def _resolve(self) -> None:
        fired = self._is_firing
        self._note(is_flapping=False, has_data=not self._alert.doc.is_gone)
        # A clock that went back must not end it before it began.
        ended = max(self._now, self._alert.fired_at or self._alert.pending_at)
        self._set(state=AlertState.RESOLVED, resolved_at=ended)
        # Nobody wants to hear the end of what they never heard of.
        self.turn("resolved" if fired else "ended", tell=fired and self._alert.doc.is_told)

    def _hear(self) -> None:
        had = self._alert.doc.has_data
        self._note(has_data=True, unjudged_since=None)
        if not had:
            self.turn("has_data")

    def _lose_data(self) -> None:
        had = self._alert.doc.has_data
        self._note(has_data=False)
        if had:
            self.turn("no_data")

    def _say(self, judgement: Judgement) -> None:
        said = fitted(judgement)
        self._set(task=said.task, queue=said.queue, tenant=said.tenant)
        self._note(
            title=said.title,
            value=said.value,
            limit=said.limit,
            affected=said.affected,
            advice=said.advice,
            since=_earlier(self._alert.doc.since, said.since),
            # A pass that cannot name them has not heard that they were others.
            runs=said.runs or self._alert.doc.runs,
            count=said.count,
            pending_for=said.pending_for,
            keep_firing_for=said.keep_firing_for,
        )

    def _swing(self, *, counts: bool) -> None:
        """Keep the times of the last hour, and `now` where it turned."""
        kept = _last_hour(self._alert.doc.recent, self._now)
        self._note(recent=(*kept, self._now)[-RECENT_MAX:] if counts else kept)

    @property
    def _is_firing(self) -> bool:
        return self._alert.state is AlertState.FIRING

    def _set(self, **fields: Any) -> None:
        self._alert = replace(self._alert, **fields)

    def _note(self, **fields: Any) -> None:
        self._alert = replace(self._alert, doc=replace(self._alert.doc, **fields))


def _earlier(before: float | None, said: float | None) -> float | None:
    """Return since when an episode has gone on: what is broken now may have begun after what was before."""
    return min((one for one in (before, said) if one is not None), default=None)


def _begun(judgement: Judgement, alert_id: str, now: float, recent: Sequence[float]) -> Alert:
    said = fitted(judgement)
    return Alert(
        id=alert_id,
        rule=said.rule,
        subject=said.subject,
        state=AlertState.PENDING,
        severity=said.severity,
        task=said.task,
        queue=said.queue,
        tenant=said.tenant,
        pending_at=now,
        updated_at=now,
        doc=AlertDoc(title=said.title, value=said.value, recent=_last_hour(recent, now)),
    )


def _rebased(alert: Alert, now: float) -> Alert:
    """Return an alert without times that lie ahead: the clock was put back, and waiting begins now."""
    doc = alert.doc
    doc = replace(
        doc,
        recent=tuple(min(at, now) for at in doc.recent),
        kept_since=min(doc.kept_since, now) if doc.kept_since is not None else None,
        unjudged_since=min(doc.unjudged_since, now) if doc.unjudged_since is not None else None,
    )
    pending_at = min(alert.pending_at, now) if alert.state is AlertState.PENDING else alert.pending_at
    return replace(alert, pending_at=pending_at, doc=doc)


def _last_hour(times: Iterable[float], now: float) -> tuple[float, ...]:
    return tuple(min(at, now) for at in times if at > now - FLAP_SECONDS)[-RECENT_MAX:]


def _by_subject(judgements: Iterable[Judgement]) -> dict[Key, Judgement]:
    found: dict[Key, Judgement] = {}
    for one in judgements:
        key = key_of(one)
        found[key] = worst(found[key], one) if key in found else one
    return found
