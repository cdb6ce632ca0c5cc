"""Passes in virtual time: alerts that live in memory as their rows would, and what was told of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from plet_celery.monitor import life
from plet_celery.watchfacts import Alert, AlertState, Change, Judgement, Severity, Silence, Verdict

START = 1_800_000_000.0
INTERVAL = 30.0
RULE, SUBJECT = "failure_rate", "shop.import"


def judgement(verdict: Verdict = Verdict.BROKEN, **fields: Any) -> Judgement:
    """Return what a rule says of `shop.import`, unless told otherwise."""
    return Judgement(
        **({"rule": RULE, "subject": SUBJECT, "title": "runs fail", "value": "40 %"} | fields),
        verdict=verdict,
    )


def broken(**fields: Any) -> Judgement:
    return judgement(Verdict.BROKEN, **fields)


def kept(**fields: Any) -> Judgement:
    return judgement(Verdict.KEPT, **fields)


def no_data(**fields: Any) -> Judgement:
    return judgement(Verdict.NO_DATA, **fields)


def critical(**fields: Any) -> Judgement:
    return judgement(Verdict.BROKEN, severity=Severity.CRITICAL, **fields)


@dataclass
class Watch:
    """A monitor that is started anew before each pass: it knows what its rows say, and nothing else."""

    now: float = START
    silences: list[Silence] = field(default_factory=list)
    rows: dict[str, bytes] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    """All there were, in their order."""
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def at(self, seconds: float, *judgements: Judgement, blind: Sequence[str] = ()) -> list[str]:
        """Pass so many seconds after the start; return the kinds of the transitions."""
        self.now = START + seconds
        changes = life.advance(
            [one for one in self.alerts if one.state is not AlertState.RESOLVED],
            judgements,
            now=self.now,
            new_id=lambda: f"{next(self._ids):032x}",
            recent=self._recent(),
            silences=self.silences,
            blind=blind,
        )
        for change in changes:
            self.rows[change.alert.id] = msgspec.json.encode(change.alert)
        self.changes += changes
        return [change.kind for change in changes if change.kind]

    def after(self, seconds: float, *judgements: Judgement, **options: Any) -> list[str]:
        """Pass so many seconds after the pass before."""
        return self.at(self.now - START + seconds, *judgements, **options)

    def silence(self, seconds: float, **fields: Any) -> None:
        """Silence from now on."""
        one = Silence(id=f"{len(self.silences):032x}", made_at=self.now, until=self.now + seconds, **fields)
        self.silences.append(one)

    def end_silences(self) -> None:
        self.silences = [replace(one, ended_at=self.now) for one in self.silences]

    @property
    def alerts(self) -> list[Alert]:
        return [msgspec.json.decode(row, type=Alert) for row in self.rows.values()]

    @property
    def alert(self) -> Alert:
        """The newest one."""
        return self.alerts[-1]

    @property
    def told(self) -> list[str]:
        """Kinds of the transitions that channels were told of."""
        return [change.kind for change in self.changes if change.is_told]

    @property
    def kinds(self) -> list[str]:
        return [change.kind for change in self.changes if change.kind]

    def _recent(self) -> dict[tuple[str, str], tuple[float, ...]]:
        # As the store has it: of episodes that fired and are over.
        ended = [one for one in self.alerts if one.resolved_at is not None and one.fired_at is not None]
        since = self.now - life.FLAP_SECONDS
        newest = sorted(
            (one for one in ended if (one.resolved_at or 0) >= since), key=lambda one: one.resolved_at or 0
        )
        return {(one.rule, one.subject): one.doc.recent for one in newest}
