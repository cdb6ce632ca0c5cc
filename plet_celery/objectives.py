"""Objectives: promises about the time and success of a task's runs, as plain frozen values.

A task process loads this module: it knows no store and no clock, and imports little.
What a promise means while runs go on is `monitor/promises.py`'s subject.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, ClassVar, Final

from plet_celery import fieldchecks
from plet_celery.errors import SettingsError, shown

DAY: Final = 86_400.0
SEVERITIES: Final = ("warning", "critical")
WINDOW_MAX: Final = 366 * DAY
_WINDOW_MIN: Final = 300.0
"""Seconds; what ended is counted per five minutes."""
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_TEXT_MAX: Final = 500
_NAME_MAX: Final = 64
_ID_LENGTH: Final = 16

Seconds = float | timedelta
"""A duration: seconds, or a timedelta."""


@dataclass(frozen=True)
class Objective:
    """What all promises have in common; those to declare are the subclasses.

    Raises:
        SettingsError: a value cannot be used.
    """

    kind: ClassVar[str] = ""
    scopes: ClassVar[tuple[str, ...]] = ("run",)

    name: str = field(default="", kw_only=True)
    """Tells two promises of one kind, scope and severity apart; also shown."""
    severity: str = field(default="warning", kw_only=True)
    """`warning` or `critical`: channels are routed by it."""
    scope: str = field(default="run", kw_only=True)
    """`run`, or `canvas`: the whole that a run of this task begins (MaxRuntime, FinishBy)."""
    pending_for: Seconds = field(default=0.0, kw_only=True)
    """How long it has to be broken before the alert fires."""
    keep_firing_for: Seconds = field(default=0.0, kw_only=True)
    """How long it has to be kept before the alert resolves."""
    advice: str = field(default="", kw_only=True)
    """What to do when it is broken, for who gets the alert."""

    def __post_init__(self) -> None:
        fieldchecks.text(self, "name", _NAME_MAX)
        fieldchecks.text(self, "advice", _TEXT_MAX)
        fieldchecks.one_of(self, "severity", SEVERITIES)
        fieldchecks.one_of(self, "scope", self.scopes)
        fieldchecks.duration(self, "pending_for", least=0.0)
        fieldchecks.duration(self, "keep_firing_for", least=0.0)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What it is beyond its numbers: kind, scope, severity, name."""
        return (self.kind, self.scope, self.severity, self.name)


@dataclass(frozen=True)
class _Counted(Objective):
    """A promise with an error budget."""

    target: float = field(default=0.99, kw_only=True)
    """Share that is to keep the promise, 0..1; what is missing to 1 is the error budget."""
    window: Seconds = field(default=30 * DAY, kw_only=True)
    """Seconds back over which compliance and error budget are told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fieldchecks.share(self, "target")
        fieldchecks.duration(self, "window", least=_WINDOW_MIN, most=WINDOW_MAX)


@dataclass(frozen=True)
class MaxWait(_Counted):
    """A run starts at most so long after its publish, or after its ETA: `MaxWait(60)`."""

    kind: ClassVar[str] = "max_wait"
    seconds: Seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        fieldchecks.duration(self, "seconds")


@dataclass(frozen=True)
class MaxRuntime(_Counted):
    """A run ends at most so long after its first start, retries included: `MaxRuntime(900)`.

    With `scope="canvas"`: all runs of a canvas, counted from the start of its first run.
    """

    kind: ClassVar[str] = "max_runtime"
    scopes: ClassVar[tuple[str, ...]] = ("run", "canvas")
    seconds: Seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        fieldchecks.duration(self, "seconds")


@dataclass(frozen=True)
class _Daily(_Counted):
    """A promise that is due at a clock time."""

    time: str
    """`HH:MM`, 24 hours."""
    zone: str = field(default="", kw_only=True)
    """The clock's zone, such as `Europe/Berlin`; empty: the app's `timezone`."""
    days: str = field(default="*", kw_only=True)
    """Days of the week as crontab has them: `*`, `mon-fri`, `0,6`."""
    within: Seconds = field(default=DAY, kw_only=True)
    """A run counts for a due time if it was published at most so long before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Whatever they are declared to be, somebody may have written something else.
        clock: Any = self.time
        days: Any = self.days
        if not isinstance(clock, str) or not _CLOCK.fullmatch(clock):
            raise fieldchecks.refused(self, "time", 'write it as "HH:MM", such as "02:30"')
        fieldchecks.zone(self, "zone")
        if not isinstance(days, str) or len(days.split()) != 1 or not fieldchecks.is_crontab(self.crontab):
            raise fieldchecks.refused(
                self, "days", 'write it as crontab has days of the week, such as "mon-fri"'
            )
        fieldchecks.duration(self, "within", most=WINDOW_MAX)

    @property
    def crontab(self) -> str:
        """The due times as crontab text."""
        hour, minute = self.time.split(":")
        return f"{int(minute)} {int(hour)} * * {self.days}"


@dataclass(frozen=True)
class StartBy(_Daily):
    """On these days a run has started by a clock time: `StartBy("02:30", zone="Europe/Berlin")`."""

    kind: ClassVar[str] = "start_by"


@dataclass(frozen=True)
class FinishBy(_Daily):
    """On these days a run has succeeded by a clock time: `FinishBy("06:00", zone="Europe/Berlin")`.

    With `scope="canvas"`: all runs of a canvas that a run of this task began.
    """

    kind: ClassVar[str] = "finish_by"
    scopes: ClassVar[tuple[str, ...]] = ("run", "canvas")


