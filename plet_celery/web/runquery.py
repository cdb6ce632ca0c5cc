"""The state of the list of runs, which is its address: what is asked for, read from a URL and written to one.

`state` `task` `worker` `queue` `tenant` `q` `from` `to` `after` `before` `tz`. In `q`, `key:value` names a
filter (`state:failed task:shop.* meta.customer:acme`), and one further word is the beginning of an id
or of a task's name.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any, Final
from urllib.parse import urlencode

from plet_celery.events import RunState
from plet_celery.web.moments import parse_time

BAD: Final = ("failed", "timed_out", "lost", "interrupted", "rejected")
ACTIVE: Final = ("running", "retrying")
TABS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("All", ()),
    ("Running", ACTIVE),
    ("Queued", ("queued",)),
    ("Failed", BAD),
    ("Succeeded", ("succeeded",)),
    ("Stopped", ("cancelled", "expired", "ignored", "abandoned")),
)
"""Word and states of each tab."""
_STATES: Final = frozenset(state.value for state in RunState)
_QUALIFIERS: Final = ("state", "task", "worker", "queue", "tenant")
_META: Final = "meta."


@dataclass(frozen=True)
class RunQuery:
    """What the list shows."""

    states: tuple[str, ...] = ()
    task: str = ""
    worker: str = ""
    queue: str = ""
    tenant: str | None = None
    text: str = ""
    """`q` as it was typed."""
    since: str = ""
    """`from` as it was typed."""
    until: str = ""
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
        """Something is left out."""
        return replace(self, after="", before="") != RunQuery()

    @property
    def has_fields(self) -> bool:
        """A field below the search leaves something out."""
        return bool(self.task or self.worker or self.queue or self.tenant or self.since or self.until)

    def url(self, **changes: Any) -> str:
        """Return the query string of this state with `changes`; beginning with `?`, without a cursor."""
        changed = replace(self, **({"after": "", "before": ""} | changes))
        given = {
            "state": ",".join(changed.states),
            "task": changed.task,
            "worker": changed.worker,
            "queue": changed.queue,
            "tenant": changed.tenant or "",
            "q": changed.text,
            "from": changed.since,
            "to": changed.until,
            "after": changed.after,
            "before": changed.before,
        }
        kept = {name: value for name, value in given.items() if value}
        return "?" + urlencode(kept, safe=":,*/") if kept else "?"

    def filters(self, zone: tzinfo = UTC) -> dict[str, Any]:
        """Return the arguments of `queries.list_runs` that this asks for."""
        found: dict[str, Any] = {
            "states": self.states,
            "task": self.task or None,
            "worker": self.worker or None,
            "queue": self.queue or None,
            "tenant": self.tenant,
            "since": parse_time(self.since, zone) if self.since else None,
            "until": parse_time(self.until, zone) if self.until else None,
        }
        qualified, meta, word = _split(self.text)
        for name, value in qualified.items():
            found["states" if name == "state" else name] = _states(value)[0] if name == "state" else value
        return found | {"meta": meta or None, "search": word or None}


def parse(given: Mapping[str, Sequence[str]]) -> RunQuery:
    """Return what the arguments of a URL ask for; what makes no sense is left out, and said."""

    def one(name: str) -> str:
        return (given.get(name) or [""])[-1].strip()

    states, unknown = _states(",".join(given.get("state") or []))
    notes = [f"there is no state {name!r}" for name in unknown]
    times = {}
    for name in ("from", "to"):
        times[name] = one(name)
        if times[name] and parse_time(times[name]) is None:
            notes.append(f"{times[name]!r} is no time; write 2026-11-21T14:00Z")
            times[name] = ""
    text = one("q")
    notes += _said(text)
    return RunQuery(
        states=states,
        task=one("task"),
        worker=one("worker"),
        queue=one("queue"),
        tenant=one("tenant") or None,
        text=text,
        since=times["from"],
        until=times["to"],
        after=one("after"),
        before="" if one("after") else one("before"),
        notes=tuple(notes),
    )


def _states(text: str) -> tuple[tuple[str, ...], list[str]]:
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    known = tuple(dict.fromkeys(word for word in words if word in _STATES))
    return known, [word for word in words if word not in _STATES]


def _split(text: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Return the qualifiers, the metadata and the word of `q`."""
    qualified: dict[str, str] = {}
    meta: dict[str, str] = {}
    words = []
    for token in _tokens(text):
        name, colon, value = token.partition(":")
        if colon and value and name in _QUALIFIERS:
            qualified[name] = value
        elif colon and name.startswith(_META) and len(name) > len(_META):
            meta[name[len(_META) :]] = value
        else:
            words.append(token)
    return qualified, meta, words[0] if words else ""


def _said(text: str) -> list[str]:
    words = [one for one in _tokens(text) if ":" not in one]
    notes = []
    if len(words) > 1:
        notes.append(f"only {words[0]!r} is searched for: an id or a task's name has one beginning")
    for token in _tokens(text):
        if token.startswith("state:"):
            notes += [f"there is no state {name!r}" for name in _states(token[6:])[1]]
    return notes


def _tokens(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote without its other half
        return text.split()
