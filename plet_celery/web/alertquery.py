"""The state of the list of alerts, which is its address: `show` `q` `after` `before`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

TABS: Final[tuple[tuple[str, str], ...]] = (
    ("open", "Open"),
    ("firing", "Firing"),
    ("pending", "Pending"),
    ("silenced", "Silenced"),
    ("no_data", "No data"),
    ("resolved", "Resolved"),
)
"""What is shown, and its word. A silenced alert is not among the firing ones."""
_SHOWN: Final = frozenset(name for name, _ in TABS)


@dataclass(frozen=True)
class AlertQuery:
    """What the list shows."""

    show: str = "open"
    text: str = ""
    """How a rule, a subject or a task begins."""
    after: str = ""
    before: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was asked for and makes no sense, in sentences."""

    @property
    def is_first(self) -> bool:
        """It is the newest page."""
        return not self.after and not self.before

    @property
    def is_filtered(self) -> bool:
        """Something is searched for."""
        return bool(self.text)

    def url(self, **changes: Any) -> str:
        """Return the query string of this state with `changes`; beginning with `?`, without a cursor."""
        changed = replace(self, **({"after": "", "before": ""} | changes))
        given = {
            "show": changed.show if changed.show != "open" else "",
            "q": changed.text,
            "after": changed.after,
            "before": changed.before,
        }
        kept = {name: value for name, value in given.items() if value}
        return "?" + urlencode(kept, safe=":,*/") if kept else "?"


def parse(given: Mapping[str, Sequence[str]]) -> AlertQuery:
    """Return what the arguments of a URL ask for; what makes no sense is left out, and said."""

    def one(name: str) -> str:
        return (given.get(name) or [""])[-1].strip()

    show, notes = one("show") or "open", []
    if show not in _SHOWN:
        notes.append(f"there is no list {show!r}; these are {', '.join(name for name, _ in TABS)}")
        show = "open"
    pages = {"after": one("after"), "before": "" if one("after") else one("before")}
    if show != "resolved":
        pages = {"after": "", "before": ""}
    return AlertQuery(show=show, text=one("q"), notes=tuple(notes), **pages)