@dataclass(frozen=True)
class Freshness(_Counted):
    """A success at least every so often: `Freshness(3600)`, `Freshness("0 2 * * mon-fri", grace=3600)`."""

    kind: ClassVar[str] = "freshness"
    every: Seconds | str
    """Seconds from one success to the next, or crontab text: a success for each of its times."""
    grace: Seconds = field(default=300.0, kw_only=True)
    """How long after it was due a success may come."""
    zone: str = field(default="", kw_only=True)
    """Of a crontab, such as `Europe/Berlin`; empty: the app's `timezone`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.every, str):
            if not fieldchecks.is_crontab(self.every):
                raise fieldchecks.refused(
                    self, "every", 'write seconds, or crontab text of five fields: "0 2 * * mon-fri"'
                )
        else:
            fieldchecks.duration(self, "every", least=1.0)
        fieldchecks.duration(self, "grace", least=0.0)
        fieldchecks.zone(self, "zone")


@dataclass(frozen=True)
class SuccessRate(Objective):
    """A share of what ended within a window has succeeded: `SuccessRate(0.99, window=3600)`."""

    kind: ClassVar[str] = "success_rate"
    target: float
    """0..1; what is missing to 1 is the error budget."""
    window: Seconds = field(default=DAY, kw_only=True)
    min_runs: int = field(default=1, kw_only=True)
    """Of fewer ends nothing is said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fieldchecks.share(self, "target")
        fieldchecks.duration(self, "window", least=_WINDOW_MIN, most=WINDOW_MAX)
        fieldchecks.count(self, "min_runs")


@dataclass(frozen=True)
class P95(Objective):
    """Of the successes within a window 95 % took at most so long: `P95(30, window=3600)`."""

    kind: ClassVar[str] = "p95"
    target: ClassVar[float] = 0.95
    seconds: Seconds
    window: Seconds = field(default=DAY, kw_only=True)
    min_runs: int = field(default=1, kw_only=True)
    """Of fewer successes nothing is said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fieldchecks.duration(self, "seconds")
        fieldchecks.duration(self, "window", least=_WINDOW_MIN, most=WINDOW_MAX)
        fieldchecks.count(self, "min_runs")


KINDS: Final[dict[str, type[Objective]]] = {
    one.kind: one for one in (MaxWait, StartBy, MaxRuntime, FinishBy, Freshness, SuccessRate, P95)
}


def to_plain(objective: Objective) -> dict[str, Any]:
    """Return a promise as JSON values: its kind, and what differs from the defaults."""
    plain: dict[str, Any] = {"kind": objective.kind}
    for one in fields(objective):
        value = getattr(objective, one.name)
        if value != one.default:
            plain[one.name] = value
    return plain


def from_plain(plain: Any) -> Objective:
    """Return the promise that `to_plain` wrote, or somebody in a setting or file.

    Raises:
        SettingsError: it is no promise.
    """
    if isinstance(plain, Objective):
        return plain
    if not isinstance(plain, Mapping):
        raise SettingsError(
            f'objective {shown(plain)} is no promise; write MaxWait(60) or {{"kind": "max_wait", …}}'
        )
    given = dict(plain)
    kind = given.pop("kind", None)
    made = KINDS.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise SettingsError(f"objective kind {shown(kind)} is unknown; the kinds are {', '.join(KINDS)}")
    known = {one.name for one in fields(made)}
    for name in given:
        if name not in known:
            raise SettingsError(f"{made.__name__} has no {shown(name)}; it takes {', '.join(sorted(known))}")
    try:
        return made(**given)
    except TypeError as error:
        raise SettingsError(f"objective {shown(plain)}: {error}") from None


@dataclass(frozen=True)
class Declared:
    """A promise of one task."""

    task: str
    objective: Objective
    source: str = ""
    """Where it was declared: `task`, or the pattern in `plet_objectives`."""
    app: str = ""
    """Name of the Celery app that declares it."""

    @property
    def id(self) -> str:
        """16 hex digits, the same wherever it is declared; a new limit is still the same promise."""
        text = json.dumps([self.task, *self.objective.identity])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_LENGTH]

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.id,
            "task": self.task,
            "source": self.source,
            "app": self.app,
            "objective": to_plain(self.objective),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Declared:
        """Return what `to_plain` wrote.

        Raises:
            SettingsError: it is no promise.
        """
        objective = from_plain(plain["objective"])
        return cls(str(plain["task"]), objective, str(plain.get("source", "")), str(plain.get("app", "")))


def checked_pattern(pattern: str) -> str:
    """Return a name pattern of tasks; it is stored with the promises it declares.

    Raises:
        SettingsError: no database stores it.
    """
    if fieldchecks.UNSTORABLE.search(pattern):
        raise SettingsError(f"name pattern {shown(pattern)} cannot be used; {fieldchecks.TAKE_OUT}")
    return pattern


def declared(objectives: Any, where: str) -> tuple[Objective, ...]:
    """Return a list of promises, checked.

    Args:
        where: what declares them, for errors: `task 'shop.load'`.

    Raises:
        SettingsError: it is no list of promises, or two of them are the same but for their numbers.
    """
    if isinstance(objectives, (Objective, str, bytes, Mapping)) or not isinstance(objectives, Iterable):
        raise SettingsError(f"{where}: objectives = {shown(objectives)} is no list; write [MaxWait(60)]")
    found: dict[tuple[str, str, str, str], Objective] = {}
    for one in objectives:
        try:
            made = from_plain(one)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None
        if made.identity in found:
            raise SettingsError(
                f"{where}: two {type(made).__name__} of severity {made.severity!r}; give one a name or "
                "another severity"
            )
        found[made.identity] = made
    return tuple(found.values())


def as_seconds(value: Seconds) -> float:
    """Return a duration in seconds; what an objective holds is a number already."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
