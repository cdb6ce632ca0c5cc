"""A fact with its level: fine, worth knowing, a warning, an error. Every warning and error has a fix."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Level(enum.IntEnum):
    """How bad a finding is."""

    OK = 0
    NOTE = 1
    """Worth knowing, nothing to do."""
    WARNING = 2
    """It works now, and will cost something some day."""
    ERROR = 3
    """Something is not recorded, not stored or lost now."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    check: str
    """`section.subject`: `journal.backlog`."""
    level: Level
    text: str
    fix: str = ""
    docs: str = ""
    """Page and section: `docs/production.md#backlog`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The figures behind the text, for machines."""


def worst(findings: Iterable[Finding]) -> Level:
    """Return the highest level; OK of none."""
    return max((one.level for one in findings), default=Level.OK)
