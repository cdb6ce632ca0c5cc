"""The rules that watch a service from day one: their numbers, and what `plet_rules` makes of them.

What a rule looks at is `monitor/rules.py`'s subject; a task process loads this module with the settings.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from plet_celery.errors import shown

CHECK: Final = "check"
"""The rule of all health checks; `check:broker` is that of one."""
CHECKS: Final = (
    "store",
    "broker",
    "queue",
    "workers",
    "beat",
    "results",
    "shipper",
    "stuck",
    "disk",
    "clock",
    "retention",
    "monitor",
    "channel",
)
"""The names of the health checks; they stand here as well because a task process loads no check."""
_LONGEST: Final = 30 * 86_400.0
_WINDOW_MIN: Final = 300.0
SEVERITIES: Final = ("warning", "critical")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule as it holds."""

    name: str
    is_on: bool = True
    threshold: float | None = None
    """What is more than this is broken; None: the rule has no number of its own."""
    unit: str = ""
    """`share` (0..1), `messages`, `runs`, `events`."""
    pending_for: float = 0.0
    """Seconds it has to be broken before it fires: `for`."""
    keep_firing_for: float = 0.0
    """Seconds it has to be kept before it resolves: `keep`."""
    severity: str | None = None
    """`warning` or `critical`; None: as grave as what was found."""
    window: float | None = None
    """Seconds that are looked back."""
    minimum: int | None = None
    """Runs that must have ended in the window; of fewer no share is formed."""
    is_tuned: bool = False
    """`plet_rules` says something of it."""
    title: str = ""
    """What it watches."""


_DEFAULTS: Final = (
    Rule(
        name="failure_rate",
        title="too many runs of a task fail",
        threshold=0.2,
        unit="share",
        pending_for=60,
        keep_firing_for=300,
        severity="warning",
        window=3600,
        minimum=10,
    ),
    Rule(
        name="timeout_rate",
        title="too many runs of a task hit their time limit",
        threshold=0.1,
        unit="share",
        pending_for=60,
        keep_firing_for=300,
        severity="warning",
        window=3600,
        minimum=10,
    ),
    Rule(
        name="queue_depth",
        title="too much waits in a queue",
        threshold=100,
        unit="messages",
        pending_for=120,
        keep_firing_for=120,
        severity="warning",
    ),
    Rule(name=CHECK, title="a component fails its health check", pending_for=60, keep_firing_for=60),
    Rule(
        name="run_lost",
        title="runs were lost with their process",
        threshold=0,
        unit="runs",
        severity="warning",
        window=3600,
    ),
    Rule(
        name="killer_task",
        title="a task kills its workers again and again",
        threshold=2,
        unit="runs",
        severity="critical",
        window=3600,
    ),
    Rule(
        name="host_lost",
        title="a host is not heard of any more",
        pending_for=60,
        severity="critical",
        window=3600,
    ),
    Rule(name="stuck", title="runs tell nothing any more", keep_firing_for=60, severity="warning"),
    Rule(
        name="missed_schedule",
        title="a periodic task did not run when it was due",
        pending_for=120,
        severity="critical",
    ),
    Rule(
        name="drops",
        title="events were dropped before they reached the store",
        threshold=0,
        unit="events",
        severity="warning",
    ),
    Rule(
        name="monitor_silent",
        title="nobody watched for a while",
        keep_firing_for=300,
        severity="critical",
    ),
)
NAMES: Final = tuple(one.name for one in _DEFAULTS)


class Rulebook:
    """All rules as they hold."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        """Take what `plet_rules` says.

        Raises:
            ValueError: a rule is not known, or a value does not fit; the text names both and the way out.
        """
        self._rules = {one.name: one for one in _DEFAULTS}
        for name in given or {}:
            _refuse_unknown(name)
        # First all checks, then one of them.
        for name, said in sorted((given or {}).items()):
            self._rules[name] = _tuned(self._of_known(name), said)

    def of(self, name: str) -> Rule | None:
        """Return a rule; None where there is none of this name, as for `objective:…`."""
        return self._of_known(name) if name in self._rules or name.startswith(f"{CHECK}:") else None

    def all(self) -> list[Rule]:
        """Return every rule, for people; checks that are tuned by themselves behind the others."""
        return list(self._rules.values())

    def _of_known(self, name: str) -> Rule:
        return self._rules.get(name) or replace(self._rules[CHECK], name=name)


def _refuse_unknown(name: Any) -> None:
    of_checks = [f"{CHECK}:{one}" for one in CHECKS]
    if not isinstance(name, str):
        raise ValueError(f"{shown(name)} is no name of a rule; write it as text, such as 'failure_rate'")
    if name in NAMES or name in of_checks:
        return
    nearest = difflib.get_close_matches(name[:100], [*NAMES, *of_checks], n=1, cutoff=0.0)[0]
    raise ValueError(
        f"there is no rule {shown(name)}; the nearest is {nearest!r} (all: {', '.join(NAMES)}, "
        f"check:NAME of {', '.join(CHECKS)})"
    )


def checked_rules(given: Any) -> Any:
    """Return what `plet_rules` says as it was given; who asks finds out whether it is a mapping.

    Raises:
        ValueError: it cannot be used.
    """
    if isinstance(given, Mapping):
        Rulebook(given)
    return given


def _tuned(rule: Rule, said: Any) -> Rule:
    if said is False or (isinstance(said, str) and said.lower() == "off"):
        return replace(rule, is_on=False, is_tuned=True)
    if said is True or (isinstance(said, str) and said.lower() == "on"):
        return replace(rule, is_on=True, is_tuned=True)
    if not isinstance(said, Mapping):
        raise ValueError(
            f"{rule.name!r}: {shown(said)} is neither 'off' nor a mapping such as {{'for': 120}}"
        )
    fields: dict[str, Any] = {}
    for key, value in said.items():
        fields |= _field(rule, key, value)
    return replace(rule, **fields, is_tuned=True)


def _field(rule: Rule, key: Any, value: Any) -> dict[str, Any]:
    """Return the field of a rule that a key of its mapping sets."""
    keys = {
        "for": ("pending_for", 0.0, _LONGEST, "seconds"),
        "keep": ("keep_firing_for", 0.0, _LONGEST, "seconds"),
    }
    if rule.threshold is not None:
        most = 1.0 if rule.unit == "share" else 1e12
        keys["threshold"] = ("threshold", 0.0, most, rule.unit)
    if rule.window is not None:
        keys["window"] = ("window", _WINDOW_MIN, _LONGEST, "seconds")
    if rule.minimum is not None:
        keys["minimum"] = ("minimum", 1, 1e9, "runs")
    if key == "severity":
        if value not in SEVERITIES:
            raise ValueError(f"{rule.name!r}: severity {shown(value)} is none; write 'warning' or 'critical'")
        return {"severity": value}
    if key not in keys:
        raise ValueError(f"{rule.name!r} has no {shown(key)}; it has {', '.join(sorted(keys))}, severity")
    field, least, most, unit = keys[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # What float() cannot hold fails here, too: to compare converts nothing, and no nan is within.
    if not is_number or not least <= value <= most:
        example = " (0.2 is 20 %)" if unit == "share" else ""
        raise ValueError(f"{rule.name!r}: {key} {shown(value)} must be {least:g} to {most:g} {unit}{example}")
    if field != "minimum":
        return {field: float(value)}
    if value != int(value):
        raise ValueError(f"{rule.name!r}: {key} {shown(value)} must be a whole number of {unit}")
    return {field: int(value)}
